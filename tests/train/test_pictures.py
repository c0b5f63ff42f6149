"""Examples: one preparation for evaluation, changes by (seed, epoch, row) in training, and what memory keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from fashionkit.catalog.catalog import Catalog
from fashionkit.tables import InputError
from fashionkit.train.pictures import REDUCED, CatalogPictures, Examples, Kept
from fashionkit.vision.augment import Augment
from fashionkit.vision.pictures import sized, sized_masks
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.region_base import BandRegions
from fashionkit.vision.regions import CatalogRegions, MaskCache

HALF = (0.5, 0.5, 0.5)


def preprocess(size: int) -> Preprocess:
    return Preprocess(size, HALF, HALF, "bilinear", 1.0)


@pytest.fixture
def pictures(drawn_catalog: Catalog) -> CatalogPictures:
    ids = drawn_catalog.table("images", ["image_id"])["image_id"].to_pylist()
    return CatalogPictures(drawn_catalog, ids[::-1])


def examples(pictures: CatalogPictures, size: int = 32, preset: str | None = None, **options: Any) -> Examples:
    targets = {"style": torch.arange(len(pictures)), "deep": {"a": torch.arange(len(pictures)) * 10}}
    augment = None if preset is None else Augment(preset, size, seed=1)
    return Examples(pictures, targets, preprocess(size), augment, **options)


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one if key != "deep")


def test_a_batch_by_rows(pictures: CatalogPictures) -> None:
    batch = examples(pictures).__getitems__([(0, 5), (0, 2)])
    assert batch["row"].tolist() == batch["style"].tolist() == [5, 2]
    assert batch["deep"]["a"].tolist() == [50, 20]
    assert batch["image"].dtype == torch.uint8 and batch["image"].shape == (2, 32, 32, 3)
    from PIL import Image

    expected = sized(Image.fromarray(pictures.named(pictures.ids[2])), preprocess(32))
    assert np.array_equal(batch["image"][1].numpy(), expected), "evaluation has one preparation"


def test_masks_of_evaluation(pictures: CatalogPictures, drawn_catalog: Catalog) -> None:
    provider = CatalogRegions(drawn_catalog)
    batch = examples(pictures, 48, regions=provider).__getitems__([(0, 3)])
    expected = sized_masks(provider.regions(pictures.pixels(3), pictures.ids[3]), preprocess(48))
    assert batch["masks"].dtype == torch.bool and np.array_equal(batch["masks"][0].numpy(), expected)


@pytest.mark.parametrize("preset", [None, "street"])
def test_what_is_kept_changes_nothing(preset: str | None, pictures: CatalogPictures) -> None:
    keys = [(0, 0), (1, 0), (0, 7), (0, 0)]
    without = examples(pictures, preset=preset, regions=BandRegions())
    amount = 5000 if preset is None else 20_000  # one picture fits, the other does not
    kept = examples(pictures, preset=preset, regions=BandRegions(), memory=amount)
    for _ in range(2):
        assert same(without.__getitems__(keys), kept.__getitems__(keys))
    assert 0 < kept._kept.used <= amount and without._kept.used == 0


def test_changes_belong_to_epoch_and_row(pictures: CatalogPictures) -> None:
    data = examples(pictures, preset="street", regions=BandRegions())
    alone, among = data.__getitems__([(3, 4)]), data.__getitems__([(3, 1), (3, 4)])
    assert torch.equal(alone["image"][0], among["image"][1]) and torch.equal(alone["masks"][0], among["masks"][1])
    assert not torch.equal(alone["image"], data.__getitems__([(4, 4)])["image"])


def test_masks_move_with_their_picture(pictures: CatalogPictures) -> None:
    """A provider that marks what is darker than grey: after any change, dark pixels lie under its mask."""

    class Dark:
        key = "dark"

        def regions(self, image: Any, image_id: str) -> Any:
            return np.repeat((np.asarray(image).mean(2) < 128)[None], 4, axis=0)

    batch = examples(pictures, 64, "product", regions=Dark()).__getitems__([(e, r) for e in range(4) for r in range(5)])
    dark = batch["image"].float().mean(3) < 128
    agree = (dark == batch["masks"][:, 0]).float().mean()
    flipped = (dark == batch["masks"][:, 0].flip(2)).float().mean()
    assert agree > 0.9 and agree > flipped + 0.02


def test_training_pictures_are_reduced_once(pictures: CatalogPictures) -> None:
    data = examples(pictures, size=16, preset="none", regions=BandRegions(), memory=1 << 20)
    data.__getitems__([(0, 0)])
    pixels, bits = data._kept.get(0, lambda row: pytest.fail("it was kept"))
    assert pixels is not None and min(pixels.shape[:2]) == REDUCED * 16
    assert bits is not None and bits.shape == (4, REDUCED * 16 * REDUCED * 16 // 8)


def test_masks_are_worked_out_once_with_a_cache(pictures: CatalogPictures, tmp_path: Path) -> None:
    calls = []

    class Counted(BandRegions):
        def regions(self, image: Any, image_id: str) -> Any:
            calls.append(image_id)
            return super().regions(image, image_id)

    for _ in range(2):
        data = examples(pictures, regions=Counted(), cache=MaskCache(tmp_path))
        data.__getitems__([(0, 1), (0, 2)])
    assert len(calls) == 2


def test_features_stand_in_for_pixels(pictures: CatalogPictures) -> None:
    n = len(pictures)
    maps = np.arange(n * 4, dtype=np.float16).reshape(n, 1, 2, 2)
    data = examples(pictures, features={"map": maps, "vector": maps[:, 0, 0], "general": maps[:, 0, 1]})
    batch = data.__getitems__([(0, 2), (0, 1)])
    assert "image" not in batch and batch["map"].dtype == torch.float32
    assert batch["map"][:, 0, 0, 0].tolist() == [8, 4] and batch["general"].shape == (2, 2)
    assert "masks" in examples(pictures, features={"map": maps}, regions=BandRegions()).__getitems__([(0, 0)])
    with pytest.raises(InputError, match="cached features are of unchanged pictures"):
        examples(pictures, preset="street", features={"map": maps})


def test_a_broken_picture_is_named(drawn_catalog: Catalog, pictures: CatalogPictures) -> None:
    broken = pictures.of(pictures.ids[:2])
    table = broken._table
    row = broken._at[broken.ids[1]]
    data = table["bytes"].to_pylist()
    data[row] = data[row][:50]
    broken._table = table.set_column(table.schema.get_field_index("bytes"), "bytes", pa.array(data, pa.binary()))
    with pytest.raises(InputError, match=f"picture '{broken.ids[1]}'"):
        examples(broken).__getitems__([(0, 0), (0, 1)])
    with pytest.raises(InputError, match="no such picture in the catalogue"):
        pictures.of(["nowhere"])


def test_kept_counts_its_bytes() -> None:
    kept, made = Kept(100), []

    def make(row: int) -> Any:
        made.append(row)
        return np.zeros(60, np.uint8), None

    for row in (0, 1, 0, 1):
        kept.get(row, make)
    assert made == [0, 1, 1] and kept.used == 60
