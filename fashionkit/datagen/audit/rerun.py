"""Every question run again on the catalogue's tables: answers that those leave open, or that they contradict.

    samples ─► first phrasing of each program ─► by template and attributes ─► Runner ─► answer ─► compared

The same three-valued program runner as in making a set, but none of its short cuts: no proposer, no known subjects, and
the ids as they stand in the samples. What it cannot see is an error in the runner itself; the tests compare that one
with a slow interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.audit.counts import Facts, facts_of, programs
from fashionkit.datagen.audit.verdicts import Verdict, at_most
from fashionkit.datagen.packs import KINDS, Pack, Template
from fashionkit.datagen.program import Batch, Runner
from fashionkit.datagen.samples import SAMPLE_SPLITS, sample_files
from fashionkit.datagen.scene import Scenes, load_scenes
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NONE
from fashionkit.engine import run_shards
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
EXAMPLES = 5


@dataclass(frozen=True)
class Job:
    """What a worker needs to run samples again.

    Attributes:
        facts, pack, slots: Of the set. scenes: The compiled catalogue.
        image: (pictures of the set,) position of each in the scenes.
        items, labels: (vocab,) position of an attribute, or of a value's attribute, among those of items, of pictures.
        sayable: Kind of slot → (vocab,) bool: ids that it may hold.
    """

    facts: Facts
    pack: Pack
    slots: list[list[str]]
    scenes: Scenes
    image: Array
    items: Array
    labels: Array
    sayable: dict[str, Array]


@dataclass
class Found:
    """Samples of one or several parts: how many, how many the tables leave open or contradict, and some `qid`s."""

    samples: int
    open: int
    other: int
    examples_open: list[int]
    examples_other: list[int]


_job: Job | None = None


def _adopt(job: Job) -> None:
    global _job
    _job = job


def rerun_checks(store: VQAStore, catalog: str | Path | None, workers: int) -> list[Verdict]:
    """Runs all samples again.

    Raises:
        InputError: The catalogue is not the one that the set was made from, or a part is damaged.
    """
    if catalog is None:
        return [Verdict("unknown", "all samples", "skip", note="no catalogue was named (--catalog)")]
    job = make_job(store, catalog)
    parts = [path for split in SAMPLE_SPLITS for path in sample_files(store.path, split)]
    show: dict[str, Any] = {
        "describe": "running questions again",
        "total_rows": len(store),
        "rows": lambda found: found.samples,
    }
    found = list(run_shards(_run_part, parts, workers, initializer=_adopt, initargs=(job,), **show))
    n = sum(f.samples for f in found)
    left, other = (sorted(q for f in found for q in getattr(f, name)) for name in ("examples_open", "examples_other"))
    return [
        at_most("unknown", "not settled by the tables", float(sum(f.open for f in found)), 0.0, n, _named(left)),
        at_most(
            "unknown", "another answer than the tables'", float(sum(f.other for f in found)), 0.0, n, _named(other)
        ),
    ]


def _named(examples: list[int]) -> str:
    return "qid " + ", ".join(map(str, examples[:EXAMPLES])) if examples else ""


def make_job(store: VQAStore, catalog: str | Path) -> Job:
    """Compiles the catalogue and matches its pictures and words with those of the set.

    Raises:
        InputError: It is not the catalogue that the set was made from.
    """
    store.catalog(catalog)  # refuses another one, or another state of it
    scenes = load_scenes(catalog)
    if scenes.vocab.key != store.vocab.key:
        hint = "make the set again with this version of fashionkit"
        raise InputError("the catalogue's words have other ids than those of the set", file=catalog, hint=hint)
    at = {image_id: n for n, image_id in enumerate(scenes.image_ids)}
    image = np.array([at.get(image_id, -1) for image_id in store.image_ids], np.int64)
    if (image < 0).any():
        raise InputError("a picture of the set is not in the catalogue", file=catalog)
    items, labels = (_position_table(store, names) for names in (scenes.attributes, scenes.labels))
    return Job(facts_of(store), store.pack, store.slots, scenes, image, items, labels, _sayable(scenes))


def _position_table(store: VQAStore, names: list[str]) -> Array:
    """(vocab,) position in `names` of each attribute and value; -1 for what is of another attribute, or of none."""
    table = np.full(len(store.vocab), -1, np.int64)
    for n, name in enumerate(names):
        table[store.vocab.attribute[name]] = n
    for (name, _), value in store.vocab.value.items():
        table[value] = names.index(name) if name in names else -1
    return table


def _sayable(scenes: Scenes) -> dict[str, Array]:
    """Kind of slot → (vocab,) bool: ids that it may hold because the catalogue has such things."""
    kind = np.array(scenes.vocab.kind)
    known = (scenes.clause >= 0) | (scenes.label_of_value >= 0)
    return {name: (kind == name) & (known | (name == "attribute")) for name in KINDS}


def _run_part(path: Path) -> Found:
    assert _job is not None, "a task runs where no job was adopted"
    total = Found(0, 0, 0, [], [])
    for columns, first in programs(path, _job.facts):
        rows = np.flatnonzero(first)
        answer = run(_job, {name: column[rows] for name, column in columns.items()})
        if not first[0]:  # a program's phrasings may be cut apart by the end of a batch
            ahead = {name: column[:1] for name, column in columns.items()}
            answer = np.concatenate([run(_job, ahead), answer])
        answer = answer.take(np.cumsum(first) - int(first[0]))
        left, other = answer == NONE, (answer != NONE) & (answer != columns["answer"])
        total.samples += len(first)
        total.open += int(left.sum())
        total.other += int(other.sum())
        total.examples_open += columns["qid"][left][:EXAMPLES].tolist()
        total.examples_other += columns["qid"][other][:EXAMPLES].tolist()
    return total


def run(job: Job, columns: dict[str, Array]) -> Array:
    """(n,) uint16 answers of samples, given by their columns; 0 where the tables do not settle them."""
    template = columns["template"].astype(np.int64)
    result = np.zeros(len(template), np.uint16)
    order = np.argsort(template, kind="stable")
    numbers, start = np.unique(template[order], return_index=True)
    for number, lo, hi in zip(numbers.tolist(), start, [*start, len(order)][1:], strict=True):
        rows = order[lo:hi]
        slots = {name: columns[f"slot{i}"][rows] for i, name in enumerate(job.slots[number])}
        image = job.image.take(columns["image"][rows]).astype(np.int32)
        result[rows] = _run_template(job, job.pack.templates[number], image, slots)
    return result


def _run_template(job: Job, t: Template, image: Array, slots: dict[str, Array]) -> Array:
    """Answers of one template's samples; attributes are the same within each batch that is run."""
    result = np.zeros(len(image), np.uint16)
    sound = np.ones(len(image), bool)
    for name, ids in slots.items():
        sound &= job.sayable[t.slot(name).kind].take(ids)
    positions = {s.name: _positions(job, t, s.name, slots) for s in t.attribute_slots}
    code = np.zeros(len(image), np.int64)
    for position in positions.values():
        sound &= position >= 0
        code = code * len(job.facts.attributes) + position
    rows = np.flatnonzero(sound)
    rows = rows[np.argsort(code[rows], kind="stable")]
    _, start = np.unique(code[rows], return_index=True)
    for lo, hi in zip(start, [*start, len(rows)][1:], strict=True):
        some = rows[lo:hi]
        attributes = {name: int(position[some[0]]) for name, position in positions.items()}
        batch = Batch(image[some], {name: ids[some] for name, ids in slots.items()}, attributes)
        result[some] = Runner(job.scenes, batch).answer(t.program)
    return result


def _positions(job: Job, t: Template, name: str, slots: dict[str, Array]) -> Array:
    """(n,) positions of one attribute slot: as stored, or as implied by a value."""
    held = name if name in slots else next(s.name for s in t.slots if s.of == name)
    return (job.labels if t.anchor == "image" else job.items).take(slots[held])
