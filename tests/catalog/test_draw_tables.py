"""The drawn catalogue without pictures: the label rule, what is covered, and that no single cue gives a style away."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache

import pytest

from fashionkit.catalog.draw import LABEL_NOISE, STYLES, Outfit, draw_outfit
from fashionkit.catalog.draw.styles import RULES, clean_style, holds
from fashionkit.catalog.draw.types import ABSENT, NOT_VISIBLE, Attribute, present
from fashionkit.catalog.draw.vocab import DETAILS, REGIONS, WARDROBE

N = 4000


@lru_cache(maxsize=1)
def outfits() -> list[Outfit]:
    return [draw_outfit(5, k, render=False) for k in range(N)]


def test_every_category_value_and_detail_is_seen() -> None:
    found: set[tuple[str, str, str]] = set()
    for outfit in outfits():
        for item in outfit.items:
            assert item.region == REGIONS[item.category]
            for name, attribute in item.attributes.items():
                assert (attribute.state == "present") == bool(attribute.values)
                found.update((item.category, name, value) for value in attribute.values)
    wanted = {(c, "colour", v) for c, table in WARDROBE.items() for v in table["colour"]}
    single = [(c, n, v) for c, table in WARDROBE.items() for n, values in table.items() for v in set(values) if v]
    hidden = {("backpack", "pattern", "plain")}  # only its straps and sides are seen from the front
    missing = {key for key in single if key not in found and key[1] != "colour"} - hidden
    assert missing == set()
    assert len(wanted - found) < 0.02 * len(wanted)
    details = {(c, "details", v) for c, values in DETAILS.items() if c != "backpack" for v in values}
    assert len(details - found) <= 2


def test_details_are_complete_and_within_the_category() -> None:
    counts = Counter(
        len(item.attributes["details"].values)
        for outfit in outfits()
        for item in outfit.items
        if "details" in item.attributes and item.attributes["details"].state != "not_visible"
    )
    assert max(counts) <= 3
    assert counts[0] > 0 and counts[1] > 0 and counts[2] > 0


def test_styles_are_balanced_and_labels_noisy_as_documented() -> None:
    labels = Counter(outfit.style for outfit in outfits())
    assert set(labels) == set(STYLES)
    assert min(labels.values()) / N > 0.08 and max(labels.values()) / N < 0.17
    flipped = sum(outfit.style != outfit.clean_style for outfit in outfits()) / N
    assert abs(flipped - LABEL_NOISE) < 0.015


def _cues(outfit: Outfit) -> set[tuple[str, ...]]:
    cues: set[tuple[str, ...]] = set()
    for item in outfit.items:
        cues.update({(item.category,), (item.region,)})
        for name, attribute in item.attributes.items():
            for value in attribute.values or (attribute.state,):
                cues.update({(name, value), (item.region, name, value), (item.category, name, value)})
    return cues


def test_no_single_cue_predicts_the_style() -> None:
    total = Counter(outfit.style for outfit in outfits())
    with_cue: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for outfit in outfits():
        for cue in _cues(outfit):
            with_cue[cue][outfit.style] += 1
    best = max(
        (max(seen.values()) + max(total[style] - seen[style] for style in STYLES)) / N for seen in with_cue.values()
    )
    assert best < 0.35


@pytest.mark.parametrize("region", ["top", "outer", "bottom", "full_body", "feet", "head"])
def test_no_single_region_predicts_the_style(region: str) -> None:
    by_category: dict[str, Counter[str]] = defaultdict(Counter)
    for outfit in outfits():
        worn = [item.category for item in outfit.items if item.region == region]
        by_category[worn[0] if worn else ""][outfit.style] += 1
    assert sum(max(counts.values()) for counts in by_category.values()) / N < 0.42


def test_every_rule_makes_points() -> None:
    slots = {"top": "top", "outer": "outer", "bottom": "bottom", "full_body": "full", "feet": "shoes", "head": "hat",
             "eyes": "glasses", "waist": "belt", "hand": "bag", "back": "bag"}  # fmt: skip
    hits: Counter[int] = Counter()
    for outfit in outfits():
        seen = {slots.get(i.region, i.category): (i.category, i.attributes) for i in outfit.items}
        assert clean_style(seen) == outfit.clean_style
        hits.update(k for k, rule in enumerate(RULES) if holds(seen, rule))
    assert set(hits) == set(range(len(RULES)))


def _item(category: str, **known: Attribute) -> tuple[str, dict[str, Attribute]]:
    return category, {name: NOT_VISIBLE for name in (*WARDROBE[category], "details")} | known


def test_absent_is_not_hidden() -> None:
    shoes = _item("boots")
    plain = {"pattern": present("plain"), "colour": present("grey")}
    assert clean_style({"full": _item("dress", **plain, details=ABSENT), "shoes": shoes}) == "minimalist"
    assert clean_style({"full": _item("dress", **plain), "shoes": shoes}) == "casual"


def test_the_rule_needs_all_its_parts() -> None:
    tie = _item("tie", pattern=present("dotted"))
    assert clean_style({"top": _item("shirt", pattern=present("plain")), "tie": tie}) == "formal"
    assert clean_style({"top": _item("shirt"), "tie": tie}) == "casual"
    blazer, trousers = _item("blazer", colour=present("navy")), _item("trousers", colour=present("navy"))
    other = _item("trousers", colour=present("grey"))
    rule = next(r for r in RULES if r.colours == ("outer", "bottom", True))
    assert holds({"outer": blazer, "bottom": trousers}, rule)
    assert not holds({"outer": blazer, "bottom": other}, rule)


def test_covered_attributes_are_not_visible() -> None:
    closed = scarves = 0
    for outfit in outfits():
        by_region = {item.region: item for item in outfit.items if item.category != "tie"}
        outer, top, neck = by_region.get("outer"), by_region.get("top"), by_region.get("neck")
        if outer is not None and outer.attributes["closure"].values != ("open_front",) and top is not None:
            closed += 1
            assert neck is None, "a top under a scarf and a closed coat shows nothing"
            assert {n for n, a in top.attributes.items() if a.state != "not_visible"} == {"colour"}
        if neck is not None:
            scarves += 1
            for item in outfit.items:
                assert item.attributes.get("neckline", NOT_VISIBLE) == NOT_VISIBLE
    assert closed > 100 and scarves > 100


def test_same_and_different_colours_both_happen() -> None:
    pairs = [
        len({item.attributes["colour"] for item in outfit.items if item.region in ("top", "bottom")}) == 1
        for outfit in outfits()
        if {"top", "bottom"} <= {item.region for item in outfit.items}
    ]
    assert 0.15 < sum(pairs) / len(pairs) < 0.5


@pytest.mark.parametrize(("seed", "index", "size"), [(-1, 0, 224), (0, -1, 224), (0, 0, 32)])
def test_misuse_is_refused(seed: int, index: int, size: int) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        draw_outfit(seed, index, size)
