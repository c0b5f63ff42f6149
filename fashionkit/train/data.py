"""Data modules over a catalogue: one for a label of pictures (style), one for attributes of items.

    catalogue ─► labels or attributes ─► rows of each split ─► `Examples` ─► `ResumableLoader` ─► batches (dicts)
                                             preprocessing, side: from the task's backbone ─┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.schema import SPLITS
from fashionkit.models.attributes import Targets
from fashionkit.tables import InputError
from fashionkit.train.labels import read_labels, read_statements
from fashionkit.train.loader import Batches, ResumableLoader
from fashionkit.train.pictures import CatalogPictures, Examples, collated
from fashionkit.vision.augment import Augment
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.regions import MaskCache


class PictureData(L.LightningDataModule):
    """Pictures of a catalogue by split, with targets that a subclass knows.

    Args:
        catalog: Its folder. augment: Preset of random changes in training (`fashionkit.vision.augment`).
        regions: Which region provider finds items; None: no masks. masks: Folder in which masks are kept.
        features: Folder of cached features that stand in for pixels. general: Folder of vectors of a frozen general
            backbone.
        batch: Rows of a batch in each process. workers: Processes that prepare batches; 0: the training process.
        seed: Of the order and the changes. limit: At most so many training pictures, the first of an order by `seed`.
    """

    def __init__(
        self,
        catalog: str,
        augment: str | None = None,
        regions: str | None = None,
        masks: str | None = None,
        features: str | None = None,
        general: str | None = None,
        batch: int = 64,
        workers: int = 0,
        seed: int = 0,
        limit: int | None = None,
    ):
        super().__init__()
        self.save_hyperparameters()
        if limit is not None and limit < 1:
            raise InputError("at least one training picture is needed", column="limit", found=limit)
        self.source = Catalog(catalog)
        self.augment, self.regions, self.masks, self.features, self.general = augment, regions, masks, features, general
        self.batch, self.workers, self.seed, self.limit = batch, workers, seed, limit
        self.examples: dict[str, Examples] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """What a task must know of the data before it can be built, in plain types; `general` is the width of the
        general vector, 0 without one."""
        from fashionkit.vision.features import FeatureStore

        return {"general": 0 if self.general is None else FeatureStore(self.general).dim}

    def rows(self, split: str) -> tuple[list[str], Mapping[str, Any]]:
        """Ids and targets of a split."""
        raise NotImplementedError

    def prepare(self, preprocess: Preprocess) -> None:
        """Makes the examples of each split for a network."""
        for split in SPLITS:
            ids, targets = self.rows(split)
            if split == "train" and self.limit is not None:
                kept = np.sort(np.random.default_rng([self.seed, 1]).permutation(len(ids))[: self.limit])
                ids, targets = [ids[row] for row in kept], _take(targets, torch.from_numpy(kept))
            if split != "test" and not ids:
                raise InputError(f"the split {split!r} has no picture", file=self.source.path)
            self.examples[split] = Examples(
                CatalogPictures(self.source, ids),
                targets,
                preprocess,
                Augment(self.augment, preprocess.size, self.seed) if split == "train" and self.augment else None,
                self._provider(),
                MaskCache(self.masks) if self.masks else None,
                self._features(ids),
            )

    def setup(self, stage: str) -> None:
        """Lightning calls it in every process."""
        if not self.examples:
            assert self.trainer is not None
            self.prepare(self.trainer.lightning_module.preprocess)

    def train_dataloader(self) -> ResumableLoader:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        return self.loader("val")

    def test_dataloader(self) -> ResumableLoader:
        return self.loader("test")

    def loader(self, split: str, shuffle: bool = False) -> ResumableLoader:
        """Batches of a split, those of this process only."""
        rank, world = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        examples = self.examples[split]
        batches = Batches(len(examples), self.batch, self.seed, shuffle, rank, world)
        return ResumableLoader(
            examples, batches, collate_fn=collated, num_workers=self.workers, persistent_workers=self.workers > 0
        )

    def _provider(self) -> Any:
        if self.regions is None:
            return None
        from fashionkit.vision.regions import build_regions

        return build_regions(self.regions, self.source)

    def _features(self, ids: Sequence[str]) -> dict[str, Any]:
        from fashionkit.vision.features import FeatureStore

        found: dict[str, Any] = {}
        if self.features is not None:
            store = FeatureStore(self.features)
            found |= {"map": store.maps(ids), "vector": store.vectors(ids)}
        if self.general is not None:
            found["general"] = FeatureStore(self.general).vectors(ids)
        return found


class StyleData(PictureData):
    """Pictures with one label each.

    Args:
        catalog: See `PictureData`, also for `options`. label: Whose values are the classes.
    """

    def __init__(self, catalog: str, label: str = "style", **options: Any):
        super().__init__(catalog, **options)
        self._labels = read_labels(self.source, label)

    @property
    def facts(self) -> dict[str, Any]:
        """With `classes`, in the order of the logits."""
        return {**super().facts, "classes": self._labels.classes}

    def rows(self, split: str) -> tuple[list[str], Mapping[str, Any]]:
        at = [row for row, name in enumerate(self._labels.splits) if name == split]
        return [self._labels.ids[row] for row in at], {"style": torch.from_numpy(self._labels.classes_of[at])}


class AttributeData(PictureData):
    """Pictures with attributes.

    Args:
        catalog: See `PictureData`, also for `options`. attributes: Which; empty: all. least: See `read_statements`.
    """

    def __init__(self, catalog: str, attributes: Sequence[str] = (), least: int = 10, **options: Any):
        super().__init__(catalog, **options)
        self._statements = read_statements(self.source, attributes, least)

    @property
    def facts(self) -> dict[str, Any]:
        """With `specs`, of the heads."""
        specs = [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in self._statements.specs]
        return {**super().facts, "specs": specs}

    def rows(self, split: str) -> tuple[list[str], Mapping[str, Any]]:
        found = self._statements
        at = [row for row, name in enumerate(found.splits) if name == split]
        targets = Targets.encode(found.specs, [found.rows[row] for row in at])
        return [found.ids[row] for row in at], {"values": targets.values, "state": targets.state}


def _take(targets: Any, rows: torch.Tensor) -> Any:
    return {k: _take(v, rows) for k, v in targets.items()} if isinstance(targets, Mapping) else targets[rows]


