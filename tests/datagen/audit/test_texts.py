"""The gate on texts bites: one planted fault a check is found and counted, clean sets pass."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.audit import asked, counts
from fashionkit.datagen.audit.asked import Questions
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.texts import text_checks
from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.samples import SAMPLE_SPLITS, SAMPLES, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, NOT_PRESENT, YES
from fashionkit.tables import InputError
from tests.datagen.audit.altered import Row, failures, plant, rewrite, rows_of, thinned, values
from tests.datagen.audit.made_up import fair_choice, ids, rows
from tests.datagen.conftest import Made, made, make_catalog, random_pictures

OPTIONS = AuditOptions()


@pytest.fixture(scope="module")
def few(outfit_set: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few questions of each template about outfits."""
    return thinned(outfit_set.path, tmp_path_factory.mktemp("few") / "set", 2)


@pytest.fixture
def copy(few: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(few, tmp_path / "set"))


def checked(folder: Path, workers: int = 1) -> list[Verdict]:
    return text_checks(VQAStore(folder), OPTIONS, workers)


def failed(folder: Path) -> dict[tuple[str, str], float | None]:
    """What fails, apart from the balance that a part of a set does not have."""
    return {place: value for place, value in failures(checked(folder)).items() if place[0] != "option-length"}


@pytest.mark.parametrize("kind", ["outfit_set", "product_set"])
def test_clean_sets_pass(kind: str, request: pytest.FixtureRequest) -> None:
    store = VQAStore(request.getfixturevalue(kind).path)
    verdicts = text_checks(store, OPTIONS)
    assert failures(verdicts) == {} and not [v for v in verdicts if v.verdict == "skip"]
    families = {v.scope.split(".")[0] for v in verdicts if v.check == "answer-in-question"}
    assert families >= {"C1", "C3", "C6", "G1"} and not families & {"B1", "B2", "B5", "C5", "N1"}
    assert {v.check for v in verdicts} >= {"option-length", "duplicates", "contradictions", "held-out-wording"}
    assert sum(v.n for v in verdicts if v.scope.startswith("wordings of")) == len(store)


@pytest.mark.slow
def test_clean_sets_of_forty_seeds_pass(tmp_path: Path) -> None:
    bad = Counter[tuple[str, str]]()
    for seed in range(40):
        folder = tmp_path / f"{seed}" / "catalog"
        folder.parent.mkdir()
        pictures = random_pictures(folder, 24, seed, one=False)
        catalog = make_catalog(folder, pictures, closed_categories=["item"], countable=["item"])
        bad.update(failures(checked(made(catalog, folder.parent / "set", seed=seed).path)).keys())
    assert sum(bad.values()) <= 2, bad


def test_workers_change_nothing(copy: Path) -> None:
    first = rows_of(copy, "train")[0]
    plant(copy, "train", first)
    rewrite(copy, "val", lambda there: [*there, there[0]])
    assert checked(copy) == checked(copy, workers=2)


@pytest.mark.parametrize("limit", ["batch", "memory", "words"])
def test_small_batches_and_a_short_memory_change_nothing(
    copy: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = modified(copy, "details/bow")
    plant(copy, "train", *[{**row, "answer": VQAStore(copy).vocab.key.index("details/bow")}] * 2)
    whole, forgotten = checked(copy), []
    monkeypatch.setattr(counts, "BATCH_ROWS", 64)
    if limit == "memory":
        monkeypatch.setattr(asked, "MOST", 20)
    if limit == "words":
        monkeypatch.setattr(asked, "prod", lambda limits: 1 << 62)
    forget = Questions.forget
    monkeypatch.setattr(Questions, "forget", lambda self: (forgotten.append(1), forget(self))[1])
    assert checked(copy) == whole and failed(copy)["duplicates", "the set"] == 1
    assert len(forgotten) == 2 if limit == "batch" else len(forgotten) > 10


# The answer in the question.


def modified(folder: Path, value: str) -> Row:
    """A question that names a value of its item and asks for an attribute."""
    row = rows_of(folder, "train", "C1.modified")[0]
    return {**row, "slot1": VQAStore(folder).vocab.key.index(value)}


@pytest.mark.parametrize(
    ("named", "answer"),
    [
        ("pattern/striped", "pattern/striped"),  # its canonical name
        ("sleeves/long", "sleeves/long"),  # "long-sleeved" says "long sleeves"
        ("details/bow", "details/bow+logo"),  # one of a list
        ("colour/red", "colour/navy"),  # by the synonym that is planted below
    ],
)
def test_an_answer_in_the_question_is_found(copy: Path, named: str, answer: str) -> None:
    path = copy / "ontology.yaml"
    path.write_text(path.read_text().replace("navy: {", "navy: {synonyms: [Red],"))
    row, store = modified(copy, named), VQAStore(copy)
    plant(copy, "train", {**row, "answer": store.vocab.key.index(answer)})
    verdicts = checked(copy)
    assert values(verdicts, "answer-in-question")["C1.modified"] == 1
    verdict = next(v for v in verdicts if (v.check, v.scope) == ("answer-in-question", "C1.modified"))
    assert verdict.verdict == "fail" and f"→ {store.vocab.text[store.vocab.key.index(answer)]}" in verdict.note


def test_examples_stand_with_their_template(copy: Path) -> None:
    key = VQAStore(copy).vocab.key
    kind = rows_of(copy, "train", "C3.kind")[0]
    plant(copy, "train", {**modified(copy, "colour/red"), "answer": key.index("colour/red")})
    plant(copy, "train", {**kind, "slot0": key.index("details/bow"), "answer": key.index("details/bow")})
    notes = {v.scope: v.note for v in checked(copy) if v.check == "answer-in-question" and v.verdict == "fail"}
    assert notes.keys() == {"C1.modified", "C3.kind"}
    assert notes["C1.modified"].endswith("→ red") and notes["C1.modified"].count("→") == 1
    assert notes["C3.kind"].endswith("→ bow") and notes["C3.kind"].count("→") == 1


@pytest.mark.parametrize(("named", "answer"), [("details/logo", "hat"), ("colour/navy", "colour/blue")])
def test_only_whole_words_and_the_answer_itself_count(copy: Path, named: str, answer: str) -> None:
    """Questions say "what" and "colour"; the answer "hat" stands in neither, and "blue" is a word of "navy blue"."""
    row, store = modified(copy, named), VQAStore(copy)
    plant(copy, "train", {**row, "answer": store.vocab.key.index(answer)})
    found = 1 if answer == "colour/blue" else 0
    assert values(checked(copy), "answer-in-question")["C1.modified"] == found


def test_yes_no_choices_and_absent_things_may_say_their_answer(copy: Path) -> None:
    verdicts = checked(copy)
    templates = set(values(verdicts, "answer-in-question"))
    assert not {t for t in templates if t.startswith(("B", "C2", "C5", "N1")) or t in ("G1.verify", "G1.choose")}


# The length of the options.


def choices(folder: Path, columns: dict[str, Any], times: int = 1) -> Path:
    """A set of these choices only, each in so many wordings."""
    for split in SAMPLE_SPLITS:
        emptied(folder, split)
    n = len(columns["answer"]) * times
    columns = {name: np.repeat(column, times) for name, column in columns.items()}
    columns |= {"qid": np.arange(n), "difficulty": np.zeros(n, np.float16), "paraphrase": np.arange(n) % times}
    path = folder / "samples" / "train" / "part-00000.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in SAMPLES], schema=SAMPLES), path)
    return folder


def longer_right(store: VQAStore, right: int, n: int) -> dict[str, Any]:
    """Choices between two colours, the longer of which is right in `right` of `n`."""
    pool = ids(store, "value", "colour/")
    by_length = sorted(pool.tolist(), key=lambda number: len(store.vocab.text[number]))
    short, long = by_length[0], by_length[-1]
    answer = np.where(np.arange(n) < right, long, short)
    first = np.arange(n) % 2 == 0
    slots = {"cat": ids(store, "category")[0], "v": np.where(first, long, short), "w": np.where(first, short, long)}
    return rows(store, "C2.choose", answer, slots)


@pytest.mark.parametrize(
    ("right", "n", "passes"),
    [(511, 1000, False), (510, 1000, True), (490, 1000, True), (489, 1000, False), (6, 11, True), (6, 10, False)],
)
def test_the_share_of_the_longer_option_has_a_limit(copy: Path, right: int, n: int, passes: bool) -> None:
    verdicts = checked(choices(copy, longer_right(VQAStore(copy), right, n), times=3))
    (verdict,) = (v for v in verdicts if v.check == "option-length")
    assert (verdict.scope, verdict.n, verdict.verdict) == ("C2.choose", n, "pass" if passes else "fail")
    assert f"{right / n:.4f}" in verdict.note


def test_the_repeats_of_the_paraphrase_split_do_not_count_twice(copy: Path) -> None:
    store = VQAStore(copy)
    choices(copy, longer_right(store, 40, 80))
    shutil.copy(sample_files(copy, "train")[0], sample_files(copy, "paraphrase")[0])
    (verdict,) = (v for v in text_checks(store, OPTIONS) if v.check == "option-length")
    assert (verdict.n, verdict.value) == (80, 0.0)


def test_fair_choices_of_forty_seeds_pass(copy: Path) -> None:
    store = VQAStore(copy)
    for seed in range(40):
        choices(copy, fair_choice(store, np.random.default_rng(seed), 300))
        verdicts = text_checks(store, OPTIONS)
        assert values(verdicts, "option-length") == {"C2.choose": 0.0}


def test_options_of_one_length_say_nothing(copy: Path) -> None:
    store = VQAStore(copy)
    same = [i for i in ids(store, "value", "colour/") if len(store.vocab.text[i]) == 5]  # black and white
    slots = {"cat": ids(store, "category")[0], "v": same[0], "w": same[1]}
    verdicts = checked(choices(copy, rows(store, "C2.choose", np.full(20, same[0]), slots)))
    assert [v.verdict for v in verdicts if v.check == "option-length"] == ["skip"]


# Repeats.


def test_a_sample_that_stands_twice_is_found(copy: Path) -> None:
    row = rows_of(copy, "train", "C1.query")[0]
    plant(copy, "train", row, row)
    assert failed(copy) == {("duplicates", "the set"): 2}


def test_an_equal_text_of_another_template_is_a_repeat(copy: Path) -> None:
    """What is not there is asked for in the words of what is: both about one picture contradict each other."""
    row, store = rows_of(copy, "train", "C1.query")[0], VQAStore(copy)
    plant(copy, "train", {**row, "template": store.pack.index("N1.query"), "answer": NOT_PRESENT})
    assert failed(copy) == {("duplicates", "the set"): 1, ("contradictions", "the set"): 1}


def test_the_paraphrase_split_belongs_to_its_pictures(copy: Path) -> None:
    row = rows_of(copy, "paraphrase")[0]
    plant(copy, "test", row)
    found = failed(copy)
    assert found["duplicates", "the set"] == found["held-out-wording", "wordings of test"] == 1


def test_two_answers_to_one_question_are_found(copy: Path) -> None:
    row = rows_of(copy, "val", "B2.verify")[0]
    plant(copy, "val", {**row, "answer": NO if row["answer"] == YES else YES})
    assert failed(copy) == {("duplicates", "the set"): 1, ("contradictions", "the set"): 1}
    (note,) = (v.note for v in checked(copy) if v.check == "contradictions")
    assert "→ yes" in note and "→ no" in note


def test_one_text_of_two_pictures_is_no_repeat(copy: Path) -> None:
    row = rows_of(copy, "train", "C1.query")[0]
    plant(copy, "train", {**row, "image": row["image"] + 1})
    assert failed(copy) == {}
    plant(copy, "train", {**row, "image": row["image"] + 1})
    assert failed(copy) == {("duplicates", "the set"): 1}


def test_pictures_torn_over_parts_are_not_passed_over(copy: Path) -> None:
    row = rows_of(copy, "train")[0]
    rewrite(copy, "train", lambda there: [*there, row], part=1)
    assert failed(copy) == {("duplicates", "pictures in several parts"): 1}


# Held-out wording.


def open_and_held(folder: Path, template: str) -> tuple[int, int]:
    """Numbers of an open wording and of a held-out one."""
    forms = VQAStore(folder).pack.by_id(template).paraphrases
    return next(i for i, f in enumerate(forms) if not f.held_out), next(i for i, f in enumerate(forms) if f.held_out)


@pytest.mark.parametrize("split", ["train", "val", "test", "compositional"])
def test_a_held_out_wording_in_another_split_is_found(copy: Path, split: str) -> None:
    template = VQAStore(copy).pack.templates[rows_of(copy, split)[0]["template"]].id
    _, held = open_and_held(copy, template)

    def change(there: list[Row]) -> list[Row]:
        return [{**there[0], "paraphrase": held}, *there[1:]]

    rewrite(copy, split, change)
    assert failed(copy)["held-out-wording", f"wordings of {split}"] == 1


def questions_of(folder: Path, split: str, image: int | None = None, qid: int | None = None) -> list[str]:
    """Questions of a split as they are read; of one sample."""
    found = [row for table in VQAStore(folder).iter(split, rendered=True) for row in table.to_pylist()]
    return [row["question"] for row in found if (image, qid) in ((None, None), (row["image"], row["qid"]))]


def test_an_open_wording_in_the_paraphrase_split_is_found(copy: Path) -> None:
    row = rows_of(copy, "paraphrase", "G1.query")[0]
    spoken, _ = open_and_held(copy, "G1.query")

    def change(there: list[Row]) -> list[Row]:
        return [{**r, "paraphrase": spoken} if r["qid"] == row["qid"] else r for r in there]

    rewrite(copy, "paraphrase", change)
    found = failed(copy)
    assert found["held-out-wording", "wordings of paraphrase"] == 1
    text = questions_of(copy, "paraphrase", row["image"], row["qid"])[0]
    for split in ("train", "val", "test"):
        said = questions_of(copy, split)
        assert found.get(("held-out-wording", f"texts of {split}"), 0) == said.count(text)
    assert any(place[1].startswith("texts of") for place in found)


# What is damaged.


def replaced(**changes: int) -> Callable[[list[Row]], list[Row]]:
    """The first sample with other ids."""
    return lambda there: [{**there[0], **changes}, *there[1:]]


@pytest.mark.parametrize(
    ("changes", "column", "words"),
    [
        ({"paraphrase": 200}, "paraphrase", "has the wordings 0 to"),
        ({"slot0": 0}, "slot0", "holds a"),
        ({"slot3": 7}, "slot3", "slots, and this is something else"),
        ({"slot0": 60_000}, "slot0", "no such slot0"),
        ({"answer": 60_000}, "answer", "no such answer"),
        ({"image": 60_000}, "image", "no such image"),
    ],
)
def test_ids_that_no_question_can_say_are_refused(copy: Path, changes: dict[str, int], column: str, words: str) -> None:
    path = rewrite(copy, "train", replaced(**changes))
    with pytest.raises(InputError, match=words) as caught:
        checked(copy)
    assert (caught.value.file, caught.value.column) == (path, column)


def test_a_damaged_part_is_named(copy: Path) -> None:
    store, path = VQAStore(copy), sample_files(copy, "test")[0]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="damaged") as caught:
        text_checks(store, OPTIONS)
    assert caught.value.file == path


def emptied(folder: Path, split: str) -> None:
    """Takes all samples out of a split."""
    for path in sample_files(folder, split):
        pq.write_table(SAMPLES.empty_table(), path)


def test_what_cannot_be_looked_at_is_left_out_with_its_reason(copy: Path) -> None:
    emptied(copy, "paraphrase")
    left_out = {v.check: v.note for v in checked(copy) if v.verdict == "skip"}
    assert left_out == {"held-out-wording": "the set has no samples of the split 'paraphrase'"}
    for split in SAMPLE_SPLITS:
        emptied(copy, split)
    verdicts = checked(copy)
    assert {v.check for v in verdicts if v.verdict == "skip"} == {
        "answer-in-question",
        "option-length",
        "held-out-wording",
    }
    assert {v.check: v.n for v in verdicts if v.verdict == "pass"} == {"duplicates": 0, "contradictions": 0}
