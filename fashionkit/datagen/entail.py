"""Questions that follow from those of a set, for the consistency of a model's answers (`metrics.consistency`).

    samples of a block ─► `entails` of their templates ─► slots and stated answer of each implied question
                       ─► its program, run on the catalogue ─► kept where that gives the stated answer ─► Parquet

    <out>/entailed/<split>/part-00000.parquet   as samples, with `source`: the sample it follows from (see `ENTAILED`)

Entailed questions and the measure are those of GQA (Hudson and Manning 2019, arXiv 1902.09506); there they come from
rules over scene graphs, here from rules of the pack. No answer is taken from a rule alone: a question that the tables
do not settle is left out and counted, however well it seems to follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.context import Context, phrasings
from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.expression import Slot
from fashionkit.datagen.judge import modifiers
from fashionkit.datagen.packs import Template
from fashionkit.datagen.program import Batch, Runner
from fashionkit.datagen.rules import Entailment
from fashionkit.datagen.samples import SLOTS
from fashionkit.datagen.vocab import FIRST_INT, NO, NONE, NOT_PRESENT, YES
from fashionkit.tables import write_atomic

Array = npt.NDArray[Any]
STEP = 1 << 18  # programs looked at together
MOST = 64  # that follow from one question; numbers of a part start at MOST times the number of its first sample
ENTAILED = pa.schema(
    [
        pa.field("qid", pa.int64(), nullable=False),  # unique among entailed questions, ascending
        pa.field("source", pa.int64(), nullable=False),  # `qid` of the sample, in the first of its wordings
        pa.field("image", pa.int32(), nullable=False),  # this and what follows as in `SAMPLES`
        pa.field("template", pa.uint16(), nullable=False),
        pa.field("paraphrase", pa.uint8(), nullable=False),
        *[pa.field(f"slot{i}", pa.uint16(), nullable=False) for i in range(SLOTS)],
        pa.field("answer", pa.uint16(), nullable=False),
    ]
)
WRITE_OPTIONS: dict[str, Any] = {
    "use_dictionary": [n for n in ENTAILED.names if n not in ("qid", "source")],
    "column_encoding": {"qid": "DELTA_BINARY_PACKED", "source": "DELTA_BINARY_PACKED"},
    "write_statistics": ["qid", "source", "image", "template"],
    "compression": "zstd",
    "compression_level": 1,
}
UNSETTLED = "an entailed question is not settled by the tables"
CONTRADICTED = "an entailed answer does not hold"
UNSPOKEN = "an entailed question would use a name that questions do not use"
TOO_MANY = f"more than {MOST} questions follow"
SAMPLE_COLUMNS = ("image", "template", *(f"slot{i}" for i in range(SLOTS)), "answer")


@dataclass
class Implied:
    """Questions that one entry of `entails` gives.

    Attributes:
        row: (n,) which sample each follows from. slots: Name → (n,) ids. answer: (n,) ids that the entry states.
    """

    row: Array
    slots: dict[str, Array]
    answer: Array

    def take(self, keep: Array) -> Implied:
        """Those of a mask or index."""
        if keep.dtype == bool and keep.all():
            return self
        return Implied(self.row[keep], {k: v[keep] for k, v in self.slots.items()}, self.answer[keep])


def write_entailed(
    context: Context, path: Path, columns: dict[str, Array], rows: Array, first: int
) -> tuple[int, dict[str, Counter[str]]]:
    """Writes what follows from the samples of one block and split; no file where nothing does.

    Args:
        context: The run. path: The file. columns: Samples of the block, one a program (`samples.block_columns`).
        rows: (n,) which of them, in order. first: `qid` of the first sample of this block and split.

    Returns:
        How many were written, and what was refused.
    """
    entailer = Entailer(context)
    tables = (t for t in _tables(entailer, columns, rows, first) if t.num_rows)
    start = next(tables, None)
    if start is None:
        return 0, entailer.refused

    def fill(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, ENTAILED, **WRITE_OPTIONS) as writer:
            for table in chain([start], tables):
                writer.write_table(table)

    write_atomic(path, fill)
    return int(pq.read_metadata(path).num_rows), entailer.refused


def _tables(entailer: Entailer, columns: dict[str, Array], rows: Array, first: int) -> Iterator[pa.Table]:
    """What follows from `STEP` programs at a time, so that memory does not depend on how many there are."""
    context, number = entailer.context, first * MOST
    for lo in range(0, len(rows), STEP):
        samples = {name: columns[name].take(rows[lo : lo + STEP]) for name in SAMPLE_COLUMNS}
        found, times = entailer.follow(samples), phrasings(context).take(samples["template"])
        qid = np.arange(number, number + len(found["row"]))
        found |= {"qid": qid, "source": (np.cumsum(times) - times + first).take(found["row"])}
        found["paraphrase"] = _wordings(context, found["template"], qid)
        yield pa.Table.from_arrays([pa.array(found[f.name], f.type) for f in ENTAILED], schema=ENTAILED)
        first, number = first + int(times.sum()), number + len(qid)


class Entailer:
    """Works out what follows from samples of one run.

    Attributes:
        refused: Template that entails → reason → how many questions were left out.
    """

    def __init__(self, context: Context):
        self.context, self.s = context, context.scenes
        self.refused: dict[str, Counter[str]] = {}
        vocab, onto = self.s.vocab, self.s.ontology
        self.kind = np.array(vocab.kind)
        self.attribute = np.zeros(len(vocab), np.uint16)  # id of a value's attribute
        for (attribute, _), number in vocab.value.items():
            self.attribute[number] = vocab.attribute[attribute]
        self.spoken = np.zeros(len(vocab), bool)
        for key, number in vocab.category.items():
            self.spoken[number] = onto.categories[key].spoken

    def follow(self, samples: dict[str, Array]) -> dict[str, Array]:
        """What follows from samples, in their order and for each in the order of its template's `entails`.

        Args:
            samples: `image`, `template`, `slot0` .. `slot3`, `answer`, (n,) each.

        Returns:
            (m,) `row` (which sample), `image`, `template`, slots, `answer`: of each sample at most `MOST` that differ.
        """
        parts: list[dict[str, Array]] = []
        for number in np.unique(samples["template"]).tolist():
            t = self.context.pack.templates[number]
            at = np.flatnonzero(samples["template"] == number)
            mine = {k: v.take(at) for k, v in samples.items()} if t.entails else {}
            for entailment in t.entails:
                part = self._entailed(t, entailment, mine)
                parts.append({**part, "row": at.take(part["row"])})
        names = ("row", *SAMPLE_COLUMNS)
        columns = {n: np.concatenate([p.pop(n) for p in parts]) if parts else np.zeros(0, np.int64) for n in names}
        order = np.argsort(columns["row"], kind="stable")
        columns = {name: column.take(order) for name, column in columns.items()}
        return self._bounded(samples, distinct(columns))

    def _refuse(self, t: Template, reason: str, count: int) -> None:
        if count:
            self.refused.setdefault(t.id, Counter())[reason] += count

    def _entailed(self, t: Template, e: Entailment, samples: dict[str, Array]) -> dict[str, Array]:
        """Columns of the questions that one entry gives; `row` counts within `samples`."""
        implied, pack = self.context.pack.by_id(e.template), self.context.pack
        found = self._bound(t, e, implied, samples)
        if implied.scene not in ("any", self.s.facts.scene):
            found = found.take(np.zeros(0, np.int64))
        spoken = self._speakable(implied, found)
        self._refuse(t, UNSPOKEN, int((~spoken).sum()))
        found = found.take(spoken)
        image = samples["image"].take(found.row)
        answer = self._answers(implied, image, found.slots)
        self._refuse(t, UNSETTLED, int((answer == NONE).sum()))
        right = (answer == found.answer) & (answer != NONE)
        self._refuse(t, CONTRADICTED, int((~right & (answer != NONE)).sum()))
        found, image = found.take(right), image[right]
        stored = {f"slot{i}": found.slots[s.name] for i, s in enumerate(implied.stored_slots)}
        empty = np.zeros(len(image), np.uint16)
        return {
            "row": found.row,
            "image": image,
            "template": np.full(len(image), pack.index(e.template), np.uint16),
            **{f"slot{i}": stored.get(f"slot{i}", empty) for i in range(SLOTS)},
            "answer": found.answer,
        }

    def _bound(self, t: Template, e: Entailment, implied: Template, samples: dict[str, Array]) -> Implied:
        """The slots and the answer of an entry for every sample from which it follows."""
        answer, names = samples["answer"], [s.name for s in t.slots]
        keep = np.ones(len(answer), bool)
        if e.when is not None:
            keep &= answer == _answer_id(e.when)
        if e.unless is not None:
            keep &= answer != _answer_id(e.unless)
        if e.answer == "opposite":
            keep &= (answer == YES) | (answer == NO)
        row, given = np.flatnonzero(keep), {}
        if "member" in e.slots.values() and "member" not in names:
            row, given["member"] = self._members(row, answer)
        for word in {*e.slots.values(), e.answer} - set(given):
            given[word] = self._given(t, word, row, samples)
        found = Implied(row, {name: given[source] for name, source in e.slots.items()}, given[e.answer])
        fits = np.ones(len(row), bool)  # "not present" is the value of no slot
        for slot in implied.stored_slots:
            fits &= self.kind.take(found.slots[slot.name]) == slot.kind
        return found.take(fits)

    def _given(self, t: Template, word: str, row: Array, samples: dict[str, Array]) -> Array:
        """(n,) ids of what an entry takes from the samples: a slot, or one of the words in its place."""
        stored = {s.name: samples[f"slot{i}"].take(row) for i, s in enumerate(t.stored_slots)}
        if word in stored:
            return stored[word]
        if word in (s.name for s in t.slots):  # an attribute, implied by its value
            return self.attribute.take(stored[next(v.name for v in t.slots if v.of == word)])
        answer = samples["answer"].take(row)
        if word == "answer":
            return answer
        if word == "opposite":
            return np.where(answer == YES, NO, YES).astype(np.uint16)
        if word == "other":
            one, two = (stored[a.name] for a in t.program.arguments if isinstance(a, Slot))
            return np.where(answer == one, two, one)
        return np.full(len(row), self.s.root if word == "root" else _answer_id(word), np.uint16)

    def _members(self, row: Array, answer: Array) -> tuple[Array, Array]:
        """(m,) rows, one for each value that the answer lists, and those values."""
        members, count = self.context.proposer.members, self.context.proposer.member_count.astype(np.int64)
        many = count.take(answer.take(row))
        repeated = np.repeat(row, many)
        place = np.arange(len(repeated)) - np.repeat(np.cumsum(many) - many, many)
        return repeated, members[answer.take(repeated), place]

    def _speakable(self, implied: Template, found: Implied) -> Array:
        """(n,) bool: categories may be named in a question, the root only where the template asks of it."""
        keep = np.ones(len(found.row), bool)
        for slot in implied.stored_slots:
            if slot.kind != "category":
                continue
            ids = found.slots[slot.name]
            keep &= np.where(ids == self.s.root, "root" in implied.levels, self.spoken.take(ids))
        for value, noun in modifiers(implied):
            keep &= ~self.context.judge.misnames[found.slots[value], found.slots[noun]]
        return keep

    def _answers(self, t: Template, image: Array, slots: dict[str, Array]) -> Array:
        """(n,) uint16 answers of a template's program, 0 where the tables do not settle it."""
        answer = np.zeros(len(image), np.uint16)
        value_of = {v.of: v.name for v in t.slots if v.kind == "value"}
        asked = {a.name: value_of.get(a.name, a.name) for a in t.attribute_slots if a.name in t.program.slots()}
        apart = {n: self._attributes(slots[n]) for n in sorted({*asked.values(), *_checked(t)})}
        positions = self.s.labels if t.anchor == "image" else self.s.attributes
        known = self._known(t, slots, {n: apart[v] for n, v in asked.items()}, len(image))
        for rows in _groups(list(apart.values()), np.flatnonzero(known)):
            some = {name: ids.take(rows) for name, ids in slots.items()}
            keys = {name: self.s.vocab.key[int(apart[source][rows[0]])] for name, source in asked.items()}
            batch = Batch(image.take(rows), some, {name: positions.index(key) for name, key in keys.items()})
            answer[rows] = Runner(self.s, batch).answer(t.program)
        return answer

    def _attributes(self, ids: Array) -> Array:
        """(n,) ids of the attributes that values belong to; attributes stay as they are."""
        belongs = self.attribute.take(ids)
        return np.where(belongs == NONE, ids, belongs)

    def _known(self, t: Template, slots: dict[str, Array], asked: dict[str, Array], n: int) -> Array:
        """(n,) bool: the catalogue has everything that is named; where it does not, nothing is settled."""
        s, vocab = self.s, self.s.vocab
        keep = np.ones(n, bool)
        for call in t.program.calls():
            for name in (a.name for a in call.arguments if isinstance(a, Slot)):
                if name in asked:
                    known = s.labels if t.anchor == "image" else s.attributes
                    keep &= np.isin(asked[name], [vocab.attribute[key] for key in known])
                elif call.function == "label_is":
                    keep &= s.label_of_value.take(slots[name]) >= 0
                elif call.function in ("filter", "verify"):
                    keep &= s.clause.take(slots[name]) >= 0
        return keep

    def _bounded(self, samples: dict[str, Array], columns: dict[str, Array]) -> dict[str, Array]:
        """At most `MOST` questions a sample, which keeps their numbers apart from those of other parts."""
        row = columns["row"]
        beyond = np.arange(len(row)) - np.searchsorted(row, row) >= MOST
        if not beyond.any():
            return columns
        for number, count in zip(*np.unique(samples["template"].take(row[beyond]), return_counts=True), strict=True):
            self._refuse(self.context.pack.templates[number], TOO_MANY, int(count))
        return {name: column[~beyond] for name, column in columns.items()}


def _answer_id(word: str) -> int:
    """Vocabulary id of `yes`, `no`, `not_present` or a number."""
    fixed = {"yes": YES, "no": NO, "not_present": NOT_PRESENT}
    return fixed[word] if word in fixed else FIRST_INT + int(word)


def _checked(t: Template) -> set[str]:
    """Value slots that `verify` and `label_is` look at: a batch has to be of one attribute in them."""
    calls = [c for c in t.program.calls() if c.function in ("verify", "label_is")]
    used = {a.name for c in calls for a in c.arguments if isinstance(a, Slot)}
    return {s.name for s in t.slots if s.kind == "value" and s.name in used}


def _groups(columns: list[Array], rows: Array) -> Iterator[Array]:
    """The rows in groups of equal ids, of at most four columns."""
    if not len(rows):
        return
    code = np.zeros(len(rows), np.int64)
    for column in columns:
        code = code << 16 | column.take(rows)
    order = np.argsort(code, kind="stable")
    edges = np.flatnonzero(np.diff(code.take(order))) + 1
    for some in np.split(order, edges):
        yield rows.take(some)


def distinct(columns: dict[str, Array]) -> dict[str, Array]:
    """Each question once for each `row` (ascending): the first of those that are equal."""
    slots = np.zeros(len(columns["row"]), np.uint64)
    for i in range(SLOTS):
        slots = slots << np.uint64(16) | columns[f"slot{i}"].astype(np.uint64)
    of = columns["row"].astype(np.int64) << 16 | columns["template"].astype(np.int64)
    row, repeated, back = columns["row"], np.zeros(len(slots), bool), 1
    while (row[back:] == row[:-back]).any():  # as often as the longest list of one row
        repeated[back:] |= (of[back:] == of[:-back]) & (slots[back:] == slots[:-back])
        back += 1
    return {name: column[~repeated] for name, column in columns.items()} if repeated.any() else columns


def _wordings(context: Context, template: Array, qid: Array) -> Array:
    """(n,) uint8 paraphrases, drawn by number of the question; held-out ones stay in the split `paraphrase`."""
    forms = [[i for i, q in enumerate(t.paraphrases) if not q.held_out] for t in context.pack.templates]
    many = np.array([len(f) for f in forms])
    flat, start = np.array([i for f in forms for i in f], np.uint8), np.cumsum(many) - many
    bits = (mix(stream(context.spec.seed, "entailed"), qid) >> np.uint64(16)).astype(np.int64)
    return flat.take(start.take(template) + bits % many.take(template))
