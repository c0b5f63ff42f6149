"""Where the losses of a question set lie: by question, by picture, by the item that is named, by confused answers.

    samples (train) + losses ─► unit (template x attributes) ─► cell and answer ─► picture ─► item named in it
                                     └ each step sees what the one before left over, shrunk (`effects`)
                             ─► right answer x given answer, of open questions

A cell is what balance fills with equal sides, so what differs from cell to cell decides nothing in the next set; it is
taken off here, so that a picture is not called hard because hard questions were asked about it.
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
from fashionkit.datagen.packs import Template
from fashionkit.datagen.propose import option_slots
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
        self.options = [[n.index(name) for name in option_slots(t)] if t.balance == "choice" else [] for t, n in places]
        self.subject = np.array([_subject(t, n) for t, n in places])

    def cells(self, part: Part) -> tuple[Array, Array]:
        """(n,) uint64 codes of the cell with its answer, and of the unit it belongs to."""
        template = part["template"].astype(np.int64)
        slots = np.stack([part[name] for name in SLOT_NAMES], 1).astype(np.int64)
        for number in np.unique(template).tolist():
            if self.options[number]:  # whichever option stands first
                rows = np.flatnonzero(template == number)[:, None]
                slots[rows, self.options[number]] = np.sort(slots[rows, self.options[number]], axis=1)
        unit = mix(1, template)
        for column in slots.T:
            unit = mix(2, unit ^ self.attribute[column].astype(np.uint64))
        cell = mix(3, unit ^ part["answer"].astype(np.uint64))
        for place, column in enumerate(slots.T):
            cell = mix(4, cell ^ np.where(self.in_cell[template, place], column, 0).astype(np.uint64))
        return cell, unit

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
class Hardness:
    """What the losses say.

    Attributes:
        cells: Losses by cell and answer. unit: (cells,) unit of each.
        pictures: What is left by picture; the code is `image`. items: What the pictures leave, by item named; the code
            is image x vocabulary size + category.
        confused: (c, 3) int64 right answer, given answer, how often.
    """

    cells: Groups
    unit: Array
    pictures: Groups
    items: Groups
    confused: Array

    def explained(self) -> dict[str, float]:
        """Share of the losses' variance that each step explains beyond those before it; the rest is chance."""
        whole = self.cells.under(np.zeros(len(self.unit), np.int64))
        n = max(float(whole.n.sum()), 1.0)
        variance = float((whole.squares - whole.total**2 / np.maximum(whole.n, 1)).sum()) / n
        units = self.cells.under(self.unit)
        within_units = self.cells.less(units.shrunk_means()[np.searchsorted(units.code, self.unit)])
        steps = {"unit": units, "cell": within_units, "picture": self.pictures, "item": self.items}
        return {name: min(1.0, g.variances()[1] / max(variance, 1e-12)) for name, g in steps.items()}


def measure(store: VQAStore, qid: Array, loss: Array, predicted: Array) -> Hardness:
    """Goes through the samples of `train` twice, part by part.

    Args:
        store: The question set. qid: (n,) ascending, each once. loss: (n,). predicted: (n,) answer ids, -1 if unknown.
    """
    coder = Coder(store)
    cells, unit, expected = _cell_effects(store, qid, loss, coder)
    found, codes, counts = [], [], []
    for part, rows in _parts(store, qid):
        left = loss[rows] - expected[np.searchsorted(cells.code, coder.cells(part)[0])]
        found.append(Groups.of(coder.items(part), left))
        code, count = coder.confused(part, predicted[rows])
        codes.append(code)
        counts.append(count)
    items = Groups.merged(found)
    image = items.code // coder.size
    pictures = items.under(image)
    beyond = items.less(pictures.shrunk_means()[np.searchsorted(pictures.code, image)])
    code, group = np.unique(np.concatenate(codes), return_inverse=True)
    count = np.bincount(group, np.concatenate(counts), len(code)).astype(np.int64)
    confused = np.stack([code // coder.size, code % coder.size, count], 1)
    return Hardness(cells, unit, pictures, beyond.only(beyond.code % coder.size > 0), confused)


def _parts(store: VQAStore, qid: Array) -> Iterator[tuple[Part, slice]]:
    """Samples that have a loss, part by part, and where their losses stand."""
    for path in sample_files(store.path, "train"):
        table = pq.read_table(path, columns=COLUMNS, partitioning=None)
        first = table["qid"][0].as_py()  # qids count up
        lo, hi = np.searchsorted(qid, [first, first + table.num_rows]).tolist()
        if hi > lo:
            table = table.take(pa.array(qid[lo:hi] - first))
            yield {name: table[name].to_numpy() for name in COLUMNS}, slice(lo, hi)


def _cell_effects(store: VQAStore, qid: Array, loss: Array, coder: Coder) -> tuple[Groups, Array, Array]:
    """Losses by cell and answer; the unit of each cell; what loss to expect there."""
    found, units = [], []
    for part, rows in _parts(store, qid):
        cell, unit = coder.cells(part)
        found.append(Groups.of(cell, loss[rows]))
        units.append(unit[np.unique(cell, return_index=True)[1]])
    cells = Groups.merged(found)
    unit = np.concatenate(units)[np.unique(np.concatenate([g.code for g in found]), return_index=True)[1]]
    whole = cells.under(unit)
    of_unit = whole.shrunk_means()[np.searchsorted(whole.code, unit)]
    return cells, unit, of_unit + cells.less(of_unit).shrunk_means()
