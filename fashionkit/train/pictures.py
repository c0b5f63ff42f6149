"""Pictures of a catalogue as training examples: pixels or cached features, item masks, targets.

    (epoch, row) ─► bytes ─► upright picture ──┬─► training: `Augment`, seeded by (seed, epoch, row) ─┬─► image, masks
                                               └─► otherwise: `sized`, the one preparation            ┘
    row ─► features: map, vector;  general: the frozen vector;  targets of the row

A batch is a dict: `row` (B,), `image` (B, S, S, 3) uint8 or `map` (B, C, h, w) and `vector` (B, D) where features are
cached, `masks` (B, K, S, S) bool, `general` (B, G), and the targets. Pixels are normalised on the device, by the task,
since mean and deviation belong to its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_picture, read_file
from fashionkit.tables import InputError
from fashionkit.train.loader import Key
from fashionkit.vision.augment import Augment
from fashionkit.vision.pictures import sized, sized_masks
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.regions import MaskCache, RegionProvider

Array = npt.NDArray[Any]


class CatalogPictures:
    """Encoded pictures of a catalogue by number.

    Args:
        catalog: Where they are. ids: Which, in this order.

    Raises:
        InputError: An id that the catalogue does not have, or without a picture.
    """

    def __init__(self, catalog: Catalog, ids: Sequence[str]):
        self.catalog, self.ids = catalog, list(ids)
        self._root = (catalog.path / catalog.facts.image_root).resolve()
        table = catalog.table("images", ["image_id", "path", "bytes", "sha256"])
        at = {name: row for row, name in enumerate(table["image_id"].to_pylist())}
        for name in self.ids:
            if name not in at:
                raise InputError("no such picture in the catalogue", file=catalog.path, found=name)
        self._table = table.take([at[name] for name in self.ids]).combine_chunks()

    def __len__(self) -> int:
        return len(self.ids)

    def sha256(self, row: int) -> str | None:
        """Of the encoded bytes."""
        return self._table["sha256"][row].as_py()

    def pixels(self, row: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 of a picture, upright.

        Raises:
            InputError: It cannot be read.
        """
        try:
            data = self._table["bytes"][row].as_py()
            if data is None:
                path = self._table["path"][row].as_py()
                if path is None:
                    raise PictureError("image_missing", "the catalogue has no picture for it")
                data = read_file(self._root, path)
            return np.asarray(open_picture(data))
        except PictureError as error:
            problem = f"picture {self.ids[row]!r}: {error}"
            raise InputError(problem, file=self.catalog.path) from error


class Examples(Dataset[dict[str, Any]]):
    """What a network is trained or judged on, by (epoch, row).

    Args:
        pictures: n pictures. targets: Name → (n, …) tensor, or a mapping of those. preprocess: Of the network.
        augment: Random changes; None: the preparation of evaluation.
        regions: Finds items; None: no masks. cache: Where masks are kept.
        features: Name → (n, …) arrays that stand in for pixels (`map`, `vector`) or beside them (`general`).
    """

    def __init__(
        self,
        pictures: CatalogPictures,
        targets: Mapping[str, Any],
        preprocess: Preprocess,
        augment: Augment | None = None,
        regions: RegionProvider | None = None,
        cache: MaskCache | None = None,
        features: Mapping[str, Array] | None = None,
    ):
        self.pictures, self.targets, self.preprocess = pictures, targets, preprocess
        self.augment, self.regions, self.cache, self.features = augment, regions, cache, dict(features or {})
        self._masks: dict[int, Array] = {}  # of pictures prepared for evaluation, which are always the same; as bits
        if self.augment is not None and self.has_features:
            raise InputError("cached features are of unchanged pictures", hint="leave out augment, or the features")

    @property
    def has_features(self) -> bool:
        """Whether maps or vectors stand in for pixels."""
        return bool(self.features.keys() & {"map", "vector"})

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any]:
        """A whole batch; `collate` then has nothing to do."""
        rows = np.array([row for _, row in keys])
        batch: dict[str, Any] = {"row": torch.from_numpy(rows)}
        for name, values in self.features.items():
            batch[name] = torch.from_numpy(np.asarray(values[rows], np.float32))
        batch |= {name: _rows_of(values, batch["row"]) for name, values in self.targets.items()}
        if not self.has_features or self.regions is not None:
            drawn = [self._drawn(epoch, row) for epoch, row in keys]
            batch |= {name: value for name, value in default_collate(drawn).items()}
        return batch

    def _drawn(self, epoch: int, row: int) -> dict[str, Tensor]:
        """`image` (S, S, 3) uint8 unless features stand in for it, and `masks` (K, S, S) bool where there are regions."""
        if self.augment is None:
            image = None if self.has_features else np.array(sized(self._picture(row), self.preprocess))
            masks = None if self.regions is None else self._sized_masks(row)
        else:
            pixels = self.pictures.pixels(row)
            found = self.augment(pixels, row, epoch, None if self.regions is None else self._whole_masks(row, pixels))
            image, masks = found.image, None if self.regions is None else found.masks
        parts = {"image": image, "masks": masks}
        return {name: torch.from_numpy(part) for name, part in parts.items() if part is not None}

    def _picture(self, row: int) -> Any:
        from PIL import Image

        return Image.fromarray(self.pictures.pixels(row))

    def _sized_masks(self, row: int) -> Array:
        k, size = 0, self.preprocess.size
        if row not in self._masks:
            masks = sized_masks(self._whole_masks(row, self.pictures.pixels(row)), self.preprocess)  # (K, S, S)
            self._masks[row] = np.packbits(masks.reshape(len(masks), -1), axis=1)
        k = len(self._masks[row])
        return np.unpackbits(self._masks[row], axis=1, count=size * size).astype(bool).reshape(k, size, size)

    def _whole_masks(self, row: int, pixels: Array) -> Array:
        """(K, H, W) bool of a whole picture."""
        assert self.regions is not None
        name = self.pictures.ids[row]
        if self.cache is None:
            return self.regions.regions(pixels, name)
        return self.cache.regions(self.regions, pixels, name, self.pictures.sha256(row))


def collated(batch: dict[str, Any]) -> dict[str, Any]:
    """For DataLoader: `Examples` hands out whole batches."""
    return batch


def _rows_of(values: Any, rows: Tensor) -> Any:
    return {k: _rows_of(v, rows) for k, v in values.items()} if isinstance(values, Mapping) else values[rows]
