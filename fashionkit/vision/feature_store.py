"""Reads features of pictures that were kept on disk by id; `fashionkit.vision.features` writes them.

    ids ─► `FeatureStore.rows` ─► numbers of rows ─► part and place ─► slices of the mapped file ─► (b, …) float16

Nothing stays open or in memory between two calls, so any number of processes may read one folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fashionkit.tables import InputError, read_manifest, read_table
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.preprocess import Preprocess

# Legend: n pictures of a call, D width of a vector, C channels of a map, h x w its cells, Q numbers of colour
KIND, SCHEMA = "features", 2
TENSORS = ("vector", "map", "colour")
Half = npt.NDArray[np.float16]


def feature_key(backbone: Backbone) -> str:
    """SHA-256 over weights and preprocessing: equal for equal features."""
    how = json.dumps(backbone.preprocess.to_dict(), sort_keys=True)
    return hashlib.sha256(f"{backbone.fingerprint()} {how}".encode()).hexdigest()


def part_file(folder: Path, number: int) -> Path:
    """Where part `number` of a folder of features lies."""
    return folder / "features" / f"part-{number:05d}.safetensors"


class FeatureStore:
    """A finished folder of features.

    Args:
        folder: As `fashionkit.vision.features.cache_features` wrote it.

    Attributes:
        ids: Of all pictures. shapes: Tensor (of TENSORS) → its shape for one picture. fingerprint: Of weights and
            preprocessing. preprocess: The latter.

    Raises:
        InputError: No such folder, one that is not finished, or a damaged one.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        params = read_manifest(self.folder, KIND, SCHEMA).params
        try:
            self.fingerprint, self._part = str(params["fingerprint"]), int(params["part"])
            self.shapes = {str(name): tuple(map(int, shape)) for name, shape in params["shapes"].items()}
            self.preprocess = Preprocess.from_dict(params["preprocess"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"the manifest is damaged: {error}", file=self.folder) from error
        self.ids: list[str] = read_table(self.folder, "rows", ["id"])["id"].to_pylist()
        self._at = {name: row for row, name in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, name: object) -> bool:
        return name in self._at

    @property
    def dim(self) -> int:
        """D."""
        return self.shapes["vector"][0]

    @property
    def channels(self) -> int:
        """C; 0 without maps."""
        return self.shapes.get("map", (0,))[0]

    def rows(self, name: str, ids: Sequence[str]) -> FeatureRows:
        """A tensor of some pictures, read from disk where it is asked for.

        Args:
            name: One of TENSORS. ids: n of them.

        Raises:
            InputError: An id or a tensor that is not there.
        """
        if name not in self.shapes:
            hint = "`fashionkit features` says how to make a folder that does"
            raise InputError("the folder does not hold these features", file=self.folder, found=name, hint=hint)
        missing = [i for i in ids if i not in self._at]
        if missing:
            problem = f"there are no features of {len(missing)} of {len(ids)} pictures"
            raise InputError(problem, file=self.folder, found=missing[0], hint="make them for this catalogue")
        return FeatureRows(self, name, np.array([self._at[i] for i in ids], np.int64))

    def vectors(self, ids: Sequence[str]) -> Half:
        """(n, D) float16, not normed; raises as `rows`."""
        return self.rows("vector", ids)[:]

    def maps(self, ids: Sequence[str]) -> Half:
        """(n, C, h, w) float16; raises as `rows`."""
        return self.rows("map", ids)[:]

    def colours(self, ids: Sequence[str]) -> Half:
        """(n, Q) float16; raises as `rows`."""
        return self.rows("colour", ids)[:]

    def read(self, name: str, rows: npt.NDArray[np.int64]) -> Half:
        """(n, …) of rows by their place in `ids`."""
        found = np.empty((len(rows), *self.shapes[name]), np.float16)
        parts = rows // self._part
        for number in np.unique(parts):
            file, to = part_file(self.folder, int(number)), np.flatnonzero(parts == number)
            try:
                with safe_open(file, framework="numpy") as tensors:
                    values = tensors.get_slice(name)
                    for at, row in zip(to, rows[to] - number * self._part, strict=True):
                        found[at] = values[int(row)]
            except (SafetensorError, OSError, ValueError, IndexError) as error:
                raise InputError(f"the features are damaged or gone: {error}", file=file) from error
        return found


class FeatureRows:
    """n rows of one tensor, like an array `(n, …)` of which only what is asked for is read.

    Args:
        store: Where they are. name: The tensor. places: (n,) rows of the store.
    """

    def __init__(self, store: FeatureStore, name: str, places: npt.NDArray[np.int64]):
        self.store, self.name, self.places = store, name, places

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, …)."""
        return (len(self.places), *self.store.shapes[self.name])

    def __getitem__(self, rows: Any) -> Half:
        """(b, …) float16 of a slice or an array of b row numbers; one row for one number."""
        places = self.places[rows]
        return self.store.read(self.name, np.atleast_1d(places)).reshape(*np.shape(places), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All of them in memory."""
        return np.asarray(self[:], dtype)
