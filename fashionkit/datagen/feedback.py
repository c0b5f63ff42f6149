"""What a model found hard in one question set, as tables that the next set is made with.

    losses ──`datagen reweight`──► <folder>/cells      how much harder than its like a kind of question was
                                   <folder>/images     how much harder than its questions' like a picture was
                                   <folder>/items      the same of what a question named in it, beyond the picture
                                   <folder>/confusion  which answer was given for which
    <folder> + Scenes ──► effects of cells, pictures and items (w4 of the difficulty), k of wrong answers (alpha)

Everything is kept by key (picture id, category, value), so the next set may come from another state of the catalogue
and another vocabulary; what a key no longer names is left out. The form is that of the specification's difficulty and
confusability; the shrinkage n / (n + k) is the empirical Bayes estimate of a random effect (Robbins 1956; Efron and
Morris 1975).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.datagen.scene import Scenes
from fashionkit.datagen.vocab import Vocab
from fashionkit.tables import InputError, Manifest, read_manifest, read_table, table_parts

Array = npt.NDArray[Any]
KIND, SCHEMA = "feedback", 1
LEVELS = ("cells", "images", "items")
KNOWN = 20.0  # answers of a value at which what was confused with it counts as much as the similarity
CELLS = pa.schema(
    [
        pa.field("template", pa.string(), nullable=False),  # its id
        pa.field("attributes", pa.string(), nullable=False),  # keys of its attributes, with commas
        pa.field("slots", pa.list_(pa.string()), nullable=False),  # keys of the cell's slots, in the template's order
        pa.field("n", pa.int64(), nullable=False),  # losses
        pa.field("excess", pa.float64(), nullable=False),  # mean loss beyond that of the template and attributes
    ]
)
IMAGES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("n", pa.int64(), nullable=False),  # losses
        pa.field("excess", pa.float64(), nullable=False),  # mean loss beyond that of the questions' like
    ]
)
ITEMS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),  # by which the questions named the item
        pa.field("n", pa.int64(), nullable=False),
        pa.field("excess", pa.float64(), nullable=False),  # beyond that of the picture, too
    ]
)
CONFUSION = pa.schema(
    [
        pa.field("answer", pa.string(), nullable=False),  # key of the right answer
        pa.field("predicted", pa.string(), nullable=False),  # key of the given one
        pa.field("count", pa.int64(), nullable=False),
    ]
)


class Feedback:
    """A feedback folder.

    Args:
        path: The folder.

    Attributes:
        shrink: `cells`, `images` and `items` → the number of losses at which half of an effect is believed.
        spread: The same → standard deviation of the true effects.

    Raises:
        InputError: No such folder, unfinished, or of another kind or schema.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path, KIND, SCHEMA)
        self.shrink: dict[str, float] = self._levels("shrink")
        self.spread: dict[str, float] = self._levels("spread")

    def _levels(self, name: str) -> dict[str, float]:
        levels: Any = self.manifest.params.get(name)
        named = isinstance(levels, dict) and set(levels) in (set(LEVELS), set())
        if not named or not all(isinstance(v, int | float) and v >= 0 for v in levels.values()):
            raise InputError("the manifest is damaged: cells, images, items needed", file=self.path, column=name)
        found: dict[str, float] = levels
        return found

    def table(self, name: str, schema: pa.Schema) -> pa.Table:
        """One of the tables; empty where the folder has none."""
        return read_table(self.path, name, schema.names) if table_parts(self.path, name) else schema.empty_table()

    @cached_property
    def _cells(self) -> tuple[pa.Table, Array, list[str]]:
        """Cells ordered by unit, where each unit starts, and the units' names."""
        table = self.table("cells", CELLS)
        self._needed(table, "loss")
        unit = pc.binary_join_element_wise(table["template"], table["attributes"], "|").combine_chunks()
        encoded = unit.dictionary_encode()
        order = np.argsort(encoded.indices.to_numpy(), kind="stable")
        starts = np.searchsorted(encoded.indices.to_numpy()[order], np.arange(len(encoded.dictionary) + 1))
        return table.take(pa.array(order)), starts, encoded.dictionary.to_pylist()

    def _needed(self, table: pa.Table, key: str) -> None:
        if not table.num_rows or not self.shrink or not self.spread:
            hint = f"set `difficulty: {{{key}: 0}}`, or make the feedback from losses"
            problem = f"the feedback holds no losses, which `difficulty.{key}` weighs"
            raise InputError(problem, file=self.path, hint=hint)

    def _effects(self, table: pa.Table) -> Array:
        n = table["n"].to_numpy()
        found: Array = table["excess"].to_numpy() * n / (n + self.shrink["cells"]) / (self.spread["cells"] or 1.0)
        return found

    def hardest(self, templates: set[str]) -> float:
        """The largest effect of a cell of these templates, in standard deviations of the true effects; at least 0."""
        table = self._cells[0]
        about = pc.is_in(table["template"], value_set=pa.array(sorted(templates), pa.string())).to_numpy()
        return float(self._effects(table)[about].max(initial=0.0))

    def cells(
        self, template: str, attributes: tuple[str, ...], vocab: Vocab, ranges: list[tuple[int, int]]
    ) -> tuple[Array, Array]:
        """What is known of a unit's cells.

        Args:
            template, attributes: The unit. vocab: Of the set to be made. ranges: First id and number of ids that each
                slot of the cell can hold.

        Returns:
            (m, slots) int64 ids, and (m,) effects in standard deviations of the true effects. Cells with a word that
            the vocabulary does not have are left out.
        """
        table, starts, units = self._cells
        name = f"{template}|{','.join(attributes)}"
        if name not in units:
            return np.zeros((0, len(ranges)), np.int64), np.zeros(0)
        at = units.index(name)
        part = table.slice(starts[at], starts[at + 1] - starts[at]).combine_chunks()
        fits = np.flatnonzero(pc.list_value_length(part["slots"]).to_numpy() == len(ranges))
        keys = pc.list_flatten(part["slots"].take(pa.array(fits))).to_numpy(zero_copy_only=False)
        ids = np.empty((len(fits), len(ranges)), np.int64)
        for place, ((base, count), column) in enumerate(zip(ranges, keys.reshape(ids.shape).T, strict=True)):
            found = pc.index_in(pa.array(column, pa.string()), pa.array(vocab.key[base : base + count], pa.string()))
            ids[:, place] = pc.fill_null(found, -1).to_numpy() + base
            ids[found.is_null().to_numpy(zero_copy_only=False), place] = -1
        known = (ids >= 0).all(1)
        return ids[known], self._effects(part)[fits][known]

    def scores(self, s: Scenes) -> tuple[Array, Array]:
        """Predicted loss of pictures and of items, in standard deviations of the true effects.

        What is little known lies near 0, the mean, so chance gets no weight: were these z-scores, a feedback of mere
        chance would decide as much as any other.

        Args:
            s: The catalogue of the set to be made.

        Returns:
            (I,) and (M,) float32; 0 where nothing is known.

        Raises:
            InputError: The folder holds no losses, or none of a picture of this catalogue.
        """
        images, items = self.table("images", IMAGES), self.table("items", ITEMS)
        self._needed(images, "item_loss")
        ids = pa.array(s.image_ids, pa.string())
        effect = np.zeros(len(ids))
        at, rows = _matched(images["image_id"], ids)
        if not len(at):
            hint = "take the feedback that was made from questions about this catalogue"
            raise InputError("the feedback names no picture of this catalogue", file=self.path, hint=hint)
        n = images["n"].to_numpy()[rows]
        effect[at] = images["excess"].to_numpy()[rows] * n / (n + self.shrink["images"])
        item = effect[s.image] + self._of_items(s, items, ids)
        spread = float(np.hypot(self.spread["images"], self.spread["items"])) or 1.0
        return (effect / spread).astype(np.float32), (item / spread).astype(np.float32)

    def _of_items(self, s: Scenes, items: pa.Table, ids: pa.Array) -> Array:
        """(M,) effects: what was said of an item by its own category and by those above it counts together."""
        vocab = s.vocab
        at, rows = _matched(items["image_id"], ids)
        known = pa.array(list(vocab.category), pa.string())
        category = pc.fill_null(pc.index_in(items["category"], known), -1).to_numpy()[rows]
        at, rows, category = at[category >= 0], rows[category >= 0], category[category >= 0]
        n, excess = items["n"].to_numpy()[rows], items["excess"].to_numpy()[rows]
        code = at * len(known) + category
        order = np.argsort(code)
        code, n, total = code[order], n[order], (n * excess)[order]
        count, found = np.zeros(len(s.leaf)), np.zeros(len(s.leaf))
        line = _lines(vocab)[s.leaf]
        for level in range(line.shape[1]):
            wanted = s.image.astype(np.int64) * len(known) + line[:, level]
            place = np.minimum(np.searchsorted(code, wanted), max(len(code) - 1, 0))
            hit = (line[:, level] >= 0) & (code[place] == wanted) if len(code) else np.zeros(len(wanted), bool)
            count[hit] += n[place[hit]]
            found[hit] += total[place[hit]]
        return found / np.maximum(count + self.shrink["items"], 1e-9)  # k is 0 where nothing is left to chance

    def confusable(self, vocab: Vocab, base: int, similar: Array, alpha: float) -> Array:
        """k of A.6: alpha parts similarity, the rest the shares of the wrong answers that were given.

        A value of which few answers are known keeps its similarities: its shares count n / (n + `KNOWN`).

        Args:
            vocab: Of the set to be made. base: Id of the first value that `similar` covers.
            similar: (n, n) float32 in 0..1. alpha: 1 leaves it as it is.

        Returns:
            (n, n) float32 in 0..1; the row is the right answer, the column the wrong one.
        """
        size = len(similar)
        names = pa.array(vocab.key[base : base + size], pa.string())
        table = self.table("confusion", CONFUSION)
        one, two = (pc.fill_null(pc.index_in(table[name], names), -1).to_numpy() for name in ("answer", "predicted"))
        ours = (one >= 0) & (two >= 0)
        counts = np.zeros((size, size))
        np.add.at(counts, (one[ours], two[ours]), table["count"].to_numpy()[ours])
        total = counts.sum(1, keepdims=True)
        believed = (1 - alpha) * total / (total + KNOWN)
        mixed: Array = (1 - believed) * similar + believed * counts / np.maximum(total, 1)
        return mixed.astype(np.float32)


def _matched(column: pa.ChunkedArray, ids: pa.Array) -> tuple[Array, Array]:
    """Positions in `ids`, and the rows that have one."""
    at = pc.fill_null(pc.index_in(column, ids), -1).to_numpy()
    rows = np.flatnonzero(at >= 0)
    return at[rows].astype(np.int64), rows


def _lines(vocab: Vocab) -> Array:
    """(vocabulary, depth) for each category it and those above it, as positions among the categories; -1 beyond."""
    onto, position = vocab.ontology, {key: n for n, key in enumerate(vocab.category)}
    chains = {number: [key, *onto.ancestors(key)] for key, number in vocab.category.items()}
    table = np.full((len(vocab), max(map(len, chains.values()))), -1)
    for number, chain in chains.items():
        table[number, : len(chain)] = [position[key] for key in chain]
    return table
