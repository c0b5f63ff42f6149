"""What a finished question set promises, counted on whole sets: balance, splits, shares, distinctness, difficulty."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.propose import option_slots
from fashionkit.datagen.samples import PARAPHRASE, SAMPLE_SPLITS
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, NOT_PRESENT, YES
from fashionkit.tables import read_table, verify
from tests.datagen.conftest import (
    Item,
    Made,
    Picture,
    asked,
    cell_of,
    made,
    make_catalog,
    told,
)


@pytest.fixture(scope="module", params=["outfit_set", "product_set"])
def whole(request: pytest.FixtureRequest) -> Made:
    """Each of the two sets in turn."""
    found: Made = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def store(whole: Made) -> VQAStore:
    return VQAStore(whole.path)


# Balance.


def test_yes_and_no_are_equal_in_every_cell(whole: Made, store: VQAStore) -> None:
    cells: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    for split, t, slots, row in told(store, whole.rows):
        if t.family.startswith("B") or t.id == "G1.verify":
            assert row["answer"] in (YES, NO)
            cells[split, t.id, *cell_of(t, slots, store)][row["answer"]] += 1
    assert len(cells) > 300
    assert [cell for cell, answers in cells.items() if abs(answers[YES] - answers[NO]) > 1] == []


def test_yes_and_no_are_equal_for_every_value_of_every_category(whole: Made, store: VQAStore) -> None:
    cells: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    for split, t, slots, row in told(store, whole.rows):
        if t.id in ("B2.verify", "B3.exist", "B5.not"):
            cells[split, t.id, slots["cat"], slots["v"]][row["answer"]] += 1
        elif t.id in ("B1.exist", "B2.kind", "B5.none"):
            cells[split, t.id, slots["cat"]][row["answer"]] += 1
    assert cells and all(answers[YES] == answers[NO] for answers in cells.values())


def test_either_option_of_a_choice_is_right_equally_often(whole: Made, store: VQAStore) -> None:
    cells: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    place: dict[str, Counter[bool]] = defaultdict(Counter)
    for split, t, slots, row in told(store, whole.rows):
        if t.balance == "choice":
            one, two = (slots[name] for name in option_slots(t))
            assert row["answer"] in (one, two)
            cells[split, t.id, *cell_of(t, slots, store)][row["answer"]] += 1
            place[t.id][row["answer"] == one] += 1
    assert len(cells) > 50
    for answers in cells.values():
        assert len(answers) == 2 and len(set(answers.values())) == 1, answers
    for template, count in place.items():
        spread = 4 * (count.total() / 4) ** 0.5
        assert abs(count[True] - count.total() / 2) < spread, f"{template}: the right option stands first half the time"


def test_not_present_has_the_same_share_wherever_it_is_asked(outfit_set: Made) -> None:
    store = VQAStore(outfit_set.path)
    known: Counter[tuple[Any, ...]] = Counter()
    missing: Counter[tuple[Any, ...]] = Counter()
    attribute = {
        n: store.vocab.attribute.get(store.vocab.attribute_of(n), 0)
        for n in range(len(store.vocab))
        if store.vocab.kind[n] == "value"
    }
    for split, t, slots, row in told(store, outfit_set.rows, SAMPLE_SPLITS[:-1]):
        if t.id == "N1.query":
            assert row["answer"] == NOT_PRESENT
            missing[split, slots["attr"], slots["cat"]] += 1
        elif t.id == "C1.query":
            assert attribute[row["answer"]] == slots["attr"]
            known[split, slots["attr"], slots["cat"]] += 1
    assert len(missing) > 30
    for cell, count in missing.items():
        assert abs(count - known[cell] / 3) <= 1, "a quarter of both together, within rounding"


def test_where_nothing_can_be_missing_no_answer_gives_it_away(outfit_set: Made) -> None:
    """Leaf categories asked for an attribute without any not-present question tell that the item is there."""
    store = VQAStore(outfit_set.path)
    asked_of: dict[str, set[tuple[Any, ...]]] = {"N1.query": set(), "C1.query": set()}
    for split, t, slots, _ in told(store, outfit_set.rows, ("train",)):
        if t.id in asked_of:
            asked_of[t.id].add((split, slots["attr"], slots["cat"]))
    leaves = {
        store.vocab.category[c] for c in ("shirt", "blouse", "uniform", "coat", "hat", "bag", "shoes", "boots", "skirt")
    }
    alone = {cell for cell in asked_of["C1.query"] - asked_of["N1.query"] if cell[2] in leaves}
    assert len(alone) <= 0.05 * len(asked_of["C1.query"])


def test_a_negation_is_asked_of_what_its_partner_asks(whole: Made, store: VQAStore) -> None:
    partner: dict[tuple[Any, ...], int] = {}
    for _, t, slots, row in told(store, whole.rows, SAMPLE_SPLITS[:-1]):
        partner[asked(t, slots, row)] = row["answer"]
    count = 0
    for _, t, slots, row in told(store, whole.rows, SAMPLE_SPLITS[:-1]):
        if t.family == "B5":
            answer = partner[(row["image"], t.tie, *sorted(slots.items()))]
            assert {answer, row["answer"]} == {YES, NO}
            count += 1
    assert count > 100


def test_no_open_answer_outgrows_its_tempered_share(whole: Made, store: VQAStore) -> None:
    """Within a cell the most frequent answer stays within three times the next one, rounding aside."""
    cells: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    for split, t, slots, row in told(store, whole.rows, SAMPLE_SPLITS[:-1]):
        if t.id == "C1.query":
            cells[split, slots["cat"], slots["attr"]][row["answer"]] += 1
    assert cells
    for answers in cells.values():
        first, second = ([n for _, n in answers.most_common(2)] + [0])[:2]
        assert first <= 3 * max(second, 1) + 3


# Splits.


def test_only_the_paraphrase_split_holds_held_out_texts(whole: Made, store: VQAStore) -> None:
    seen: Counter[bool] = Counter()
    for split, t, _, row in told(store, whole.rows):
        held_out = t.paraphrases[row["paraphrase"]].held_out
        assert held_out == (split == PARAPHRASE), (t.id, split)
        seen[held_out] += 1
    assert seen[True] > 500 and seen[False] > 500


def test_all_texts_are_used(whole: Made, store: VQAStore) -> None:
    used = {(t.id, row["paraphrase"]) for _, t, _, row in told(store, whole.rows) if t.id in ("B2.verify", "C2.choose")}
    assert used == {(t, n) for t in ("B2.verify", "C2.choose") for n in range(len(store.pack.by_id(t).paraphrases))}


def test_the_paraphrase_split_repeats_the_test_split(whole: Made, store: VQAStore) -> None:
    questions = {
        s: sorted((*asked(t, slots, row), row["answer"]) for _, t, slots, row in told(store, whole.rows, (s,)))
        for s in ("test", PARAPHRASE)
    }
    assert questions["test"] == questions[PARAPHRASE]


def test_pictures_and_their_groups_stay_in_one_split(whole: Made, store: VQAStore) -> None:
    splits = {r["image_id"]: (r["split"], r["split_group"]) for r in Catalog(whole.catalog).table("splits").to_pylist()}
    groups: dict[int, set[str]] = defaultdict(set)
    for split, _, _, row in told(store, whole.rows):
        own, group = splits[store.image_ids[row["image"]]]
        assert own == {"compositional": "test", PARAPHRASE: "test"}.get(split, split)
        groups[group].add(own)
    assert len(groups) > 20 and all(len(found) == 1 for found in groups.values())
    table = read_table(whole.path, "images").to_pylist()
    assert {r["image_id"]: (r["split"], r["group"]) for r in table} == splits


def test_a_held_out_composition_is_asked_in_its_split_alone(outfit_set: Made) -> None:
    store = VQAStore(outfit_set.path)
    bag, red = store.vocab.category["bag"], store.vocab.value["colour", "red"]
    together = Counter(
        split
        for split, t, slots, row in told(store, outfit_set.rows)
        if {bag, red} <= {*slots.values(), row["answer"]} and t.anchor == "item" and t.family != "C8"
    )
    assert set(together) == {"compositional"} and together["compositional"] > 20


def test_nothing_is_held_out_where_nothing_is_declared(product_set: Made) -> None:
    assert product_set.rows["compositional"] == []


# Rows.


def test_no_sample_stands_twice(whole: Made, store: VQAStore) -> None:
    rows = Counter((*asked(t, slots, row), row["paraphrase"]) for _, t, slots, row in told(store, whole.rows))
    assert [key for key, count in rows.items() if count > 1] == []
    symmetric = Counter(
        (row["image"], t.id, frozenset(slots.values()), row["paraphrase"])
        for _, t, slots, row in told(store, whole.rows)
        if t.anchor == "pair" and t.balance == "binary"
    )
    assert not symmetric or max(symmetric.values()) == 1, "a hat and a bag are a bag and a hat"


def test_ids_count_up_over_the_splits(whole: Made) -> None:
    ids = [row["qid"] for split in SAMPLE_SPLITS for row in whole.rows[split]]
    assert ids == list(range(len(ids)))


def test_rows_are_ordered_by_picture_within_a_split(whole: Made) -> None:
    for rows in whole.rows.values():
        images = [row["image"] for row in rows]
        assert images == sorted(images)


def test_the_reports_figures_are_those_of_the_files(whole: Made, store: VQAStore) -> None:
    assert whole.report.samples == {s: len(rows) for s, rows in whole.rows.items()}
    families = Counter(t.family for _, t, _, _ in told(store, whole.rows, SAMPLE_SPLITS[:-1]))
    assert {f: n for f, n in whole.report.families.items() if n} == families
    programs = {asked(t, slots, row) for _, t, slots, row in told(store, whole.rows, SAMPLE_SPLITS[:-1])}
    assert whole.report.programs == len(programs)
    assert store.manifest.counts["splits"] == whole.report.samples and len(store) == sum(whole.report.samples.values())
    assert verify(whole.path) == []


def test_what_is_refused_or_absent_is_told(whole: Made, store: VQAStore) -> None:
    rejects = read_table(whole.path, "rejects").to_pylist()
    assert all(r["reason"] and r["family"] in FAMILIES for r in rejects)
    made_of = {t.id for _, t, _, _ in told(store, whole.rows)}
    absent = {r["template"] for r in rejects if r["count"] == 0}
    assert absent == {t.id for t in store.pack.templates} - made_of
    for template in absent:
        assert any(template in note for note in whole.report.notes), f"the report says why there is no {template}"


def test_all_families_are_carried_by_the_closed_outfits(outfit_set: Made) -> None:
    assert {family for family, n in outfit_set.report.families.items() if n} == set(FAMILIES)


def test_an_open_world_gets_no_question_about_what_is_not_there(product_set: Made) -> None:
    store = VQAStore(product_set.path)
    families = {t.family for _, t, _, _ in told(store, product_set.rows)}
    assert not families & {"B1", "B3", "C8", "N1"} and {"B2", "C1", "C2", "G1"} <= families
    assert not any(row["answer"] == NOT_PRESENT for _, _, _, row in told(store, product_set.rows))
    for word in ("outfit", "umbrella without"):
        assert not any(
            word in text for batch in store.iter("train", rendered=True) for text in batch["question"].to_pylist()
        )


def test_what_a_picture_cannot_show_is_never_asked(whole: Made, store: VQAStore) -> None:
    hidden = {n for n, key in enumerate(store.vocab.key) if key.split("/")[0] in ("price", "year")}
    assert not any(hidden & {*slots.values(), row["answer"]} for _, _, slots, row in told(store, whole.rows))


def test_a_crowded_picture_gets_no_question_about_its_items(tmp_path: Path) -> None:
    """Its items are left out, so it would look as if there were none."""
    pictures = [
        Picture(f"p{n}", [Item("hat", {"colour": c}), Item("bag", {"colour": c})][: n % 3])
        for n, c in enumerate(["red", "blue"] * 12)
    ]
    pictures.append(Picture("crowd", [Item("hat", {"colour": "red"}) for _ in range(40)]))
    set_ = made(make_catalog(tmp_path / "c", pictures, closed_categories=["item"], countable=["item"]), tmp_path / "q")
    store = VQAStore(set_.path)
    crowd = store.image_ids.index("crowd")
    assert not any(row["image"] == crowd for _, _, _, row in told(store, set_.rows))
    assert any("more than 32 items" in note for note in store.manifest.about["notes"])


# Shares and difficulty.


def test_no_family_is_above_the_cap(whole: Made) -> None:
    total = sum(whole.report.families.values())
    assert max(whole.report.families.values()) <= 0.25 * total + 8


def test_difficulty_is_in_steps_within_its_limits(whole: Made) -> None:
    found = np.array([row["difficulty"] for rows in whole.rows.values() for row in rows])
    assert np.abs(found).max() <= 4 and (found * 16 == np.rint(found * 16)).all()
    assert found.std() > 0.5
