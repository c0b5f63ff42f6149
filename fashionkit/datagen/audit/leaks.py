"""What leaks from one split to another: pictures, groups, copies of pictures, held-out compositions.

    images of the set ──────────► a picture or group in two splits?
    samples, part by part ──────► a picture asked about in another split's folder? a held-out composition in train?
    images of the catalogue ────► a product, or the same bytes, in two splits?
                       phash ──► pairs across splits within a few bits ──► 32 x 32 RGB ──► near duplicates

Near duplicates are those of `catalog.splits`: a perceptual hash proposes a pair and a comparison of small pictures
confirms it. By their hashes alone unlike product photos on white chain together, so that is only reported. The search
here is another one than that of the catalogue and looks at all pairs across splits: of `bits + 1` chunks of a hash, a
pair within `bits` agrees in at least one (pigeonhole; Norouzi, Punjani, Fleet 2012, arXiv 1307.2982).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.neardup import THUMB_BYTES, pixel_sums
from fashionkit.catalog.schema import SPLITS
from fashionkit.catalog.splits import SplitOptions
from fashionkit.datagen.audit.counts import Facts, facts_of, programs
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict, at_most
from fashionkit.datagen.audit.wording import in_words
from fashionkit.datagen.samples import SAMPLE_SPLITS, SLOTS, sample_files
from fashionkit.datagen.scene import root_of
from fashionkit.datagen.store import VQAStore
from fashionkit.engine import run_shards
from fashionkit.tables import InputError, read_table, table_parts

Array = npt.NDArray[Any]
Say = Callable[[str], None]
Part = tuple[str, Path]

EXAMPLES = 5
CHECKED = ("train", "val")  # splits that may not hold a held-out composition
NO_CATALOG = "it needs the catalogue (--catalog)"
CELLS = 1 << 22  # pairs of pictures, or of rows and categories, compared at a time
BATCH = 4096  # pictures read at a time


def leak_checks(
    store: VQAStore,
    catalog_path: str | Path | None,
    options: AuditOptions,
    say: Say = lambda line: None,
    workers: int = 1,
) -> list[Verdict]:
    """Looks for whatever could carry an answer from one split to another.

    Args:
        store: The set. catalog_path: The catalogue it was made from; without it only the set's own tables are looked
            at. options: Thresholds. say: Gets a line about each step. workers: Processes.

    Returns:
        Verdicts of `picture-leak`, `group-leak`, `same-bytes`, `near-duplicate` and `held-out-composition`.

    Raises:
        InputError: A table is damaged, or the catalogue is another one.
    """
    pictures = read_pictures(store)
    catalog = None if catalog_path is None else store.catalog(catalog_path)
    held = None if catalog is None else held_out(store, catalog, pictures)
    found = _walk(store, pictures, held, workers)
    verdicts = [*_pictures(store, pictures, found), *_groups(pictures)]
    if catalog is None:
        for check in ("same-bytes", "near-duplicate", "held-out-composition"):
            verdicts.append(Verdict(check, "the set", "skip", note=NO_CATALOG))
        return verdicts
    say("comparing the pictures of the splits")
    verdicts += _with_catalog(catalog, pictures)
    return [*verdicts, *_near(catalog, pictures, options.near_duplicate), *_compositions(found, held)]


# The set's own tables.


@dataclass
class Pictures:
    """The pictures of a set, by the number that samples hold.

    Attributes:
        ids: Catalogue ids. side: (n,) position in SPLITS. group: (n,) split group.
    """

    ids: pa.Array
    side: Array
    group: Array

    def named(self, rows: Array) -> str:
        """The first few pictures in words, each with its split."""
        some = rows[: 2 * EXAMPLES].tolist()
        return ", ".join(f"{self.ids[row].as_py()} ({SPLITS[self.side[row]]})" for row in some)


def read_pictures(store: VQAStore) -> Pictures:
    """The table `images` of a set.

    Raises:
        InputError: A column is missing, or something is empty, out of order or no split.
    """
    names = ["image", "image_id", "split", "group"]
    table = read_table(store.path, "images", names).combine_chunks()
    file = store.path / "images"
    for name in names:
        if table[name].null_count:
            raise InputError("a cell is empty", file=file, column=name)
    if not np.array_equal(table["image"].to_numpy(), np.arange(table.num_rows)):
        raise InputError("the pictures must be numbered from 0, in order", file=file, column="image")
    side = pc.fill_null(pc.index_in(table["split"], value_set=pa.array(SPLITS)), -1).to_numpy()
    if (side < 0).any():
        row = int(np.flatnonzero(side < 0)[0])
        found = table["split"][row].as_py()
        raise InputError("no such split", file=file, row=row + 1, column="split", found=found, allowed=SPLITS)
    return Pictures(table["image_id"].combine_chunks(), side, table["group"].to_numpy())


def torn(code: Array, side: Array) -> Array:
    """(m,) rows, ordered by code, of whatever has equal codes in several splits.

    Args:
        code: (n,) integers; rows below 0 are left out. side: (n,) split of each row.
    """
    rows = np.flatnonzero(code >= 0)
    rows = rows[np.argsort(code[rows], kind="stable")]
    start = np.flatnonzero(np.diff(code[rows], prepend=-1))
    if not len(rows):
        return rows
    low, high = np.minimum.reduceat(side[rows], start), np.maximum.reduceat(side[rows], start)
    apart = np.repeat(low != high, np.diff([*start, len(rows)]))
    return rows[apart]


def _torn(check: str, scope: str, code: Array, pictures: Pictures) -> Verdict:
    """How many codes stand in several splits: 0 passes."""
    rows = torn(code, pictures.side)
    return at_most(check, scope, float(len(np.unique(code[rows]))), 0.0, int((code >= 0).sum()), pictures.named(rows))


def _codes(column: pa.Array) -> Array:
    """(n,) a number for each distinct value, -1 for null."""
    return pc.fill_null(column.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _groups(pictures: Pictures) -> list[Verdict]:
    _, code = np.unique(pictures.group, return_inverse=True)
    return [_torn("group-leak", "split groups", code, pictures)]


# Samples, part by part.


@dataclass
class HeldOut:
    """Held-out compositions in ids of the set.

    Attributes:
        pairs: How many the catalogue holds out. code: Ascending category * vocabulary + value; a set of values counts
            as each of them. ever: (vocab,) bool: a value of any pair. place: (vocab,) row of `leaf_held`.
        leaf_held: (values, leaves) bool. has: (images, leaves) bool: kinds of the picture's items.
        below: (vocab, leaves) bool: kinds that a category names. is_category: (vocab,) bool.
        own: (T, SLOTS) bool: slots that name the item a question is about. about_root: (T,) bool: it is named by the
            root ("the red item"). root: Its id.
    """

    pairs: int
    code: Array
    ever: Array
    place: Array
    leaf_held: Array
    has: Array
    below: Array
    is_category: Array
    own: Array
    about_root: Array
    root: int


def held_out(store: VQAStore, catalog: Catalog, pictures: Pictures) -> HeldOut:
    """The compositions that a catalogue holds out, and which kinds of items its pictures show."""
    vocab, ontology = store.vocab, store.ontology
    rows = catalog.table("compositions").to_pylist()
    pairs = {(vocab.category[r["category"]], vocab.value[r["attribute"], r["value"]]) for r in rows}
    for members, number in vocab.sets.items():
        pairs |= {(category, number) for category, value in list(pairs) if value in members}
    ever = np.zeros(len(vocab), bool)
    ever[[value for _, value in pairs]] = True
    items = catalog.table("items", ["image_id", "category"])
    kinds = items["category"].combine_chunks().dictionary_encode()
    leaves: list[str] = kinds.dictionary.to_pylist()
    below = np.zeros((len(vocab), len(leaves)), bool)
    for at, leaf in enumerate(leaves):
        below[[vocab.category[key] for key in (leaf, *ontology.ancestors(leaf))], at] = True
    picture = pc.index_in(items["image_id"].combine_chunks(), value_set=pictures.ids)
    known = picture.is_valid().to_numpy(zero_copy_only=False)
    has = np.zeros((len(pictures.ids), len(leaves)), bool)
    has[picture.drop_null().to_numpy(), kinds.indices.to_numpy()[known]] = True
    place = np.cumsum(ever) - 1
    leaf_held = np.zeros((int(ever.sum()), len(leaves)), bool)
    for at, leaf in enumerate(leaves):
        leaf_held[[place[value] for category, value in pairs if category == vocab.category[leaf]], at] = True
    own, about_root = _own_slots(store)
    return HeldOut(
        pairs=len(rows),
        code=np.array(sorted(category * len(vocab) + value for category, value in pairs), np.int64),
        ever=ever,
        place=place,
        leaf_held=leaf_held,
        has=has,
        below=below,
        is_category=np.array([kind == "category" for kind in vocab.kind]),
        own=own,
        about_root=about_root,
        root=vocab.category[root_of(ontology)],
    )


def _own_slots(store: VQAStore) -> tuple[Array, Array]:
    """Which slots name the item a question is about, and which templates name it by the root; see `HeldOut`."""
    templates = store.pack.templates
    own = np.zeros((len(templates), SLOTS), bool)
    single = ["unique" in t.program.functions() and "exist" not in t.program.functions() for t in templates]
    for row, (t, names) in enumerate(zip(templates, store.slots, strict=True)):
        slots = [t.slot(name) for name in names]
        own[row, : len(names)] = [single[row] and s.kind == "category" and s.role == "own" for s in slots]
    return own, np.array(single) & ~own.any(1)


@dataclass
class Walked:
    """What one part, or all of them, show.

    Attributes:
        part: Its position. rows: Samples. asked: (n,) pictures of another split than the part's.
        held: Split → samples that rest on a held-out composition, samples in all. examples: Split → lines for people.
    """

    part: int
    rows: int = 0
    asked: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    held: dict[str, list[int]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class _Job:
    store: VQAStore
    facts: Facts
    side: Array
    held: HeldOut | None


_job: _Job | None = None


def _adopt(job: _Job) -> None:
    global _job
    _job = job


def _walk(store: VQAStore, pictures: Pictures, held: HeldOut | None, workers: int) -> Walked:
    """All samples, one after the other."""
    parts = [(split, path) for split in SAMPLE_SPLITS for path in sample_files(store.path, split)]
    job = _Job(store, facts_of(store), pictures.side, held)
    show: dict[str, Any] = {"describe": "looking for leaks", "total_rows": len(store), "rows": lambda found: found.rows}
    results = run_shards(_walk_part, list(enumerate(parts)), workers, initializer=_adopt, initargs=(job,), **show)
    total = Walked(0)
    for found in sorted(results, key=lambda found: found.part):
        total.rows += found.rows
        total.asked = np.union1d(total.asked, found.asked)
        for split, counts in found.held.items():
            total.held[split] = [a + b for a, b in zip(total.held.get(split, [0, 0]), counts, strict=True)]
            total.examples[split] = (total.examples.get(split, []) + found.examples.get(split, []))[:EXAMPLES]
    return total


def _walk_part(task: tuple[int, Part]) -> Walked:
    assert _job is not None, "a task runs where no job was adopted"
    part, (split, path) = task
    found, own = Walked(part), SPLITS.index(split) if split in SPLITS else SPLITS.index("test")
    for columns, _ in programs(path, _job.facts):
        found.rows += len(columns["image"])
        found.asked = np.union1d(found.asked, columns["image"][_job.side.take(columns["image"]) != own])
        if _job.held is not None and split in CHECKED:
            at = np.flatnonzero(rests_on_held(_job.held, columns))
            bad, n = found.held.get(split, [0, 0])
            found.held[split] = [bad + len(at), n + len(columns["image"])]
            known = found.examples.setdefault(split, [])
            at = at[: EXAMPLES - len(known)]
            known += in_words(_job.store, columns, at, [split] * len(at))
    return found


def rests_on_held(held: HeldOut, columns: dict[str, Array]) -> Array:
    """(n,) bool: samples that name a held-out category and value, or give the value to what can only be that category.

    Slots and answers count alike. "The red accessory" of a picture whose only accessories are bags is a red bag.
    """
    names = [*(f"slot{i}" for i in range(SLOTS)), "answer"]
    touched = np.zeros(len(columns["image"]), bool)
    for name in names:
        touched |= held.ever.take(columns[name])
    found, rows = touched.copy(), np.flatnonzero(touched)
    step = max(CELLS // max(held.has.shape[1], 1), 1)
    for lo in range(0, len(rows), step):
        some = rows[lo : lo + step]
        ids = np.stack([columns[name][some] for name in names]).astype(np.int64)
        found[some] = _named(held, ids) | _meant(held, columns["image"][some], columns["template"][some], ids)
    return found


def _named(held: HeldOut, ids: Array) -> Array:
    """(n,) bool: two of the (5, n) slots and answers are a held-out category and value."""
    found = np.zeros(ids.shape[1], bool)
    for category in ids:
        for value in ids:
            pair = np.isin(category * len(held.ever) + value, held.code)
            found |= pair & held.is_category.take(category)
    return found


def _meant(held: HeldOut, picture: Array, template: Array, ids: Array) -> Array:
    """(n,) bool: all that the picture shows of what the question names is of categories held out with a value."""
    found = np.zeros(len(picture), bool)
    about = [np.where(held.own[template, slot], ids[slot], -1) for slot in range(SLOTS)]
    about.append(np.where(held.about_root.take(template), held.root, -1))
    for category in about:
        on = np.flatnonzero(category >= 0)
        could = held.has[picture[on]] & held.below[category[on]]
        for value in ids[:, on]:
            ever = held.ever.take(value)
            other = ~held.leaf_held[held.place.take(value[ever])]
            found[on[ever]] |= could[ever].any(1) & ~(could[ever] & other).any(1)
    return found


def _pictures(store: VQAStore, pictures: Pictures, found: Walked) -> Iterator[Verdict]:
    yield _torn("picture-leak", "pictures", _codes(pictures.ids), pictures)
    note = pictures.named(found.asked)
    yield at_most("picture-leak", "samples", float(len(found.asked)), 0.0, len(store), note)


def _compositions(found: Walked, held: HeldOut | None) -> Iterator[Verdict]:
    assert held is not None
    for split, (bad, n) in found.held.items():
        note = "; ".join(found.examples[split]) if held.pairs else "the catalogue holds out none"
        yield at_most("held-out-composition", split, float(bad), 0.0, n, note)


# The catalogue's pictures.


def _with_catalog(catalog: Catalog, pictures: Pictures) -> Iterator[Verdict]:
    """Splits as the catalogue has them, products, and equal bytes."""
    images = catalog.table("images", ["image_id", "group", "sha256"]).combine_chunks()
    at = pc.index_in(pictures.ids, value_set=images["image_id"].combine_chunks())
    splits = catalog.table("splits").combine_chunks()
    place = pc.index_in(pictures.ids, value_set=splits["image_id"].combine_chunks())
    side = pc.index_in(splits["split"].combine_chunks(), value_set=pa.array(SPLITS)).take(place)
    group = splits["split_group"].combine_chunks().take(place)
    same = (pc.fill_null(side, -1).to_numpy() == pictures.side) & (pc.fill_null(group, -1).to_numpy() == pictures.group)
    other = np.flatnonzero(~same | at.is_null().to_numpy(zero_copy_only=False))
    scope = "as in the catalogue"
    yield at_most("picture-leak", scope, float(len(other)), 0.0, len(pictures.ids), pictures.named(other))
    for check, scope, name in (("group-leak", "products", "group"), ("same-bytes", "the set", "sha256")):
        column = images[name].combine_chunks().take(at)
        if name == "sha256" and column.null_count == len(column):
            yield Verdict(check, scope, "skip", note="the catalogue holds no pictures")
        else:  # a picture without a group stands alone
            yield _torn(check, scope, _codes(column), pictures)


def near_pairs(phash: Array, side: Array, bits: int) -> Iterator[tuple[Array, Array]]:
    """Every pair across splits whose hashes differ in at most `bits` bits, once, in batches of (rows, rows).

    Args:
        phash: (n,) uint64. side: (n,) split of each. bits: 0 to 64.
    """
    chunks = np.array_split(np.uint64(1) << np.arange(64, dtype=np.uint64), min(bits + 1, 64))
    masks = [np.bitwise_or.reduce(chunk) for chunk in chunks] if bits < 64 else [np.uint64(0)]
    for number, mask in enumerate(masks):
        order = np.argsort(phash & mask, kind="stable")
        key = (phash & mask)[order]
        start = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
        size = np.diff([*start, len(key)])
        for lo, many in zip(start[size > 1].tolist(), size[size > 1].tolist(), strict=True):
            run = order[lo : lo + many]
            step = max(CELLS // many, 1)
            for first in range(0, many, step):
                yield _meet(phash, side, bits, run[first : first + step], run, masks[:number])


def _meet(phash: Array, side: Array, bits: int, a: Array, b: Array, earlier: list[np.uint64]) -> tuple[Array, Array]:
    """Pairs of `a` and `b` within `bits` bits; what agrees in an earlier chunk was found there."""
    differ = phash[a][:, None] ^ phash[b]
    near = (np.bitwise_count(differ) <= bits) & (side[a][:, None] < side[b])
    i, j = np.nonzero(near)
    differ = differ[i, j]
    new = np.ones(len(i), bool)
    for mask in earlier:
        new &= differ & mask != 0
    return a[i[new]], b[j[new]]


def _near(catalog: Catalog, pictures: Pictures, bits: int) -> Iterator[Verdict]:
    """Near duplicates across splits, and what their hashes alone would call so."""
    table = catalog.table("images", ["image_id", "phash"]).combine_chunks()
    ids = table["image_id"].combine_chunks()
    rows = pc.fill_null(pc.index_in(ids, value_set=pictures.ids), -1).to_numpy()  # of the set, by row of the catalogue
    phash = table["phash"].combine_chunks().take(pc.index_in(pictures.ids, value_set=ids))
    sums, valid = _block_sums(catalog, rows, len(pictures.ids))
    usable = np.flatnonzero(valid & phash.is_valid().to_numpy(zero_copy_only=False))
    if not len(usable):
        yield Verdict("near-duplicate", "the set", "skip", note="the catalogue holds no pictures")
        return
    hashes, side = phash.take(pa.array(usable)).to_numpy(), pictures.side[usable]
    limit = SplitOptions().pixel_difference * THUMB_BYTES
    by_hash, kept = 0, [np.zeros((0, 2), np.int64)]
    for a, b in near_pairs(hashes, side, bits):
        by_hash += len(a)
        a, b = usable[a], usable[b]
        bound = np.concatenate(
            [np.abs(sums[a[i : i + BATCH]] - sums[b[i : i + BATCH]]).sum(1) for i in range(0, len(a), BATCH)]
            or [np.zeros(0, np.int64)]
        )
        kept.append(np.stack([a, b], 1)[bound < limit])
    pairs = np.concatenate(kept)
    asked, place = np.unique(pairs, return_inverse=True)
    near = pairs[pixel_sums(_thumbs(catalog, rows, asked), place.reshape(-1, 2)) < limit]
    note = f"within {bits} bits and {SplitOptions().pixel_difference:g} of 255 a pixel"
    named = f"; {pictures.named(near.reshape(-1))}" if len(near) else ""
    yield at_most("near-duplicate", "the set", float(len(near)), 0.0, len(usable), note + named)
    why = "pairs of like hash that the small pictures tell apart are no copies"
    yield Verdict("near-duplicate", "by hash alone", "info", float(by_hash), n=len(usable), note=why)


def _read_thumbs(catalog: Catalog, rows: Array) -> Iterator[tuple[Array, Array]]:
    """Batches of the set's pictures with a small copy: their rows, and `[n, 3072]` bytes.

    Args:
        catalog: The catalogue. rows: The row in the set of each of its pictures, -1 where it is none of the set's.
    """
    at = 0
    for part in table_parts(catalog.path, "images"):
        for batch in pq.ParquetFile(part).iter_batches(BATCH, columns=["thumb"]):
            here, thumbs = rows[at : at + batch.num_rows], batch["thumb"]
            at += batch.num_rows
            wanted = thumbs.is_valid().to_numpy(zero_copy_only=False) & (here >= 0)
            thumbs = thumbs.filter(pa.array(wanted))
            if (pc.binary_length(thumbs).to_numpy(zero_copy_only=False) != THUMB_BYTES).any():
                raise InputError(f"a thumb must have {THUMB_BYTES} bytes", file=part, column="thumb")
            blob = np.frombuffer(b"".join(thumbs.to_pylist()), np.uint8)
            yield here[wanted], blob.reshape(-1, THUMB_BYTES)


def _block_sums(catalog: Catalog, rows: Array, n: int) -> tuple[Array, Array]:
    """(n, 48) sums over blocks of 8 x 8 pixels, whose differences bound those of the pixels from below; (n,) bool."""
    sums, valid = np.zeros((n, 48), np.int32), np.zeros(n, bool)
    for some, thumbs in _read_thumbs(catalog, rows):
        sums[some] = thumbs.reshape(-1, 4, 8, 4, 8, 3).sum((2, 4), dtype=np.int32).reshape(-1, 48)
        valid[some] = True
    return sums, valid


def _thumbs(catalog: Catalog, rows: Array, asked: Array) -> Array:
    """`[m, 3072]` bytes of the pictures `asked`, which ascend."""
    found = np.zeros((len(asked), THUMB_BYTES), np.uint8)
    for some, thumbs in _read_thumbs(catalog, np.where(np.isin(rows, asked), rows, -1)) if len(asked) else ():
        found[np.searchsorted(asked, some)] = thumbs
    return found
