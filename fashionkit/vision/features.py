"""Features of pictures kept on disk by id: what a frozen backbone says once, for every training run that asks.

    pictures ─► `sized` ─┬─► backbone ─┬─► vector (D)       ┐
                         │             └─► map (C, h, w)    ├─► features/part-00000.safetensors, float16
                         └─► colour statistics (Q)          ┘   all parts there ─► rows (ids), manifest

One folder serves IRSN, attribute heads and question-answer models alike; its fingerprint says of which weights and
which preparation. A part is whole or absent, so a run that was killed makes the parts that are missing. Each part is
made with one thread of torch, so what is in it depends neither on the cores nor on the number of workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from fashionkit.catalog.images import PictureError
from fashionkit.engine import run_shards
from fashionkit.engine.ahead import ahead
from fashionkit.engine.alone import LOCK, alone
from fashionkit.engine.threads import one_thread
from fashionkit.tables import (
    InputError,
    Manifest,
    part_path,
    sweep_temporary,
    write_atomic,
    write_manifest,
    write_table,
    write_text,
)
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.colour import colour_statistics
from fashionkit.vision.feature_store import KIND, SCHEMA, FeatureRows, FeatureStore, Half, feature_key, part_file
from fashionkit.vision.memory import keep_memory
from fashionkit.vision.pictures import as_picture, as_tensor, sized

__all__ = ["FeatureRows", "FeatureStore", "cache_features", "feature_key"]

MANIFEST, PLAN = "manifest.json", "plan.json"  # what decides the features
ROWS = pa.schema([pa.field("id", pa.string(), nullable=False)])
Pixels = npt.NDArray[np.uint8]


@dataclass
class _Work:
    """What a worker needs beside the ids of a part."""

    folder: Path
    backbone: Backbone
    picture: Callable[[str], Any]
    tensors: tuple[str, ...]
    batch: int


_work: _Work | None = None


def cache_features(
    folder: str | Path,
    backbone: Backbone,
    ids: Sequence[str],
    picture: Callable[[str], Any],
    maps: bool = True,
    colour: bool = True,
    part: int = 512,
    batch: int = 32,
    workers: int = 1,
    describe: str = "",
) -> FeatureStore:
    """Writes the features of pictures, or goes on where a run was stopped.

    Args:
        folder: New, or of the same call before. backbone: It is put in evaluation mode. ids: Of the pictures.
        picture: The picture of an id, of any kind that `fashionkit.vision.pictures.as_picture` takes.
        maps: Keep maps. colour: Keep colour statistics. part: Pictures of a file. batch: Of a pass.
        workers: Processes; above 1 they are forked, so torch should not have used several threads before.
        describe: Label of the progress; nothing is shown where it is empty.

    Raises:
        InputError: An id twice, none, a picture that cannot be read, a feature that float16 does not hold, a folder
            that holds something else, or another run writes to it.
    """
    folder, names = Path(folder), list(ids)
    if not names or len(set(names)) < len(names):
        raise InputError("features need pictures, and each id once", file=folder, found=f"{len(names)} ids")
    if part < 1 or batch < 1:
        raise InputError("parts and batches have at least 1 picture", found=f"part {part}, batch {batch}")
    tensors = ("vector", *["map"] * maps, *["colour"] * colour)
    backbone.eval().to(memory_format=torch.channels_last)
    keep_memory()
    with one_thread():
        asked: dict[str, Any] = {
            "fingerprint": feature_key(backbone),
            "backbone": backbone.name,
            "tensors": list(tensors),
        }
        asked |= {"preprocess": backbone.preprocess.to_dict(), "part": part, "ids": _hash(names)}
        if not _finished(folder, asked):
            with alone(folder, lambda: _refuse_others(folder)):
                write_text(folder / PLAN, _text(asked))
                sweep_temporary(folder)
                _make(_Work(folder, backbone, picture, tensors, batch), names, part, workers, describe)
                _finish(folder, names, asked)
    return FeatureStore(folder)


def _make(work: _Work, names: list[str], part: int, workers: int, describe: str) -> None:
    """Writes the parts that are missing."""
    global _work
    shards = [(number, names[lo : lo + part]) for number, lo in enumerate(range(0, len(names), part))]
    left = [shard for shard in shards if not part_file(work.folder, shard[0]).exists()]
    total = sum(len(some) for _, some in left)
    try:
        for _ in run_shards(
            _part, left, workers, initializer=_begin, initargs=(work,), describe=describe, total_rows=total, rows=int
        ):
            pass
    finally:
        _work = None


def _begin(work: _Work) -> None:
    global _work
    _work = work


def _part(shard: tuple[int, list[str]]) -> int:
    """Makes one part; returns how many pictures it has."""
    assert _work is not None, "a worker is set up before its first part"
    number, names = shard
    found: dict[str, Half] = {}
    with one_thread(), torch.inference_mode():
        for lo, batch in _computed(_work, names):
            for name, values in batch.items():
                whole = found.setdefault(name, np.empty((len(names), *values.shape[1:]), np.float16))
                whole[lo : lo + len(values)] = _halves(name, values, names[lo:])
    write_atomic(part_file(_work.folder, number), lambda path: save_file(found, path))
    return len(names)


def _computed(work: _Work, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The features of a batch after the other; the next batch is decoded while this one is in the network."""

    def load(lo: int) -> tuple[int, Pixels]:
        return lo, np.stack([_sized(work, name) for name in names[lo : lo + work.batch]])

    for lo, pixels in ahead(load, range(0, len(names), work.batch)):
        x = as_tensor(pixels, work.backbone.preprocess).to(memory_format=torch.channels_last)
        cells, vector = work.backbone.both(x)
        found = {"vector": vector, "map": cells}
        if "colour" in work.tensors:
            found["colour"] = colour_statistics(torch.from_numpy(pixels))
        yield lo, {name: found[name] for name in work.tensors}


def _sized(work: _Work, name: str) -> Pixels:
    try:
        return sized(as_picture(work.picture(name)), work.backbone.preprocess)
    except PictureError as error:
        raise InputError(f"picture {name!r}: {error}", file=work.folder) from error


def _halves(name: str, values: Tensor, names: Sequence[str]) -> Half:
    halves: Half = values.half().numpy()
    if not np.isfinite(halves).all():
        row = int(np.flatnonzero(~np.isfinite(halves).reshape(len(halves), -1).all(1))[0])
        most = float(values[row].float().abs().max())
        problem = f"the {name} of picture {names[row]!r} does not fit float16, which ends at 65504"
        hint = "the weights do not fit the network, or the network is not normalised; such features train nothing"
        raise InputError(problem, found=f"{most:.4g}", hint=hint)
    return halves


def _finish(folder: Path, names: list[str], asked: dict[str, Any]) -> None:
    with safe_open(part_file(folder, 0), framework="numpy") as first:
        shapes = {name: list(first.get_slice(name).get_shape()[1:]) for name in asked["tensors"]}
    write_table(part_path(folder, "rows", 0), pa.table([pa.array(names)], ROWS))
    params = {**asked, "shapes": shapes}
    write_manifest(folder, Manifest(KIND, SCHEMA, params=params, counts={"features": len(names)}))
    (folder / LOCK).unlink(missing_ok=True)


def _finished(folder: Path, asked: dict[str, Any]) -> bool:
    """Whether all is there; refuses a folder of other features."""
    plan = folder / PLAN
    if not plan.is_file():
        return False
    if plan.read_text(encoding="utf-8") != _text(asked):
        hint = "name a new folder, or remove this one"
        raise InputError("the folder holds features of other pictures, weights or settings", file=folder, hint=hint)
    return (folder / MANIFEST).exists()


def _refuse_others(folder: Path) -> None:
    there = [path for path in folder.iterdir() if path.name != LOCK] if folder.is_dir() else []
    if there and not (folder / PLAN).is_file():
        raise InputError("the folder holds something else", file=folder, hint="name a new one")


def _text(asked: dict[str, Any]) -> str:
    return json.dumps(asked, indent=1, sort_keys=True) + "\n"


def _hash(names: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
