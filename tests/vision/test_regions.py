"""Region providers on pictures whose items are known, the controls, and the cache of masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.images import open_picture
from fashionkit.catalog.masks import mask_png
from fashionkit.tables import InputError
from fashionkit.vision.regions import (
    BANDS,
    ITEMS,
    PLACES,
    BandRegions,
    BorderForeground,
    CatalogRegions,
    ForegroundBands,
    MaskCache,
    Masks,
    Picture,
    RandomRegions,
    RegionProvider,
    ShuffledRegions,
    lab_of,
    pixels_of,
)

HEAD, TOP, BOTTOM, SHOES = range(4)


def photo(height: int = 100, width: int = 60, ground: tuple[int, int, int] = (244, 245, 243)) -> NDArray[np.uint8]:
    """A dark figure with a light print, rows 20..80 and columns 20..40, on a nearly plain ground."""
    noise = np.random.default_rng(0).integers(-2, 3, (height, width, 3))
    pixels = np.clip(np.array(ground) + noise, 0, 255).astype(np.uint8)
    pixels[20:80, 20:40] = (30, 40, 90)
    pixels[40:50, 25:35] = ground
    return pixels


def blank(height: int = 50, width: int = 30) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


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


@pytest.mark.parametrize("ground", [(244, 245, 243), (120, 60, 60)])
def test_foreground_is_what_differs_from_the_border(ground: tuple[int, int, int]) -> None:
    pixels = photo(ground=ground)
    wanted = np.zeros(pixels.shape[:2], bool)
    wanted[20:80, 20:40] = True  # with the print, which has the ground's colour but does not touch it
    np.testing.assert_array_equal(BorderForeground()(pixels), wanted)
    masks = ForegroundBands().regions(pixels, "a")
    np.testing.assert_array_equal(masks.any(axis=0), wanted)
    assert np.flatnonzero(masks[HEAD].any(1)).tolist() == list(range(20, 30))
    assert np.flatnonzero(masks[SHOES].any(1)).tolist() == list(range(75, 80))


def test_white_stands_out_from_pure_white_and_a_wall_may_have_shadows() -> None:
    pixels = np.full((60, 60, 3), 255, np.uint8)
    pixels[20:40, 20:40] = 240  # 5.3 in lightness
    assert BorderForeground()(pixels).sum() == 400
    wall = (200 + np.linspace(-12, 12, 60)[:, None, None] + np.zeros((60, 60, 3))).astype(np.uint8)
    wall[20:40, 20:40] = (30, 40, 90)
    assert BorderForeground()(wall).sum() == 400
    for wrong in ((5.0, 4.0), (0.0, 4.0)):
        with pytest.raises(ValueError, match="tolerance"):
            BorderForeground(wrong)


def test_large_pictures_are_worked_on_small() -> None:
    big = np.repeat(np.repeat(photo(), 8, axis=0), 8, axis=1)  # 800 x 480
    found = BorderForeground()(big)
    wanted = np.repeat(np.repeat(BorderForeground()(photo()), 8, axis=0), 8, axis=1)
    assert found.shape == (800, 480) and (found != wanted).mean() < 0.02


def test_without_a_foreground_there_are_plain_bands() -> None:
    np.testing.assert_array_equal(ForegroundBands().regions(blank(), "a"), BandRegions().regions(blank(), "a"))


def test_a_foreground_can_be_plugged_in() -> None:
    class Left:
        key = "left"

        def __call__(self, pixels: NDArray[np.uint8]) -> Masks:
            return np.broadcast_to(np.arange(pixels.shape[1]) < 5, pixels.shape[:2])

    class Wrong(Left):
        def __call__(self, pixels: NDArray[np.uint8]) -> Masks:
            return super().__call__(pixels)[:-1]

    masks = ForegroundBands(Left()).regions(blank(), "a")
    assert masks[:, :, :5].any() and not masks[:, :, 5:].any()
    assert "left" in ForegroundBands(Left()).key
    with pytest.raises(ValueError, match="bool mask of"):
        ForegroundBands(Wrong()).regions(blank(), "a")


def test_lab_of_known_colours() -> None:
    """Values of a colour calculator for sRGB and D65."""
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    wanted = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab_of(colours)[0], wanted, atol=0.1)


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


def test_random_masks_keep_area_and_forget_the_place() -> None:
    provider = RandomRegions(BandRegions(width=0.5), seed=3)
    plain = BandRegions(width=0.5).regions(blank(), "a")
    moved = {f"p{i}": provider.regions(blank(), f"p{i}") for i in range(40)}
    for masks in moved.values():
        np.testing.assert_array_equal(masks.sum((1, 2)), plain.sum((1, 2)))
    np.testing.assert_allclose(np.mean(list(moved.values()), axis=0).mean((1, 2)), plain.mean((1, 2)))
    assert np.mean([m[HEAD, 0].any() for m in moved.values()]) < 0.5  # the head's band was on top in all of them
    assert (moved["p0"] != moved["p1"]).any()
    for image_id in reversed(moved):  # the order of asking does not matter
        np.testing.assert_array_equal(provider.regions(blank(), image_id), moved[image_id])
    assert (RandomRegions(BandRegions(width=0.5), seed=4).regions(blank(), "p0") != moved["p0"]).any()


def test_shuffled_masks_are_those_of_another_picture() -> None:
    ids = [f"p{i}" for i in range(9)]
    sizes = {name: (20 + i, 30) for i, name in enumerate(ids)}
    provider = RandomRegions(BandRegions(), seed=0)  # every picture has masks of its own

    def image_of(name: str) -> Picture:
        return blank(*sizes[name])

    shuffled = ShuffledRegions(provider, ids, 5, image_of)
    others = {name: shuffled.other(name) for name in ids}
    assert sorted(others.values()) == ids and all(name != other for name, other in others.items())
    assert {name: ShuffledRegions(provider, ids[::-1], 5, image_of).other(name) for name in ids} == others
    assert {name: ShuffledRegions(provider, ids, 6, image_of).other(name) for name in ids} != others
    for name, other in others.items():
        masks = shuffled.regions(image_of(name), name)
        assert masks.shape == (4, *sizes[name])
        theirs = provider.regions(image_of(other), other)
        np.testing.assert_allclose(masks.mean((1, 2)), theirs.mean((1, 2)), atol=0.05)
    with pytest.raises(InputError, match="not among"):
        shuffled.regions(blank(), "q")
    for wrong in (["a"], ["a", "b", "a"]):
        with pytest.raises(InputError, match="each named once"):
            ShuffledRegions(provider, wrong, 5, image_of)


class Counted:
    """Random masks by id, and how often they were asked for."""

    def __init__(self, key: str = "counted"):
        self.key, self.asked = key, 0

    def regions(self, image: Picture, image_id: str) -> Masks:
        self.asked += 1
        return np.random.default_rng(len(image_id)).random((4, *pixels_of(image).shape[:2])) > 0.5


def test_the_cache_asks_once_for_each_provider_picture_and_size(tmp_path: Path) -> None:
    provider, cache = Counted(), MaskCache(tmp_path / "masks")
    first = cache.regions(provider, blank(33, 21), "a")
    again = MaskCache(tmp_path / "masks").regions(provider, Image.fromarray(blank(33, 21)), "a")
    assert again.dtype == np.bool_ and provider.asked == 1
    np.testing.assert_array_equal(first, again)
    bright = blank(33, 21) + np.uint8(1)
    for args in ((blank(33, 21), "bb"), (blank(21, 33), "a"), (bright, "a"), (blank(33, 21), "a", "another sha")):
        before = provider.asked
        np.testing.assert_array_equal(cache.regions(provider, *args), cache.regions(provider, *args))
        assert provider.asked == before + 1
    other = Counted("other")
    cache.regions(other, blank(33, 21), "a")
    assert other.asked == 1
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("harm", ["empty", "cut", "flipped", "text", "longer"])
def test_damaged_files_of_the_cache_are_made_again(tmp_path: Path, harm: str) -> None:
    provider, cache = Counted(), MaskCache(tmp_path)
    wanted = cache.regions(provider, blank(), "a", "sha")
    path = cache.path(provider, "sha", "a", (50, 30))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(
        {"empty": b"", "cut": whole[:-9], "flipped": bytes(flipped), "text": b"x" * 99, "longer": whole + b"!"}[harm]
    )
    np.testing.assert_array_equal(cache.regions(provider, blank(), "a", "sha"), wanted)
    assert provider.asked == 2 and path.read_bytes() == whole


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
