"""What a question set holds, counted in one pass, and the samples of it that people look at.

    parts ─► batches of id columns ─► counts by split, template, answer, difficulty, picture ─┐
                 └─► lowest random numbers of each family ─► samples to show, samples to check ┴─► SetReport

Memory does not grow with the set: what is kept are counts, and of each family the few samples with the lowest random
numbers (bottom-k sampling). A sample's random number depends on the seed and its `qid` alone, so that any number of
workers chooses the same samples.
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

from fashionkit.datagen.audit.blind_sample import water_fill
from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.judge import LIMIT, STEPS
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.samples import PARAPHRASE, SAMPLE_SPLITS, SAMPLES, SLOTS, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.engine import run_shards
from fashionkit.tables import InputError, read_table, table_parts

Array = npt.NDArray[Any]
BATCH_ROWS = 1 << 20
LEVELS = int(2 * LIMIT * STEPS) + 1  # of difficulty
_COLUMNS = ("image", "template", "answer", "difficulty")


@dataclass(frozen=True)
class Shape:
    """How many of each id a set has, and which samples to keep.

    Attributes:
        images, templates, vocab: How many there are. family: (templates,) position in `FAMILIES`.
        key: Of the random numbers. most: Samples to keep of each family.
    """

    images: int
    templates: int
    vocab: int
    family: Array
    key: int
    most: int


@dataclass
class Lowest:
    """Of each family the samples with the lowest random numbers: (n,) random uint64, row of the set, family."""

    random: Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    row: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    family: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def joined(self, other: Lowest, most: int) -> Lowest:
        """The lowest of both, by random number and family."""
        random, row, family = (
            np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("random", "row", "family")
        )
        order = np.lexsort((row, random, family))
        family = family[order]
        place = np.arange(len(family)) - np.searchsorted(family, family)
        order = order[place < most]
        return Lowest(random[order], row[order], family[place < most])

    def limits(self, most: int) -> Array:
        """(families,) the random number above which a sample cannot be among the lowest any more."""
        limit = np.full(len(FAMILIES), np.iinfo(np.uint64).max, np.uint64)
        for number in range(len(FAMILIES) if most else 0):
            mine = self.random[self.family == number]
            if len(mine) >= most:
                limit[number] = mine.max()
        return limit


@dataclass
class Counts:
    """Samples counted.

    Attributes:
        split: (splits, templates). answer: (templates, vocabulary). level: (templates, LEVELS) difficulty from -4 to 4.
        image: (images,). lowest: Samples to look at.
    """

    split: Array
    answer: Array
    level: Array
    image: Array
    lowest: Lowest


@dataclass
class SetReport:
    """All that the page and the terminal tell of a set.

    Attributes:
        store: The set. counts: As counted. pictures: Split of the catalogue → pictures.
        rejects: Rows of the table `rejects`. shown, checked: Samples (see `pick`). seed: That chose them.
    """

    store: VQAStore
    counts: Counts
    pictures: dict[str, int]
    rejects: list[dict[str, Any]]
    shown: list[dict[str, Any]]
    checked: list[dict[str, Any]]
    seed: int

    @property
    def content(self) -> str:
        """Content hash of the set."""
        return self.store.manifest.content_hash()

    def samples(self) -> dict[str, int]:
        """Split → samples, of splits that have some."""
        totals = self.counts.split.sum(axis=1).tolist()
        return {name: total for name, total in zip(SAMPLE_SPLITS, totals, strict=True) if total}

    def programs(self) -> dict[str, int]:
        """Split → distinct (picture, question program) pairs; each stands in the split once in each of its wordings."""
        found = self.counts.split // self._wordings()
        return {s: int(found[n].sum()) for n, s in enumerate(SAMPLE_SPLITS) if self.counts.split[n].any()}

    def _wordings(self) -> Array:
        """(splits, templates) in how many wordings a program stands."""
        times = int(self.store.manifest.params.get("phrasings", 1))
        opened = [sum(not q.held_out for q in t.paraphrases) for t in self.store.pack.templates]
        wordings = np.tile(np.minimum(opened, times), (len(SAMPLE_SPLITS), 1))
        wordings[SAMPLE_SPLITS.index(PARAPHRASE)] = 1
        return wordings

    def families(self) -> dict[str, Array]:
        """Family → (templates,) bool, of families that have samples."""
        templates, any_sample = self.store.pack.templates, self.counts.split.any(axis=0)
        found = {f: np.array([t.family == f for t in templates]) for f in FAMILIES}
        return {family: mine for family, mine in found.items() if (mine & any_sample).any()}

    def to_dict(self) -> dict[str, Any]:
        """Figures for `--json`."""
        templates = self.store.pack.templates
        by_template = self.counts.split.sum(axis=0).tolist()
        return {
            "set": self.content,
            "samples": self.samples(),
            "programs": self.programs(),
            "pictures": self.pictures,
            "pictures_asked_about": int((self.counts.image > 0).sum()),
            "families": {f: int(self.counts.split[:, mine].sum()) for f, mine in self.families().items()},
            "templates": {t.id: n for t, n in zip(templates, by_template, strict=True)},
            "rejects": self.rejects,
        }

    def lines(self) -> list[str]:
        """The figures for a terminal."""
        samples, programs = self.samples(), self.programs()
        families = {f: int(self.counts.split[:, mine].sum()) for f, mine in self.families().items()}
        asked, total = int((self.counts.image > 0).sum()), sum(self.pictures.values())
        whole = sum(samples.values())
        return [
            f"{self.store.path}: {whole:,} samples about {asked:,} of {total:,} pictures, "
            f"{sum(n for s, n in programs.items() if s != PARAPHRASE):,} programs",
            "  by split:  " + ", ".join(f"{s} {n:,}" for s, n in samples.items()),
            "  by family: " + ", ".join(f"{f} {n:,} ({n / whole:.0%})" for f, n in families.items()),
        ]


def gather(path: str | Path, show: int = 60, check: int = 200, seed: int = 0, workers: int = 2) -> SetReport:
    """Counts a set and chooses samples, evenly over its families.

    Args:
        path: Question set. show, check: How many samples to show, and for the sheet. seed: Another one chooses others.
        workers: Processes; the result is the same for any number.

    Raises:
        InputError: No question set, an empty one, or one with damaged parts or ids that it does not have.
    """
    if show < 0 or check < 0 or workers < 1:
        raise InputError("numbers of samples must be 0 or more, and workers 1 or more", found=(show, check, workers))
    store = VQAStore(path)
    if not len(store):
        raise InputError("the set holds no samples", file=path)
    counts = count(store, show + check, seed, workers)
    shown, checked = _choose(counts, show, check)
    described = _described(store, np.concatenate([shown, checked]))
    splits = read_table(store.path, "images", ["split"])["split"].to_pylist()
    told = ["template", "family", "reason", "count"]
    rejects = read_table(store.path, "rejects", told).to_pylist() if table_parts(store.path, "rejects") else []
    return SetReport(
        store,
        counts,
        {name: splits.count(name) for name in dict.fromkeys(SAMPLE_SPLITS) if name in splits},
        rejects,
        described[: len(shown)],
        described[len(shown) :],
        seed,
    )


def count(store: VQAStore, most: int, seed: int, workers: int) -> Counts:
    """Counts all samples, part by part.

    Raises:
        InputError: A part is damaged, lacks a column, or holds an id that the set does not have.
    """
    family = np.array([FAMILIES.index(t.family) for t in store.pack.templates], np.int64)
    shape = Shape(len(store.image_ids), len(family), len(store.vocab), family, stream(seed, "report"), most)
    total = Counts(
        np.zeros((len(SAMPLE_SPLITS), shape.templates), np.int64),
        np.zeros((shape.templates, shape.vocab), np.int64),
        np.zeros((shape.templates, LEVELS), np.int64),
        np.zeros(shape.images, np.int64),
        Lowest(),
    )
    shards = [(split, str(path), first) for split, path, first, _ in _files(store)]
    for found in run_shards(
        _count_part,
        shards,
        min(workers, max(len(shards), 1)),
        initializer=_adopt,
        initargs=(shape,),
        describe="counting",
        total_rows=len(store),
        rows=lambda part: int(part.template.sum()),
    ):
        total.split[found.split] += found.template
        total.answer.reshape(-1)[found.codes] += found.counts
        total.level += found.level
        total.image[found.first_image : found.first_image + len(found.image)] += found.image
        total.lowest = total.lowest.joined(found.lowest, most)
    return total


def _files(store: VQAStore) -> Iterator[tuple[int, Path, int, int]]:
    """Split, file, row of the set that it starts with, rows."""
    first = 0
    for number, split in enumerate(SAMPLE_SPLITS):
        for path in sample_files(store.path, split):
            rows = int(pq.read_metadata(path).num_rows)
            yield number, path, first, rows
            first += rows


@dataclass
class _Part:
    """Counts of one part: as `Counts`, with answers as codes (template and answer) and counts."""

    split: int
    template: Array
    codes: Array
    counts: Array
    level: Array
    first_image: int
    image: Array
    lowest: Lowest


_shape: Shape | None = None


def _adopt(shape: Shape) -> None:
    global _shape
    _shape = shape


def _count_part(shard: tuple[int, str, int]) -> _Part:
    """Counts one part; `shard` is its split, file and first row."""
    shape = _shape
    assert shape is not None, "a task runs where no shape was adopted"
    split, path, first = shard
    answer, level = np.zeros(shape.templates * shape.vocab, np.int64), np.zeros(shape.templates * LEVELS, np.int64)
    image, lowest = np.zeros(shape.images, np.int64), Lowest()
    limits = lowest.limits(shape.most)
    for batch in _batches(Path(path)):
        columns = {name: _checked(Path(path), name, batch.column(name), shape) for name in _COLUMNS}
        template = columns["template"].astype(np.int64)
        answer += np.bincount(template * shape.vocab + columns["answer"], minlength=len(answer))
        level += np.bincount(template * LEVELS + columns["difficulty"], minlength=len(level))
        image += np.bincount(columns["image"], minlength=shape.images)
        random = mix(shape.key, np.arange(first, first + len(template)))
        family = shape.family.take(template)
        low = np.flatnonzero(random <= limits.take(family)) if shape.most else np.zeros(0, np.int64)
        lowest = lowest.joined(Lowest(random[low], first + low, family[low]), shape.most)
        limits = lowest.limits(shape.most)
        first += len(template)
    codes, asked = np.flatnonzero(answer), np.flatnonzero(image)
    lo, hi = (int(asked[0]), int(asked[-1]) + 1) if len(asked) else (0, 0)
    levels = level.reshape(shape.templates, LEVELS)
    return _Part(split, levels.sum(axis=1), codes, answer[codes], levels, lo, image[lo:hi], lowest)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            missing = sorted(set(SAMPLES.names) - set(file.schema_arrow.names))
            if missing:
                names = file.schema_arrow.names
                raise InputError("a column is missing", file=path, found=", ".join(missing), allowed=names)
            yield from (batch for batch in file.iter_batches(BATCH_ROWS, columns=list(_COLUMNS)) if batch.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error


def _checked(path: Path, name: str, column: pa.Array, shape: Shape) -> Array:
    """(n,) ids that the set has; difficulty as a level from 0."""
    wanted = SAMPLES.field(name).type
    if column.type != wanted or column.null_count:
        found = f"{column.null_count} nulls" if column.type == wanted else str(column.type)
        raise InputError(f"{wanted} without nulls is needed", file=path, column=name, found=found)
    numbers: Array = column.to_numpy(zero_copy_only=False)
    if name == "difficulty":
        numbers = _LEVEL_OF.take(numbers.view(np.uint16))
    limit = {"image": shape.images, "template": shape.templates, "answer": shape.vocab, "difficulty": LEVELS}[name]
    if int(numbers.max()) >= limit or int(numbers.min()) < 0:
        row = int(np.flatnonzero((numbers >= limit) | (numbers < 0))[0])
        told = f"a difficulty from {-LIMIT:g} to {LIMIT:g} in steps of 1/{STEPS}"
        told = told if name == "difficulty" else f"an id below {limit}"
        raise InputError(f"{told} is needed", file=path, column=name, found=column[row].as_py())
    return numbers


def _levels() -> Array:
    """(65536,) int64 level of the float16 with these bits; -1 where it is none."""
    with np.errstate(invalid="ignore"):
        number = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64) * STEPS + LIMIT * STEPS
        sound = (number >= 0) & (number < LEVELS) & (number == np.floor(number))
        return np.where(sound, number, -1).astype(np.int64)


_LEVEL_OF = _levels()


def _choose(counts: Counts, show: int, check: int) -> tuple[Array, Array]:
    """Rows to show and rows to check: none is both where there are enough."""
    lowest = counts.lowest
    family_counts = np.bincount(lowest.family, minlength=len(FAMILIES))
    checks, shows = water_fill(family_counts, check), water_fill(family_counts, show)
    shown: list[int] = []
    checked: list[tuple[int, int, int]] = []
    for number in range(len(FAMILIES)):
        rows = lowest.row[lowest.family == number].tolist()  # ascending by random number
        some, rest = rows[: checks[number]], rows[checks[number] :]
        shown += sorted((rest + some)[: shows[number]])
        checked += [(place, number, row) for place, row in enumerate(some)]
    # Family by family in turn, so that a sheet of which only the start is checked is still even.
    return np.array(shown, np.int64), np.array([row for _, _, row in sorted(checked)], np.int64)


def _described(store: VQAStore, rows: Array) -> list[dict[str, Any]]:
    """Samples by their rows in the set, in this order: as `VQAStore.describe`, with the ids for programs.

    Added are `image` and `template_row` (positions in the set's tables) and `ids` (slot → vocabulary id).
    """
    found: dict[int, dict[str, Any]] = {}
    order = np.unique(rows)
    for split, path, first, length in _files(store):
        lo, hi = np.searchsorted(order, [first, first + length])
        for table in _taken(path, order[lo:hi] - first):
            raw = table.to_pylist()
            _check_words(store, path, raw)
            for ids, row in zip(raw, store.describe(table, SAMPLE_SPLITS[split]), strict=True):
                slots = {name: ids[f"slot{i}"] for i, name in enumerate(store.slots[ids["template"]])}
                found[row["qid"]] = {**row, "image": ids["image"], "template_row": ids["template"], "ids": slots}
    missing = sorted(set(rows.tolist()) - set(found))
    if missing:
        problem = "the samples are not numbered from 0 in the order of their splits"
        raise InputError(problem, file=store.path, column="qid", found=missing[0])
    return [found[row] for row in rows.tolist()]


def _check_words(store: VQAStore, path: Path, rows: list[dict[str, Any]]) -> None:
    """What the count does not look at: the ids in the slots, and the wording."""
    for row in rows:
        limits = {f"slot{i}": len(store.vocab) for i in range(SLOTS)}
        limits["paraphrase"] = len(store.pack.templates[row["template"]].paraphrases)
        for name, limit in limits.items():
            if not 0 <= row[name] < limit:
                raise InputError(f"an id below {limit} is needed", file=path, column=name, found=row[name])


def _taken(path: Path, rows: Array) -> Iterator[pa.Table]:
    """Some rows (ascending) of one part, reading only the row groups that hold them."""
    if not len(rows):
        return
    with pq.ParquetFile(path) as file:
        ends = np.cumsum([file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)])
        groups = np.searchsorted(ends, rows, side="right")
        for number in np.unique(groups).tolist():
            start = int(ends[number - 1]) if number else 0
            yield file.read_row_group(number).take(pa.array(rows[groups == number] - start))
