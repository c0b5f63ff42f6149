"""Counts every cell of a unit, ranks its candidates, and later keeps the first of each cell.

    propose ─► judge ─► (cell, race key) of the valid ones ─► counts by cell
                                                         └──► spool: cell, key, sample of all that balance could keep
    spool + samples to keep by cell ─► samples kept, by block of pictures

A candidate's rank is its place in the race of its cell (lowest random key first), so how many are kept can be decided
after the counting, and nothing is proposed or judged a second time for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
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
from fashionkit.datagen.counter import again
from fashionkit.datagen.judge import SPLIT_NAMES, Judged, Moments
from fashionkit.datagen.packs import Template
from fashionkit.datagen.propose import Candidates, option_slots
from fashionkit.datagen.vocab import NONE
from fashionkit.tables import write_atomic, write_table

Array = npt.NDArray[Any]
KEY_BITS = 32


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
    parts: list[dict[str, Array]] = []
    proposed = 0
    budgeted = context.spec.per_image is not None and name != "recount"
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
        code = context.judge.codes(unit, layout, c, judged)
        c, judged = c.take(valid), _only(judged, valid)
        steps = context.judge.difficulty(unit, c.row, judged, moments)
        key = (context.judge.race(c.bits, steps) * 2.0**KEY_BITS).astype(np.uint32)
        rows = sample_rows(context.template(unit), c, judged.answer, steps)
        parts.append({"code": code[valid], "key": key, **rows})
    if per_image is not None:
        write_table(folder / f"valid-{number:05d}.parquet", pa.table({"valid": per_image}), sync=False)
    columns = {k: np.concatenate([p.pop(k) for p in parts]) for k in list(parts[0])}
    cells, cell = _tally(columns.pop("code"), layout.size, layout.sides)
    most = _most(context.template(unit), cells, context.spec.balance)
    could = np.flatnonzero(lowest(cell, columns["key"], most))
    _write_columns(_spool_path(folder, number), {"cell": cell, **columns}, could)
    meta = {
        "n": moments.n,
        "sums": moments.sums.tolist(),
        "proposed": proposed,
        "refused": dict(sorted(refused.items())),
    }
    table = pa.table({"code": cells.code, "count": cells.count}).replace_schema_metadata({"unit": json.dumps(meta)})
    write_table(folder / f"{name}-{number:05d}.parquet", table, sync=False)
    return number


def sample_rows(t: Template, c: Candidates, answer: Array, steps: Array) -> dict[str, Array]:
    """What is stored of each candidate: picture, slots, answer, difficulty in steps, and where its texts start."""
    names = [slot.name for slot in t.stored_slots]
    return {
        "image": c.batch.image.astype(np.int32, copy=False),
        **{f"slot{i}": c.batch.slots[n].astype(np.uint16, copy=False) for i, n in enumerate(names)},
        "answer": answer.astype(np.uint16, copy=False),
        "steps": steps.astype(np.int8),
        "start": (again(c.bits, 77) >> np.uint64(48)).astype(np.uint16),
    }


def _spool_path(folder: Path, number: int) -> Path:
    return folder / f"spool-{number:05d}.arrow"


def _write_columns(path: Path, columns: dict[str, Array], rows: Array) -> None:
    """Some rows as plain Arrow; random numbers are most of it, which nothing compresses."""
    batch = pa.record_batch({k: v.take(rows) for k, v in columns.items()})
    write_atomic(path, lambda temporary: _write_batches(temporary, batch.schema, [batch]), sync=False)


def _write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with pa.ipc.new_file(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


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
    """Keeps of each cell as many of the first ranks as `cells` says, by block of pictures."""
    all_codes = pq.read_table(folder / f"{name}-{number:05d}.parquet")["code"].to_numpy()
    keep = np.zeros(len(all_codes), np.int64)
    keep[np.searchsorted(all_codes, cells.code)] = cells.keep
    with pa.memory_map(str(_spool_path(folder, number))) as source:
        spool = pa.ipc.open_file(source).get_batch(0)
        columns = {name: spool[name].to_numpy() for name in spool.schema.names}
        cell, key = columns.pop("cell"), columns.pop("key")
        kept = np.flatnonzero(lowest(cell, key, keep))
        columns = {name: column.take(kept) for name, column in columns.items()}
        code, key = all_codes[cell.take(kept)], key.take(kept)
    columns["split"] = (code // cells.sides % len(SPLIT_NAMES)).astype(np.uint8)
    _turn(context.template(context.units[number]), columns, code, key, cells.sides, number)
    _store_selection(context, folder, number, columns)
    return number


def _turn(t: Template, columns: dict[str, Array], code: Array, key: Array, sides: int, number: int) -> None:
    """Decides which of two options, or of two alike categories, is said first, so that the order says nothing.

    Exactly every second sample has the right option first, and in a cell of a pair yes and no have either order
    equally often. Rows go in turn by split, cell and random key; `columns` are changed.
    """
    names = [slot.name for slot in t.stored_slots]
    pair = t.balance == "binary" and t.anchor == "pair"
    if not pair and t.balance != "choice":
        return
    one, two = (f"slot{names.index(name)}" for name in (("cat", "cat2") if pair else option_slots(t)))
    order = np.lexsort((key, code, columns["split"]))
    place = np.arange(len(order))
    if pair:  # the count starts anew in each side of a cell, where its twin starts
        ordered = code[order]
        place = _place_in(ordered) + ordered // sides
    first = np.empty(len(order), bool)
    first[order] = (place + number) % 2 == 0
    a, b = columns[one], columns[two]
    lead = np.minimum(a, b) if pair else columns["answer"]
    other = np.where(a == lead, b, a)
    columns[one], columns[two] = np.where(first, lead, other), np.where(first, other, lead)


def _place_in(code: Array) -> Array:
    """(n,) place of each row among the rows of its code, which stand together."""
    start = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]])) if len(code) else np.zeros(0, np.int64)
    return np.arange(len(code)) - np.repeat(start, np.diff(np.append(start, len(code))))


def clear_spools(folder: Path) -> None:
    """Gives their room back once everything is selected; not before, for a killed run's workers may live a moment."""
    for path in folder.glob("spool-*"):
        path.unlink()


def _order_options(columns: dict[str, Array], one: str, two: str, order: Array, number: int) -> None:
    """Puts the right option first in every second sample of the order, so that position says nothing, not even a bit.

    Args:
        columns: Of the samples; changed. one, two: Columns of the options.
        order: (n,) all rows by split, cell and random key. number: Of the unit; odd ones start with the other side.
    """
    first = np.empty(len(order), bool)
    first[order] = (np.arange(len(order)) + number) % 2 == 0
    a, b, answer = columns[one], columns[two], columns["answer"]
    wrong = np.where(a == answer, b, a)
    columns[one], columns[two] = np.where(first, answer, wrong), np.where(first, wrong, answer)


def _store_selection(context: Context, folder: Path, number: int, columns: dict[str, Array]) -> None:
    """A batch for each block, and how many of its samples fall to each split."""
    edges = np.array([lo for lo, _ in context.blocks] + [context.blocks[-1][1]])
    parts = np.searchsorted(columns["image"], edges)
    block = np.repeat(np.arange(len(edges) - 1), np.diff(parts))
    kept = np.zeros((len(context.blocks), len(SPLIT_NAMES)), np.int64)
    np.add.at(kept, (block, columns["split"]), 1)
    batch = pa.record_batch(columns)
    schema = batch.schema.with_metadata({"kept": json.dumps(kept.tolist())})
    batches = [batch.slice(lo, hi - lo) for lo, hi in pairwise(parts)]
    write_atomic(_selection_path(folder, number), lambda path: _write_batches(path, schema, batches), sync=False)


def _selection_path(folder: Path, number: int) -> Path:
    return folder / f"select-{number:05d}.arrow"  # unlike Parquet, one block is read from it in no time


def read_selection(folder: Path, number: int, block: int) -> dict[str, Array]:
    """The samples of one block that are kept, as columns ordered by picture."""
    with pa.memory_map(str(_selection_path(folder, number))) as source:
        batch = pa.ipc.open_file(source).get_batch(block)
        return {name: batch[name].to_numpy() for name in batch.schema.names} if batch.num_rows else {}


def kept_by_block(folder: Path, number: int) -> Array:
    """(blocks, splits) samples kept of one unit."""
    with pa.memory_map(str(_selection_path(folder, number))) as source:
        return np.array(json.loads(pa.ipc.open_file(source).schema.metadata[b"kept"]), np.int64)


def write_json(path: Path, data: Any) -> None:
    """Small state of a run, whole or not at all."""
    write_atomic(
        path, lambda temporary: temporary.write_text(json.dumps(data, sort_keys=True), encoding="utf-8") and None
    )
