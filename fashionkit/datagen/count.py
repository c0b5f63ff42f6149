"""Counts every cell of a unit, ranks its candidates, and later keeps the first of each cell.

    propose ─► judge ─► (cell, race key) of the valid ones ─► counts by cell
                                                         └──► spool: place, cell, rank of all that balance could keep
    spool + samples to keep by cell ─► places kept, by block of pictures

A candidate's rank is its place in the race of its cell (lowest random key first), so how many are kept can be decided
after the counting, and nothing is proposed or judged a second time for it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.balance import BalanceOptions, Cells, equal_sides, temper
from fashionkit.datagen.context import Context
from fashionkit.datagen.judge import SPLIT_NAMES, Judged, Moments
from fashionkit.datagen.packs import Template
from fashionkit.datagen.vocab import NONE
from fashionkit.tables import write_atomic, write_table

Array = npt.NDArray[Any]
KEY_BITS = 32
# Keys are random numbers, which nothing compresses; places ascend, and cells are few.
SPOOL_OPTIONS: dict[str, Any] = {
    "compression": "none",
    "compression_level": None,
    "use_dictionary": ["cell"],
    "column_encoding": {"place": "DELTA_BINARY_PACKED"},
    "write_statistics": False,
}


@dataclass
class Counted:
    """What counting found in one unit."""

    cells: Cells
    moments: Moments
    proposed: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def count_unit(context: Context, number: int, folder: Path, name: str = "count") -> int:
    """Counts a unit's valid candidates by cell and spools the ranked ones; returns the number of the unit."""
    unit = context.units[number]
    layout, moments, refused = context.judge.layout(unit), Moments(), Counter[str]()
    codes, keys, places, sizes, proposed = [], [], [], [], 0
    budgeted = context.spec.per_image is not None and name == "count"
    per_image = np.zeros(len(context.scenes.image_ids), np.int32) if budgeted else None
    for lo, hi in context.blocks:
        c = context.proposer.propose(unit, lo, hi)
        judged = context.judge.judge(unit, c)
        context.within_budget(number, c, judged)
        if not moments.n:  # the first block that has any is sample enough for a mean and a deviation
            moments.add(judged)
        refused.update(judged.refused)
        proposed += len(c.batch)
        valid = np.flatnonzero(judged.answer != NONE)
        if per_image is not None:
            per_image[lo:hi] = np.bincount(c.batch.image[valid] - lo, minlength=hi - lo)
        steps = context.judge.difficulty(unit, c.row[valid], _only(judged, valid), moments)
        codes.append(context.judge.codes(unit, layout, c, judged)[valid])
        keys.append((context.judge.race(c.bits[valid], steps) * 2.0**KEY_BITS).astype(np.uint32))
        places.append(c.place[valid].astype(np.uint32))
        sizes.append(len(valid))
    if per_image is not None:
        write_table(folder / f"valid-{number:05d}.parquet", pa.table({"valid": per_image}), sync=False)
    cells, cell = _tally(np.concatenate(codes), layout.size, layout.sides)
    key, place = np.concatenate(keys), np.concatenate(places)
    could = np.flatnonzero(lowest(cell, key, _most(context.template(unit), cells, context.spec.balance)))
    spool = pa.table({"place": place[could], "cell": cell[could], "key": key[could]})
    write_table(folder / f"spool-{number:05d}.parquet", spool, sync=False, **SPOOL_OPTIONS)
    meta = {
        "n": moments.n,
        "sums": moments.sums.tolist(),
        "proposed": proposed,
        "refused": dict(sorted(refused.items())),
        "spooled": np.diff(np.searchsorted(could, np.cumsum([0, *sizes]))).tolist(),
    }
    table = pa.table({"code": cells.code, "count": cells.count}).replace_schema_metadata({"unit": json.dumps(meta)})
    write_table(folder / f"{name}-{number:05d}.parquet", table, sync=False)
    return number


def _only(judged: Judged, keep: Array) -> Judged:
    return Judged(
        judged.answer[keep], judged.split[keep], judged.refused, judged.surprisal[keep], judged.confusable[keep]
    )


def _tally(code: Array, size: int, sides: int) -> tuple[Cells, Array]:
    """The cells that occur among `size` possible ones, and each candidate's position among them."""
    if size > 8 * len(code) + 1_000_000:  # a table of all cells would be mostly empty
        codes, cell, count = np.unique(code, return_inverse=True, return_counts=True)
        return Cells(codes.astype(np.int64), count, sides), cell.astype(np.uint32)
    count = np.bincount(code, minlength=size)
    codes = np.flatnonzero(count)
    number = np.zeros(size, np.uint32)
    number[codes] = np.arange(len(codes))
    return Cells(codes, count[codes], sides), number.take(code)


def lowest(cell: Array, key: Array, keep: Array) -> Array:
    """(n,) bool: of each cell the `keep` lowest keys, equal keys by position.

    Keys fall into equal buckets first, so that only the bucket in which a cell's last kept key lies is sorted.

    Args:
        cell: (n,) positions in `keep`. key: (n,) uint32. keep: (cells,) how many.
    """
    if not len(cell):
        return np.zeros(0, bool)
    width = max(2, min(12, int(len(cell) / len(keep)).bit_length() + 2))
    bucket = (key >> np.uint32(KEY_BITS - width)).astype(np.int64)
    count = np.bincount(cell.astype(np.int64) << width | bucket, minlength=len(keep) << width).reshape(len(keep), -1)
    upto = np.cumsum(count, axis=1)
    last = np.count_nonzero(upto < keep[:, None], axis=1)  # the bucket of the last kept key, or past all of them
    below = np.where(last > 0, upto[np.arange(len(keep)), last - 1], 0)
    edge_of = last.take(cell)
    accepted = bucket < edge_of
    edge = np.flatnonzero(bucket == edge_of)
    edge = edge[np.lexsort((key[edge], cell[edge]))]
    cells = cell[edge]
    rank = np.arange(len(edge)) - np.searchsorted(cells, cells)
    accepted[edge] = rank < (keep - below).take(cells)
    return accepted


def _most(t: Template, cells: Cells, options: BalanceOptions) -> Array:
    """(cells,) samples that each could keep at most, whatever other units do."""
    trial = Cells(cells.code, cells.count, cells.sides)
    if t.balance in ("binary", "choice") or t.family == "B5":
        equal_sides(trial)
    elif t.balance == "tempered":
        temper(trial, options, t.needs is not None)
    else:
        trial.keep = trial.count
    return trial.keep


def read_count(context: Context, number: int, folder: Path, name: str = "count") -> Counted:
    """What `count_unit` counted."""
    table = pq.read_table(folder / f"{name}-{number:05d}.parquet")
    meta = json.loads(table.schema.metadata[b"unit"])
    layout = context.judge.layout(context.units[number])
    cells = Cells(table["code"].to_numpy(), table["count"].to_numpy(), layout.sides)
    moments = Moments(meta["n"], np.array(meta["sums"]))
    return Counted(cells, moments, meta["proposed"], Counter(meta["refused"]))


def select_unit(context: Context, number: int, folder: Path, cells: Cells, name: str = "count") -> int:
    """Marks the places to keep: of each cell as many of the first ranks as `cells` says."""
    table = pq.read_table(folder / f"{name}-{number:05d}.parquet")
    all_codes = table["code"].to_numpy()
    sizes = json.loads(table.schema.metadata[b"unit"])["spooled"]
    keep = np.zeros(len(all_codes), np.int64)
    keep[np.searchsorted(all_codes, cells.code)] = cells.keep
    spool = pq.read_table(folder / f"spool-{number:05d}.parquet")
    cell = spool["cell"].to_numpy()
    kept = np.flatnonzero(lowest(cell, spool["key"].to_numpy(), keep))
    split = all_codes[cell[kept]] // cells.sides % len(SPLIT_NAMES)
    block = np.repeat(np.arange(len(sizes)), sizes)[kept]
    _store_selection(context, folder, number, spool["place"].to_numpy()[kept], block, split)
    return number


def _store_selection(context: Context, folder: Path, number: int, place: Array, block: Array, split: Array) -> None:
    """A row group for each block: one bit for each place, and how many of those kept fall to each split."""
    many = len(context.blocks)
    kept = np.zeros((many, len(SPLIT_NAMES)), np.int64)
    np.add.at(kept, (block, split), 1)
    parts = np.searchsorted(block, np.arange(many + 1))
    bits = []
    for lo, hi in pairwise(parts):
        flags = np.zeros(int(place[lo:hi].max(initial=0)) + 1, bool)
        flags[place[lo:hi]] = True
        bits.append(np.packbits(flags).tobytes())
    batches = pa.table({"bits": pa.array(bits, pa.binary()), "kept": kept.tolist()}).to_batches(max_chunksize=1)
    write_atomic(_selection_path(folder, number), lambda path: _write_batches(path, batches), sync=False)


def _write_batches(path: Path, batches: list[pa.RecordBatch]) -> None:
    with pa.ipc.new_file(path, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _selection_path(folder: Path, number: int) -> Path:
    return folder / f"select-{number:05d}.arrow"  # unlike Parquet, one block is read from it in no time


def read_selection(folder: Path, number: int, block: int) -> Array:
    """(n,) places of the candidates of one block that are kept, ascending."""
    with pa.memory_map(str(_selection_path(folder, number))) as source:
        bits = pa.ipc.open_file(source).get_batch(block)["bits"][0].as_buffer()
        return np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8)))


def kept_by_block(folder: Path, number: int) -> Array:
    """(blocks, splits) samples kept of one unit."""
    with pa.memory_map(str(_selection_path(folder, number))) as source:
        table = pa.ipc.open_file(source).read_all()
        return np.array(table["kept"].to_pylist(), np.int64)


def write_json(path: Path, data: Any) -> None:
    """Small state of a run, whole or not at all."""
    write_atomic(
        path, lambda temporary: temporary.write_text(json.dumps(data, sort_keys=True), encoding="utf-8") and None
    )
