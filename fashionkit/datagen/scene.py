"""A catalogue as arrays: every picture a scene of at most 32 items, every clause a column of bit masks.

    catalogue tables ─► Scenes: item rows (leaf, value[A], state[A], region, small) sorted by picture
                        └► masks[I, K]: which items of picture i satisfy / could satisfy clause k

A clause is a category, a value or a region. `sure` is what the tables say; `may` adds what they leave open (unknown or
hidden attributes, labels an honest annotator could have chosen instead). So "no" is known exactly where `may` is empty,
and a question program runs as a few bitwise operations over whole batches.

Letters: I pictures, M items, A item attributes, L image labels, K clauses.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import ABSENT, NOT_VISIBLE, PRESENT, SPLITS, Facts
from fashionkit.datagen.vocab import NONE, Vocab
from fashionkit.tables import InputError

MAX_ITEMS = 32
S_UNKNOWN, S_PRESENT, S_ABSENT, S_HIDDEN = 0, 1, 2, 3
STATE_CODE = {PRESENT: S_PRESENT, ABSENT: S_ABSENT, NOT_VISIBLE: S_HIDDEN}
Array = npt.NDArray[Any]


@dataclass
class Scenes:
    """All pictures of a catalogue, ordered by split and id.

    Attributes:
        image_ids: I ids; the position is the `image` of a sample.
        split: (I,) uint8 index into `SPLITS`. group: (I,) int32 split group.
        start: (I+1,) first item row of each picture. image: (M,) picture of each item. bit: (M,) its place in it.
        item_ids: M ids. leaf, region: (M,) vocabulary ids (region 0: unknown).
        small: (M,) float32 in [-1.73, 1.73], high for small items; 0 where the area is unknown.
        attributes, labels: Keys of the A item attributes and L image labels that can be asked about.
        value: (M, A) vocabulary id of the value or set, 0 if none. state: (M, A) S_* codes. label: (I, L) ids.
        masks: (I, K) bits of the items that satisfy a clause in the low half, of those that could in the high half.
        whole: (I,) the same of no clause: all items. clause: vocabulary id → column, -1 where nothing has it.
        closed, sole, countable: (vocabulary,) bool: absence is known; names a product by itself; may be counted.
        alone: (vocabulary,) bool: pictures of such a product show nothing else. widened: a label above other labels,
            so that a closer name may fit. no_place: a region that does not answer "where".
        complete: (M, A) bool: no further value of the attribute holds.
        held_out: (vocabulary, vocabulary) bool over (leaf, value): kept for the compositional split.
        is_category: (vocabulary,) bool. attribute_of_value, label_of_value: (vocabulary,) position, -1 for others.
        compatible: (vocabulary, vocabulary) bool: both may be said of one thing. root: the root category's id.
        notes: Counts of what was left out and why.
    """

    vocab: Vocab
    facts: Facts
    image_ids: list[str]
    split: Array
    group: Array
    start: Array
    image: Array
    bit: Array
    item_ids: list[str]
    leaf: Array
    region: Array
    small: Array
    attributes: list[str]
    labels: list[str]
    value: Array
    state: Array
    complete: Array
    label: Array
    masks: Array = field(default_factory=lambda: np.empty((0, 0)))
    whole: Array = field(default_factory=lambda: np.empty(0))
    clause: Array = field(default_factory=lambda: np.empty(0))
    closed: Array = field(default_factory=lambda: np.empty(0))
    alone: Array = field(default_factory=lambda: np.empty(0))
    widened: Array = field(default_factory=lambda: np.empty(0))
    no_place: Array = field(default_factory=lambda: np.empty(0))
    sole: Array = field(default_factory=lambda: np.empty(0))
    countable: Array = field(default_factory=lambda: np.empty(0))
    held_out: Array = field(default_factory=lambda: np.empty((0, 0)))
    is_category: Array = field(default_factory=lambda: np.empty(0))
    attribute_of_value: Array = field(default_factory=lambda: np.empty(0))
    label_of_value: Array = field(default_factory=lambda: np.empty(0))
    compatible: Array = field(default_factory=lambda: np.empty((0, 0)))
    root: int = 0
    notes: Counter[str] = field(default_factory=Counter)

    @property
    def ontology(self) -> Ontology:
        """The words."""
        return self.vocab.ontology

    def sample(self, images: Array) -> Scenes:
        """The scenes of some pictures (ascending positions), with the vocabulary and all that is declared of it."""
        size = np.diff(self.start)[images]
        start = np.concatenate([[0], np.cumsum(size)])
        rows = np.repeat(self.start[images] - start[:-1], size) + np.arange(start[-1])
        by_image = {name: getattr(self, name)[images] for name in ("split", "group", "label", "masks", "whole")}
        items = ("bit", "leaf", "region", "small", "value", "state", "complete")
        return replace(
            self,
            image_ids=[self.image_ids[i] for i in images.tolist()],
            item_ids=[self.item_ids[i] for i in rows.tolist()],
            start=start,
            image=np.repeat(np.arange(len(images), dtype=np.int32), size),
            **by_image,
            **{name: getattr(self, name)[rows] for name in items},
        )

    @cached_property
    def all_closed(self) -> bool:
        """Whether every visible item of every picture is listed."""
        return bool(self.closed[self.vocab.category[root_of(self.ontology)]])


def root_of(ontology: Ontology) -> str:
    """The category that has no parent and most descendants."""
    roots = [c.key for c in ontology.categories.values() if c.parent is None]
    return max(roots, key=lambda key: len(ontology.descendants(key)))


def load_scenes(path: str | Path) -> Scenes:
    """Compiles a catalogue folder.

    Raises:
        InputError: No pictures, no splits, or names that the ontology does not know.
    """
    catalog = Catalog(path)
    onto, notes = catalog.ontology, Counter[str]()
    vocab = Vocab(onto)
    images = _images(catalog)
    items = _items(catalog, vocab, images["image_id"], notes)
    attributes = [a.key for a in onto.attributes.values() if a.visible and a.scope == "item"]
    labels = [a.key for a in onto.attributes.values() if a.visible and a.scope == "image"]
    value, state, complete = _attributes(catalog, vocab, attributes, items["item_id"], notes)
    label = _labels(catalog, vocab, labels, images["image_id"])
    _open_values(onto, vocab, attributes, value, state, complete)
    n_images = images.num_rows
    image = items["image"].to_numpy()
    start = np.zeros(n_images + 1, np.int64)
    np.add.at(start, image + 1, 1)
    start = np.cumsum(start)
    scenes = Scenes(
        vocab=vocab,
        facts=catalog.facts,
        image_ids=images["image_id"].to_pylist(),
        split=images["split_code"].to_numpy().astype(np.uint8),
        group=images["split_group"].to_numpy().astype(np.int32),
        start=start,
        image=image.astype(np.int32),
        bit=(np.arange(len(image)) - start[image]).astype(np.uint8),
        item_ids=items["item_id"].to_pylist(),
        leaf=items["leaf"].to_numpy().astype(np.uint16),
        region=items["region_id"].to_numpy().astype(np.uint16),
        small=_smallness(items["area"].to_numpy(zero_copy_only=False)),
        attributes=attributes,
        labels=labels,
        value=value,
        state=state,
        complete=complete,
        label=label,
        notes=notes,
    )
    _declare(scenes)
    _mask_clauses(scenes)
    _hold_out(catalog, scenes)
    return scenes


def _images(catalog: Catalog) -> pa.Table:
    splits = catalog.table("splits")
    if not splits.num_rows:
        raise InputError("the catalogue has no splits", file=catalog.path, hint="run `fashionkit catalog split` on it")
    codes = pc.index_in(splits["split"], pa.array(SPLITS))
    if codes.null_count:
        raise InputError("unknown split in the catalogue", file=catalog.path, column="split", allowed=SPLITS)
    table = splits.append_column("split_code", codes)
    return table.sort_by([("split_code", "ascending"), ("image_id", "ascending")]).combine_chunks()


def _items(catalog: Catalog, vocab: Vocab, image_ids: pa.ChunkedArray, notes: Counter[str]) -> pa.Table:
    table = catalog.table("items", ["item_id", "image_id", "category", "region", "area"])
    image = pc.index_in(table["image_id"], image_ids.combine_chunks())
    leaf = _ids(table["category"], vocab.category, catalog.path, "category")
    region = _ids(table["region"], vocab.region, catalog.path, "region")
    # "none" is for what is carried or not worn at all: where it is worn is no question to ask.
    region[region == vocab.region.get("none", NONE)] = NONE
    order = pc.fill_null(table["area"], 0.0)
    table = pa.table(
        {
            "item_id": table["item_id"],
            "image": image,
            "leaf": leaf,
            "region_id": region,
            "area": table["area"],
            "o": order,
        }
    )
    if image.null_count:
        notes["item of a picture that has no split"] += image.null_count
        table = table.filter(pc.is_valid(table["image"]))
    table = table.sort_by([("image", "ascending"), ("o", "descending"), ("item_id", "ascending")]).combine_chunks()
    crowded = np.bincount(table["image"].to_numpy(), minlength=1) > MAX_ITEMS
    if crowded.any():
        # A scene that does not fit the masks is left out whole: a part of it would make "no" and counts wrong.
        keep = ~crowded[table["image"].to_numpy()]
        notes[f"item of a picture with more than {MAX_ITEMS} items"] += int((~keep).sum())
        table = table.filter(pa.array(keep))
    return table


def _ids(column: pa.ChunkedArray, ids: dict[str, int], path: Path, name: str) -> Array:
    """Vocabulary ids of a column of keys; null becomes 0."""
    keys = pa.array(list(ids), pa.string())
    at = pc.index_in(column, keys)
    wrong = pc.and_(pc.is_null(at), pc.is_valid(column))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise InputError(
            "a name the ontology does not know",
            file=path,
            row=row + 1,
            column=name,
            found=column[row].as_py(),
            allowed=ids,
        )
    numbers = np.array([*ids.values(), NONE], np.uint16)
    return numbers[pc.fill_null(at, len(ids)).to_numpy()]


def _smallness(area: Array) -> Array:
    """Rank of the area as a z-score of the uniform: +1.73 the smallest, -1.73 the largest, 0 where unknown."""
    z = np.zeros(len(area), np.float32)
    known = np.flatnonzero(~np.isnan(area.astype(np.float64)))
    if len(known) > 1:
        rank = np.empty(len(known))
        rank[np.argsort(area[known], kind="stable")] = np.linspace(0, 1, len(known))
        z[known] = (0.5 - rank) * np.sqrt(12)
    return z


def _attributes(
    catalog: Catalog, vocab: Vocab, names: list[str], item_ids: pa.ChunkedArray, notes: Counter[str]
) -> tuple[Array, Array, Array]:
    """value (M, A) uint16, state (M, A) uint8, complete (M, A) bool from the long table."""
    onto, m = vocab.ontology, len(item_ids)
    value, state = np.zeros((m, len(names)), np.uint16), np.zeros((m, len(names)), np.uint8)
    complete = np.zeros((m, len(names)), bool)
    table = catalog.table("attributes", ["item_id", "attribute", "state", "values", "complete"]).combine_chunks()
    which = pc.fill_null(pc.index_in(table["attribute"], pa.array(names, pa.string())), len(names)).to_numpy()
    row = _rows_of(table["item_id"], item_ids)
    for a in range(len(names)):
        name, at = names[a], np.flatnonzero((which == a) & (row >= 0))
        rows = table.take(pa.array(at)).combine_chunks()
        if not rows.num_rows:
            continue
        at = row.take(at)
        codes = _codes(rows["state"], STATE_CODE)
        ids, clash = _value_ids(vocab, onto, name, rows["values"], codes == S_PRESENT, catalog.path)
        if clash.any():
            notes[f"{name}: several values that exclude each other"] += int(clash.sum())
        codes = np.where(clash | ((codes == S_PRESENT) & (ids == NONE)), S_UNKNOWN, codes)
        value[at, a], state[at, a] = np.where(codes == S_PRESENT, ids, NONE), codes
        complete[at, a] = onto.attributes[name].exclusive | rows["complete"].to_numpy(zero_copy_only=False)
    return value, state, complete


def _rows_of(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> Array:
    """(n,) int64 position of each id among `known`, -1 where it is not; rows of one id commonly follow each other."""
    runs = pc.run_end_encode(ids.combine_chunks() if ids.num_chunks != 1 else ids.chunk(0))
    at = pc.fill_null(pc.index_in(runs.values, known.combine_chunks()), -1).to_numpy().astype(np.int64)
    ends = runs.run_ends.to_numpy()
    return np.repeat(at, np.diff(ends, prepend=0))


def _open_values(onto: Ontology, vocab: Vocab, names: list[str], value: Array, state: Array, complete: Array) -> None:
    """Takes `complete` from attributes whose stated value is not all that holds on such an item (`open_on`)."""
    for a, name in enumerate(names):
        for pair in onto.attributes[name].open_on:
            other, key = pair.split("/", 1)
            if other in names:
                below = [k for k in onto.attributes[other].values if key in (k, *onto.value_ancestors(other, k))]
                ids = [vocab.value[other, k] for k in below]
                b = names.index(other)
                complete[(state[:, b] == S_PRESENT) & np.isin(value[:, b], ids), a] = False


def _codes(column: pa.ChunkedArray, codes: dict[str, int]) -> Array:
    at = pc.fill_null(pc.index_in(column, pa.array(list(codes))), len(codes)).to_numpy()
    return np.array([*codes.values(), S_UNKNOWN], np.uint8)[at]


def _value_ids(
    vocab: Vocab, onto: Ontology, name: str, column: pa.ChunkedArray, present: Array, path: Path
) -> tuple[Array, Array]:
    """One vocabulary id a row (a set's for non-exclusive attributes), and where an exclusive one contradicts itself."""
    column = column.combine_chunks()
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    known = {key: vocab.value[name, key] for key in onto.attributes[name].values}
    flat = _ids(pc.list_flatten(column), known, path, f"values of {name}")
    ids, clash = np.zeros(len(column), np.uint16), np.zeros(len(column), bool)
    ends = np.cumsum(lengths)
    single = lengths == 1
    ids[single] = flat[(ends - 1)[single]]
    if onto.attributes[name].exclusive:
        for row in np.flatnonzero((lengths > 1) & present):
            ids[row] = _most_specific(vocab, onto, name, flat[ends[row] - lengths[row] : ends[row]])
        clash = (lengths > 1) & present & (ids == NONE)
        return ids, clash
    sets = {
        row: tuple(sorted({int(v) for v in flat[ends[row] - lengths[row] : ends[row]]}))
        for row in np.flatnonzero(present)
    }
    vocab.add_sets(name, (members for members in sets.values() if members))
    for row, members in sets.items():
        ids[row] = vocab.sets.get(members, NONE)
    return ids, clash


def _most_specific(vocab: Vocab, onto: Ontology, name: str, values: Array) -> int:
    """Of values on one line of descent the lowest, else 0."""
    keys = {vocab.key[v].split("/", 1)[1] for v in values}
    for key in keys:
        if keys <= {key, *onto.value_ancestors(name, key)}:
            return vocab.value[name, key]
    return NONE


def _labels(catalog: Catalog, vocab: Vocab, names: list[str], image_ids: pa.ChunkedArray) -> Array:
    label = np.zeros((len(image_ids), len(names)), np.uint16)
    table = catalog.table("labels", ["image_id", "label", "state", "values"])
    for number, name in enumerate(names):
        rows = table.filter(pc.and_(pc.equal(table["label"], name), pc.equal(table["state"], PRESENT))).combine_chunks()
        at = pc.index_in(rows["image_id"], image_ids.combine_chunks())
        rows = rows.append_column("row", at).filter(pc.is_valid(at)).combine_chunks()
        if rows.num_rows:
            present = np.ones(rows.num_rows, bool)
            label[rows["row"].to_numpy(), number], _ = _value_ids(
                vocab, vocab.ontology, name, rows["values"], present, catalog.path
            )
    return label


def _declare(s: Scenes) -> None:
    """closed, sole, countable by vocabulary id."""
    onto, vocab = s.ontology, s.vocab
    s.closed, s.sole, s.countable, s.alone = (np.zeros(len(vocab), bool) for _ in range(4))
    declared = (
        (s.facts.closed_categories, s.closed),
        (s.facts.countable, s.countable),
        (s.facts.sole_categories, s.sole),
        (s.facts.alone_categories, s.alone),
    )
    for names, flags in declared:
        for name in names:
            if name not in onto.categories:
                raise InputError("catalog.yaml names an unknown category", found=name, allowed=onto.categories)
            for key in onto.descendants(name):
                flags[vocab.category[key]] = True
    for region, number in vocab.region.items():
        here = [k for k, c in onto.categories.items() if not c.abstract and onto.region_of(k) == region]
        s.closed[number] = bool(here) and all(s.closed[vocab.category[k]] for k in here)
    s.root = vocab.category[root_of(onto)]
    s.no_place = np.array(
        [k == "region" and not onto.regions[n].place for k, n in zip(vocab.kind, vocab.key, strict=True)]
    )
    s.widened = np.zeros(len(vocab), bool)
    for leaf in np.unique(s.leaf):
        s.widened[[vocab.category[k] for k in onto.ancestors(vocab.key[leaf])]] = True
    s.is_category = np.array([kind == "category" for kind in vocab.kind])
    s.attribute_of_value, s.label_of_value = (np.full(len(vocab), -1, np.int16) for _ in range(2))
    for (attribute, _), number in vocab.value.items():
        for names, table in ((s.attributes, s.attribute_of_value), (s.labels, s.label_of_value)):
            if attribute in names:
                table[number] = names.index(attribute)
    s.compatible = np.eye(len(vocab), dtype=bool)
    for (attribute, key), number in vocab.value.items():
        s.compatible[number, [vocab.value[attribute, k] for k in onto.compatible(attribute, key)]] = True
    for key, number in vocab.category.items():
        s.compatible[number, [vocab.category[k] for k in onto.overlapping(key)]] = True


def _mask_clauses(s: Scenes) -> None:
    """Fills clause, sure and may."""
    vocab, onto = s.vocab, s.ontology
    holds, could = _closures(vocab, onto)
    used = (
        {int(v) for v in np.unique(s.leaf)}
        | {int(v) for v in np.unique(s.region)}
        | {int(v) for v in np.unique(s.value)}
    )
    used |= {m for u in used for m in vocab.members[u]}
    columns = sorted({h for u in used for h in holds.get(u, ())})
    s.clause = np.full(len(vocab), -1, np.int32)
    s.clause[columns] = np.arange(len(columns))
    most = int((s.start[1:] - s.start[:-1]).max(initial=0))
    dtype: Any = np.uint32 if most <= 16 else np.uint64
    half = dtype(np.dtype(dtype).itemsize * 4)
    s.masks = np.zeros((len(s.image_ids), max(len(columns), 1)), dtype)
    all_items = (dtype(1) << np.diff(s.start).astype(dtype)) - dtype(1)
    s.whole = all_items << half | all_items
    _mark(s, s.leaf, holds, could)
    _mark(s, s.region, holds, could)
    for a, name in enumerate(s.attributes):
        _mark(s, s.value[:, a], holds, could)
        _mark_open(s, a, name)


def _closures(vocab: Vocab, onto: Ontology) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """Vocabulary id → ids that hold with it, and ids that could hold with it."""
    holds: dict[int, tuple[int, ...]] = {}
    could: dict[int, tuple[int, ...]] = {}
    for key, number in vocab.category.items():
        holds[number] = tuple(vocab.category[k] for k in (key, *onto.ancestors(key)))
        others = {a for o in onto.overlapping(key) for a in (o, *onto.ancestors(o))}
        could[number] = tuple(sorted(vocab.category[k] for k in others))
    for (attribute, key), number in vocab.value.items():
        holds[number] = tuple(vocab.value[attribute, k] for k in (key, *onto.value_ancestors(attribute, key)))
        others = {a for o in onto.compatible(attribute, key) for a in (o, *onto.value_ancestors(attribute, o))}
        could[number] = tuple(sorted(vocab.value[attribute, k] for k in others))
    for number in vocab.region.values():
        holds[number] = could[number] = (number,)
    for members, number in vocab.sets.items():
        holds[number] = tuple(sorted({h for m in members for h in holds[m]}))
        could[number] = tuple(sorted({h for m in members for h in could[m]}))
    return holds, could


def _mark(s: Scenes, ids: Array, holds: dict[int, tuple[int, ...]], could: dict[int, tuple[int, ...]]) -> None:
    order = np.argsort(ids, kind="stable")
    values, first = np.unique(ids[order], return_index=True)
    ends = [*first, len(order)][1:]
    for value, lo, hi in zip(values.tolist(), first, ends, strict=True):
        if value == NONE:
            continue
        rows = order[lo:hi]
        _or_bits(s, 0, rows, [int(s.clause[h]) for h in holds[value]])
        _or_bits(s, 1, rows, [int(s.clause[h]) for h in could[value] if s.clause[h] >= 0])


def _or_bits(s: Scenes, half: int, rows: Array, columns: list[int]) -> None:
    """Sets the bits of some items for some clauses: half 0 is `sure`, half 1 `may`."""
    kind = s.masks.dtype.type
    bits = kind(1) << (s.bit[rows].astype(kind) + kind(half * s.masks.dtype.itemsize * 4))
    for column in columns:
        np.bitwise_or.at(s.masks[:, column], s.image[rows], bits)


def _mark_open(s: Scenes, a: int, name: str) -> None:
    """Items whose value of the attribute is unknown, hidden or incompletely listed may have any value of it."""
    values = [s.vocab.value[name, key] for key in s.ontology.attributes[name].values]
    columns = [int(s.clause[v]) for v in values if s.clause[v] >= 0]
    if not columns:
        return
    applies = np.zeros(len(s.vocab), bool)
    for key, number in s.vocab.category.items():
        applies[number] = any(s.ontology.applies(name, k) for k in s.ontology.descendants(key))
    state = s.state[:, a]
    open_ = (state == S_HIDDEN) | ((state == S_UNKNOWN) & applies[s.leaf]) | ((state == S_PRESENT) & ~s.complete[:, a])
    _or_bits(s, 1, np.flatnonzero(open_), columns)


def _hold_out(catalog: Catalog, s: Scenes) -> None:
    s.held_out = np.zeros((len(s.vocab), len(s.vocab)), bool)
    for row in catalog.table("compositions").to_pylist():
        value = s.vocab.value.get((row["attribute"], row["value"]))
        category = s.vocab.category.get(row["category"])
        if value is None or category is None:
            raise InputError("a held-out composition names unknown words", file=catalog.path, found=row)
        s.held_out[category, value] = True
    for members, number in s.vocab.sets.items():  # a set says each of its values
        s.held_out[:, number] = s.held_out[:, list(members)].any(axis=1)
