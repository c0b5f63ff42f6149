"""Pictures of a catalogue as training examples: pixels or cached features, item masks, targets.

    (epoch, row) ─► upright picture ─┬─► training: reduced ─► `Augment`, seeded by (seed, epoch, row) ─┬─► image
                        │            └─► otherwise: `sized`, the one preparation                       ┘   masks
                        └─ `Kept`: decoded once, as far as memory is allowed
    row ─► features: map, vector;  general: the frozen vector;  targets of the row

A batch is a dict: `row` (B,), `image` (B, S, S, 3) uint8 or `map` (B, C, h, w) and `vector` (B, D) where features are
cached, `masks` (B, K, S, S) bool, `general` (B, G), and the targets. Pixels are normalised on the device, by the task,
since mean and deviation belong to its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_picture, read_file
from fashionkit.tables import InputError, table_parts
from fashionkit.train.loader import Key
from fashionkit.vision.augment import Augment
from fashionkit.vision.pictures import sized, sized_masks
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.region_base import resized_masks
from fashionkit.vision.regions import MaskCache, RegionProvider

Array = npt.NDArray[Any]
Parts = tuple[Array | None, Array | None]  # pixels, masks
REDUCED = 2  # a training picture's shorter side, in sides of the network's input: random crops need no more


class CatalogPictures:
    """Encoded pictures of a catalogue by number.

    Args:
        catalog: Where they are. ids: Which, in this order.

    Raises:
        InputError: An id that the catalogue does not have.
    """

    def __init__(self, catalog: Catalog, ids: Sequence[str]):
        self.catalog = catalog
        self._root = (catalog.path / catalog.facts.image_root).resolve()
        self._table = catalog.table("images", ["image_id", "path", "bytes", "sha256"])
        self._at = {name: row for row, name in enumerate(self._table["image_id"].to_pylist())}
        self.ids = self._checked(ids)

    def of(self, ids: Sequence[str]) -> CatalogPictures:
        """Other pictures of the catalogue, without reading it again."""
        new = CatalogPictures.__new__(CatalogPictures)
        new.__dict__ |= self.__dict__
        new.ids = self._checked(ids)
        return new

    def __len__(self) -> int:
        return len(self.ids)

    def sha256(self, row: int) -> str | None:
        """Of the encoded bytes."""
        return self._table["sha256"][self._at[self.ids[row]]].as_py()

    def pixels(self, row: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 of a picture, upright.

        Raises:
            InputError: It cannot be read.
        """
        return self.named(self.ids[row])

    def named(self, name: str) -> npt.NDArray[np.uint8]:
        """The same of a picture by its id, which may be any of the catalogue's."""
        row = self._at[name]
        try:
            data = self._table["bytes"][row].as_py()
            if data is None:
                path = self._table["path"][row].as_py()
                if path is None:
                    raise PictureError("image_missing", "the catalogue has no picture for it")
                data = read_file(self._root, path)
            return np.asarray(open_picture(data))
        except PictureError as error:
            problem = f"picture {name!r}: {error}"
            raise InputError(problem, file=self.catalog.path) from error

    def _checked(self, ids: Sequence[str]) -> list[str]:
        for name in ids:
            if name not in self._at:
                raise InputError("no such picture in the catalogue", file=self.catalog.path, found=name)
        return list(ids)


def first_pictures(catalog: Catalog, number: int) -> tuple[list[str], list[Image.Image]]:
    """Ids and pictures, upright, of the first rows that have one; few are read, however large the catalogue is.

    Raises:
        InputError: One cannot be read.
    """
    root = catalog.path / catalog.facts.image_root
    names: list[str] = []
    found: list[Image.Image] = []
    for part in table_parts(catalog.path, "images"):
        for batch in pq.ParquetFile(part).iter_batches(number, columns=["image_id", "path", "bytes"]):
            for row in batch.to_pylist():
                if len(found) < number and (row["bytes"] or row["path"]):
                    names.append(row["image_id"])
                    try:
                        found.append(open_picture(row["bytes"] or read_file(root, row["path"])))
                    except PictureError as error:
                        raise InputError(f"picture {names[-1]!r}: {error}", file=catalog.path) from error
            if len(found) == number:
                return names, found
    return names, found


class Kept:
    """What was worked out once, up to a number of bytes; what comes later is worked out each time."""

    def __init__(self, limit: int):
        self.limit, self.used = limit, 0
        self._found: dict[int, Parts] = {}

    def get(self, row: int, make: Callable[[int], Parts]) -> Parts:
        """What `make` gives for a row."""
        if row in self._found:
            return self._found[row]
        parts = make(row)
        size = sum(part.nbytes for part in parts if part is not None)
        if self.used + size <= self.limit:
            self.used += size
            self._found[row] = parts
        return parts


class Examples(Dataset[dict[str, Any]]):
    """What a network is trained or judged on, by (epoch, row).

    Args:
        pictures: n pictures. targets: Name → (n, …) tensor, or a mapping of those. preprocess: Of the network.
        augment: Random changes; None: the preparation of evaluation.
        regions: Finds items; None: no masks. cache: Where masks are kept.
        features: Name → (n, …) arrays that stand in for pixels (`map`, `vector`) or beside them (`general`).
        memory: Bytes for pictures that are kept decoded. It changes speed, never a batch.
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
        memory: int = 0,
    ):
        self.pictures, self.targets, self.preprocess = pictures, targets, preprocess
        self.augment, self.regions, self.cache, self.features = augment, regions, cache, dict(features or {})
        self._kept = Kept(memory)
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
        """`image` (S, S, 3) uint8 unless features stand in for it; `masks` (K, S, S) bool where there are regions."""
        if self.augment is None:
            image, bits = self._kept.get(row, self._sized)
            masks = None if bits is None else _unpacked(bits, self.preprocess.size, self.preprocess.size)
        else:
            pixels, bits = self._kept.get(row, self._reduced)
            assert pixels is not None
            found = self.augment(pixels, row, epoch, None if bits is None else _unpacked(bits, *pixels.shape[:2]))
            image, masks = found.image, None if bits is None else found.masks
        parts = {"image": image, "masks": masks}
        return {name: torch.from_numpy(part) for name, part in parts.items() if part is not None}

    def _sized(self, row: int) -> Parts:
        """(S, S, 3) and packed masks, as evaluation sees a picture."""
        pixels = self.pictures.pixels(row)
        image = None if self.has_features else np.array(sized(Image.fromarray(pixels), self.preprocess))
        return image, self._masks(row, pixels, lambda masks: sized_masks(masks, self.preprocess))

    def _reduced(self, row: int) -> Parts:
        """(H, W, 3) and packed masks, as training begins from."""
        pixels = self.pictures.pixels(row)
        short = min(pixels.shape[:2])
        share = min(1.0, REDUCED * self.preprocess.size / short)
        height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
        bits = self._masks(row, pixels, lambda masks: resized_masks(masks, height, width))
        if share < 1:
            resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
            pixels = np.asarray(resized)
        return pixels, bits

    def _masks(self, row: int, pixels: Array, fit: Callable[[Array], Array]) -> Array | None:
        """(K, …) masks of a whole picture, fitted to what becomes of it, as bits."""
        if self.regions is None:
            return None
        name = self.pictures.ids[row]
        if self.cache is None:
            masks = self.regions.regions(pixels, name)
        else:
            masks = self.cache.regions(self.regions, pixels, name, self.pictures.sha256(row))
        found = fit(masks)
        return np.packbits(found.reshape(len(found), -1), axis=1)


def collated(batch: dict[str, Any]) -> dict[str, Any]:
    """For DataLoader: `Examples` hands out whole batches."""
    return batch


def _unpacked(bits: Array, height: int, width: int) -> Array:
    """(K, H, W) bool."""
    return np.unpackbits(bits, axis=1, count=height * width).astype(bool).reshape(len(bits), height, width)


def _rows_of(values: Any, rows: Tensor) -> Any:
    return {k: _rows_of(v, rows) for k, v in values.items()} if isinstance(values, Mapping) else values[rows]
