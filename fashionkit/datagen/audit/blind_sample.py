"""Which samples the question-only models see: a part of every scope, once each question, without its picture.

    samples ─► first phrasing of each program ─► lowest random numbers of each scope, learnt and judged ─► Questions

The random number of a sample depends on seed and `qid` alone, and each scope keeps its lowest (bottom-k sampling): the
same samples are chosen whatever the parts are. Memory follows the number asked for, not the size of the set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from fashionkit.datagen.audit.blind_scopes import scopes_of
from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.samples import SLOTS, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import read_table

Array = npt.NDArray[Any]
LEARNT, JUDGED = ("train",), ("val", "test")
SPLITS = (*LEARNT, *JUDGED)
IDENTITY = ("image", "template", *(f"slot{i}" for i in range(SLOTS)))
JUDGED_SHARE = 0.3  # of the samples asked for; what the judged splits leave unused goes to training
BATCH_ROWS = 1 << 20


@dataclass(frozen=True)
class Questions:
    """Question programs as ids, without what could be seen.

    Attributes:
        qid: (n,) int64. template: (n,) int32 positions in the pack. paraphrase: (n,) int32.
        slots: (n, 4) int32 vocabulary ids. answer: (n,) int32 vocabulary ids.
        group: (n,) int32 split group of the picture, for intervals only.
        split: (n,) uint8; 0 train, 1 val, 2 test.
    """

    qid: Array
    template: Array
    paraphrase: Array
    slots: Array
    answer: Array
    group: Array
    split: Array

    @property
    def judged(self) -> Array:
        """(n,) bool; true in val and test."""
        return np.asarray(self.split > 0)

    def __len__(self) -> int:
        return len(self.qid)

    def take(self, rows: Array) -> Questions:
        """Some of them, by position or by a mask."""
        return Questions(*(getattr(self, f.name)[rows] for f in fields(self)))


def draw_questions(store: VQAStore, limit: int, seed: int) -> Questions:
    """At most `limit` question programs, a like number of every scope as far as there are so many.

    Args:
        store: The set. limit: Most programs, learnt and judged together. seed: Another seed draws others.

    Returns:
        The programs in the order of `qid`; each in the phrasing in which the set has it first. Templates of one scope
        are as frequent among each other as in the set.
    """
    scopes = scopes_of(store.pack, set(range(len(store.pack.templates))))
    stratum = np.zeros(len(store.pack.templates), np.int64)
    for number, scope in enumerate(scopes):
        stratum[list(scope.templates)] = number
    available = _available(store, stratum, len(scopes))
    judged = water_fill(available[1], int(limit * JUDGED_SHARE))
    learnt = water_fill(available[0], limit - int(judged.sum()))
    found = [_lowest(store, LEARNT, stratum, learnt, seed), _lowest(store, JUDGED, stratum, judged, seed)]
    columns = {n: np.concatenate([f[n] for f in found]) for n in found[0]}
    images = read_table(store.path, "images", ["group"])
    return Questions(
        qid=columns["qid"],
        template=columns["template"],
        paraphrase=columns["paraphrase"],
        slots=np.stack([columns[f"slot{i}"] for i in range(SLOTS)], axis=1),
        answer=columns["answer"],
        group=images["group"].to_numpy().astype(np.int32)[columns["image"]],
        split=columns["split"].astype(np.uint8),
    )


def water_fill(available: Array, total: int) -> Array:
    """(k,) whole shares of `total`: equal, but none above what is available, and nothing wasted."""
    quota = np.zeros(len(available), np.int64)
    left = min(int(total), int(available.sum()))
    order = np.argsort(available, kind="stable")
    for place, stratum in enumerate(order):
        quota[stratum] = min(int(available[stratum]), left // (len(order) - place))
        left -= int(quota[stratum])
    return quota


def _available(store: VQAStore, stratum: Array, strata: int) -> Array:
    """(2, strata) about how many programs of each there are to learn from and to be judged on."""
    counts = np.zeros((2, strata), np.int64)
    rows = 0
    for side, splits in enumerate((LEARNT, JUDGED)):
        for path in (p for s in splits for p in sample_files(store.path, s)):
            for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["template"]):
                template = batch.column(0).to_numpy(zero_copy_only=False)
                counts[side] += np.bincount(stratum[template], minlength=strata)
                rows += len(template)
    times = max(1, int(store.manifest.params.get("phrasings", 1)))
    return -(-counts // times)


def _lowest(store: VQAStore, splits: tuple[str, ...], stratum: Array, quota: Array, seed: int) -> dict[str, Array]:
    """Columns of the `quota` programs of each stratum with the lowest random numbers."""
    key = stream(seed, "blind")
    limit = np.where(quota > 0, np.uint64(2**64 - 1), np.uint64(0))
    held: dict[str, Array] = {}
    for batch in _programs(store, splits):
        random = mix(key, batch["qid"])
        kept = random <= limit[stratum[batch["template"]]]
        kept &= quota[stratum[batch["template"]]] > 0
        batch = {**{n: v[kept] for n, v in batch.items()}, "random": random[kept]}
        held = {n: np.concatenate([held[n], v]) for n, v in batch.items()} if held else batch
        if len(held["qid"]) > 2 * quota.sum() + BATCH_ROWS:
            held, limit = _cut(held, stratum, quota, limit)
    if not held:
        return {n: np.zeros(0, np.int64) for n in (*COLUMNS,)}
    held, _ = _cut(held, stratum, quota, limit)
    order = np.argsort(held["qid"], kind="stable")
    return {n: held[n][order].astype(np.int64 if n == "qid" else np.int32) for n in COLUMNS}


STORED = ("qid", "image", "template", "paraphrase", *(f"slot{i}" for i in range(SLOTS)), "answer")
COLUMNS = (*STORED, "split")


def _cut(held: dict[str, Array], stratum: Array, quota: Array, limit: Array) -> tuple[dict[str, Array], Array]:
    """Drops what cannot be among a stratum's lowest any more."""
    of, keep, limit = stratum[held["template"]], np.zeros(len(held["qid"]), bool), limit.copy()
    for number, most in enumerate(quota.tolist()):
        rows = np.flatnonzero(of == number)
        if most and len(rows) > most:
            rows = rows[np.argpartition(held["random"][rows], most - 1)[:most]]
            limit[number] = held["random"][rows].max()
        keep[rows] = most > 0
    return {n: v[keep] for n, v in held.items()}, limit


def _programs(store: VQAStore, splits: tuple[str, ...]) -> Iterator[dict[str, Array]]:
    """Columns of the first phrasing of every program, part by part; its phrasings stand in consecutive rows."""
    for split, path in ((s, p) for s in splits for p in sample_files(store.path, s)):
        last: Array | None = None
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=list(STORED)):
            if not batch.num_rows:
                continue
            columns = {n: batch.column(n).to_numpy(zero_copy_only=False) for n in STORED}
            first = np.zeros(batch.num_rows, bool)
            ends = np.array([columns[n][-1] for n in IDENTITY], np.int64)
            for number, name in enumerate(IDENTITY):
                first[1:] |= columns[name][1:] != columns[name][:-1]
                first[0] |= last is None or bool(columns[name][0] != last[number])
            last = ends
            found = {n: v[first] for n, v in columns.items()}
            yield {**found, "split": np.full(int(first.sum()), SPLITS.index(split), np.uint8)}
