"""Answers of one model, of one seed or several, read from their folders and joined by question.

    folders ─► tables ─► one order: samples, then what follows from them ─► the same questions in all? ─► `Side`

Letters: n questions, S seeds, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fashionkit.eval.vqa_human import BETWEEN, HUMAN
from fashionkit.eval.vqa_schema import ANSWERS, KIND, SCHEMA
from fashionkit.tables import InputError, Manifest, read_manifest, read_table

Array = npt.NDArray[Any]
Paths = Sequence[str | Path]


@dataclass(frozen=True)
class Side:
    """Answers of S seeds of a model to n questions, in one order.

    Attributes:
        paths: Their folders. manifest: Of the first. table: Its table; what it says of questions holds for all.
        group: (n,) 0..G-1. size: G. right, probability: (S, n). valid, loss, free_right: (S, n), NaN: not known.
        predicted: (S, n) texts. truth: (n,) the right answer; of several the first.
    """

    paths: tuple[Path, ...]
    manifest: Manifest
    table: pa.Table
    group: Array
    size: int
    right: Array
    probability: Array
    valid: Array
    loss: Array
    free_right: Array
    predicted: Array
    truth: Array

    def column(self, name: str) -> Array:
        """(n,) texts or numbers of the questions."""
        found: Array = self.table[name].to_numpy(zero_copy_only=False)
        return found.astype(str) if pa.types.is_string(self.table.schema.field(name).type) else found

    @property
    def human(self) -> bool:
        """Whether people wrote the questions."""
        return self.manifest.params.get("split") == HUMAN

    @property
    def families(self) -> Array:
        """(n,) what questions are told apart by: their family; of people's, what their writers call them."""
        return self.column("template" if self.human else "family")

    @property
    def threshold(self) -> float:
        """Below this probability an answer is not given."""
        return float(self.manifest.params.get("cannot_tell", 0.0))

    def take(self, mask: Array) -> Side:
        """Some of the questions; groups keep their numbers."""
        rows = np.flatnonzero(mask)
        parts = {name: getattr(self, name)[:, rows] for name in (*_BY_SEED, "predicted")}
        return Side(
            self.paths, self.manifest, self.table.take(pa.array(rows)), self.group[rows], self.size, **parts,
            truth=self.truth[rows],
        )  # fmt: skip

    def asked(self) -> Side:
        """The questions that measures are of: without the samples from which entailed ones follow."""
        follows = self.table["source"].is_valid().to_numpy(zero_copy_only=False)
        return self.take(follows) if follows.any() else self


_BY_SEED = ("right", "probability", "valid", "loss", "free_right")


def read_side(folders: Paths) -> Side:
    """The answers of one model, a folder for each seed.

    Raises:
        InputError: No folder, one that holds no answers or damaged ones, or answers to other questions than the first.
    """
    if not folders:
        raise InputError("answers are needed", hint="name a folder that `fashionkit eval vqa` wrote")
    read = [_read(Path(folder)) for folder in folders]
    manifest, first = read[0]
    for path, (other, table) in zip(folders, read, strict=True):
        _check_same(Path(folders[0]), manifest, first, Path(path), other, table)
    numbers = {name: np.stack([_numbers(table, name) for _, table in read]) for name in _BY_SEED}
    names, group = np.unique(first["group"].to_numpy(), return_inverse=True)
    predicted = np.stack([table["predicted"].to_numpy(zero_copy_only=False).astype(str) for _, table in read])
    truth = np.array([text.split(BETWEEN)[0] for text in first["answer"].to_pylist()])
    paths = tuple(map(Path, folders))
    return Side(paths, manifest, first, group, len(names), **numbers, predicted=predicted, truth=truth)


def _read(folder: Path) -> tuple[Manifest, pa.Table]:
    """A folder's manifest and table: samples by qid, then what follows from them by qid."""
    manifest = read_manifest(folder, KIND, SCHEMA)
    table = read_table(folder, "answers", ANSWERS.names)
    try:
        table = table.cast(ANSWERS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise InputError(f"the answers are damaged: {error}", file=folder) from error
    for name in (f.name for f in ANSWERS if not f.nullable):
        if table[name].null_count:
            raise InputError("the answers are damaged: a cell is empty", file=folder, column=name)
    probability = table["probability"].to_numpy()
    if not table.num_rows or not ((probability >= 0) & (probability <= 1 + 1e-6)).all():
        raise InputError("the answers are damaged: there are none, or no probabilities", file=folder)
    return manifest, table.sort_by([("source", "ascending"), ("qid", "ascending")]).combine_chunks()


def _numbers(table: pa.Table, name: str) -> Array:
    """(n,) float64, NaN where nothing is known."""
    column = table[name].cast(pa.int8()) if pa.types.is_boolean(table.schema.field(name).type) else table[name]
    found: Array = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.minimum(found, 1.0) if name == "probability" else found


def _check_same(
    path: Path, manifest: Manifest, table: pa.Table, other_path: Path, other: Manifest, other_table: pa.Table
) -> None:
    """Two folders are answers to the same questions."""
    same = manifest.inputs.get("questions") == other.inputs.get("questions")
    names = ("qid", "source", "image_id", "question", "answer")
    if not same or any(not table[name].equals(other_table[name]) for name in names):
        hint = "answer the same split of the same set, with the same limit and seed"
        raise InputError(f"the questions are not those of {path}", file=other_path, hint=hint)


def check_pair(one: Side, two: Side) -> None:
    _check_same(one.paths[0], one.manifest, one.table, two.paths[0], two.manifest, two.table)
