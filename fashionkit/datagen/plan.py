"""Which candidates become samples: count every cell, solve the balance, keep the lowest random keys of each cell.

    units ──count──► Cells ──solve──► samples to keep by cell ──select──► one bit a candidate, by block of pictures

Counting and selecting run over units (a unit's cells touch no other unit's), writing over blocks of pictures; all three
propose the same candidates again rather than store them, so memory is flat in the number of samples.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.balance import Cells, drop_empty, equal_sides, family_targets, scale, temper
from fashionkit.datagen.judge import SPLIT_NAMES, Judge, Judged, Moments
from fashionkit.datagen.negatives import category_drawer, value_drawer
from fashionkit.datagen.packs import Pack, Template
from fashionkit.datagen.propose import Candidates, Proposer, Unit, unit_list
from fashionkit.datagen.scene import Scenes
from fashionkit.datagen.spec import RunSpec
from fashionkit.datagen.vocab import NONE
from fashionkit.tables import write_atomic, write_table

Array = npt.NDArray[Any]
KEY_BITS = 36
TOGETHER = {"binary": 2, "choice": 2, "tempered": 1, "tied": 1}


class Context:
    """Everything a worker needs, built once and shared.

    Attributes:
        blocks: (lo, hi) picture ranges, none across a split.
        units: All units; cell counts and selections are stored by position here.
    """

    def __init__(self, scenes: Scenes, pack: Pack, spec: RunSpec):
        self.scenes, self.pack, self.spec = scenes, pack, spec
        dropped = set(spec.drop) | {t.id for t in pack.templates if spec.families.get(t.family, 1.0) == 0}
        self.units = [u for u in unit_list(scenes, pack) if pack.templates[u.template].id not in dropped]
        self.blocks = _blocks(scenes, spec.shard_images)
        drawers = {name: value_drawer(scenes, name, spec.negatives) for name in (*scenes.attributes, *scenes.labels)}
        drawers["category"] = category_drawer(scenes, spec.negatives, groups=False)
        drawers["group"] = category_drawer(scenes, spec.negatives, groups=True)
        product = scenes.facts.scene == "product"
        self.noun = scenes.facts.noun if product else scenes.ontology.categories[scenes.vocab.key[scenes.root]].name
        self.look = scenes.facts.noun if product else "outfit"
        self.proposer = Proposer(scenes, pack, drawers, spec.seed, spec.negatives.draws)
        self.judge = Judge(scenes, pack, drawers, spec.difficulty, self.noun, self.look)
        self.quotas: list[Array] | None = None

    def limit(self, folder: Path, counted: list[Counted]) -> bool:
        """Sets every picture's budget for every unit; False where no picture could exceed its budget anyway.

        The budget is shared by what each unit would keep of the picture without it. Shares are rounded down, and a
        question that a negation follows costs two, so the sum over all units never exceeds `per_image`.
        """
        assert self.spec.per_image is not None
        valid = [np.asarray(pq.read_table(folder / f"valid-{n:05d}.parquet")["valid"]) for n in range(len(self.units))]
        times = phrasings(self)
        cost = np.array([float(times[u.template]) for u in self.units])
        followers = {leader: n for n, leader in _links(self).items() if self.template(self.units[n]).family == "B5"}
        cost[list(followers)] *= 2
        counts = [len(c.cells.code) and int(c.cells.count.sum()) for c in counted]
        most = sum(v.astype(np.float64) * k for v, k in zip(valid, cost, strict=True))
        if not np.any(most > self.spec.per_image):
            return False
        trial = [Counted(Cells(c.cells.code.copy(), c.cells.count.copy(), c.cells.sides), c.moments) for c in counted]
        solve(self, trial)
        rate = [t.cells.total / max(n, 1) for t, n in zip(trial, counts, strict=True)]
        expected = [v * r for v, r in zip(valid, rate, strict=True)]
        load = sum(e * k for n, (e, k) in enumerate(zip(expected, cost, strict=True)) if n not in followers.values())
        self.quotas = [np.floor(self.spec.per_image * e / np.maximum(load, 1e-9)).astype(np.int64) for e in expected]
        for leader, follower in followers.items():
            self.quotas[follower] = self.quotas[leader]
        return True

    def within_budget(self, number: int, c: Candidates, judged: Judged) -> None:
        """Refuses candidates beyond their picture's budget: those with the highest random bits of the picture."""
        if self.quotas is None:
            return
        valid = np.flatnonzero(judged.answer != NONE)
        image = c.batch.image[valid]
        order = np.lexsort((c.bits[valid], image))
        image = image[order]
        rank = np.arange(len(image)) - np.searchsorted(image, image)
        over = valid[order[rank >= self.quotas[number][image]]]
        if len(over):
            judged.answer = judged.answer.copy()
            judged.answer[over] = NONE
            judged.refused["the picture has its share of questions"] += len(over)

    def template(self, unit: Unit) -> Template:
        """The unit's template."""
        return self.pack.templates[unit.template]


def _blocks(s: Scenes, size: int) -> list[tuple[int, int]]:
    found = []
    for split in range(3):
        lo, hi = np.searchsorted(s.split, [split, split + 1])
        found += [(a, min(a + size, int(hi))) for a in range(int(lo), int(hi), size)]
    return found


@dataclass
class Counted:
    """What counting found in one unit."""

    cells: Cells
    moments: Moments
    proposed: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def count_unit(context: Context, number: int, folder: Path, name: str = "count") -> int:
    """Counts a unit's valid candidates by cell and stores the counts under `name`; returns the number of the unit."""
    unit = context.units[number]
    layout, moments, refused = context.judge.layout(unit), Moments(), Counter[str]()
    parts, proposed = [], 0
    budgeted = context.spec.per_image is not None and name == "count"
    per_image = np.zeros(len(context.scenes.image_ids), np.int32) if budgeted else None
    for lo, hi in context.blocks:
        c = context.proposer.propose(unit, lo, hi)
        judged = context.judge.judge(unit, c, with_difficulty=not moments.n)
        context.within_budget(number, c, judged)
        if not moments.n:  # the first block that has any is sample enough for a mean and a deviation
            moments.add(judged)
        refused.update(judged.refused)
        proposed += len(c.batch)
        codes = context.judge.codes(unit, layout, c, judged)[judged.answer != NONE]
        if per_image is not None:
            per_image[lo:hi] = np.bincount(c.batch.image[judged.answer != NONE] - lo, minlength=hi - lo)
        parts.append(np.unique(codes, return_counts=True))
    code, inverse = np.unique(np.concatenate([p[0] for p in parts]), return_inverse=True)
    count = np.bincount(inverse, np.concatenate([p[1] for p in parts]), len(code)).astype(np.int64)
    meta = {
        "n": moments.n,
        "sums": moments.sums.tolist(),
        "proposed": proposed,
        "refused": dict(sorted(refused.items())),
    }
    table = pa.table({"code": code, "count": count}).replace_schema_metadata({"unit": json.dumps(meta)})
    if per_image is not None:
        write_table(folder / f"valid-{number:05d}.parquet", pa.table({"valid": per_image}), sync=False)
    write_table(folder / f"{name}-{number:05d}.parquet", table, sync=False)
    return number


def read_count(context: Context, number: int, folder: Path, name: str = "count") -> Counted:
    """What `count_unit` stored."""
    table = pq.read_table(folder / f"{name}-{number:05d}.parquet")
    meta = json.loads(table.schema.metadata[b"unit"])
    layout = context.judge.layout(context.units[number])
    cells = Cells(table["code"].to_numpy(), table["count"].to_numpy(), layout.sides)
    moments = Moments(meta["n"], np.array(meta["sums"]))
    return Counted(cells, moments, meta["proposed"], Counter(meta["refused"]))


@dataclass
class Solved:
    """Samples to keep: a `Cells` for each unit, and what was left out and why."""

    cells: list[Cells]
    moments: list[Moments]
    dropped: dict[str, str]
    refused: dict[str, Counter[str]]
    available: dict[str, int]
    targets: dict[str, int]


def solve(context: Context, counted: list[Counted]) -> Solved:
    """Balances every unit, ties those that follow others, and fits families to their shares."""
    spec, pack = context.spec, context.pack
    refused: dict[str, Counter[str]] = {t.id: Counter() for t in pack.templates}
    for unit, c in zip(context.units, counted, strict=True):
        t = context.template(unit)
        refused[t.id].update(c.refused)
        if t.balance in ("binary", "choice"):
            equal_sides(c.cells)
            refused[t.id]["no counterpart to balance it"] += int((c.cells.count - c.cells.keep).sum())
        elif t.balance == "tempered":
            refused[t.id]["always the same answer"] += temper(c.cells, spec.balance, t.needs is not None)
        drop_empty_unless_tied(t, c.cells)
    links = _links(context)
    for follower, leader in links.items():
        _tie(context, counted, follower, leader)
    dropped = _needs(context, counted)
    available, targets = _fit_families(context, counted, links)
    for c in counted:
        drop_empty(c.cells)
    return Solved([c.cells for c in counted], [c.moments for c in counted], dropped, refused, available, targets)


def phrasings(context: Context) -> Array:
    """(templates,) int64: in how many texts each question of a template is put, all different."""
    open_forms = [sum(not q.held_out for q in t.paraphrases) for t in context.pack.templates]
    return np.minimum(np.array(open_forms, np.int64), context.spec.phrasings)


def _fit_families(
    context: Context, counted: list[Counted], links: dict[int, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Scales every unit so that families keep to their shares of what is really made.

    Tied templates follow their leaders down, which may leave a family with less than its share; the shares of the
    others are then worked out again from what that family has, until they fit.
    """
    spec = context.spec
    whole = [(c.cells.code, c.cells.count, c.cells.keep) for c in counted]
    available = _family_totals(context, counted)
    first = dict(available)
    for _ in range(8):
        targets = family_targets(available, spec.families, spec.samples, spec.balance.family_cap)
        for number, (unit, c) in enumerate(zip(context.units, counted, strict=True)):
            t = context.template(unit)
            c.cells.code, c.cells.count, c.cells.keep = (part.copy() for part in whole[number])
            if number not in links and first.get(t.family):
                scale(c.cells, targets.get(t.family, 0) / first[t.family], TOGETHER[t.balance])
        for follower, leader in links.items():
            _tie(context, counted, follower, leader)
        _fit_tied(context, counted, links, targets)
        made = _family_totals(context, counted)
        total = sum(made.values())
        if all(n <= max(spec.balance.family_cap, 1 / max(len(made), 1)) * total + 1000 for n in made.values()):
            break
        available = {
            f: min(n, made.get(f, 0)) if n > 0 and made.get(f, 0) < 0.99 * targets.get(f, 0) else n
            for f, n in available.items()
        }
    return first, made


def _family_totals(context: Context, counted: list[Counted]) -> dict[str, int]:
    """Samples (question programs times phrasings) of each family."""
    times, totals = phrasings(context), Counter[str]()
    for unit, c in zip(context.units, counted, strict=True):
        totals[context.template(unit).family] += c.cells.total * int(times[unit.template])
    return {family: n for family, n in totals.items() if n}


def drop_empty_unless_tied(t: Template, cells: Cells) -> None:
    """Tied units have no counts to keep before their leaders have."""
    if t.balance == "tied":
        cells.keep = np.zeros(len(cells.code), np.int64)
    else:
        drop_empty(cells)


def _links(context: Context) -> dict[int, int]:
    """Tied unit → the unit it follows (same attributes)."""
    at = {(context.template(u).id, u.attributes): n for n, u in enumerate(context.units)}
    found = {}
    for number, unit in enumerate(context.units):
        t = context.template(unit)
        if t.balance == "tied" and (str(t.tie), unit.attributes) in at:
            found[number] = at[str(t.tie), unit.attributes]
    return found


def _tie(context: Context, counted: list[Counted], follower: int, leader: int) -> None:
    """Gives the follower its share; where it cannot reach it, the leader's cell shrinks until the share holds."""
    t = context.template(context.units[follower])
    ratio = t.share / (1 - t.share)
    one, two = counted[leader].cells, counted[follower].cells
    if t.family == "B5":
        # The same statement with the opposite answer; both sides of a cell keep equally many there, so here too.
        opposite = dict(zip((one.code ^ 1).tolist(), one.keep.tolist(), strict=True))
        two.keep = np.array([opposite.get(code, 0) for code in two.code.tolist()], np.int64)
        drop_empty(two)
        scale(two, ratio, 2)
        return
    cell = one.cell
    cells, first = np.unique(cell, return_index=True)
    totals = np.add.reduceat(one.keep, first) if len(first) else np.zeros(0, np.int64)
    at = np.minimum(np.searchsorted(cells, two.cell), max(len(cells) - 1, 0))
    match = cells[at] == two.cell if len(cells) else np.zeros(len(two.code), bool)
    wanted = np.where(match, np.rint((totals[at] if len(cells) else 0) * ratio), 0).astype(np.int64)
    two.keep = np.minimum(wanted, two.count)
    short = dict(
        zip(two.cell[match & (two.keep < wanted)].tolist(), two.keep[match & (two.keep < wanted)].tolist(), strict=True)
    )
    for place, (lo, hi) in enumerate(zip(first, [*first, len(cell)][1:], strict=True)):
        if int(cells[place]) in short:
            most = int(short[int(cells[place])] / ratio)
            running = np.floor(np.cumsum(one.keep[lo:hi]) * (most / max(int(totals[place]), 1)) + 1e-9).astype(np.int64)
            one.keep[lo:hi] = np.minimum(np.diff(running, prepend=0), one.keep[lo:hi])


def _needs(context: Context, counted: list[Counted]) -> dict[str, str]:
    """Leaves out templates that are sound only beside another one which this catalogue does not carry."""
    total: dict[str, int] = Counter()
    for unit, c in zip(context.units, counted, strict=True):
        total[context.template(unit).id] += c.cells.total
    dropped = {}
    for t in context.pack.templates:
        if t.needs and total[t.id] and not total[t.needs]:
            dropped[t.id] = f"its answer follows from the question unless {t.needs} asks the same of what is not there"
            for unit, c in zip(context.units, counted, strict=True):
                if context.template(unit).id == t.id:
                    c.cells.keep[:] = 0
    return dropped


def _fit_tied(context: Context, counted: list[Counted], links: dict[int, int], targets: dict[str, int]) -> None:
    """Keeps negations within their family's share; not-present questions keep to their leaders whatever the share."""
    made = _family_totals(context, counted)
    for number in links:
        t = context.template(context.units[number])
        if t.family == "B5" and made.get("B5"):
            drop_empty(counted[number].cells)
            scale(counted[number].cells, targets.get("B5", 0) / made["B5"], 2)


def select_unit(context: Context, number: int, folder: Path, cells: Cells, moments: Moments) -> int:
    """Marks the candidates to keep: in each (cell, split, side) those with the lowest keys. Stores one bit each."""
    unit = context.units[number]
    layout = context.judge.layout(unit)
    keys, places, blocks, splits = [], [], [], []
    for block, (lo, hi) in enumerate(context.blocks):
        c = context.proposer.propose(unit, lo, hi)
        judged = context.judge.judge(unit, c)
        context.within_budget(number, c, judged)
        code = context.judge.codes(unit, layout, c, judged)
        place = np.minimum(np.searchsorted(cells.code, code), max(len(cells.code) - 1, 0))
        valid = np.flatnonzero((judged.answer != NONE) & (len(cells.code) > 0))
        valid = valid[cells.code[place[valid]] == code[valid]]
        few = c.take(valid)
        steps = context.judge.difficulty(unit, few, _only(judged, valid), moments)
        race = (context.judge.race(few, steps) * 2.0**KEY_BITS).astype(np.uint64)
        keys.append(place[valid].astype(np.uint64) << np.uint64(KEY_BITS) | race)
        places.append(few.place)
        splits.append(judged.split[valid])
        blocks.append(np.full(len(valid), block, np.int32))
    accepted = _lowest(np.concatenate(keys), cells.keep)
    blocks_kept, splits_kept = np.concatenate(blocks)[accepted], np.concatenate(splits)[accepted]
    _store_selection(context, folder, number, np.concatenate(places)[accepted], blocks_kept, splits_kept)
    return number


def _only(judged: Judged, keep: Array) -> Judged:
    return Judged(
        judged.answer[keep], judged.split[keep], judged.refused, judged.surprisal[keep], judged.confusable[keep]
    )


def _lowest(keys: Array, keep: Array) -> Array:
    """(n,) bool: of each cell (high bits) the `keep` lowest keys; equal keys by position."""
    order = np.argsort(keys, kind="stable")
    cell = (keys[order] >> np.uint64(KEY_BITS)).astype(np.int64)
    starts = np.searchsorted(cell, np.arange(len(keep)))
    rank = np.arange(len(keys)) - starts[cell] if len(keys) else np.zeros(0, np.int64)
    accepted = np.zeros(len(keys), bool)
    accepted[order] = rank < keep[cell] if len(keys) else False
    return accepted


def _store_selection(context: Context, folder: Path, number: int, place: Array, block: Array, split: Array) -> None:
    """A row group for each block: one bit for each place, and how many of those kept fall to each split."""
    many = len(context.blocks)
    kept = np.zeros((many, len(SPLIT_NAMES)), np.int64)
    np.add.at(kept, (block, split), 1)
    parts = np.searchsorted(block, np.arange(many + 1))
    bits = []
    for lo, hi in zip(parts[:-1], parts[1:], strict=True):
        flags = np.zeros(int(place[lo:hi].max(initial=-1)) + 1, bool)
        flags[place[lo:hi]] = True
        bits.append(np.packbits(flags).tobytes())
    rows = {"bits": bits, "kept": kept.tolist()}
    write_table(folder / f"select-{number:05d}.parquet", pa.table(rows), sync=False, row_group_size=1)


def read_selection(folder: Path, number: int, block: int) -> Array:
    """(n,) places of the candidates of one block that are kept, ascending."""
    row = pq.ParquetFile(folder / f"select-{number:05d}.parquet").read_row_group(block, columns=["bits"])["bits"][0]
    return np.flatnonzero(np.unpackbits(np.frombuffer(row.as_py(), np.uint8)))


def kept_by_block(folder: Path, number: int) -> Array:
    """(blocks, splits) samples kept of one unit."""
    table = pq.read_table(folder / f"select-{number:05d}.parquet", columns=["kept"])
    return np.array(table["kept"].to_pylist(), np.int64)


def write_json(path: Path, data: Any) -> None:
    """Small state of a run, whole or not at all."""
    write_atomic(
        path, lambda temporary: temporary.write_text(json.dumps(data, sort_keys=True), encoding="utf-8") and None
    )
