"""Features of pictures kept on disk by id: what a frozen backbone says once, for every training run that asks.

    pictures ─► `sized` ─► backbone ─┬─► pooled (D)      ─► part-00000.safetensors: vector (n, D), map (n, C, h, w) float16
                                     └─► map (C, h, w)   ─► ids: rows/part-00000.parquet
                                                            all parts there ─► manifest: fingerprint, preprocessing

One folder serves IRSN, attribute heads and question-answer models alike; its fingerprint says of which weights and
which preparation. A part is whole or absent, so a run that was killed makes the parts that are missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from fashionkit.tables import (
    InputError,
    Manifest,
    part_path,
    read_manifest,
    read_table,
    sweep_temporary,
    write_atomic,
    write_manifest,
    write_table,
    write_text,
)
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.memory import keep_memory
from fashionkit.vision.pictures import as_tensor, sized
from fashionkit.vision.preprocess import Preprocess

KIND, SCHEMA = "features", 1
ROWS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("part", pa.int32(), nullable=False)])
Pixels = npt.NDArray[np.uint8]


def feature_key(backbone: Backbone) -> str:
    """SHA-256 over weights and preprocessing: equal for equal features."""
    how = json.dumps(backbone.preprocess.to_dict(), sort_keys=True)
    return hashlib.sha256(f"{backbone.fingerprint()} {how}".encode()).hexdigest()


@torch.inference_mode()
def cache_features(
    folder: str | Path,
    backbone: Backbone,
    ids: Sequence[str],
    picture: Callable[[str], Any],
    maps: bool = True,
    part: int = 1024,
    batch: int = 32,
    progress: Callable[[int], None] = lambda done: None,
) -> FeatureStore:
    """Writes the features of pictures, or goes on where a run was stopped.

    Args:
        folder: New, or of the same call before. backbone: In evaluation mode. ids: Of the pictures, each once.
        picture: The picture of an id, upright. maps: Keep maps beside vectors.
        part: Pictures of a file. batch: Of a pass. progress: Told how many more are done.

    Raises:
        InputError: An id twice, none, or a folder that holds the features of something else.
    """
    folder, names = Path(folder), list(ids)
    if not names or len(set(names)) < len(names):
        raise InputError("features need pictures, and each id once", file=folder, found=f"{len(names)} ids")
    asked = {"fingerprint": feature_key(backbone), "backbone": backbone.name, "maps": maps, "part": part}
    asked |= {"ids": hashlib.sha256("\n".join(names).encode()).hexdigest()}
    asked |= {"preprocess": backbone.preprocess.to_dict(), "dim": backbone.dim, "channels": backbone.channels}
    if _begun(folder, asked):
        return FeatureStore(folder)
    keep_memory()
    backbone.eval().to(memory_format=torch.channels_last)
    for number, lo in enumerate(range(0, len(names), part)):
        rows = names[lo : lo + part]
        file = _file(folder, number)
        if not file.exists():
            found = _computed(backbone, [picture, rows], maps, batch)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, lambda path, found=found: save_file(found, path))
        table = pa.table([pa.array(rows), pa.array([number] * len(rows), pa.int32())], ROWS)
        write_table(part_path(folder, "rows", number), table)
        progress(len(rows))
    params = {key: value for key, value in asked.items() if key not in ("part", "ids")}
    write_manifest(folder, Manifest(KIND, SCHEMA, params=params, counts={"features": len(names)}))
    return FeatureStore(folder)


def _computed(backbone: Backbone, source: list[Any], maps: bool, batch: int) -> dict[str, npt.NDArray[np.float16]]:
    picture, rows = source
    vectors, cells = [], []
    for lo in range(0, len(rows), batch):
        pixels = [sized(picture(name), backbone.preprocess) for name in rows[lo : lo + batch]]
        x = as_tensor(pixels, backbone.preprocess).to(memory_format=torch.channels_last)
        one, two = backbone.both(x)
        cells.append(one.half().numpy() if maps else None)
        vectors.append(two.half().numpy())
    found = {"vector": np.ascontiguousarray(np.concatenate(vectors))}
    return {**found, "map": np.ascontiguousarray(np.concatenate(cells))} if maps else found


def _begun(folder: Path, asked: dict[str, Any]) -> bool:
    """Whether all is there; refuses a folder of something else."""
    plan = folder / "plan.json"
    text = json.dumps(asked, indent=1, sort_keys=True) + "\n"
    if plan.exists():
        if plan.read_text(encoding="utf-8") != text:
            hint = "name a new folder, or remove this one"
            raise InputError("the folder holds features of other pictures or weights", file=folder, hint=hint)
        sweep_temporary(folder)
        return (folder / "manifest.json").exists()
    if folder.exists() and any(folder.iterdir()):
        raise InputError("the folder holds something else", file=folder, hint="name a new one")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(plan, text)
    return False


def _file(folder: Path, number: int) -> Path:
    return folder / "features" / f"part-{number:05d}.safetensors"


class FeatureStore:
    """A finished folder of features.

    Args:
        folder: As `cache_features` wrote it.

    Attributes:
        ids: Of all pictures. dim: D. channels: C. fingerprint: Of weights and preprocessing. preprocess: The latter.

    Raises:
        InputError: No such folder, or one that is not finished.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder, KIND, SCHEMA)
        params = self.manifest.params
        self.dim, self.channels, self.fingerprint = params["dim"], params["channels"], params["fingerprint"]
        self.preprocess = Preprocess.from_dict(params["preprocess"])
        rows = read_table(self.folder, "rows")
        self.ids: list[str] = rows["id"].to_pylist()
        parts = np.asarray(rows["part"])
        starts = np.searchsorted(parts, np.arange(parts[-1] + 1))
        self._at = {name: (int(p), row - int(starts[p])) for row, (name, p) in enumerate(zip(self.ids, parts, strict=True))}

    def vectors(self, ids: Sequence[str]) -> npt.NDArray[np.float16]:
        """(n, D) float16, not normed.

        Raises:
            InputError: An id that is not there.
        """
        return self._gathered("vector", ids)

    def maps(self, ids: Sequence[str]) -> npt.NDArray[np.float16]:
        """(n, C, h, w) float16.

        Raises:
            InputError: An id that is not there, or the folder has no maps.
        """
        if not self.manifest.params["maps"]:
            raise InputError("the folder holds vectors only", file=self.folder, hint="make it with maps")
        return self._gathered("map", ids)

    def _gathered(self, name: str, ids: Sequence[str]) -> npt.NDArray[np.float16]:
        missing = [i for i in ids if i not in self._at]
        if missing:
            raise InputError("no features of this picture", file=self.folder, found=missing[0])
        wanted: dict[int, list[tuple[int, int]]] = {}
        for to, i in enumerate(ids):
            wanted.setdefault(self._at[i][0], []).append((to, self._at[i][1]))
        found: Any = None
        for number, pairs in wanted.items():
            with safe_open(_file(self.folder, number), framework="numpy") as tensors:
                values = tensors.get_tensor(name)
            found = np.empty((len(ids), *values.shape[1:]), np.float16) if found is None else found
            found[[to for to, _ in pairs]] = values[[row for _, row in pairs]]
        return np.zeros((0, self.dim), np.float16) if found is None else found
