"""The gate of the question-only models bites just above its thresholds, not just below, and seldom without a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.audit import blind, blind_transformer
from fashionkit.datagen.audit.blind import blind_checks, judge
from fashionkit.datagen.audit.blind_exam import Exam, exam_of
from fashionkit.datagen.audit.blind_linear import guess_by_slots, guess_by_words
from fashionkit.datagen.audit.blind_sample import Questions
from fashionkit.datagen.audit.blind_transformer import guess_by_transformer
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.samples import read_samples, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, NOT_PRESENT, YES
from tests.datagen.audit.asking import ask, changed, judging, pool, slot, tilt, together
from tests.datagen.conftest import Made

N = 80_000  # enough to tell two points from four
OPTIONS = AuditOptions(resamples=300)
MODELS = {"blind-ngram": guess_by_words, "blind-slots": lambda exam, store: guess_by_slots(exam)}


@pytest.fixture(scope="module")
def store(outfit_set: Made) -> VQAStore:
    return VQAStore(outfit_set.path)


def verdicts(store: VQAStore, questions: Questions, models: dict[str, object] = MODELS) -> list[Verdict]:
    exam = exam_of(store, questions)
    return judge(store, exam, {name: guess(exam, store) for name, guess in models.items()}, OPTIONS)


def failed(found: list[Verdict]) -> set[tuple[str, str]]:
    return {(v.check, v.scope) for v in found if v.verdict == "fail"}


def gate(found: list[Verdict], check: str, scope: str) -> Verdict:
    return next(v for v in found if (v.check, v.scope) == (check, scope) and v.verdict != "info")


BOTH = [("blind-ngram", "B2"), ("blind-slots", "B2")]


@pytest.mark.parametrize(("share", "expected"), [(0.51, []), (0.54, BOTH)])
def test_a_word_that_leans_towards_yes(store: VQAStore, share: float, expected: list[tuple[str, str]]) -> None:
    rng = np.random.default_rng(0)
    q = ask(store, "B2.modified", rng, N)
    found = verdicts(store, tilt(rng, q, slot(store, "B2.modified", q, "m") % 2 == 0, share))
    assert failed(found) == set(expected)
    assert gate(found, "blind-slots", "B2").threshold == 0.52
    assert gate(found, "blind-slots", "B2").value == pytest.approx(share, abs=0.012)


def test_one_word_of_many_is_enough(store: VQAStore) -> None:
    """Half of all questions hold the word; with it 56 % are yes, without it the coin decides."""
    rng = np.random.default_rng(1)
    q = ask(store, "B2.modified", rng, N)
    word, m = pool(store, "B2.modified", "m")[0], slot(store, "B2.modified", q, "m")
    slots = q.slots.copy()
    slots[:, store.slots[store.pack.index("B2.modified")].index("m")] = np.where(rng.random(N) < 0.75, word, m)
    q = changed(q, slots=slots)
    yes = rng.random(N) < np.where(slot(store, "B2.modified", q, "m") == word, 0.56, 0.5)
    assert failed(verdicts(store, changed(q, answer=np.where(yes, YES, NO).astype(np.int32)))) == set(BOTH)


def test_slots_that_tell_together_are_named(store: VQAStore) -> None:
    rng = np.random.default_rng(2)
    q = ask(store, "B2.modified", rng, N)
    m, v = (slot(store, "B2.modified", q, name) % 2 for name in ("m", "v"))
    q = together(tilt(rng, q, m == v, 0.56), ask(store, "B2.verify", rng, 1000))
    found = verdicts(store, q)
    assert failed(found) >= {("blind-slots", "B2")}
    if store.pack.by_id("B2.modified").cell == ("cat", "v"):
        assert "B2.modified: a table of m + v is right in 0.5" in gate(found, "blind-slots", "B2").note
    read = {v.scope: v for v in found if v.verdict == "info" and v.check == "blind-slots"}
    assert set(read) == {"B2.modified", "B2.verify"}
    assert read["B2.modified"].low is not None and read["B2.modified"].low > 0.53 > 0.52 > 0.5


@pytest.mark.parametrize(("share", "fails"), [(0.505, False), (0.545, True)])
def test_an_option_that_wins_too_often(store: VQAStore, share: float, fails: bool) -> None:
    rng = np.random.default_rng(3)
    q = ask(store, "C2.choose", rng, N)
    v, w = (slot(store, "C2.choose", q, name) for name in ("v", "w"))
    answer = np.where(rng.random(N) < share, np.minimum(v, w), np.maximum(v, w))
    found = verdicts(store, changed(q, answer=answer.astype(np.int32)))
    assert ("blind-slots", "C2") in failed(found) if fails else not failed(found)
    assert gate(found, "blind-slots", "C2").threshold == 0.52


def opened(store: VQAStore, rng: np.random.Generator, by_cell: float, by_word: float) -> Questions:
    """Open questions; in a share of them category and attribute tell the answer, in another share the modifier."""
    q = ask(store, "C1.modified", rng, N)
    cat, m, attr = (slot(store, "C1.modified", q, name) for name in ("cat", "m", "attr"))
    colours, u = pool(store, "B2.verify", "v"), rng.random(N)
    told = np.where(u < by_cell, colours[(cat + attr) % 3], rng.choice(colours, N))
    told = np.where(u > 1 - by_word, colours[m % 2], told)
    return changed(q, answer=told.astype(np.int32))


@pytest.mark.parametrize(("by_cell", "by_word", "fails"), [(0.5, 0.0, False), (0.2, 0.24, True)])
def test_an_open_answer_is_measured_against_its_cell(
    store: VQAStore, monkeypatch: pytest.MonkeyPatch, by_cell: float, by_word: float, fails: bool
) -> None:
    """What the cell gives away is chance; what another word adds to it is not."""
    monkeypatch.setattr(store.pack, "templates", [*store.pack.templates])
    number = store.pack.index("C1.modified")
    t = store.pack.templates[number]
    store.pack.templates[number] = type(t)(**{**vars(t), "cell": ("cat",)})
    found = verdicts(store, opened(store, np.random.default_rng(4), by_cell, by_word))
    v = gate(found, "blind-slots", "C1")
    assert (("blind-slots", "C1") in failed(found)) is fails
    assert v.threshold is not None and v.note.startswith(f"chance is {v.threshold - 0.02:.4f}")
    if not fails:
        assert v.threshold == pytest.approx(0.02 + 0.5 + 0.5 / len(pool(store, "B2.verify", "v")), abs=0.02)


@pytest.mark.parametrize("wording_tells", [False, True])
def test_what_is_not_there_is_judged_with_what_is(store: VQAStore, wording_tells: bool) -> None:
    """A fixed share of not-present answers is design; a wording of their own gives them away."""
    rng = np.random.default_rng(5)
    there, absent = (ask(store, t, rng, 8000) for t in ("C1.query", "N1.query"))
    leaf = pool(store, "N1.query", "cat")
    there = changed(there, answer=rng.choice(pool(store, "B2.verify", "v"), 8000).astype(np.int32))
    absent = changed(absent, answer=np.full(8000, NOT_PRESENT, np.int32))
    if wording_tells:
        there = changed(there, paraphrase=np.zeros(8000, np.int32))
        absent = changed(absent, paraphrase=np.ones(8000, np.int32))
    found = verdicts(store, together(there, absent))
    assert len(leaf) > 3
    assert gate(found, "blind-slots", "C1+N1").value == pytest.approx(0.5, abs=0.03)
    assert failed(found) == ({("blind-ngram", "C1+N1")} if wording_tells else set())
    assert {v.scope for v in found if v.verdict == "info"} == {"C1.query+N1.query"}


def test_a_few_pictures_are_too_few(store: VQAStore) -> None:
    q = ask(store, "B2.verify", np.random.default_rng(6), 400)
    few = verdicts(store, changed(q, group=np.arange(400, dtype=np.int32) % 19))
    assert {v.verdict for v in few if v.verdict != "info"} == {"skip"}
    assert "fewer than 20" in few[0].note and few[0].n == 100
    enough = verdicts(store, changed(q, group=np.arange(400, dtype=np.int32) % 20))
    assert {v.verdict for v in enough if v.verdict != "info"} == {"pass"}


def test_questions_of_one_picture_count_as_one_observation(store: VQAStore) -> None:
    rng = np.random.default_rng(7)
    q = ask(store, "B2.verify", rng, 4000)
    q = tilt(rng, q, slot(store, "B2.verify", q, "v") % 2 == 0, 0.6)
    width = []
    for size in (1, 40):
        v = gate(verdicts(store, changed(q, group=(np.arange(4000) // size).astype(np.int32))), "blind-slots", "B2")
        assert v.low is not None and v.high is not None
        width.append(v.high - v.low)
    copies = changed(q, group=np.tile(np.arange(100, dtype=np.int32), 40))
    assert gate(verdicts(store, copies), "blind-slots", "B2").n == 1000
    assert width[0] == pytest.approx(width[1], rel=0.35)  # independent answers: grouping them changes little


def test_without_questions_to_learn_or_to_judge_there_is_no_verdict(store: VQAStore) -> None:
    q = ask(store, "B2.verify", np.random.default_rng(8), 40)
    for judged in (np.zeros(40, bool), np.ones(40, bool)):
        found = judge(
            store, exam_of(store, changed(q, split=judging(judged))), {"blind-slots": np.zeros(40, int)}, OPTIONS
        )
        assert [(v.check, v.verdict) for v in found] == [("blind-slots", "skip")]


def test_a_set_without_questions_in_these_splits_is_left_out(small_set: Path) -> None:
    for split in ("train", "val", "test"):
        for path in sample_files(small_set, split):
            pq.write_table(read_samples(path).slice(0, 0), path)
    found = blind_checks(VQAStore(small_set), OPTIONS)
    assert [v.verdict for v in found] == ["skip"] * 3
    assert "no questions in train" in found[0].note


def fair(store: VQAStore, rng: np.random.Generator) -> Questions:
    """A set with nothing to find and few pictures: five families, each answered by a coin."""
    parts = [ask(store, t, rng, 1200) for t in ("B2.modified", "B3.exist", "B5.not", "C2.choose", "C2.modified")]
    return together(*parts, opened(store, rng, 0.3, 0.0).take(np.arange(N) % 50 == 0))


def false_alarms(store: VQAStore, models: dict[str, object], seeds: int) -> int:
    return sum(bool(failed(verdicts(store, fair(store, np.random.default_rng(seed)), models))) for seed in range(seeds))


@pytest.mark.slow
def test_sets_with_nothing_to_find_seldom_fail(store: VQAStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind_transformer, "STEPS", (60, 60))

    def transformer(exam: Exam, store: VQAStore) -> np.ndarray:
        return guess_by_transformer(exam, 0)

    assert false_alarms(store, {**MODELS, "blind-transformer": transformer}, 40) <= 2


def test_a_whole_set_is_learnt_and_judged(store: VQAStore, small_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was made it passes; with answers that a word tells, all models see it."""
    monkeypatch.setattr(blind_transformer, "STEPS", (120, 120))
    monkeypatch.setattr(blind_transformer, "BATCH", 128)
    monkeypatch.setattr(blind, "FEWEST_GROUPS", 10)
    options, said = AuditOptions(resamples=200, model_samples=4000), list[str]()
    clean = blind_checks(store, options, 0, said.append)
    assert not failed(clean)
    assert {v.check for v in clean} == {"blind-ngram", "blind-slots", "blind-transformer"}
    assert any("to learn from" in line for line in said) and any("transformer: 120" in line for line in said)
    for split in ("train", "val", "test"):
        for path in sample_files(small_set, split):
            table = read_samples(path)
            yes_no = np.isin(table["answer"].to_numpy(), (YES, NO))
            told = np.where(table["slot0"].to_numpy() % 2 == 0, YES, NO)
            answer = np.where(yes_no, told, table["answer"].to_numpy()).astype(np.uint16)
            at = table.column_names.index("answer")
            pq.write_table(table.set_column(at, table.schema.field(at), pa.array(answer)), path)
    biased = failed(blind_checks(VQAStore(small_set), options, 0))
    assert {("blind-ngram", "B2"), ("blind-slots", "B2"), ("blind-transformer", "B2")} <= biased
    assert {scope[0] for _, scope in biased} <= {"B", "G"}
