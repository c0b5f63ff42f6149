"""The questions that a model is to answer, in the order of their pictures, a part at a time.

    samples/SPLIT ─────────────────────────────┐ `limit`: some of each ─► ids, by picture ─► `Questions.part`: texts,
    entailed/SPLIT, and what these follow from ┘ picture, by seed                          right and allowed answers

A part is a table of the columns of `QUESTIONS`, and for each row the texts that count as right and what it allows.
`fashionkit.eval.vqa_human` gives questions of people in the same form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.samples import SAMPLE_SPLITS, SLOTS
from fashionkit.datagen.store import ABSENT, VQAStore
from fashionkit.eval.vqa_asked import Asked, Asking
from fashionkit.tables import InputError, read_table

Array = npt.NDArray[Any]
ENTAILED = "entailed:"  # begins the name of a split of entailed questions
EACH = 8  # questions of a picture that a limit takes before it turns to the next
QUESTIONS = pa.schema(
    [
        pa.field("qid", pa.int64(), nullable=False),  # of the set; of a table by hand, its row
        pa.field("source", pa.int64()),  # of an entailed question: the sample it follows from
        pa.field("question_id", pa.string()),  # of a table by hand
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),  # split group of the picture: what a bootstrap draws
        pa.field("family", pa.string(), nullable=False),
        pa.field("template", pa.string(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),  # keys of those that decide it, with commas
        pa.field("kind", pa.string(), nullable=False),  # of answer
        pa.field("question", pa.string(), nullable=False),
        pa.field("answer_id", pa.int32()),  # vocabulary id
        pa.field("answer", pa.string(), nullable=False),  # alternatives of a table by hand with | between them
    ]
)
IDS = ["qid", "image", "template", "paraphrase", *(f"slot{i}" for i in range(SLOTS)), "answer"]


@dataclass(frozen=True)
class Part:
    """Some questions.

    Attributes:
        table: Of QUESTIONS. right: Of each the texts that are right. asked: What each allows; None where that is open.
    """

    table: pa.Table
    right: list[tuple[str, ...]]
    asked: list[Asked | None]


class Questions:
    """Questions of a set, ordered by picture.

    Args:
        store: The question set. split: One of its splits, `absent`, or `entailed:SPLIT`: what follows from the samples
            of a split, and these samples.
        limit: About so many of them, taken evenly from all pictures; None: all. A larger limit has those of a smaller.
        seed: Which they are.

    Attributes:
        image: (n,) numbers of the pictures, in groups. split: As given.

    Raises:
        InputError: No such split, or no questions in it.
    """

    def __init__(self, store: VQAStore, split: str = "test", limit: int | None = None, seed: int = 0):
        if limit is not None and limit < 1:
            raise InputError("at least one question is needed", column="limit", found=limit)
        self.store, self.split, self.asking = store, split, Asking(store)
        base = split.removeprefix(ENTAILED)
        allowed = (*SAMPLE_SPLITS, ABSENT)
        if base not in allowed or (split != base and base == ABSENT):
            named = [*allowed, *(f"{ENTAILED}{one}" for one in store.manifest.params.get("entail") or [])]
            raise InputError("no such split", file=store.path, found=split, allowed=named)
        self._table = _entailed(store, base, limit, seed) if split != base else _samples(store, base, limit, seed)
        if not self._table.num_rows:
            raise InputError("the set has no questions of this split", file=store.path, found=split)
        order = np.argsort(self._table["image"].to_numpy(), kind="stable")
        self._table = self._table.take(pa.array(order)).combine_chunks()
        self.image: Array = self._table["image"].to_numpy()

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def image_ids(self) -> list[str]:
        """Catalogue ids of all pictures, by number."""
        return self.store.image_ids

    @cached_property
    def key(self) -> str:
        """SHA-256 of which questions these are, of this set."""
        sides = [self._table["source"].fill_null(-1).to_numpy(), self._table["qid"].to_numpy()]
        return hashlib.sha256(np.stack(sides).astype("<i8").tobytes()).hexdigest()

    def part(self, lo: int, hi: int) -> Part:
        """Rows `lo` to `hi` - 1."""
        table = self.store.render(self._table.slice(lo, hi - lo))
        slots = np.stack([table[f"slot{i}"].to_numpy() for i in range(SLOTS)], 1).tolist()
        template = table["template"].to_pylist()
        asked = [self.asking.of(number, ids) for number, ids in zip(template, slots, strict=True)]
        columns = {
            **{name: table[name] for name in ("qid", "source", "image_id", "family", "question")},
            "question_id": pa.nulls(len(table), pa.string()),
            "group": groups_of(self.store).take(table["image"].combine_chunks()),
            "template": pa.array([self.store.pack.templates[number].id for number in template]),
            "attribute": pa.array([one.attribute for one in asked]),
            "kind": pa.array([one.kind for one in asked]),
            "answer_id": table["answer"],
            "answer": table["answer_text"],
        }
        made = pa.table({f.name: columns[f.name].cast(f.type) for f in QUESTIONS}, schema=QUESTIONS)
        return Part(made, [(text,) for text in made["answer"].to_pylist()], list(asked))


def groups_of(store: VQAStore) -> pa.Array:
    """Split group of each picture, by number."""
    return read_table(store.path, "images", ["group"])["group"].combine_chunks()


def spread(picture: Array, unit: Array, limit: int, seed: int) -> Array:
    """(m,) rows that a limit takes, as it takes them: EACH of one picture after the other, then EACH more of each.

    Args:
        picture: (n,) numbers. unit: (n,) numbers of the rows, each once. limit: m, where there are so many.
    """
    names, at = np.unique(picture, return_inverse=True)
    turn = mix(stream(seed, "pictures"), names)[at]
    chance = mix(stream(seed, "questions"), unit)
    order = np.lexsort((chance, at))
    starts = np.flatnonzero(np.diff(at[order], prepend=-1))
    rank = np.empty(len(at), np.int64)
    rank[order] = np.arange(len(at)) - np.repeat(starts, np.diff(np.append(starts, len(at))))
    found: Array = np.lexsort((rank, turn, rank // EACH))[:limit]
    return found


def _samples(store: VQAStore, split: str, limit: int | None, seed: int) -> pa.Table:
    table = _joined([part.select(IDS) for part in store.iter(split)])
    if limit is not None and table.num_rows:
        rows = np.sort(spread(table["image"].to_numpy(), table["qid"].to_numpy(), limit, seed))
        table = table.take(pa.array(rows))
    return table.append_column("source", pa.nulls(table.num_rows, pa.int64()))


def _entailed(store: VQAStore, split: str, limit: int | None, seed: int) -> pa.Table:
    """Entailed questions of some samples, and these samples; all that follows from a sample comes with it."""
    table = _joined([part.select([*IDS, "source"]) for part in store.entailed(split)], with_source=True)
    if not table.num_rows:
        return table
    source, first, many = np.unique(table["source"].to_numpy(), return_index=True, return_counts=True)
    if limit is not None:
        kept = spread(table["image"].to_numpy()[first], source, limit, seed)  # each of them entails one at least
        source = np.sort(source[kept[: max(1, int(np.searchsorted(np.cumsum(many[kept]), limit, "right")))]])
    table = table.filter(pc.is_in(table["source"], pa.array(source)))
    wanted = pa.array(source)
    samples = _joined([p.filter(pc.is_in(p["qid"], wanted)).select(IDS) for p in store.iter(split)])
    if samples.num_rows != len(source):
        raise InputError("entailed questions follow from samples that are not there", file=store.path, found=split)
    samples = samples.append_column("source", pa.nulls(samples.num_rows, pa.int64()))
    return pa.concat_tables([samples.select(table.column_names), table])


def _joined(parts: Sequence[pa.Table], with_source: bool = False) -> pa.Table:
    """One table, whose columns may hold nothing."""
    names = [*IDS, *(["source"] if with_source else [])]
    if not parts:
        return pa.table({name: pa.array([], pa.int64()) for name in names})
    table = pa.concat_tables(parts)
    return pa.table({name: table[name] for name in names})


def cut(image: Array, size: int) -> list[tuple[int, int]]:
    """Parts of at least `size` rows (but the last) that keep rows of one picture together: their first and last + 1."""
    edges = np.append(np.flatnonzero(np.diff(image)) + 1, len(image)).tolist()
    parts, lo = [], 0
    for edge in edges:
        if edge - lo >= size or edge == len(image):
            parts.append((lo, edge))
            lo = edge
    return [(lo, hi) for lo, hi in parts if hi > lo]
