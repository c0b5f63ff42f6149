"""What every provider of regions keeps to, and plain bands."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.images import open_picture
from fashionkit.vision.regions import (
    BANDS,
    ITEMS,
    BandRegions,
    BorderForeground,
    CatalogRegions,
    ForegroundBands,
    RandomRegions,
    RegionProvider,
    ShuffledRegions,
    regions_of,
)
from tests.vision.made_up_regions import blank


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    out = tmp_path_factory.mktemp("drawn")
    draw_catalog(out, DrawOptions(images=12, size=96, workers=1))
    return Catalog(out)


def all_providers(drawn: Catalog) -> list[RegionProvider]:
    known = CatalogRegions(drawn)
    ids = drawn.table("images")["image_id"].to_pylist()
    return [
        BandRegions(),
        BandRegions(width=0.5),
        ForegroundBands(),
        ForegroundBands(BorderForeground(tolerance=(9, 20))),
        known,
        RandomRegions(known, 1),
        RandomRegions(BandRegions(), 1),
        ShuffledRegions(known, ids, 1, known.canvas),
    ]


def test_every_provider_keeps_the_contract(drawn: Catalog) -> None:
    ids = drawn.table("images")["image_id"].to_pylist()[:3]
    pictures = {i: open_picture(data) for i, data in drawn.image_bytes(ids).items() if data}
    providers = all_providers(drawn)
    assert len({provider.key for provider in providers}) == len(providers)
    for provider, image_id in [(p, i) for p in providers for i in ids]:
        image = pictures[image_id]
        masks = provider.regions(image, image_id)
        assert masks.dtype == np.bool_ and masks.shape == (len(ITEMS), 96, 96) and masks.any()
        np.testing.assert_array_equal(provider.regions(np.asarray(image), image_id), masks)
    for same, twin in zip(all_providers(drawn), providers, strict=True):
        assert same.key == twin.key


def test_bands_are_where_they_are_said_to_be() -> None:
    masks = BandRegions(((0, 0.2), (0.2, 0.5), (0.4, 0.9), (0.9, 1)), width=0.5).regions(blank(50, 40), "a")
    for mask, rows in zip(masks, ((0, 10), (10, 25), (20, 45), (45, 50)), strict=True):
        wanted = np.zeros((50, 40), bool)
        wanted[rows[0] : rows[1], 10:30] = True
        np.testing.assert_array_equal(mask, wanted)
    assert BandRegions([list(band) for band in BANDS]).key == BandRegions().key  # type: ignore[misc]
    assert BandRegions().regions(blank(1, 1), "a").shape == (4, 1, 1)


def test_wrong_pictures_and_settings_are_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), blank(0, 4)):
        with pytest.raises(ValueError, match="uint8 RGB"):
            BandRegions().regions(wrong, "a")
    assert BandRegions().regions(Image.new("L", (4, 5)), "a").shape == (4, 5, 4)
    for bands in (BANDS[:3], (*BANDS[:3], (0.9, 1.1)), (*BANDS[:3], (1.0, 0.9))):
        with pytest.raises(ValueError, match="has a band"):
            BandRegions(bands)
        with pytest.raises(ValueError, match="has a band"):
            ForegroundBands(bands=bands)
    with pytest.raises(ValueError, match="width"):
        BandRegions(width=0)


def test_several_pictures_are_asked_for_with_an_id_each() -> None:
    images = [blank(5, 4), blank(7, 9)]
    for image, masks in zip(images, regions_of(BandRegions(), images, ["a", "b"]), strict=True):
        np.testing.assert_array_equal(masks, BandRegions().regions(image, "a"))
    with pytest.raises(ValueError, match="one id is needed"):
        regions_of(BandRegions(), images, ["a"])
