"""Regions of catalogues whose items are known, and of those that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.masks import mask_png
from fashionkit.tables import InputError
from fashionkit.vision.region_base import digest
from fashionkit.vision.regions import (
    ITEMS,
    PLACES,
    CatalogRegions,
)
from tests.vision.made_up_regions import BOTTOM, SHOES, TOP, blank


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    out = tmp_path_factory.mktemp("drawn")
    draw_catalog(out, DrawOptions(images=12, size=96, workers=1))
    return Catalog(out)


class FakeCatalog:
    """Two pictures of 20 x 30 (width, height) and one of unknown size, with any items."""

    path = Path("made_up")

    def __init__(self, *items: dict[str, Any]):
        self.items = items

    @property
    def manifest(self) -> Any:
        return self

    def content_hash(self) -> str:
        return "0" * 64

    @property
    def ontology(self) -> Any:
        return self

    def region_of(self, category: str) -> str | None:
        return {"dress": "full_body", "cap": "head", "bag": "hand"}.get(category)

    def table(self, name: str, columns: list[str]) -> Any:
        import pyarrow as pa

        from fashionkit.catalog.schema import TABLES

        rows: Any = self.items
        if name == "images":
            rows = [{"image_id": "a", "width": 20, "height": 30}, {"image_id": "b", "width": 20, "height": 30}]
            rows.append({"image_id": "unsized"})
        return pa.Table.from_pylist(list(rows), pa.schema([TABLES[name].field(c) for c in columns]))


def made_up(*items: dict[str, Any]) -> CatalogRegions:
    catalog: Any = FakeCatalog(*({"item_id": f"i{n}", "image_id": "a", **item} for n, item in enumerate(items)))
    return CatalogRegions(catalog)


def test_a_catalogue_s_masks_are_the_items_pixels(drawn: Catalog) -> None:
    provider, seen = CatalogRegions(drawn), set()
    items = drawn.table("items").to_pylist()
    for image_id in drawn.table("images")["image_id"].to_pylist():
        masks = provider.regions(provider.canvas(image_id), image_id)
        for k, name in enumerate(ITEMS):
            mine = [i for i in items if i["image_id"] == image_id and name in PLACES.get(i["region"], ())]
            shares = [i["area"] for i in mine]
            seen.update((i["region"], name) for i in mine)
            assert max(shares, default=0) - 1e-6 <= masks[k].mean() <= sum(shares) + 1e-6
    assert {("full_body", "top"), ("full_body", "bottom"), ("feet", "shoes")} <= seen


def test_masks_boxes_and_regions_of_a_catalogue() -> None:
    dot = np.zeros((3, 4), bool)
    dot[1, 2] = True
    provider = made_up(
        {"category": "shirt", "region": "top", "box": [5.0, 6.0, 4.0, 3.0], "mask": mask_png(dot)},
        {"category": "dress", "box": [10.0, 10.0, 2.5, 4.0]},
        {"category": "bag", "box": [0.0, 0.0, 20.0, 30.0]},
        {"category": "cap"},
        {"category": "boots", "region": "feet", "box": [-4.0, 28.0, 8.0, 6.0]},
        {"category": "boots", "region": "feet", "box": [40.0, 28.0, 8.0, 6.0]},
        {"category": "boots", "region": "feet", "box": [float("nan"), 28.0, 8.0, 6.0]},
    )
    masks = provider.regions(blank(30, 20), "a")
    wanted = np.zeros((4, 30, 20), bool)
    wanted[TOP, 7, 7] = wanted[TOP, 10:14, 10:13] = wanted[BOTTOM, 10:14, 10:13] = wanted[SHOES, 28:, :4] = True
    np.testing.assert_array_equal(masks, wanted)
    assert not provider.regions(blank(30, 20), "b").any()
    twice = provider.regions(blank(60, 40), "a")
    np.testing.assert_array_equal(twice, wanted.repeat(2, axis=1).repeat(2, axis=2))


def test_masks_of_other_items_than_the_usual_ones(drawn: Catalog) -> None:
    """One for each region, in the order of their names; what two regions share is the union of them."""
    regions = ("feet", "full_body", "hand", "top")
    by_region = CatalogRegions(drawn, {name: (name,) for name in regions}, regions)
    two = CatalogRegions(drawn, {"hand": ("held",), "feet": ("held", "below"), "top": ("below",)}, ["below", "held"])
    seen, usual = np.zeros(4, bool), CatalogRegions(drawn)
    for image_id in drawn.table("images")["image_id"].to_pylist():
        feet, dress, hand, top = masks = by_region.regions(by_region.canvas(image_id), image_id)
        below, held = two.regions(two.canvas(image_id), image_id)
        np.testing.assert_array_equal(held, hand | feet)
        np.testing.assert_array_equal(below, feet | top)
        four = usual.regions(usual.canvas(image_id), image_id)
        np.testing.assert_array_equal(four[SHOES], feet)
        assert not (top | dress)[~four[TOP]].any() and not dress[~four[BOTTOM]].any()
        seen |= masks.any((1, 2))
    assert seen.all()


def test_keys_tell_places_and_items_apart(drawn: Catalog) -> None:
    places: dict[str, tuple[str, ...]] = {"top": ("top",), "feet": ("shoes",)}
    orders = (ITEMS, ("top", "shoes"), ("shoes", "top"))
    keys = [CatalogRegions(drawn, places, items).key for items in orders]
    assert len({*keys, CatalogRegions(drawn).key}) == 4
    assert CatalogRegions(drawn, places).key == CatalogRegions(drawn, places, list(ITEMS)).key == keys[0]
    assert CatalogRegions(drawn).key.endswith(f"/{digest(sorted(PLACES.items()))}"), "masks in caches stay valid"
    with pytest.raises(InputError, match="no such item") as caught:
        CatalogRegions(drawn, places, ("top", "boots"))
    assert "shoes" in str(caught.value) and "boots" in str(caught.value)


def test_a_catalogue_refuses_what_does_not_fit() -> None:
    broken = made_up({"category": "shirt", "region": "top", "box": [5.0, 6.0, 4.0, 3.0], "mask": b"no PNG"})
    with pytest.raises(InputError, match="'i0' is broken"):
        broken.regions(blank(30, 20), "a")
    other = made_up({"category": "cap", "box": [5.0, 6.0, 4.0, 3.0], "mask": mask_png(np.ones((2, 2), bool))})
    with pytest.raises(InputError, match="another size"):
        other.regions(blank(30, 20), "a")
    with pytest.raises(InputError, match="no such picture"):
        other.regions(blank(30, 20), "c")
    with pytest.raises(InputError, match="crop both"):
        other.regions(blank(20, 20), "b")
    with pytest.raises(InputError, match="how large"):
        other.canvas("unsized")
    assert other.regions(blank(7, 9), "unsized").shape == (4, 7, 9)
    with pytest.raises(InputError, match="no such item"):
        CatalogRegions(other.catalog, {"hand": ("bag",)})
