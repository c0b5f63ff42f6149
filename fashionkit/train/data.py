"""Data modules over a catalogue: one for a label of pictures (style), one for attributes of items; and what all share.

catalogue ─► labels or attributes ─► rows of each split ─► `Examples` ─► `ResumableLoader` ─► batches (dicts)
                                         preprocessing, side: from the task's backbone ─┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.schema import SPLITS
from fashionkit.models.targets import Targets
from fashionkit.tables import InputError
from fashionkit.train.labels import read_labels, read_statements
from fashionkit.train.loader import Batches, ResumableLoader
from fashionkit.train.pictures import CatalogPictures, Examples
from fashionkit.vision.augment import Augment
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.regions import MaskCache


class TrainData(L.LightningDataModule):
    """What `fashionkit train` needs of any data.

    Attributes:
        examples: Pictures of each split that was prepared; their number is their length.
        predict: Which split `predict` is about.
    """

    predict: str

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, Any] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """What a task must know of the data before it can be built, in plain types."""
        raise NotImplementedError

    def prepare(self, preprocess: Preprocess) -> None:
        """Makes the examples of each split for a network."""
        raise NotImplementedError

    def ids(self, split: str) -> list[str]:
        """Of the pictures that predictions are about, by row."""
        found: list[str] = self.examples[split].pictures.ids
        return found

    def setup(self, stage: str) -> None:
        """Lightning calls it in every process."""
        if not self.examples:
            assert self.trainer is not None
            task: Any = self.trainer.lightning_module
            self.prepare(task.preprocess)


class PictureData(TrainData):
    """Pictures of a catalogue by split, with targets that a subclass knows.

    Args:
        catalog: Its folder. augment: Preset of random changes in training (`fashionkit.vision.augment`).
        regions: Which region provider finds items (`fashionkit.vision.regions.build_regions`); None: no masks.
        masks: Folder in which masks are kept. features: Folder of cached features that stand in for pixels.
        general: Folder of vectors of a frozen general backbone: of `fashionkit embed`, or cached features.
        batch: Rows of a batch in each process. workers: Processes that prepare batches; 0: the training process.
        memory: MiB for pictures that are kept decoded, shared among the workers.
        seed: Of the order and the changes. limit: At most so many training pictures, the first of an order by `seed`.
        predict: Which split `predict` is about.
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
        memory: int = 1024,
        seed: int = 0,
        limit: int | None = None,
        predict: str = "test",
    ):
        super().__init__()
        self.save_hyperparameters()
        for name, value, least in (("limit", limit, 1), ("batch", batch, 1), ("workers", workers, 0)):
            if value is not None and value < least:
                raise InputError(f"a number of at least {least} is needed", column=name, found=value)
        if predict not in SPLITS:
            raise InputError("no such split", column="predict", found=predict, allowed=SPLITS)
        self.source = Catalog(catalog)
        self.augment, self.regions, self.masks, self.features, self.general = augment, regions, masks, features, general
        self.batch, self.workers, self.memory, self.seed, self.limit = batch, workers, memory, seed, limit
        self.predict = predict
        self._pictures: CatalogPictures | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """With `general`, the width of the general vector, 0 without one."""
        return {"general": 0 if self.general is None else read_vectors(self.general).dim}

    def rows(self, split: str) -> tuple[list[str], Mapping[str, Any]]:
        """Ids and targets of a split."""
        raise NotImplementedError

    def prepare(self, preprocess: Preprocess) -> None:
        """Makes the examples of each split for a network."""
        found = {split: self._rows(split) for split in SPLITS}
        number = sum(len(ids) for ids, _ in found.values())
        for split, (ids, targets) in found.items():
            if split != "test" and not ids:
                raise InputError(f"the split {split!r} has no picture", file=self.source.path)
            pictures = self._of(ids)
            self.examples[split] = Examples(
                pictures,
                targets,
                preprocess,
                Augment(self.augment, preprocess.size, self.seed) if split == "train" and self.augment else None,
                self._provider(pictures),
                MaskCache(self.masks) if self.masks else None,
                self._features(ids),
                (self.memory << 20) * len(ids) // (number * max(1, self.workers)),
            )

    def train_dataloader(self) -> ResumableLoader:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        return self.loader("val")

    def test_dataloader(self) -> ResumableLoader:
        return self.loader("test")

    def predict_dataloader(self) -> ResumableLoader:
        return self.loader(self.predict)

    def loader(self, split: str, shuffle: bool = False) -> ResumableLoader:
        """Batches of a split, those of this process only."""
        rank, world, pin = 0, 1, False
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            pin = self.trainer.strategy.root_device.type == "cuda"
        examples = self.examples[split]
        if not len(examples):
            raise InputError(f"the split {split!r} has no picture", file=self.source.path)
        batches = Batches(len(examples), self.batch, self.seed, shuffle, rank, world)
        return ResumableLoader(
            examples,
            batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=pin,
            worker_init_fn=begin_worker,
        )

    def _rows(self, split: str) -> tuple[list[str], Mapping[str, Any]]:
        ids, targets = self.rows(split)
        if split == "train" and self.limit is not None:
            kept = np.sort(np.random.default_rng([self.seed, 1]).permutation(len(ids))[: self.limit])
            ids, targets = [ids[row] for row in kept], _take(targets, torch.from_numpy(kept))
        return ids, targets

    def _of(self, ids: Sequence[str]) -> CatalogPictures:
        self._pictures = self._pictures or CatalogPictures(self.source, [])
        return self._pictures.of(ids)

    def _provider(self, pictures: CatalogPictures) -> Any:
        if self.regions is None:
            return None
        from fashionkit.vision.regions import build_regions

        return build_regions(self.regions, self.source, pictures.ids, pictures.named)

    def _features(self, ids: Sequence[str]) -> dict[str, Any]:
        from fashionkit.vision.features import FeatureStore

        found: dict[str, Any] = {}
        if self.features is not None:
            store = FeatureStore(self.features)
            found |= {"map": store.rows("map", ids), "vector": store.vectors(ids)}  # maps are large, and read lazily
        if self.general is not None:
            found["general"] = read_vectors(self.general).get(ids)
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
        """With `specs`, of the heads, and of cached features `features`: their fingerprint, and Q, 0 without colour."""
        from fashionkit.vision.features import FeatureStore

        specs = [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in self._statements.specs]
        kept: dict[str, Any] | None = None
        if self.features is not None:
            store = FeatureStore(self.features)
            kept = {"fingerprint": store.fingerprint, "colour": store.shapes.get("colour", (0,))[0]}
        return {**super().facts, "specs": specs, "features": kept}

    def rows(self, split: str) -> tuple[list[str], Mapping[str, Any]]:
        found = self._statements
        at = [row for row, name in enumerate(found.splits) if name == split]
        targets = Targets.encode(found.specs, [found.rows[row] for row in at])
        more = {"group": torch.from_numpy(found.groups[at])}
        return [found.ids[row] for row in at], {"values": targets.values, "state": targets.state, **more}

    def _features(self, ids: Sequence[str]) -> dict[str, Any]:
        """Vectors and colour statistics; heads need no maps."""
        from fashionkit.vision.features import FeatureStore

        if self.features is None:
            return {}
        store = FeatureStore(self.features)
        return {name: store.rows(name, ids) for name in ("vector", "colour") if name in store.shapes}


def _take(targets: Any, rows: torch.Tensor) -> Any:
    return {k: _take(v, rows) for k, v in targets.items()} if isinstance(targets, Mapping) else targets[rows]


class GeneralVectors(NamedTuple):
    """Vectors by id: their width D, and `get(ids)`, which gives (n, D) and raises InputError for an id without one."""

    dim: int
    get: Callable[[Sequence[str]], Any]


def read_vectors(folder: str) -> GeneralVectors:
    """Vectors of pictures from a folder of either kind.

    Raises:
        InputError: No such folder, unfinished, or of another kind.
    """
    from fashionkit.tables import read_manifest
    from fashionkit.vectors import EmbeddingStore
    from fashionkit.vision.features import FeatureStore

    kind = read_manifest(folder).kind
    if kind == "vectors":
        store = EmbeddingStore(folder)
        return GeneralVectors(store.dim, store.get)
    if kind == "features":
        cached = FeatureStore(folder)
        return GeneralVectors(cached.dim, cached.vectors)
    hint = "`fashionkit embed` makes vectors"
    raise InputError("no folder of vectors", file=folder, found=kind, allowed=("vectors", "features"), hint=hint)


def begin_worker(number: int) -> None:
    """Workers share the cores: OpenCV's own threads in each of them would fight over them."""
    import cv2

    cv2.setNumThreads(0)
