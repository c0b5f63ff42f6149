"""Divides a catalogue's pictures into train, val and test so that nothing leaks from one to the other.

    images ──► same product, session or contributor ──┐
           ──► same bytes ────────────────────────────┼──► groups ──► salted hash ──► splits/
           ──► near duplicates (neardup) ─────────────┘                   │
    items, attributes ──► triples (category, attribute, value) ───────────┴─────────► compositions/

A whole group goes to one split. Its place is a hash of the group's own name, so it depends neither on the order of the
rows nor on the other pictures: a catalogue that grows keeps its splits, but for groups that new pictures join together.
Held-out compositions move no picture: a triple such as (dress, pattern, paisley) is only never asked about in training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fashionkit.catalog.neardup import THUMB_BYTES, Pairs, components, near_duplicates
from fashionkit.catalog.schema import COMPOSITIONS, PRESENT, SPLIT_TABLE, SPLITS
from fashionkit.tables import InputError, part_path, read_table, shorten, table_parts, write_table, write_text

REPORT = "split_report.json"
Triple = tuple[str, str, str]  # category, attribute, value
_LARGE = 0.01  # a group above this share of the images is warned about
_BATCH = 10_000
_LISTED = 5  # groups, and images of a group, that the report names


@dataclass(frozen=True)
class SplitOptions:
    """How a catalogue is divided.

    Attributes:
        shares: Split and its expected share of the groups; the shares sum to 1.
        salt: Another salt gives other splits.
        phash_distance: Bits in which the hashes of proposed near duplicates may differ, 0..16.
        pixel_difference: Near duplicates stay under this mean difference of their 32 x 32 RGB bytes (0..255); 0 joins
            no near duplicates.
        given: Image id → split, as the data's authors published it. It is kept; a group that it tears apart goes as a
            whole to its most held-out split (test before val before train), and the report says so.
        compositions: Share of the eligible (category, attribute, value) triples to hold out, 0..1.
        composition_items: Items that a triple needs to be eligible, and that its category and its value must each
            keep in train without it.
    """

    shares: tuple[tuple[str, float], ...] = (("train", 0.8), ("val", 0.1), ("test", 0.1))
    salt: str = "fashionkit"
    phash_distance: int = 6
    pixel_difference: float = 2.0
    given: Mapping[str, str] | None = None
    compositions: float = 0.05
    composition_items: int = 20

    def __post_init__(self) -> None:
        names = [name for name, _ in self.shares]
        for column, used in (("shares", set(names)), ("given", set((self.given or {}).values()))):
            for name in sorted(used - set(SPLITS)):
                raise InputError("no such split", column=column, found=name, allowed=SPLITS)
        if len(set(names)) < len(names):
            raise InputError("a split is named twice", column="shares", found=names)
        if not all(share > 0 for _, share in self.shares) or abs(sum(share for _, share in self.shares) - 1) > 1e-9:
            hint = "leave out a split that shall be empty"
            raise InputError("the shares must be above 0 and sum to 1", column="shares", found=self.shares, hint=hint)
        if not 0 <= self.phash_distance <= 16:
            raise InputError("0 to 16 bits are needed", column="phash_distance", found=self.phash_distance)
        if not 0 <= self.pixel_difference <= 255:
            raise InputError("0 to 255 is needed", column="pixel_difference", found=self.pixel_difference)
        if not 0 <= self.compositions <= 1:
            raise InputError("a share from 0 to 1 is needed", column="compositions", found=self.compositions)
        if self.composition_items < 1:
            raise InputError("at least 1 is needed", column="composition_items", found=self.composition_items)


@dataclass
class SplitReport:
    """What `split_catalog` did; `lines` is for people, `to_dict` for JSON.

    Attributes:
        images: Pictures in the catalogue.
        groups: Groups that were assigned as a whole, a picture that stands alone counted as one.
        not_compared: Pictures without a thumb or hash: joined by group and bytes only.
        splits: Split → {"images", "groups", "asked" (its share)}.
        joined: Reason (`group`, `exact`, `near`) → {"pairs", "groups"}: the links it gave, and the groups with any.
        largest: The largest groups of several images: {"images", "share", "split", "by" (links by reason), "ids"}.
        compositions: {"eligible", "held_out"}, numbers of triples.
        warnings: Sentences.
    """

    images: int
    groups: int
    not_compared: int = 0
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    joined: dict[str, dict[str, int]] = field(default_factory=dict)
    largest: list[dict[str, Any]] = field(default_factory=list)
    compositions: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as text."""
        text = [f"{self.images:,} images in {self.groups:,} groups"]
        for name, row in self.splits.items():
            share = f"{row['images'] / self.images:.1%}, {row['asked']:.1%} asked"
            text.append(f"  {name:6} {row['images']:>9,} images {row['groups']:>9,} groups  ({share})")
        for why, row in self.joined.items():
            text.append(f"  joined by {why}: {row['pairs']:,} links, {row['groups']:,} groups")
        if self.not_compared:
            text.append(f"  without a thumb, not compared: {self.not_compared:,} images")
        for row in self.largest:
            by = ", ".join(f"{why} {links:,}" for why, links in row["by"].items() if links)
            ids = _listed(row["ids"], row["images"])
            text.append(f"  group of {row['images']:,} ({row['share']:.2%}, {row['split']}; links: {by}): {ids}")
        text.append(f"  held-out compositions: {self.compositions['held_out']:,} of {self.compositions['eligible']:,}")
        return text + [f"warning: {warning}" for warning in self.warnings]


def _listed(ids: list[str], total: int) -> str:
    """The first of `total` ids as a line that any terminal may be shown."""
    return ", ".join(shorten(name, 60) for name in ids) + (", …" if total > len(ids) else "")


def split_catalog(folder: Path, options: SplitOptions = SplitOptions()) -> SplitReport:
    """Writes the tables `splits` and `compositions` and `split_report.json`; the manifest is left to the caller.

    Rows come out sorted by id. A call on a folder that has these tables replaces them.

    Every split of `shares` gets a group where there are enough groups: one that the hash leaves empty, which only
    happens in tiny catalogues, takes the group nearest to it by hash from the split with the most.

    Args:
        folder: A catalogue with the table `images`; `items` and `attributes` where compositions are to be held out.
        options: How to divide.

    Raises:
        InputError: No images, an id twice, a thumb of the wrong size.
    """
    folder = Path(folder)
    images, rows, thumbs = _read_images(folder)
    ids: list[str] = images["image_id"].to_pylist()
    links = _links(images, rows, thumbs, options)
    label = components(len(ids), np.concatenate(list(links.values())))
    _, group = np.unique(label, return_inverse=True)  # numbered by the smallest id
    report = SplitReport(images=len(ids), groups=int(group.max()) + 1, not_compared=len(ids) - len(rows))
    fixed = _given(ids, group, options, report)
    split = _assign(_group_names(ids, images["group"], group), fixed, options, report)[group]
    names = np.array(SPLITS)[split]
    _describe(report, ids, group, split, links, options)
    table = pa.table([pa.array(ids), pa.array(group, pa.int32()), pa.array(names)], schema=SPLIT_TABLE)
    _replace_table(folder, "splits", table)
    _replace_table(folder, "compositions", _hold_out(folder, table, options, report))
    write_text(folder / REPORT, json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n")
    return report


def _read_images(folder: Path) -> tuple[pa.Table, NDArray[np.int64], NDArray[np.uint8]]:
    """The images in order of their ids, without thumbs; the rows that can be compared; their thumbs, `[m, 3072]`."""
    images = read_table(folder, "images", ["image_id", "sha256", "group", "phash", "thumb"])
    if not images.num_rows:
        raise InputError("the catalogue has no images to split", file=folder)
    order = pc.sort_indices(images["image_id"]).to_numpy()
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    usable = pc.and_(pc.is_valid(images["thumb"]), pc.is_valid(images["phash"])).to_numpy()
    rows = np.sort(place[usable])
    thumbs = np.empty((len(rows), THUMB_BYTES), np.uint8)
    at = 0
    for batch in images.select(["image_id", "thumb"]).to_batches(max_chunksize=_BATCH):  # all at once overflows Arrow
        here = np.flatnonzero(usable[at : at + batch.num_rows])
        pictures = batch.take(pa.array(here))
        for row in np.flatnonzero(pc.binary_length(pictures["thumb"]).to_numpy() != THUMB_BYTES):
            problem, found = f"a thumb must have {THUMB_BYTES} bytes", f"image {pictures['image_id'][row].as_py()}"
            raise InputError(problem, file=folder / "images", column="thumb", found=found)
        blob = np.frombuffer(b"".join(pictures["thumb"].to_pylist()), np.uint8)
        thumbs[np.searchsorted(rows, place[at + here])] = blob.reshape(-1, THUMB_BYTES)
        at += batch.num_rows
    images = images.drop_columns(["thumb"]).take(order)
    ids = images["image_id"].to_pylist()
    for one, other in pairwise(ids):
        if one == other:
            raise InputError("an image id stands twice in the table", file=folder / "images", found=one)
    return images, rows, thumbs


def _links(
    images: pa.Table, rows: NDArray[np.int64], thumbs: NDArray[np.uint8], options: SplitOptions
) -> dict[str, Pairs]:
    """Pairs of rows that belong together, by reason."""
    links = {"group": _equal(images["group"]), "exact": _equal(images["sha256"])}
    phash = images["phash"].take(rows).to_numpy()
    near = rows[near_duplicates(phash, thumbs, options.phash_distance, options.pixel_difference)]
    known = components(images.num_rows, links["exact"])
    links["near"] = near[known[near[:, 0]] != known[near[:, 1]]]  # copies of the same bytes are counted once
    return links


def _equal(column: pa.ChunkedArray) -> Pairs:
    """(first, later) for each row whose value an earlier row has; null equals nothing."""
    codes = pc.fill_null(pc.dictionary_encode(column).combine_chunks().indices, -1).to_numpy(zero_copy_only=False)
    _, first, of = np.unique(codes, return_index=True, return_inverse=True)
    later = np.flatnonzero((first[of] != np.arange(len(codes))) & (codes >= 0))
    return np.stack([first[of[later]], later], 1)


def _group_names(ids: list[str], column: pa.ChunkedArray, group: NDArray[np.int64]) -> list[str]:
    """What each group is hashed by: its smallest stated group id, else its smallest image id.

    A stated id goes first because it stays when the product or contributor gets another picture.
    """
    names: list[str | None] = [None] * (int(group.max()) + 1)
    for at, stated in zip(group, column.to_pylist(), strict=True):
        if stated is not None and (names[at] is None or stated < str(names[at])):
            names[at] = stated
    _, first = np.unique(group, return_index=True)
    return [f"image\0{ids[row]}" if name is None else f"group\0{name}" for name, row in zip(names, first, strict=True)]


def _given(ids: list[str], group: NDArray[np.int64], options: SplitOptions, report: SplitReport) -> NDArray[np.int64]:
    """The published split of each group as an index of SPLITS, -1 where there is none."""
    given = options.given or {}
    fixed = np.full(report.groups, -1)
    stated = np.array([SPLITS.index(given[name]) if name in given else -1 for name in ids])
    np.maximum.at(fixed, group, stated)
    moved = np.flatnonzero((stated >= 0) & (stated != fixed[group]))
    if len(moved):
        some = _listed([ids[row] for row in moved[:_LISTED]], len(moved))
        what = f"{len(moved):,} images went with their group to a more held-out split"
        report.warnings.append(f"the given split tears {len(np.unique(group[moved])):,} groups apart; {what}: {some}")
    if unknown := len(given.keys() - set(ids)):
        report.warnings.append(f"the given split names {unknown:,} images that the catalogue does not have")
    return fixed


def _assign(
    names: list[str], fixed: NDArray[np.int64], options: SplitOptions, report: SplitReport
) -> NDArray[np.int64]:
    """The split of each group as an index of SPLITS."""
    order = [SPLITS.index(name) for name, _ in options.shares]
    bounds = np.cumsum([share for _, share in options.shares])
    place = np.array([_uniform(options.salt, name) for name in names])
    drawn = np.minimum(np.searchsorted(bounds, place, side="right"), len(order) - 1)
    split = np.where(fixed >= 0, fixed, np.array(order)[drawn])
    free = np.flatnonzero(fixed < 0)
    for at, target in enumerate(order):
        sizes = np.bincount(split, minlength=len(SPLITS))
        movable = np.where(sizes > 1, np.bincount(split[free], minlength=len(SPLITS)), 0)
        if sizes[target] or not movable.any():
            continue
        donor = int(np.argmax(movable))
        middle = bounds[at] - options.shares[at][1] / 2
        candidates = free[split[free] == donor]
        split[candidates[np.argmin(np.abs(place[candidates] - middle))]] = target
        report.warnings.append(f"the hash left {SPLITS[target]} empty: one group of {SPLITS[donor]} was moved there")
    return split


def _uniform(salt: str, name: str) -> float:
    """A number in [0, 1) that the salt and the name alone decide."""
    digest = blake2b(name.encode(), digest_size=8, key=blake2b(salt.encode(), digest_size=32).digest()).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def _describe(
    report: SplitReport,
    ids: list[str],
    group: NDArray[np.int64],
    split: NDArray[np.int64],
    links: Mapping[str, Pairs],
    options: SplitOptions,
) -> None:
    """Fills in the counts, the largest groups and the warnings."""
    sizes = np.bincount(group)
    _, first = np.unique(group, return_index=True)
    asked = dict(options.shares)
    by = {why: np.bincount(group[pairs[:, 0]], minlength=len(sizes)) for why, pairs in links.items()}
    report.joined = {why: {"pairs": len(links[why]), "groups": int((counts > 0).sum())} for why, counts in by.items()}
    for number, name in enumerate(SPLITS):
        row = {"images": int((split == number).sum()), "groups": int((split[first] == number).sum())}
        if name in asked or row["images"]:
            report.splits[name] = {**row, "asked": asked.get(name, 0.0)}
        if name in asked and not row["images"]:
            report.warnings.append(f"{name} is empty: the catalogue has too few groups that may be moved")
    for at in np.argsort(-sizes, kind="stable")[:_LISTED]:
        if sizes[at] > 1:
            members = [ids[row] for row in np.flatnonzero(group == at)[:_LISTED]]
            counts = {why: int(count[at]) for why, count in by.items()}
            where = {"share": float(sizes[at] / len(ids)), "split": SPLITS[split[first[at]]]}
            report.largest.append({"images": int(sizes[at]), **where, "by": counts, "ids": members})
    large = sizes[(sizes > _LARGE * len(ids)) & (sizes > 2)]  # in a small catalogue each pair is above the share
    if len(large):
        report.warnings.append(
            f"{len(large):,} groups have more than {_LARGE:.0%} of the images each, the largest {large.max():,} "
            f"({large.max() / len(ids):.1%}): unlike pictures may have been chained, or the group column is too coarse"
        )


def _hold_out(folder: Path, splits: pa.Table, options: SplitOptions, report: SplitReport) -> pa.Table:
    """The triples to hold out, in order of a salted hash; category and value must stay common in train without them."""
    counts = _count_triples(folder, splits) if options.compositions else {}
    least = options.composition_items
    eligible = [triple for triple, row in counts.items() if row["all"] >= least and row["test"] > 0]
    category, value = _totals(counts, (0, 1)), _totals(counts, (1, 2))
    wanted = int(np.ceil(options.compositions * len(eligible)))
    chosen: list[Triple] = []
    for triple in sorted(eligible, key=lambda names: _uniform(options.salt, "\0".join(("triple", *names)))):
        here, loses = (triple[:2], triple[1:]), counts[triple]["train"]
        if len(chosen) < wanted and category[here[0]] - loses >= least and value[here[1]] - loses >= least:
            chosen.append(triple)
            category[here[0]] -= loses
            value[here[1]] -= loses
    report.compositions = {"eligible": len(eligible), "held_out": len(chosen)}
    rows = [dict(zip(COMPOSITIONS.names, triple, strict=True)) for triple in sorted(chosen)]
    return pa.Table.from_pylist(rows, schema=COMPOSITIONS)


def _totals(counts: Mapping[Triple, Mapping[str, int]], at: tuple[int, int]) -> dict[tuple[str, ...], int]:
    """Items in train for each (category, attribute) or (attribute, value)."""
    totals: dict[tuple[str, ...], int] = {}
    for triple, row in counts.items():
        key = (triple[at[0]], triple[at[1]])
        totals[key] = totals.get(key, 0) + row["train"]
    return totals


def _count_triples(folder: Path, splits: pa.Table) -> dict[Triple, dict[str, int]]:
    """(category, attribute, value) → items that show it: in `all`, and in each split."""
    if not table_parts(folder, "items") or not table_parts(folder, "attributes"):
        return {}
    items = read_table(folder, "items", ["item_id", "image_id", "category"]).join(splits, "image_id", join_type="inner")
    states = read_table(folder, "attributes", ["item_id", "attribute", "state", "values"])
    states = states.filter(pc.equal(states["state"], PRESENT))
    rows = pc.list_parent_indices(states["values"])
    values = pa.table(
        {
            "item_id": states["item_id"].take(rows),
            "attribute": states["attribute"].take(rows),
            "value": pc.list_flatten(states["values"]),
        }
    )
    joined = values.join(items.select(["item_id", "category", "split"]), "item_id", join_type="inner")
    keys = ["category", "attribute", "value", "split"]
    counts: dict[Triple, dict[str, int]] = {}
    for row in joined.group_by(keys).aggregate([("item_id", "count")]).to_pylist():
        entry = counts.setdefault((row["category"], row["attribute"], row["value"]), dict.fromkeys(("all", *SPLITS), 0))
        entry[row["split"]] += row["item_id_count"]
        entry["all"] += row["item_id_count"]
    return counts


def _replace_table(folder: Path, name: str, table: pa.Table) -> None:
    write_table(part_path(folder, name, 0), table)
    for stale in table_parts(folder, name)[1:]:
        stale.unlink()
