"""The data module: splits, general vectors of both kinds joined by id, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.tables import InputError
from fashionkit.train.data import StyleData, read_vectors
from fashionkit.train.labels import read_labels
from fashionkit.vectors.schema import finish_vectors, write_part
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.features import cache_features
from fashionkit.vision.preprocess import Preprocess

HALF = (0.5, 0.5, 0.5)
SMALL = Preprocess(32, HALF, HALF, "bilinear", 1.0)


def vectors(folder: Path, ids: list[str]) -> Path:
    """Unit vectors that tell their id, in another order than the catalogue's."""
    angles = np.array([int(name) for name in ids]) * 0.1
    write_part(folder, 0, ids[::-1], np.stack([np.cos(angles), np.sin(angles)], 1)[::-1], "float32")
    finish_vectors(folder, {"model": "made up", "fingerprint": "f"})
    return folder


def ids_of(catalog: Catalog) -> list[str]:
    found: list[str] = catalog.table("images", ["image_id"])["image_id"].to_pylist()
    return found


def test_splits_hold_their_pictures_with_their_labels(drawn: Path, drawn_catalog: Catalog) -> None:
    data = StyleData(str(drawn), batch=4)
    data.prepare(SMALL)
    labels = read_labels(drawn_catalog, "style")
    class_of = dict(zip(labels.ids, labels.classes_of, strict=True))
    assert data.facts == {"general": 0, "classes": labels.classes}
    seen = []
    for split, examples in data.examples.items():
        ids = examples.pictures.ids
        assert ids == [i for i, name in zip(labels.ids, labels.splits, strict=True) if name == split]
        for batch in data.loader(split):
            rows = batch["row"].tolist()
            assert batch["style"].tolist() == [class_of[ids[row]] for row in rows]
            seen += [ids[row] for row in rows]
    assert sorted(seen) == labels.ids


def test_only_training_pictures_are_changed(drawn: Path) -> None:
    data = StyleData(str(drawn), augment="street")
    data.prepare(SMALL)
    assert [examples.augment is None for examples in data.examples.values()] == [False, True, True]


def test_a_limit_takes_the_same_pictures_for_a_seed(drawn: Path) -> None:
    def ids(**options: Any) -> list[str]:
        data = StyleData(str(drawn), **options)
        data.prepare(SMALL)
        return data.examples["train"].pictures.ids

    assert ids(limit=5) == ids(limit=5) and len(ids(limit=5)) == 5 and set(ids(limit=5)) < set(ids())
    assert set(ids(limit=3)) < set(ids(limit=5)) and ids(limit=5, seed=1) != ids(limit=5)


def test_general_vectors_of_an_embedding_are_joined_by_id(drawn: Path, drawn_catalog: Catalog, tmp_path: Path) -> None:
    data = StyleData(str(drawn), general=str(vectors(tmp_path / "v", ids_of(drawn_catalog))))
    assert data.facts["general"] == 2
    data.prepare(SMALL)
    batch = next(iter(data.loader("train", shuffle=True)))
    names = [data.examples["train"].pictures.ids[row] for row in batch["row"]]
    angles = np.array([int(name) for name in names]) * 0.1
    assert np.allclose(batch["general"].numpy(), np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-6)


def test_general_vectors_of_cached_features(drawn: Path, drawn_catalog: Catalog, tmp_path: Path) -> None:
    backbone, ids = build_backbone("timm/test_vit", "random", 32), ids_of(drawn_catalog)
    from fashionkit.train.pictures import CatalogPictures

    pictures = CatalogPictures(drawn_catalog, ids)
    cache_features(tmp_path / "f", backbone, ids, pictures.named)
    store = read_vectors(str(tmp_path / "f"))
    assert store.dim == backbone.dim and store.get(ids[:3]).shape == (3, backbone.dim)


def test_a_picture_without_a_general_vector_is_named(drawn: Path, drawn_catalog: Catalog, tmp_path: Path) -> None:
    data = StyleData(str(drawn), general=str(vectors(tmp_path / "v", ids_of(drawn_catalog)[:-20])))
    with pytest.raises(InputError, match="ids have no vector here"):
        data.prepare(SMALL)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"catalog": "/nowhere/at/all"}, "no such folder"),
        ({"general": "/nowhere/at/all"}, "no such folder"),
        ({"batch": 0}, "at least 1 is needed"),
        ({"workers": -1}, "at least 0 is needed"),
        ({"limit": 0}, "at least 1 is needed"),
        ({"predict": "valid"}, "nearest allowed: 'val'"),
        ({"label": "stile"}, "no such label in the catalogue"),
        ({"regions": "bonds"}, "nearest allowed: 'bands'"),
        ({"augment": "streat"}, "nearest allowed: 'street'"),
        ({"general": "."}, "the folder holds no manifest.json"),
    ],
)
def test_what_cannot_be_is_named(options: dict[str, Any], problem: str, drawn: Path, tmp_path: Path) -> None:
    if options.get("general") == ".":
        options = {"general": str(tmp_path)}
    with pytest.raises(InputError, match=problem):
        data = StyleData(**{"catalog": str(drawn), **options})
        _ = data.facts
        data.prepare(SMALL)


def test_a_folder_of_another_kind_gives_no_vectors(drawn: Path) -> None:
    with pytest.raises(InputError, match="no folder of vectors"):
        read_vectors(str(drawn))


def test_shuffled_regions_stay_within_a_split(drawn: Path) -> None:
    data = StyleData(str(drawn), regions="shuffled:catalog")
    data.prepare(SMALL)
    batch = next(iter(data.loader("val")))
    assert batch["masks"].shape[1:] == (4, 32, 32)
