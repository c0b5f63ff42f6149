"""Maps of the pictures that questions are about: read from a cache, or made by the model's own backbone.

    ids ─┬─► folder of `fashionkit features` ─► (g, C, h, w)
         ├─► catalogue ─► `sized`, the one preparation ─► backbone ─► (g, C, h, w)
         └─► catalogue ─► what it says of them, for a network that was trained on that (`truth`) ─► (g, C, h, w)

Letters as in `fashionkit.eval.vqa_answers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fashionkit.datagen.store import VQAStore
from fashionkit.models.answering import AnsweringModel
from fashionkit.tables import InputError
from fashionkit.train.pictures import CatalogPictures
from fashionkit.train.truth import TruthMaps
from fashionkit.vision.feature_store import FeatureStore
from fashionkit.vision.pictures import as_tensor, sized


class MapSource(Protocol):
    """Gives maps.

    Attributes:
        key: What they go by in a plan; None where they follow from the model, or there are none.
    """

    key: str | None

    def of(self, ids: Sequence[str]) -> Tensor | None:
        """(g, C, h, w) maps of pictures; None where a network looks at none."""


class NoMaps:
    """For a blind network."""

    key: str | None = None

    def of(self, ids: Sequence[str]) -> Tensor | None:
        """Nothing."""
        return None


class CachedMaps:
    """Maps that were kept on disk.

    Args:
        store: Where. ids: Of all pictures that will be asked for. model: What they are for.

    Raises:
        InputError: Pictures or maps are missing, or the maps are of other weights or another size than the model's.
    """

    def __init__(self, store: FeatureStore, ids: Sequence[str], model: AnsweringModel):
        self.key: str | None = store.fingerprint
        store.rows("map", ids)
        _check_shape(store.shapes["map"], model, store.folder)
        if model.fingerprint not in (None, store.fingerprint):
            hint = "make features with this model, or leave them out: its backbone looks at the pictures"
            raise InputError("the features are of another backbone or preparation", file=store.folder, hint=hint)
        self._store = store

    def of(self, ids: Sequence[str]) -> Tensor | None:
        """(g, C, h, w)."""
        return torch.from_numpy(self._store.maps(ids)).float()


class TrueMaps:
    """Maps made of what a catalogue says, see `fashionkit.train.truth`.

    Args:
        catalog: Its folder. ids: Of all pictures that will be asked for. model: What they are for.

    Raises:
        InputError: Pictures that the catalogue lacks, or maps of another size than the model's.
    """

    def __init__(self, catalog: Path, ids: Sequence[str], model: AnsweringModel):
        self._maps = TruthMaps(catalog)
        self.key: str | None = self._maps.fingerprint
        self._maps.rows(ids)
        _check_shape(self._maps.shape, model, catalog)

    def of(self, ids: Sequence[str]) -> Tensor | None:
        """(g, C, h, w)."""
        return torch.from_numpy(np.asarray(self._maps.rows(ids)[:], np.float32))


class MadeMaps:
    """Maps that the model's backbone makes of the catalogue's pictures.

    Args:
        pictures: They. model: It has a backbone.
    """

    def __init__(self, pictures: CatalogPictures, model: AnsweringModel):
        self.key: str | None = None
        self._pictures, self._model = pictures, model

    def of(self, ids: Sequence[str]) -> Tensor | None:
        """(g, C, h, w).

        Raises:
            InputError: A picture cannot be read; it is named.
        """
        how = self._model.preprocess
        assert how is not None, "a model that looks has a preparation"
        pixels = np.stack([sized(Image.fromarray(self._pictures.named(name)), how) for name in ids])
        return self._model.cells(as_tensor(pixels, how))


def map_source(
    model: AnsweringModel,
    store: VQAStore,
    ids: Sequence[str],
    catalog: str | Path | None = None,
    features: str | Path | None = None,
    truth: bool = False,
) -> MapSource:
    """Where the maps of pictures come from.

    Args:
        model: What they are for. store: The question set. ids: Of all pictures that will be asked for.
        catalog, features, truth: See `fashionkit.eval.vqa_answers.answer_questions`.

    Raises:
        InputError: Neither is given, what is given lacks pictures, or it does not fit the model or the set.
    """
    if model.config.blind:
        return NoMaps()
    if truth and features is not None:
        raise InputError("maps are made of facts or read from a folder", column="truth", hint="say one of the two")
    if features is not None:
        return CachedMaps(FeatureStore(features), ids, model)
    if catalog is None:
        hint = "name the catalogue of the set, or the features of its pictures"
        raise InputError("a model that looks needs pictures", file=store.path, hint=hint)
    if truth:
        return TrueMaps(store.catalog(catalog).path, ids, model)
    if model.backbone is None:
        hint = "`fashionkit features` makes them with the backbone that it was trained on"
        raise InputError("the model has no backbone, so it needs features", file=catalog, hint=hint)
    return MadeMaps(CatalogPictures(store.catalog(catalog), ids), model)


def _check_shape(there: Sequence[int], model: AnsweringModel, file: Path) -> None:
    wanted = (model.config.channels, *model.config.cells)
    if tuple(there) != wanted:
        said = " x ".join(map(str, there)), " x ".join(map(str, wanted))
        raise InputError(f"the maps are of {said[0]}, the network takes {said[1]}", file=file, column="map")
