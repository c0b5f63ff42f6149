"""The ids of one split, a fixed-size record a sample, as one array or a row group of a part at a time.

    samples/SPLIT/part-*.parquet ─► row groups ─► checked against the set's tables ─► family filter ─► RECORD[n]

A record keeps the ids of a sample side by side, so that picking a thousand samples at random touches a thousand places
of memory and not eight thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.samples import SAMPLE_SPLITS, SLOTS, sample_files
from fashionkit.datagen.store import ABSENT, VQAStore
from fashionkit.tables import InputError, read_table

Array = npt.NDArray[Any]
RECORD = np.dtype(
    [
        ("qid", np.int64),
        ("image", np.int32),
        ("template", np.uint16),
        ("slots", np.uint16, (SLOTS,)),
        ("answer", np.uint16),
        ("paraphrase", np.uint8),
    ]
)  # 25 bytes
COLUMNS = ["qid", "image", "template", *(f"slot{i}" for i in range(SLOTS)), "answer", "paraphrase"]


class SplitRecords:
    """The samples of one split, of all families or of some.

    Args:
        store: The question set. split: One of `SAMPLE_SPLITS`, or `absent`.
        family: A question family, several, or None for all.

    Raises:
        InputError: No such split or family.
    """

    def __init__(self, store: VQAStore, split: str, family: str | Sequence[str] | None = None):
        if split not in (*SAMPLE_SPLITS, ABSENT):
            raise InputError("no such split", file=store.path, found=split, allowed=[*SAMPLE_SPLITS, ABSENT])
        families = list(FAMILIES) if family is None else [family] if isinstance(family, str) else list(family)
        for name in families:
            if name not in FAMILIES:
                raise InputError("no such family", file=store.path, found=name, allowed=FAMILIES)
        if split == ABSENT:
            families = [name for name in families if name == "N1"]
        self.store, self.split, self.families = store, split, sorted(families)
        self.wanted = np.array([t.family in families for t in store.pack.templates], bool)
        self._paths = sample_files(store.path, "test" if split == ABSENT else split)
        self._limits = {
            "image": len(store.image_ids),
            "template": len(store.pack.templates),
            "answer": len(store.vocab),
            **{f"slot{i}": len(store.vocab) for i in range(SLOTS)},
        }
        self._texts = np.array([len(t.paraphrases) for t in store.pack.templates])

    @cached_property
    def groups(self) -> list[tuple[Path, int, int]]:
        """Row groups of all parts, in order: the file, the number in it, and its rows."""
        found = []
        for path in self._paths:
            metadata = _metadata(path)
            found += [(path, group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups)]
        return found

    @cached_property
    def counts(self) -> Array:
        """(groups,) samples of each row group; where only some families are wanted, their templates are read."""
        if self.wanted.all():
            return np.array([rows for _, _, rows in self.groups], np.int64)
        templates = (self._columns(group, ["template"])["template"] for group in range(len(self.groups)))
        return np.array([self.wanted[template].sum() for template in templates], np.int64)

    def read(self, group: int) -> Array:
        """(counts[group],) records of one row group.

        Raises:
            InputError: The part is damaged, lacks a column, or holds an id that the set's tables do not have.
        """
        columns = self._columns(group, COLUMNS)
        records = np.empty(len(columns["qid"]), RECORD)
        for name in COLUMNS:
            if name.startswith("slot"):
                records["slots"][:, int(name[4:])] = columns[name]
            else:
                records[name] = columns[name]
        return records if self.wanted.all() else records[self.wanted[records["template"]]]

    def images(self) -> Array:
        """(n,) numbers of the images that the split's samples can be about, ascending.

        Raises:
            InputError: The set's table of images is damaged.
        """
        of = "test" if self.split not in ("train", "val") else self.split
        splits = read_table(self.store.path, "images", ["split"])["split"]
        return np.flatnonzero(pc.equal(splits, of).to_numpy())

    def read_all(self) -> Array:
        """(n,) records of the whole split, in order: 25 bytes a sample."""
        records = np.empty(int(self.counts.sum()), RECORD)
        at = 0
        for group, count in enumerate(self.counts.tolist()):
            records[at : at + count] = self.read(group)
            at += count
        return records

    def _columns(self, group: int, names: list[str]) -> dict[str, Array]:
        path, number, _ = self.groups[group]
        try:
            with pq.ParquetFile(path) as file:
                table = file.read_row_group(number, names)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error
        missing = set(names) - set(table.column_names)
        if missing:
            raise InputError("a column is missing", file=path, found=", ".join(sorted(missing)), allowed=names)
        columns = {name: table[name].to_numpy() for name in names}
        for name, limit in self._limits.items():
            if name in columns:
                _check(path, name, columns[name], limit)
        if "paraphrase" in columns:
            _check(path, "paraphrase", columns["paraphrase"], self._texts[columns["template"]])
        return columns


def _check(path: Path, name: str, column: Array, limit: int | Array) -> None:
    """Refuses ids that the set's tables do not have."""
    if (bad := (column >= limit) | (column < 0)).any():
        row = int(bad.argmax())
        allowed = [f"0 to {int(np.broadcast_to(limit, column.shape)[row]) - 1}"]
        problem, found = "the tables of the set have no such id", int(column[row])
        raise InputError(problem, file=path, row=row + 1, column=name, found=found, allowed=allowed)


def _metadata(path: Path) -> Any:
    try:
        return pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error
