"""Which wrong answers are drawn: only those that are wrong for certain, and the confusable ones most."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.datagen.counter import mix
from fashionkit.datagen.negatives import (
    GUIDE,
    Drawer,
    NegativeOptions,
    category_drawer,
    category_similarity,
    lab,
    value_drawer,
    value_similarity,
)
from fashionkit.datagen.scene import S_PRESENT, Scenes, load_scenes
from fashionkit.datagen.vocab import LOOK, NONE

RGB = st.tuples(*[st.integers(0, 255)] * 3)


@pytest.fixture(scope="module")
def scenes(outfits: Path) -> Scenes:
    return load_scenes(outfits)


def draws(s: Scenes, drawer: Drawer, name: str, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """(draws, items) ids drawn, and (items,) what is true."""
    rows = np.flatnonzero(s.state[:, s.attributes.index(name)] == S_PRESENT)
    own = s.value[rows, s.attributes.index(name)]
    return drawer.draw(s.leaf[rows], own, mix(3, rows.astype(np.uint64)), count), own


@pytest.mark.parametrize("name", ["colour", "pattern", "sleeves", "details"])
def test_what_is_drawn_excludes_what_is_true(scenes: Scenes, name: str) -> None:
    drawn, own = draws(scenes, value_drawer(scenes, name, NegativeOptions()), name)
    onto, vocab = scenes.ontology, scenes.vocab
    count = 0
    for row, true in zip(drawn.T.tolist(), own.tolist(), strict=True):
        keys = {vocab.key[v].split("/")[1] for v in vocab.members[true] or (true,)}
        for value in filter(None, row):
            attribute, key = vocab.key[value].split("/")
            assert attribute == name and not any(key in onto.compatible(name, k) for k in keys)
            count += 1
        assert len(set(filter(None, row))) == len(list(filter(None, row))), "one item draws no value twice"
    assert count > 30


def test_similar_values_are_drawn_most(scenes: Scenes) -> None:
    cold = value_drawer(scenes, "colour", NegativeOptions(temperature=0.05, uniform=0.0))
    even = value_drawer(scenes, "colour", NegativeOptions(uniform=1.0))

    def closeness(drawer: Drawer) -> float:
        drawn, own = draws(scenes, drawer, "colour", 1)
        return float(np.mean(drawer.similar[drawn[0].astype(int) - drawer.base, own.astype(int) - drawer.base]))

    assert closeness(cold) > closeness(even) + 0.03


def test_the_even_share_reaches_every_possible_value(scenes: Scenes) -> None:
    drawer = value_drawer(scenes, "colour", NegativeOptions(uniform=0.5))
    red = scenes.vocab.value["colour", "red"]
    bags = (drawer.codes == (int(scenes.vocab.category["bag"]) << 16 | red)).nonzero()[0]
    assert len(bags) == 1
    reached = {scenes.vocab.key[v] for v in np.unique(drawer.guide[bags[0]]).tolist()}
    assert reached == {f"colour/{v}" for v in ("black", "white", "blue", "navy", "orange")}


def test_nothing_is_drawn_for_what_the_table_does_not_know(scenes: Scenes) -> None:
    drawer = value_drawer(scenes, "colour", NegativeOptions())
    hat, red = scenes.vocab.category["hat"], scenes.vocab.value["colour", "red"]
    at = mix(0, np.arange(8, dtype=np.uint64))
    assert (drawer.draw(np.full(8, 60_000, np.uint16), np.full(8, red, np.uint16), at, 3) == NONE).all()
    assert (drawer.draw(np.full(8, hat, np.uint16), np.full(8, NONE, np.uint16), at, 3) == NONE).all()


def test_priors_are_shares_counted_on_train_alone(scenes: Scenes) -> None:
    drawer = value_drawer(scenes, "sleeves", NegativeOptions())
    hat, shirt = scenes.vocab.category["hat"], scenes.vocab.category["shirt"]
    assert drawer.prior[shirt].sum() == pytest.approx(1, abs=1e-5) and (drawer.prior > 0).all()
    counts, a = np.zeros(drawer.n), scenes.attributes.index("sleeves")
    everyone = np.zeros(drawer.n)
    for row in np.flatnonzero((scenes.state[:, a] == S_PRESENT) & (scenes.split[scenes.image] == 0)):
        everyone[scenes.value[row, a] - drawer.base] += 1
        counts[scenes.value[row, a] - drawer.base] += scenes.leaf[row] == shirt
    share = everyone / everyone.sum()
    assert drawer.prior[shirt] == pytest.approx((counts + 5 * share) / (counts.sum() + 5), abs=1e-3)
    assert drawer.prior[hat] == pytest.approx(share, abs=1e-3), "a category without any falls back to all of them"


def test_labels_are_drawn_too(scenes: Scenes) -> None:
    drawer = value_drawer(scenes, "style", NegativeOptions())
    formal = scenes.vocab.value["style", "formal"]
    rows = np.arange(50, dtype=np.uint64)
    drawn = drawer.draw(np.full(50, LOOK, np.uint16), np.full(50, formal, np.uint16), mix(1, rows), 3)
    assert {scenes.vocab.key[v] for v in np.unique(drawn).tolist() if v} == {"style/casual", "style/sporty"}


def test_categories_drawn_instead_cannot_be_said_of_the_item(scenes: Scenes) -> None:
    onto, vocab = scenes.ontology, scenes.vocab
    for groups in (False, True):
        drawer = category_drawer(scenes, NegativeOptions(), groups)
        leaf = np.unique(scenes.leaf)
        many = np.repeat(leaf, 40)
        drawn = drawer.draw(many, many, mix(9, np.arange(len(many), dtype=np.uint64)), 4)
        kinds = set()
        for row in drawn:
            for other, own in zip(row.tolist(), many.tolist(), strict=True):
                if other:
                    kinds.add(vocab.key[other])
                    assert vocab.key[other] not in onto.overlapping(vocab.key[own])
        assert ("bottomwear" in kinds) == groups and ("hat" in kinds) != groups and "item" not in kinds


def test_hardest_is_the_similarity_of_the_nearest_that_is_wrong(scenes: Scenes) -> None:
    drawer = value_drawer(scenes, "colour", NegativeOptions())
    onto = scenes.ontology
    keys = list(onto.attributes["colour"].values)
    for place, key in enumerate(keys):
        wrong = [drawer.similar[place, keys.index(k)] for k in keys if k not in onto.compatible("colour", key)]
        assert drawer.hardest[place] == pytest.approx(max(wrong))


@given(RGB, RGB)
def test_colours_are_compared_by_eye(one: tuple[int, int, int], two: tuple[int, int, int]) -> None:
    first, second = lab(one), lab(two)
    assert -0.5 <= first[0] <= 100.5
    assert (np.linalg.norm(first - second) < 1e-9) == (one == two)


def test_known_colours_in_lab() -> None:
    assert lab((255, 255, 255)) == pytest.approx([100, 0, 0], abs=0.5)
    assert lab((0, 0, 0)) == pytest.approx([0, 0, 0], abs=0.5)
    assert lab((255, 0, 0)) == pytest.approx([53.2, 80.1, 67.2], abs=0.5)


def test_similarities_are_symmetric_and_between_0_and_1(scenes: Scenes) -> None:
    onto = scenes.ontology
    for attribute in onto.attributes.values():
        for a, b in combinations(attribute.values.values(), 2):
            assert value_similarity(a, b) == pytest.approx(value_similarity(b, a))
            assert 0 <= value_similarity(a, b) <= 1
            assert value_similarity(a, a) >= value_similarity(a, b)
    for one, two in combinations(onto.categories, 2):
        assert 0 <= category_similarity(onto, one, two) == category_similarity(onto, two, one) <= 1
    near = category_similarity(onto, "shoes", "boots"), category_similarity(onto, "shoes", "hat")
    assert near[0] > near[1]
    colours = onto.attributes["colour"].values
    assert value_similarity(colours["navy"], colours["blue"]) > value_similarity(colours["navy"], colours["orange"])


@given(st.integers(1, 64), st.integers(0, 2**63))
def test_any_number_of_draws_of_one_item_are_distinct(count: int, bits: int) -> None:
    guide = np.repeat(np.arange(100, 100 + 8, dtype=np.uint16), GUIDE // 8)[None]
    drawer = Drawer(100, 8, np.ones((1, 8)), np.ones((8, 8)), np.ones(8), np.array([5 << 16 | 7]), guide)
    drawn = drawer.draw(np.array([5], np.uint16), np.array([7], np.uint16), np.array([bits], np.uint64), count)[:, 0]
    kept = drawn[drawn != NONE].tolist()
    assert len(kept) == len(set(kept)) and len(kept) == min(count, 8)
