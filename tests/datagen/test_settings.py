"""What the settings of a run do: samples, weights, texts, budgets, difficulty, seed, shards; and what it refuses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.datagen.balance import BalanceOptions
from fashionkit.datagen.judge import DifficultyOptions
from fashionkit.datagen.samples import PARAPHRASE, SAMPLE_SPLITS
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError
from tests.datagen.conftest import (
    FEW,
    Item,
    Made,
    Picture,
    asked,
    cell_of,
    made,
    make_catalog,
    samples_of,
    told,
    without,
)

MODIFIED = [
    "B2.modified",
    "B2.kind_value",
    "B5.not_modified",
    "B5.not_kind_value",
    "C1.modified",
    "C2.modified",
    "C2.kind",
]


@pytest.fixture(scope="module")
def make(outfits: Path, tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Callable[..., Made]:
    """Makes a set of a few families of the outfits under other settings; the same settings once."""
    known: dict[str, Made] = {}

    def one(**settings: Any) -> Made:
        settings = {"families": FEW, "drop": MODIFIED, **settings}
        key = repr(sorted(settings.items()))
        if key not in known:
            known[key] = made(outfits, tmp_path_factory.mktemp("other") / "set", **settings)
        return known[key]

    return one


@pytest.fixture(scope="module")
def few(make: Callable[..., Made]) -> Made:
    return make()


# Shares and sizes.


def shares(made_: Made) -> dict[str, float]:
    total = sum(made_.report.families.values())
    return {family: n / total for family, n in made_.report.families.items()}


@pytest.mark.parametrize("cap", [0.25, 0.4])
def test_a_smaller_set_keeps_to_the_cap(make: Callable[..., Made], cap: float) -> None:
    few = make(samples=1500, balance=BalanceOptions(family_cap=cap))
    assert max(shares(few).values()) <= cap + 0.02
    assert 0.85 * 1500 <= sum(few.report.families.values()) <= 1500


@pytest.mark.parametrize("samples", [1, 60, 500, 2000])
def test_samples_are_not_exceeded_and_nearly_reached(make: Callable[..., Made], samples: int) -> None:
    if samples == 1:
        with pytest.raises(InputError, match="no question"):
            make(samples=samples)
        return
    made_ = make(samples=samples)
    total = sum(made_.report.families.values())
    assert 0.8 * samples - 30 <= total <= samples
    assert total == sum(n for split, n in made_.report.samples.items() if split != PARAPHRASE)


def test_more_samples_than_there_are_is_said(make: Callable[..., Made]) -> None:
    report = make(samples=10_000_000).report
    assert any("10,000,000 samples were asked for" in note for note in report.notes)


def test_weights_move_the_shares(make: Callable[..., Made]) -> None:
    free = BalanceOptions(family_cap=1.0)
    even = shares(make(samples=1000, balance=free))
    heavy = shares(make(samples=1000, balance=free, families={**FEW, "C2": 4.0}))
    assert heavy["C2"] > 2 * even["C2"] and heavy["B2"] < even["B2"]


def test_families_and_templates_can_be_left_out(make: Callable[..., Made]) -> None:
    made_ = make(drop=[*MODIFIED, "C2.exist"], samples=800)
    store = VQAStore(made_.path)
    templates = {t.id for _, t, _, _ in told(store, made_.rows)}
    assert {t.split(".")[0] for t in templates} <= {"B1", "B2", "B5", "C1", "C2", "N1"}
    assert not templates & {"C1.modified", "C2.exist"} and {"C1.query", "C2.choose"} <= templates
    notes = [note for note in made_.report.notes if "left out by the spec" in note]
    assert len(notes) == 1 and "C2.exist" in notes[0] and "C2.choose" not in notes[0]


@pytest.mark.parametrize("count", [2, 4])
def test_each_question_stands_in_as_many_texts_as_asked(make: Callable[..., Made], count: int) -> None:
    made_ = make(phrasings=count, samples=3000)
    store = VQAStore(made_.path)
    for split in ("train", "test"):
        texts: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for _, t, slots, row in told(store, made_.rows, (split,)):
            texts[asked(t, slots, row)].append(row["paraphrase"])
        assert texts and all(len(found) == len(set(found)) == count for found in texts.values())
    total = sum(made_.report.families.values())
    assert 2400 <= total <= 3000 and made_.report.programs * count == total
    once = Counter(asked(t, slots, row) for _, t, slots, row in told(store, made_.rows, (PARAPHRASE,)))
    assert set(once.values()) == {1}


def test_more_texts_than_a_template_has_are_all_used_once(make: Callable[..., Made]) -> None:
    made_ = make(phrasings=16, samples=2000)
    store = VQAStore(made_.path)
    texts = Counter(asked(t, slots, row) for _, t, slots, row in told(store, made_.rows, ("train",)))
    for _, t, slots, row in told(store, made_.rows, ("train",)):
        assert texts[asked(t, slots, row)] == sum(not p.held_out for p in t.paraphrases)


@pytest.mark.parametrize(("most", "phrasings"), [(60, 1), (80, 2)])
def test_no_picture_has_more_than_its_budget(make: Callable[..., Made], few: Made, most: int, phrasings: int) -> None:
    made_ = make(per_image=most, phrasings=phrasings)
    images = Counter(row["image"] for split in SAMPLE_SPLITS[:-1] for row in made_.rows[split])
    assert max(images.values()) <= most
    without = Counter(row["image"] for split in SAMPLE_SPLITS[:-1] for row in few.rows[split])
    assert max(without.values()) > most, "the budget binds"
    store = VQAStore(made_.path)
    cells: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    for split, t, slots, row in told(store, made_.rows):
        if t.balance in ("binary", "choice"):
            cells[split, t.id, *cell_of(t, slots, store)][row["answer"]] += 1
    assert cells and all(len(a) == 2 and len(set(a.values())) == 1 for a in cells.values()), (
        "balance holds within budgets"
    )


def test_a_budget_that_binds_nowhere_changes_nothing(make: Callable[..., Made], few: Made) -> None:
    made_ = make(per_image=1_000_000)
    assert made_.rows == few.rows


# Difficulty and chance.


def test_hard_questions_are_preferred_and_balance_stays(make: Callable[..., Made]) -> None:
    hard, plain, easy = (make(samples=600, difficulty=DifficultyOptions(beta=beta)) for beta in (0.7, 0.0, -0.7))
    means = [
        np.mean([row["difficulty"] for rows in made_.rows.values() for row in rows]) for made_ in (hard, plain, easy)
    ]
    assert means[0] > means[1] + 0.1 and means[1] > means[2] + 0.1
    counts = [
        {split: Counter(row["template"] for row in rows) for split, rows in m.rows.items()} for m in (hard, plain, easy)
    ]
    assert counts[0] == counts[1] == counts[2], "preference decides which samples are kept, never how many"


def test_the_seed_decides_the_set(make: Callable[..., Made]) -> None:
    def questions(made_: Made) -> set[tuple[Any, ...]]:
        return {without(row, "qid") for rows in made_.rows.values() for row in rows}

    one, other = make(samples=800), make(samples=800, seed=1)
    assert len(questions(one) & questions(other)) < 0.5 * len(questions(one))
    assert abs(len(questions(one)) - len(questions(other))) < 0.2 * len(questions(one))


def test_other_shards_hold_as_many_and_nearly_the_same_samples(make: Callable[..., Made]) -> None:
    """The scale of difficulty comes from a unit's first shard; nothing else depends on their size."""
    one, other = make(samples=800), make(samples=800, shard_images=7)
    parts = [len(list((made_.path / "samples" / "train").iterdir())) for made_ in (one, other)]
    assert parts[0] < parts[1]
    for split in SAMPLE_SPLITS:
        assert Counter(row["template"] for row in one.rows[split]) == Counter(
            row["template"] for row in other.rows[split]
        )
    same = {without(row, "qid", "difficulty") for row in one.rows["train"]} & {
        without(row, "qid", "difficulty") for row in other.rows["train"]
    }
    assert len(same) > 0.9 * len(one.rows["train"])


# Refusals.


def test_a_folder_that_is_not_ours_is_refused(outfits: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not made by this command"):
        made(outfits, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"] and (tmp_path / "notes.txt").read_text() == "mine"


def test_a_catalogue_is_no_place_to_write_to(outfits: Path) -> None:
    before = sorted(p.name for p in outfits.iterdir())
    with pytest.raises(InputError, match=r"result of other settings|not made by"):
        made(outfits, outfits)
    assert sorted(p.name for p in outfits.iterdir()) == before


def test_the_result_of_other_settings_is_refused(few: Made, outfits: Path) -> None:
    for settings in ({"seed": 5}, {"samples": 50}, {"phrasings": 2}):
        with pytest.raises(InputError, match="other settings"):
            made(outfits, few.path, families=FEW, drop=MODIFIED, **settings)
    assert samples_of(few.path) == few.rows


def test_a_file_in_the_place_of_the_folder_is_refused(outfits: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises((InputError, OSError)):
        made(outfits, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


def test_no_catalogue(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        made(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_catalogue_without_anything_to_ask(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path / "c", [Picture("a", [Item("hat", {})])])
    with pytest.raises(InputError, match="no question"):
        made(catalog, tmp_path / "q")


def test_an_unknown_pack_names_those_there_are(outfits: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="core"):
        made(outfits, tmp_path / "q", packs=["corre"])
