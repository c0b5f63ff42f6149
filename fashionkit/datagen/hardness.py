"""Where the losses of a question set lie: by kind of question, by picture, by item named, by confused answers.

    samples (train) + losses ─► unit (template x attributes) ─► cell ─► answer ─► picture ─► item named in it
                                     └ each step sees what the one before left over, shrunk (`effects`)
                             ─► right answer x given answer, of open questions

A cell is the kind of question that balance fills with equal sides: "is the skirt navy?". Its effect is taken off before
pictures are looked at, so that none is called hard because hard questions were asked about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.counter import mix
from fashionkit.datagen.effects import Groups
from fashionkit.datagen.judge import interchangeable
from fashionkit.datagen.packs import Template
from fashionkit.datagen.samples import SLOTS, sample_files
from fashionkit.datagen.store import VQAStore

Array = npt.NDArray[Any]
SLOT_NAMES = [f"slot{i}" for i in range(SLOTS)]
COLUMNS = ["qid", "image", "template", *SLOT_NAMES, "answer"]
Part = dict[str, Array]


class Coder:
    """Numbers the groups that a sample falls into.

    Args:
        store: The question set.

    Attributes:
        domain: (vocabulary,) answers of one number can be confused with each other; 0 for those that stand alone.
        open: (templates,) bool: the answer is any of a domain, not one of two.
    """

    def __init__(self, store: VQAStore):
        vocab, templates = store.vocab, store.pack.templates
        self.size = len(vocab)
        self.attribute, self.domain = np.zeros(self.size, np.int64), np.zeros(self.size, np.int64)
        for number, (kind, key) in enumerate(zip(vocab.kind, vocab.key, strict=True)):
            if kind in ("value", "set", "attribute"):
                self.attribute[number] = vocab.attribute[key.split("/", 1)[0]]
            if kind in ("value", "category"):
                self.domain[number] = self.attribute[number] + 1
        self.open = np.array([t.balance == "tempered" for t in templates])
        places = list(zip(templates, store.slots, strict=True))
        self.in_cell = np.array([[i < len(n) and n[i] in t.cell for i in range(SLOTS)] for t, n in places])
        self.alike = [[n.index(name) for name in interchangeable(t)] for t, n in places]
        self.subject = np.array([_subject(t, n) for t, n in places])

    def slots(self, part: Part) -> Array:
        """(n, SLOTS) int64 ids, those that may change places in ascending order."""
        slots = np.stack([part[name] for name in SLOT_NAMES], 1).astype(np.int64)
        for number in np.unique(part["template"]).tolist():
            if self.alike[number]:
                rows = np.flatnonzero(part["template"] == number)[:, None]
                slots[rows, self.alike[number]] = np.sort(slots[rows, self.alike[number]], axis=1)
        return slots

    def codes(self, part: Part, slots: Array) -> tuple[Array, Array, Array]:
        """(n,) uint64 codes of the cell with its answer, of the cell, and of the unit."""
        template = part["template"].astype(np.int64)
        unit = mix(1, template)
        for column in slots.T:
            unit = mix(2, unit ^ self.attribute[column].astype(np.uint64))
        cell = mix(3, unit)
        for place, column in enumerate(slots.T):
            cell = mix(4, cell ^ np.where(self.in_cell[template, place], column, 0).astype(np.uint64))
        return mix(5, cell ^ part["answer"].astype(np.uint64)), cell, unit

    def items(self, part: Part) -> Array:
        """(n,) int64 image x vocabulary size + id of the category that names the item; + 0 where none does."""
        subject = self.subject[part["template"]]
        named = np.zeros(len(subject), np.int64)
        for place, name in enumerate(SLOT_NAMES):
            named = np.where(subject == place, part[name], named)
        return part["image"].astype(np.int64) * self.size + named

    def confused(self, part: Part, predicted: Array) -> tuple[Array, Array]:
        """Codes (right answer x vocabulary size + given answer) of open questions, and how often each occurs."""
        right = part["answer"].astype(np.int64)
        same = (predicted >= 0) & (self.domain[right] > 0) & (self.domain[right] == self.domain[predicted])
        told = same & self.open[part["template"]]
        return np.unique(right[told] * self.size + predicted[told], return_counts=True)


def _subject(t: Template, names: list[str]) -> int:
    """Place of the slot whose category names the item that is asked about; -1 where none, or more than one, does."""
    inside = {name for call in t.program.calls() if call.function == "unique" for name in call.slots()}
    named = [s.name for s in t.slots if s.kind == "category" and s.role == "own" and s.name in inside]
    return names.index(named[0]) if len(named) == 1 else -1


@dataclass
class Cells:
    """Losses by cell.

    Attributes:
        answers: By cell and answer. cell: (answers,) code of the cell of each. unit: (cells,) code of the unit of each.
        found: By cell, in the order of their codes. template: (cells,). slots: (cells, SLOTS) ids of a sample of each.
    """

    answers: Groups
    cell: Array
    found: Groups
    unit: Array
    template: Array
    slots: Array

    def steps(self) -> tuple[Groups, Groups, Groups, Array]:
        """Losses by unit; by cell, beyond the unit; by answer, beyond the cell; and (answers,) what loss to expect."""
        units = self.found.under(self.unit)
        of_unit = units.shrunk_means()[np.searchsorted(units.code, self.unit)]
        beyond_unit = self.found.less(of_unit)
        expected = (of_unit + beyond_unit.shrunk_means())[np.searchsorted(self.found.code, self.cell)]
        beyond_cell = self.answers.less(expected)
        return units, beyond_unit, beyond_cell, expected + beyond_cell.shrunk_means()


@dataclass
class Hardness:
    """What the losses say.

    Attributes:
        cells: Losses by cell. kinds: The same beyond the cell's unit.
        pictures: What is left by picture; the code is `image`. items: What the pictures leave, by item named; the code
            is image x vocabulary size + category.
        confused: (c, 3) int64 right answer, given answer, how often.
        explained: Step → share of the losses' variance that it explains beyond those before it; the rest is chance.
    """

    cells: Cells
    kinds: Groups
    pictures: Groups
    items: Groups
    confused: Array
    explained: dict[str, float]


def measure(store: VQAStore, qid: Array, loss: Array, predicted: Array) -> Hardness:
    """Goes through the samples of `train` twice, part by part.

    Args:
        store: The question set. qid: (n,) ascending, each once. loss: (n,). predicted: (n,) answer ids, -1 if unknown.
    """
    coder = Coder(store)
    cells = _cells(store, qid, loss, coder)
    units, kinds, answers, expected = cells.steps()
    items, confused = _items(store, qid, loss, predicted, coder, cells, expected)
    image = items.code // coder.size
    pictures = items.under(image)
    beyond = items.less(pictures.shrunk_means()[np.searchsorted(pictures.code, image)])
    beyond = beyond.only(beyond.code % coder.size > 0)
    steps = {"unit": units, "cell": kinds, "answer": answers, "picture": pictures, "item": beyond}
    variance = max(float(loss.var()), 1e-12)
    explained = {name: min(1.0, groups.variances()[1] / variance) for name, groups in steps.items()}
    return Hardness(cells, kinds, pictures, beyond, confused, explained)


def _parts(store: VQAStore, qid: Array) -> Iterator[tuple[Part, slice]]:
    """Samples that have a loss, part by part, and where their losses stand."""
    for path in sample_files(store.path, "train"):
        table = pq.read_table(path, columns=COLUMNS, partitioning=None)
        first = table["qid"][0].as_py()  # qids count up
        lo, hi = np.searchsorted(qid, [first, first + table.num_rows]).tolist()
        if hi > lo:
            table = table.take(pa.array(qid[lo:hi] - first))
            yield {name: table[name].to_numpy() for name in COLUMNS}, slice(lo, hi)


def _cells(store: VQAStore, qid: Array, loss: Array, coder: Coder) -> Cells:
    found, shown = [], []
    for part, rows in _parts(store, qid):
        slots = coder.slots(part)
        answer, cell, unit = coder.codes(part, slots)
        found.append(Groups.of(answer, loss[rows]))
        first = np.unique(answer, return_index=True)[1]
        shown.append((cell[first], unit[first], part["template"][first], slots[first]))
    answers = Groups.merged(found)
    at = np.unique(np.concatenate([groups.code for groups in found]), return_index=True)[1]
    cell, unit, template, slots = (np.concatenate(column)[at] for column in zip(*shown, strict=True))
    first = np.unique(cell, return_index=True)[1]
    return Cells(answers, cell, answers.under(cell), unit[first], template[first], slots[first])


def _items(
    store: VQAStore, qid: Array, loss: Array, predicted: Array, coder: Coder, cells: Cells, expected: Array
) -> tuple[Groups, Array]:
    """Losses beyond what is expected of their cell and answer, by picture and item; and who was told for whom."""
    found, codes, counts = [], [], []
    for part, rows in _parts(store, qid):
        answer = coder.codes(part, coder.slots(part))[0]
        left = loss[rows] - expected[np.searchsorted(cells.answers.code, answer)]
        found.append(Groups.of(coder.items(part), left))
        code, count = coder.confused(part, predicted[rows])
        codes.append(code)
        counts.append(count)
    code, group = np.unique(np.concatenate(codes), return_inverse=True)
    count = np.bincount(group, np.concatenate(counts), len(code)).astype(np.int64)
    return Groups.merged(found), np.stack([code // coder.size, code % coder.size, count], 1)
