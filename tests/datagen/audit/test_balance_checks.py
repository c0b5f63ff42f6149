"""The exact checks bite: a bias just above a threshold fails, one just below passes, and clean sets pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.audit import counts
from fashionkit.datagen.audit.balance_checks import balance_checks, read_targets
from fashionkit.datagen.audit.counts import count, facts_of
from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NOT_PRESENT, YES
from fashionkit.tables import InputError, part_path, write_table
from tests.datagen.audit.made_up import OPTIONS, failed, fair_choice, fair_verify, ids, judged, rows, yes_no
from tests.datagen.conftest import Made

SCHEMA = pa.schema(
    [
        ("template", pa.uint16()),
        ("attribute", pa.uint16()),
        ("split", pa.uint8()),
        ("answer", pa.uint16()),
        ("available", pa.int64()),
        ("target", pa.float64()),
        ("kept", pa.int64()),
    ]
)


@pytest.fixture(scope="module")
def store(outfit_set: Made) -> VQAStore:
    """For its templates and words; samples are made up."""
    return VQAStore(outfit_set.path)


def of(verdicts: list[Verdict], check: str, scope: str) -> Verdict:
    (found,) = [v for v in verdicts if (v.check, v.scope) == (check, scope)]
    return found


def verify(store: VQAStore, yes: int, n: int, **slots: Any) -> dict[str, Any]:
    """`n` samples of one question about one kind and value, `yes` of them with yes."""
    given = {"cat": ids(store, "category")[0], "v": ids(store, "value", "colour/")[0], **slots}
    return rows(store, "B2.verify", yes_no(yes, n), given)


@pytest.mark.parametrize(("yes", "fails"), [(5200, False), (5201, True), (4799, True), (4800, False), (5000, False)])
def test_majority_of_yes_and_no(store: VQAStore, yes: int, fails: bool) -> None:
    found = judged(store, train=[verify(store, yes, 10_000)])
    assert (("majority", "B2.verify") in failed(found)) is fails
    one = of(found, "majority", "B2.verify")
    assert one.value == max(yes, 10_000 - yes) / 10_000 and (one.threshold, one.n) == (0.52, 10_000)


def test_majority_of_negations_and_of_labels_counts_as_yes_and_no(store: VQAStore) -> None:
    slots = {"cat": ids(store, "category")[0], "v": ids(store, "value", "colour/")[0]}
    found = judged(store, train=[rows(store, "B5.not", yes_no(530, 1000), slots)])
    assert ("majority", "B5.not") in failed(found)


def test_a_bias_in_one_split_does_not_hide_among_the_others(store: VQAStore) -> None:
    found = judged(store, train=[verify(store, 45_000, 90_000)], test=[verify(store, 521, 1000)])
    assert failed(found) == [("majority", "B2.verify in test")]
    assert failed(judged(store, train=[verify(store, 45_000, 90_000)], test=[verify(store, 520, 1000)])) == []


def test_an_odd_sample_is_no_bias(store: VQAStore) -> None:
    assert failed(judged(store, train=[verify(store, 2, 3)])) == []
    assert ("majority", "B2.verify") in failed(judged(store, train=[verify(store, 3, 3)]))


def test_opposite_biases_of_two_attributes_are_told_to_the_reader(store: VQAStore) -> None:
    colour, dots = ids(store, "value", "colour/")[0], ids(store, "value", "pattern/")[0]
    found = judged(store, train=[verify(store, 1800, 3000, v=colour), verify(store, 1200, 3000, v=dots)])
    assert of(found, "majority", "B2.verify").verdict == "pass"
    assert of(found, "majority", "B2.verify colour") == Verdict(
        "majority", "B2.verify colour", "info", 0.6, 0.52, n=3000
    )
    assert ("association", "B2.verify v") in failed(found)


def targets(store: VQAStore, path: Path, shares: dict[int, float], template: str, attribute: int, n: int) -> VQAStore:
    """The set with these shares as its targets."""
    entries = [
        {
            "template": store.pack.index(template),
            "attribute": attribute,
            "split": 0,
            "answer": answer,
            "available": n,
            "target": share * n,
            "kept": int(share * n),
        }
        for answer, share in shares.items()
    ]
    write_table(part_path(path, "balance", 0), pa.Table.from_pylist(entries, schema=SCHEMA))
    return VQAStore(path)


def query(store: VQAStore, template: str, colours: dict[int, int]) -> dict[str, Any]:
    """So many samples of each answer to what colour something is."""
    slots = {"cat": ids(store, "category")[0], "attr": store.vocab.attribute["colour"]}
    return rows(store, template, np.repeat(list(colours), list(colours.values())), slots)


@pytest.mark.parametrize(("extra", "fails"), [(0, False), (200, False), (201, True)])
def test_majority_of_open_answers(store: VQAStore, small_set: Path, extra: int, fails: bool) -> None:
    black, white, red = ids(store, "value", "colour/")[:3].tolist()
    shares = {black: 0.5, white: 0.3, red: 0.2}
    other = targets(store, small_set, shares, "C1.query", store.vocab.attribute["colour"], 10_000)
    found = judged(other, train=[query(store, "C1.query", {black: 5000 + extra, white: 3000 - extra, red: 2000})])
    assert (failed(found) == [("majority", "C1.query")]) is fails
    assert of(found, "majority", "C1.query").threshold == pytest.approx(0.52)
    assert "'black', target 0.5000" in of(found, "majority", "C1.query").note


@pytest.mark.parametrize(("absent", "fails"), [(2500, False), (2770, False), (2780, True)])
def test_not_present_is_judged_with_the_questions_in_the_same_words(
    store: VQAStore, small_set: Path, absent: int, fails: bool
) -> None:
    colours = ids(store, "value", "colour/")[:5].tolist()
    shares = dict.fromkeys(colours, 0.2)
    other = targets(store, small_set, shares, "C1.query", store.vocab.attribute["colour"], 7500)
    none = query(store, "N1.query", {NOT_PRESENT: absent})
    found = judged(other, train=[query(store, "C1.query", dict.fromkeys(colours, 1500)), none])
    one = of(found, "majority", "C1.query+N1.query")
    assert (one.verdict == "fail") is fails  # of 10,000 a quarter may be not present: more than 27 % is too much
    assert one.threshold == pytest.approx(0.27) and one.value == absent / (7500 + absent)


@pytest.mark.parametrize(("extra", "fails"), [(140, False), (160, True)])
def test_open_answers_are_judged_without_the_not_present_ones(
    store: VQAStore, small_set: Path, extra: int, fails: bool
) -> None:
    """Half of what is there is black, however often nothing is."""
    black, white = ids(store, "value", "colour/")[:2].tolist()
    other = targets(store, small_set, {black: 0.5, white: 0.5}, "C1.query", store.vocab.attribute["colour"], 7500)
    part = query(store, "C1.query", {black: 3750 + extra, white: 3750 - extra})
    found = judged(other, train=[part, query(store, "N1.query", {NOT_PRESENT: 2500})])
    assert (failed(found) == [("majority", "C1.query")]) is fails
    assert of(found, "majority", "C1.query").threshold == pytest.approx(0.52)
    assert of(found, "majority", "C1.query").n == 7500


def test_open_answers_of_a_set_without_targets_are_left_out_with_the_reason(store: VQAStore, small_set: Path) -> None:
    opened = VQAStore(small_set)
    for part in (small_set / "balance").glob("*"):
        part.unlink()
    (black,) = ids(store, "value", "colour/black").tolist()
    found = judged(opened, train=[query(store, "C1.query", {black: 100})])
    assert [(v.scope, v.verdict) for v in found if v.check == "majority"] == [("C1.query", "skip")]
    assert "holds no table `balance`" in of(found, "majority", "C1.query").note


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("target", float("nan"), "0 or more"),
        ("target", -1.0, "0 or more"),
        ("answer", 65_000, "no such answer"),
        ("template", 999, "no such template"),
    ],
)
def test_targets_that_cannot_be(store: VQAStore, small_set: Path, column: str, value: float, problem: str) -> None:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names, 1) | {column: value}
    write_table(part_path(small_set, "balance", 0), pa.Table.from_pylist([row], schema=SCHEMA))
    with pytest.raises(InputError, match=problem):
        read_targets(VQAStore(small_set))


@pytest.mark.parametrize(("right", "fails"), [(5200, False), (5201, True)])
def test_majority_of_choices_counts_half_of_what_is_offered(store: VQAStore, right: int, fails: bool) -> None:
    black, *others = ids(store, "value", "colour/").tolist()
    wrong = np.array(others)[np.arange(10_000) % len(others)]
    first = np.arange(10_000) % 2 == 0
    slots = {"v": np.where(first, black, wrong), "w": np.where(first, wrong, black), "cat": ids(store, "category")[0]}
    found = judged(store, train=[rows(store, "C2.choose", np.where(np.arange(10_000) < right, black, wrong), slots)])
    assert (("majority", "C2.choose") in failed(found)) is fails


@pytest.mark.parametrize(("off", "fails"), [(0.024, False), (0.026, True)])
def test_association_of_a_value_with_yes(store: VQAStore, off: float, fails: bool) -> None:
    """Two values with yes in 1/2 + off and 1/2 - off: V is 2 off."""
    one, two = ids(store, "value", "colour/")[:2].tolist()
    many = 50_000
    parts = [verify(store, int(many * (0.5 + o)), many, v=v) for v, o in ((one, off), (two, -off))]
    found = judged(store, train=parts)
    assert (failed(found) == [("association", "B2.verify v")]) is fails
    assert of(found, "association", "B2.verify v").value == pytest.approx(2 * off, rel=0.01)
    assert of(found, "association", "B2.verify cat").value == 0.0


def test_few_programs_that_chance_explains_pass_and_say_so(store: VQAStore) -> None:
    one, two = ids(store, "value", "colour/")[:2].tolist()
    found = of(
        judged(store, train=[verify(store, 14, 20, v=one), verify(store, 8, 20, v=two)]), "association", "B2.verify v"
    )
    assert found.value is not None and found.value > 0.2
    assert found.verdict == "pass" and "too few to tell" in found.note
    many = of(
        judged(store, train=[verify(store, 140, 200, v=one), verify(store, 80, 200, v=two)]),
        "association",
        "B2.verify v",
    )
    assert many.verdict == "fail" and "p = " in many.note


@pytest.mark.parametrize(("first", "fails"), [(0.5098, False), (0.5102, True), (0.4898, True), (0.4902, False)])
def test_position_of_the_right_option(store: VQAStore, first: float, fails: bool) -> None:
    rng, n = np.random.default_rng(0), 100_000
    part = fair_choice(store, rng, n)
    right = part["answer"]
    wrong = np.where(part["slot1"] == right, part["slot2"], part["slot1"])
    lead = np.arange(n) < round(first * n)
    part["slot1"], part["slot2"] = np.where(lead, right, wrong), np.where(lead, wrong, right)
    found = judged(store, train=[part])
    assert (failed(found) == [("option-position", "C2.choose")]) is fails
    assert of(found, "option-position", "C2.choose").value == pytest.approx(abs(first - 0.5))


@pytest.mark.parametrize(("n", "lead", "fails"), [(3, 2, False), (3, 3, True), (20, 10, False), (20, 11, True)])
def test_position_of_few_programs(store: VQAStore, n: int, lead: int, fails: bool) -> None:
    """The odd program stands somewhere; any other could have been divided."""
    part = fair_choice(store, np.random.default_rng(0), 20)
    part = {name: column[:n] for name, column in part.items()}
    right = part["answer"]
    wrong = np.where(part["slot1"] == right, part["slot2"], part["slot1"])
    first = np.arange(n) < lead
    part["slot1"], part["slot2"] = np.where(first, right, wrong), np.where(first, wrong, right)
    assert (of(judged(store, train=[part]), "option-position", "C2.choose").verdict == "fail") is fails


def test_answers_that_train_lacks(store: VQAStore) -> None:
    black, white, red = ids(store, "value", "colour/")[:3].tolist()
    train = query(store, "C1.query", {black: 10, white: 10})
    for split in ("val", "test", "compositional", "paraphrase"):
        found = judged(store, train=[train], **{split: [query(store, "C1.query", {red: 3, black: 1})]})
        one = of(found, "missing-answers", "the set")
        assert (one.verdict, one.value) == ("fail", 1.0) and one.note == "3 samples: 'red'"
        assert of(found, "missing-answers", "C1.query").verdict == "info"
    assert of(judged(store, train=[train], test=[train]), "missing-answers", "the set").verdict == "pass"


def test_an_answer_that_another_template_teaches_is_not_missing(store: VQAStore) -> None:
    black, white, red = ids(store, "value", "colour/")[:3].tolist()
    found = judged(
        store,
        train=[
            query(store, "C1.query", {black: 10, white: 10}),
            verify(store, 1, 1) | {"answer": np.array([red], np.uint16)},
        ],
        test=[query(store, "C1.query", {red: 1})],
    )
    assert of(found, "missing-answers", "the set").verdict == "pass"
    assert of(found, "missing-answers", "C1.query").value == 1.0


def clean(store: VQAStore, seed: int) -> list[Verdict]:
    """The verdicts on a clean made-up set: templates of 300 to 10,000 programs, in three splits."""
    rng = np.random.default_rng(seed)
    many = int(rng.choice([300, 500, 1000, 3000]))
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        sizes = (("B2.verify", 10_000), ("B2.modified", many), ("B5.not_modified", 500), ("B4.and", 3000))
        splits[split] = [fair_verify(store, rng, name, int(share * n)) for name, n in sizes]
        splits[split] += [fair_choice(store, rng, int(share * n), name) for name, n in CHOICES]
    return judged(store, **splits)


CHOICES = (("C2.choose", 10_000), ("G1.choose", 300))


def test_clean_sets_pass(store: VQAStore) -> None:
    """At most one in twenty of forty clean sets fails anything, though chance alone goes beyond thresholds in many."""
    found = {seed: clean(store, seed) for seed in range(40)}
    above = [seed for seed, verdicts in found.items() if any("too few to tell" in v.note for v in verdicts)]
    assert len(above) > 10
    wrong = [seed for seed, verdicts in found.items() if failed(verdicts)]
    assert len(wrong) <= 2, wrong


def test_thresholds_of_a_spec_count(store: VQAStore) -> None:
    part = verify(store, 5300, 10_000)
    assert ("majority", "B2.verify") in failed(judged(store, train=[part]))
    assert failed(judged(store, replace(OPTIONS, majority_binary=0.53), train=[part])) == []


def test_phrasings_of_one_program_are_one_observation(
    outfit_set: Made, small_set: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted by program is the same where every sample stands three times, even across batches."""
    for path in (small_set / "samples").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        pq.write_table(table.take(np.repeat(np.arange(len(table)), 3)), path)
    facts, once = count(VQAStore(outfit_set.path), 1)
    monkeypatch.setattr(counts, "BATCH_ROWS", 1000)  # no multiple of three
    _, thrice = count(VQAStore(small_set), 1)
    assert (once.values.key.tolist(), once.values.count.tolist()) == (
        thrice.values.key.tolist(),
        thrice.values.count.tolist(),
    )
    assert once.programs.tolist() == thrice.programs.tolist() and once.first.tolist() == thrice.first.tolist()
    assert (3 * once.answers["train"].count).tolist() == thrice.answers["train"].count.tolist()
    assert (3 * once.held.count).tolist() == thrice.held.count.tolist() and facts.templates


def test_every_template_of_a_real_set_is_judged(outfit_set: Made) -> None:
    store = VQAStore(outfit_set.path)
    facts, seen = count(store, 1)
    found = balance_checks(store, facts, seen, OPTIONS)
    scopes = " ".join(v.scope for v in found if v.check == "majority")
    kept = {store.pack.templates[r["template"]].id for split in outfit_set.rows.values() for r in split}
    assert kept and all(name in scopes for name in kept)
    assert facts_of(store).templates == len(store.pack.templates) and YES in seen.answers["train"].key % facts.vocab
