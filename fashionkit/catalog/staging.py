"""Shards of source rows, kept beside an unfinished catalogue, so that any worker can make any shard alone.

    <catalog>/.import/rows/part-00000.parquet …   source rows of whole pictures
    <catalog>/.import/rejects/part-…              rows that reach no shard, until they are published
    <catalog>/.import/plan.json                   written last: the source is staged, and this is what it was
    <catalog>/.import/tally-00000.json …          counts of finished shards

The folder goes when the catalogue is finished; a dot keeps it out of the manifest.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fashionkit.catalog.drafts import Shard, ShardSettings
from fashionkit.catalog.words import Refused
from fashionkit.tables import part_path, table_parts, write_table, write_text

SHARD = 512  # pictures a shard
HIDDEN = ".import"


class Stager:
    """Writes source rows as shards; rows come in the order of their pictures' numbers."""

    def __init__(self, folder: Path, settings: ShardSettings) -> None:
        self.folder = folder
        self.shards = 0
        self._refused = Shard(settings)
        self._waiting: list[pa.Table] = []

    def refuse(self, row: int | None, why: Refused) -> None:
        """Notes a row that reaches no shard."""
        self._refused.tally.entries += 1
        self._refused.reject(row, why)

    def add(self, table: pa.Table, numbers: np.ndarray[Any, Any]) -> None:
        """Takes rows and the numbers of their pictures (never falling), and writes the shards that are full."""
        while len(table):
            cut = int(np.searchsorted(numbers, (self.shards + 1) * SHARD))
            self._waiting.append(table.slice(0, cut))
            if cut == len(table):
                return
            table, numbers = table.slice(cut), numbers[cut:]
            self._write()

    def _write(self) -> None:
        rows = pa.concat_tables(self._waiting)
        write_table(part_path(self.folder / HIDDEN, "rows", self.shards), rows)
        self.shards, self._waiting = self.shards + 1, []

    def close(self) -> None:
        """Writes the last shard, and the rows that were refused before any shard was cut."""
        if self._waiting and sum(map(len, self._waiting)):
            self._write()
        self._refused.write_rejects(self.folder, self.shards, HIDDEN)


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Says that the staging is whole."""
    write_text(folder / HIDDEN / "plan.json", json.dumps(plan, indent=1, sort_keys=True))


def read_plan(folder: Path) -> dict[str, Any] | None:
    """The plan of an unfinished import, or None."""
    path = folder / HIDDEN / "plan.json"
    if not path.is_file():
        return None
    plan = json.loads(path.read_text(encoding="utf-8"))
    return plan if isinstance(plan, dict) else None


def staged_rows(folder: Path, part: int) -> pa.Table:
    """One staged shard."""
    return pa.parquet.read_table(part_path(folder / HIDDEN, "rows", part), partitioning=None)


def publish(folder: Path) -> None:
    """Moves the rows that were refused while staging to the catalogue's rejects."""
    for part in table_parts(folder / HIDDEN, "rejects"):
        (folder / "rejects").mkdir(exist_ok=True)
        part.replace(folder / "rejects" / part.name)


def remove(folder: Path) -> None:
    """Removes the staging."""
    if (folder / HIDDEN).is_dir():
        shutil.rmtree(folder / HIDDEN)
