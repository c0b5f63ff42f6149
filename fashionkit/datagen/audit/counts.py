"""One pass over all samples of a set for the exact checks: small tables of counts, whatever the number of samples.

    part ─► batches of id columns, checked ─► answers, slot values, options counted ─► merged over all parts

Two units are counted. *Samples* are rows. A *program* is a question whatever its wording; its phrasings stand in
consecutive rows and count once where a statistic assumes that observations are independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.packs import Pack, Template
from fashionkit.datagen.propose import option_slots
from fashionkit.datagen.samples import SAMPLE_SPLITS, SAMPLES, SLOTS, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, NONE, YES
from fashionkit.engine import run_shards
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
BATCH_ROWS = 1 << 20
IDENTITY = ("image", "template", *(f"slot{i}" for i in range(SLOTS)))


def is_binary(t: Template) -> bool:
    """Whether a template is answered by yes or no."""
    return t.balance == "binary" or t.family == "B5"


@dataclass(frozen=True)
class Facts:
    """What counting needs to know of a set's templates and words; small enough to send to any process.

    Attributes:
        images, vocab: How many pictures and vocabulary ids there are.
        binary, choice: (T,) bool. options: (T, 2) stored slots a choice is between.
        asked: (T,) stored slot that tells the attribute a question asks about, -1 where there is none.
        attribute: (vocab,) number of the attribute that an id is, or is a value of; 0 for others.
        attributes: Vocabulary id of each attribute number; 0 first.
    """

    images: int
    vocab: int
    binary: Array
    choice: Array
    options: Array
    asked: Array
    attribute: Array
    attributes: Array

    @property
    def templates(self) -> int:
        """How many templates there are."""
        return len(self.binary)


def facts_of(store: VQAStore) -> Facts:
    """The facts of an opened set."""
    vocab, pack = store.vocab, store.pack
    attributes = np.array([NONE, *vocab.attribute.values()], np.int64)
    number = {name: n for n, name in enumerate(vocab.attribute, 1)}
    attribute = np.zeros(len(vocab), np.int64)
    for (name, _), value in vocab.value.items():
        attribute[value] = number[name]
    attribute[attributes[1:]] = np.arange(1, len(attributes))
    return Facts(
        images=len(store.image_ids),
        vocab=len(vocab),
        binary=np.array([is_binary(t) for t in pack.templates]),
        choice=np.array([t.balance == "choice" for t in pack.templates]),
        options=_options(pack, store.slots),
        asked=np.array([_asked(t, names) for t, names in zip(pack.templates, store.slots, strict=True)]),
        attribute=attribute,
        attributes=attributes,
    )


def _options(pack: Pack, slots: list[list[str]]) -> Array:
    found = np.zeros((len(pack.templates), 2), np.int64)
    for row, (t, names) in enumerate(zip(pack.templates, slots, strict=True)):
        if t.balance == "choice":
            found[row] = [names.index(name) for name in option_slots(t)]
    return found


def _asked(t: Template, names: list[str]) -> int:
    """Where a sample stores the last attribute of its template, or a value of it."""
    if not t.attribute_slots:
        return -1
    last = t.attribute_slots[-1].name
    holder = last if last in names else next(s.name for s in t.slots if s.of == last)
    return names.index(holder)


@dataclass
class Tally:
    """Sparse counts: (m,) ascending keys and (m,) how often each was seen; float where they are expectations."""

    key: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    count: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        key, at = np.unique(np.concatenate([self.key, other.key]), return_inverse=True)
        count = np.zeros(len(key), np.result_type(self.count, other.count))
        np.add.at(count, at, np.concatenate([self.count, other.count]))
        return Tally(key, count)


def tally(key: Array, size: int) -> Tally:
    """Counts of keys below `size`; a table of all possible keys is used where it would not be mostly empty."""
    if size > 8 * len(key) + 1_000_000:
        return Tally(*(a.astype(np.int64) for a in np.unique(key, return_counts=True)))
    count = np.bincount(key, minlength=size)
    found = np.flatnonzero(count)
    return Tally(found, count[found])


@dataclass
class Counts:
    """What was seen of one or several parts.

    Attributes:
        answers: Split → samples by ((template, number of the asked attribute), answer).
        values: Programs of train, val and test of yes/no templates by (((template, slot), value), 1 for yes).
        held: Samples of train, val and test of choices by (template, option).
        programs, first: (T,) programs of choices in train, val and test; how often the first option is right.
    """

    answers: dict[str, Tally]
    values: Tally
    held: Tally
    programs: Array
    first: Array

    def __add__(self, other: Counts) -> Counts:
        """Both together."""
        answers = {s: self.answers.get(s, Tally()) + other.answers.get(s, Tally()) for s in SAMPLE_SPLITS}
        return Counts(
            answers,
            self.values + other.values,
            self.held + other.held,
            self.programs + other.programs,
            self.first + other.first,
        )


def empty(facts: Facts) -> Counts:
    """Nothing seen yet."""
    zero = np.zeros(facts.templates, np.int64)
    return Counts({s: Tally() for s in SAMPLE_SPLITS}, Tally(), Tally(), zero, zero)


_facts: Facts | None = None


def _adopt(facts: Facts) -> None:
    global _facts
    _facts = facts


def count(store: VQAStore, workers: int) -> tuple[Facts, Counts]:
    """Counts all samples of a set.

    Raises:
        InputError: A part is damaged, lacks a column or names an id that the set does not have.
    """
    facts = facts_of(store)
    total = empty(facts)
    parts = [(split, path) for split in SAMPLE_SPLITS for path in sample_files(store.path, split)]
    show: dict[str, Any] = {"describe": "counting answers", "total_rows": len(store), "rows": lambda found: found[1]}
    for found, _ in run_shards(_count_part, parts, workers, initializer=_adopt, initargs=(facts,), **show):
        total = total + found
    return facts, total


def _count_part(part: tuple[str, Path]) -> tuple[Counts, int]:
    assert _facts is not None, "a task runs where no facts were adopted"
    total, rows = empty(_facts), 0
    for columns, first in programs(part[1], _facts):
        total = total + count_batch(_facts, part[0], columns, first)
        rows += len(first)
    return total, rows


def programs(path: Path, facts: Facts) -> Iterator[tuple[dict[str, Array], Array]]:
    """Batches of one part's columns (without `difficulty`), each with (n,) bool: a program's first phrasing.

    Raises:
        InputError: The part is damaged, lacks a column or names an id that the set does not have.
    """
    last: list[Any] | None = None
    names = [name for name in SAMPLES.names if name != "difficulty"]
    for batch in _batches(path, names):
        columns = {name: _numbers(path, name, batch.column(name), facts) for name in names}
        first = np.zeros(batch.num_rows, bool)
        for name in IDENTITY:
            first[1:] |= columns[name][1:] != columns[name][:-1]
        ends = [columns[name][[0, -1]].tolist() for name in IDENTITY]
        first[0] = last is None or last != [start for start, _ in ends]
        last = [end for _, end in ends]
        yield columns, first


def _batches(path: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Batches that hold rows and all of the columns."""
    try:
        with pq.ParquetFile(path) as file:
            missing = sorted(set(names) - set(file.schema_arrow.names))
            if missing:
                raise InputError(
                    "a column is missing", file=path, found=", ".join(missing), allowed=file.schema_arrow.names
                )
            yield from (batch for batch in file.iter_batches(BATCH_ROWS, columns=names) if batch.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error


def _numbers(path: Path, name: str, column: pa.Array, facts: Facts) -> Array:
    """A column as numbers within the limits of the set."""
    wanted = SAMPLES.field(name).type
    if column.type != wanted or column.null_count:
        found = f"{column.null_count} nulls" if column.type == wanted else str(column.type)
        raise InputError(f"{wanted} without nulls is needed", file=path, column=name, found=found)
    numbers: Array = column.to_numpy(zero_copy_only=False)
    limits = {"image": facts.images, "template": facts.templates, "answer": facts.vocab}
    limit = limits.get(name, facts.vocab if name.startswith("slot") else None)
    if limit is not None and (int(numbers.max()) >= limit or int(numbers.min()) < (name == "answer")):
        wrong = int(np.flatnonzero((numbers >= limit) | (numbers < (name == "answer")))[0])
        problem = f"the set has no such {name}: ids run from {int(name == 'answer')} to {limit - 1}"
        raise InputError(problem, file=path, column=name, found=int(numbers[wrong]))
    return numbers


def count_batch(facts: Facts, split: str, columns: dict[str, Array], first: Array) -> Counts:
    """Counts one batch of `programs`; the paraphrase split, which repeats test, adds to its answers only."""
    template, answer = columns["template"].astype(np.int64), columns["answer"].astype(np.int64)
    slots = np.stack([columns[f"slot{i}"] for i in range(SLOTS)])
    at = facts.asked.take(template)
    named = slots.reshape(-1).take(np.maximum(at, 0) * len(template) + np.arange(len(template)))
    asked = np.where(at >= 0, facts.attribute.take(named), 0)
    kinds = len(facts.attributes)
    found = empty(facts)
    found.answers[split] = tally(
        (template * kinds + asked) * facts.vocab + answer, facts.templates * kinds * facts.vocab
    )
    if split in ("train", "val", "test"):
        found.values = _slot_values(facts, template, slots, answer, first & facts.binary.take(template))
        rows = np.flatnonzero(facts.choice.take(template))
        found.held, found.programs, found.first = _chosen(facts, template, slots, answer, first, rows)
    return found


def _slot_values(facts: Facts, template: Array, slots: Array, answer: Array, keep: Array) -> Tally:
    """Yes and no by slot and value."""
    rows = np.flatnonzero(keep & ((answer == YES) | (answer == NO)))
    base, yes = template[rows] * SLOTS, (answer[rows] == YES).astype(np.int64)
    size = facts.templates * SLOTS * facts.vocab * 2
    total = Tally()
    for number in range(SLOTS):
        value = slots[number].take(rows).astype(np.int64)
        key = ((base + number) * facts.vocab + value) * 2 + yes
        total = total + tally(key[value != NONE], size)
    return total


def _chosen(
    facts: Facts, template: Array, slots: Array, answer: Array, first: Array, rows: Array
) -> tuple[Tally, Array, Array]:
    """Samples that hold each option; programs, and how often their first option is right."""
    kind = template[rows]
    where = facts.options[kind]
    one, two = (slots.reshape(-1).take(where[:, k] * len(template) + rows).astype(np.int64) for k in (0, 1))
    size = facts.templates * facts.vocab
    held = tally(np.concatenate([kind * facts.vocab + one, kind * facts.vocab + two]), size)
    once = first[rows]
    right = once & (answer[rows] == one)
    seen, first_right = (np.bincount(kind[mask], minlength=facts.templates) for mask in (once, right))
    return held, seen, first_right


def by_template(facts: Facts, found: Tally, wide: bool = False) -> dict[tuple[int, int], Tally]:
    """(template, number of the attribute) → its answers; one entry a template (attribute 0) unless `wide`."""
    code, answer = np.divmod(found.key, facts.vocab)
    groups: dict[tuple[int, int], Tally] = {}
    codes, start = np.unique(code, return_index=True)
    for value, lo, hi in zip(codes.tolist(), start, [*start, len(code)][1:], strict=True):
        template, attribute = divmod(value, len(facts.attributes))
        place = (template, attribute if wide else 0)
        groups[place] = groups.get(place, Tally()) + Tally(answer[lo:hi], found.count[lo:hi])
    return groups
