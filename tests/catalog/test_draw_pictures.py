"""The drawn pictures against their tables: masks, boxes, colours, and that what is listed can be seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache

import numpy as np
import pytest

from fashionkit.catalog.draw import Outfit, contact_sheet, draw_outfit
from fashionkit.catalog.draw import _outfit_parts as outfit_parts
from fashionkit.catalog.draw.curves import cut, ellipse, limb, smooth
from fashionkit.catalog.draw.vocab import PALETTE

N = 150
SEED = 3


@lru_cache(maxsize=1)
def outfits() -> list[Outfit]:
    return [draw_outfit(SEED, k) for k in range(N)]


def test_tables_are_the_same_without_the_picture() -> None:
    for k, drawn in enumerate(outfits()):
        table = draw_outfit(SEED, k, render=False)
        assert table.image is None
        assert (table.style, table.clean_style) == (drawn.style, drawn.clean_style)
        assert [(i.category, i.region, i.attributes) for i in table.items] == [
            (i.category, i.region, i.attributes) for i in drawn.items
        ]


def test_an_outfit_depends_on_seed_and_index_only() -> None:
    again, before = draw_outfit(SEED, 7), outfits()[7].image
    assert again.image is not None and before is not None
    assert again.image.tobytes() == before.tobytes()
    other = draw_outfit(SEED + 1, 7)
    assert other.image is not None and other.image.tobytes() != again.image.tobytes()


@pytest.mark.parametrize("size", [96, 160, 320])
def test_other_sizes_show_the_same_outfit(size: int) -> None:
    big = draw_outfit(SEED, 4, size)
    assert big.image is not None and big.image.size == (size, size)
    for item, usual in zip(big.items, outfits()[4].items, strict=True):
        assert item.mask is not None and usual.mask is not None
        assert item.mask.shape == (size, size)
        assert item.attributes == usual.attributes
        assert item.mask.sum() / size**2 == pytest.approx(usual.mask.sum() / 224**2, rel=0.25, abs=5e-4)


def test_every_item_keeps_a_pixel_in_small_pictures() -> None:
    for k in range(60):
        for item in draw_outfit(SEED, k, 64).items:
            assert item.mask is not None and item.mask.any()


def test_masks_do_not_overlap_and_boxes_are_exact() -> None:
    for outfit in outfits():
        total = np.zeros((224, 224), dtype=int)
        for item in outfit.items:
            assert item.mask is not None and item.box is not None and item.mask.dtype == bool
            total += item.mask
            x, y, w, h = item.box
            inside = item.mask[y : y + h, x : x + w]
            assert inside.sum() == item.mask.sum()
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        assert total.max() == 1


def test_what_is_said_of_an_item_can_be_seen() -> None:
    for k, outfit in enumerate(outfits()):
        for item in outfit.items:
            assert item.mask is not None
            pixels = int(item.mask.sum())
            assert pixels >= 25, (k, item.category)
            assert 0 < item.visible_fraction <= 1
            if any(a.state != "not_visible" for name, a in item.attributes.items() if name != "colour"):
                assert pixels >= 60 and item.visible_fraction >= 0.15, (k, item.category)


def test_some_items_are_partly_covered() -> None:
    fractions = [item.visible_fraction for outfit in outfits() for item in outfit.items]
    assert min(fractions) < 0.2 and max(fractions) == 1


def test_colours_are_what_they_are_called() -> None:
    names = list(PALETTE)
    palette = np.array([PALETTE[name] for name in names], dtype=float)
    right: Counter[bool] = Counter()
    for outfit in outfits():
        picture = np.asarray(outfit.image, dtype=float)
        for item in outfit.items:
            assert item.mask is not None
            if item.attributes.get("pattern") is None or item.attributes["pattern"].values != ("plain",):
                continue
            nearest = ((picture[item.mask][:, None] - palette) ** 2).sum(axis=2).argmin(axis=1)
            called = item.attributes["colour"].values[0]
            right[names[np.bincount(nearest, minlength=len(names)).argmax()] == called] += 1
    assert right.total() > 100
    assert right[True] / right.total() > 0.97


def test_listed_details_and_closures_are_drawn_and_no_others() -> None:
    for k in range(N):
        parts = outfit_parts(SEED, k)
        for item in draw_outfit(SEED, k, render=False).items:
            seen = parts[item.category]
            details, closure = item.attributes.get("details"), item.attributes.get("closure")
            if details is not None:
                drawn = {name for name, pixels in seen.items() if pixels and name not in ("closure", "neckline")}
                assert drawn <= set(details.values), (k, item.category)
                for name in details.values:
                    assert seen[name] >= 16, (k, item.category, name)
            if closure is not None and closure.values not in ((), ("open_front",)):
                assert seen["closure"] >= 14, (k, item.category)
            elif closure is not None:
                assert seen["closure"] == 0, (k, item.category)


def test_heels_and_fits_show_in_the_shape() -> None:
    ratio: dict[str, list[float]] = defaultdict(list)
    for k in range(400, 700):
        outfit = draw_outfit(SEED, k, render=False)
        kinds = {item.category: item for item in outfit.items}
        trousers = kinds.get("trousers") or kinds.get("jeans")
        if trousers is None or "outer" in {i.region for i in outfit.items} or not trousers.attributes["fit"].values:
            continue
        drawn = next(i for i in draw_outfit(SEED, k).items if i.category == trousers.category)
        assert drawn.mask is not None and drawn.box is not None
        low = drawn.mask[drawn.box[1] + drawn.box[3] - 14]
        ratio[trousers.attributes["fit"].values[0]].append(float(low.sum()))
    assert np.mean(ratio["slim"]) < np.mean(ratio["regular"]) < np.mean(ratio["loose"])


def test_contact_sheet_has_room_for_all() -> None:
    sheet = contact_sheet(SEED, 5, 96, 3)
    assert sheet.size == (288, 192)
    first = draw_outfit(SEED, 0, 96).image
    assert first is not None and sheet.crop((0, 0, 96, 96)).tobytes() == first.tobytes()


def test_curves_keep_to_their_points() -> None:
    line = [(0.0, 0.0), (4.0, 0.0), (4.0, 8.0)]
    assert np.allclose(smooth(line, steps=5)[[0, 5, 10]], line)
    assert np.allclose(cut(line, 0.5), [(0, 0), (4, 0), (4, 2)])
    tube = limb([(0.0, 0.0), (0.0, 10.0)], [2.0, 2.0], cap=False)
    assert np.ptp(tube[:, 0]) == pytest.approx(4.0) and np.ptp(tube[:, 1]) == pytest.approx(10.0)
    assert np.abs(ellipse(1, 2, 3, 4)[:, 0] - 1).max() == pytest.approx(3)
