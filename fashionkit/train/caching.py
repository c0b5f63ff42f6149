"""Features of a catalogue's pictures, made once for training: `fashionkit features`.

    catalogue ─► pictures by id ─► `vision.features.cache_features` ─► folder of features

What the folder holds and how it is read is said there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fashionkit.catalog.catalog import Catalog
from fashionkit.tables import InputError
from fashionkit.train.pictures import CatalogPictures
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.features import FeatureStore, cache_features


def cache_catalog(catalog: str | Path, out: str | Path, backbone: Backbone, **options: Any) -> FeatureStore:
    """The features of all pictures of a catalogue; continues where an earlier run of the same call stopped.

    Args:
        catalog: Its folder. out: The folder to write. backbone: See `cache_features`, also for `options`.

    Raises:
        InputError: No catalogue, no pictures, one that cannot be read, or a folder of something else.
    """
    source = Catalog(catalog)
    ids = source.table("images", ["image_id"])["image_id"].to_pylist()
    if not ids:
        raise InputError("the catalogue has no pictures", file=source.path)
    return cache_features(out, backbone, ids, CatalogPictures(source, ids).named, **options)
