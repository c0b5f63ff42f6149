"""How many samples every cell keeps: balance within units, ties between them, shares of families, budgets of pictures.

Counted (all units) ─► equal or tempered ─► followers tied to leaders ─► families fitted ─► Solved
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from fashionkit.datagen.balance import Cells, drop_empty, equal_sides, family_targets, scale, temper
from fashionkit.datagen.context import Context, links, phrasings
from fashionkit.datagen.count import Counted
from fashionkit.datagen.counter import mix
from fashionkit.datagen.judge import SPLIT_NAMES, Moments
from fashionkit.datagen.packs import Template
from fashionkit.datagen.propose import option_slots
from fashionkit.datagen.vocab import NO, YES

Array = npt.NDArray[Any]
MOST_ABOVE = 0.015  # share by which rounding may leave an open answer above its target
TOGETHER = {"binary": 2, "choice": 2, "tempered": 1, "tied": 1}


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
    tied = links(context)
    for follower, leader in tied.items():
        _tie(context, counted, follower, leader)
    dropped = _needs(context, counted)
    whole = [(c.cells.code, c.cells.count, c.cells.keep.copy()) for c in counted]
    available = _family_totals(context, counted)
    while True:  # each time around leaves something out, or is the last
        _fit_families(context, counted, whole, tied)
        lost = _leave_unlearnable(context, counted, whole)
        if not lost:
            break
        for template, many in lost.items():
            refused[template]["an answer that train does not have"] += many
    for number, t in enumerate(pack.templates):
        if t.balance == "tempered":
            _trim_head(context, [n for n, u in enumerate(context.units) if u.template == number], counted)
    targets = _family_totals(context, counted)
    for c in counted:
        drop_empty(c.cells)
    return Solved([c.cells for c in counted], [c.moments for c in counted], dropped, refused, available, targets)


def _fit_families(
    context: Context, counted: list[Counted], whole: list[tuple[Array, Array, Array]], tied: dict[int, int]
) -> None:
    """Scales every unit so that families keep to their shares of what is really made.

    Tied templates follow their leaders down, which may leave a family with less than its share; the shares of the
    others are then worked out again from what that family has, until they fit and nothing more can be shared out.
    """
    spec = context.spec
    for c, (code, count, keep) in zip(counted, whole, strict=True):
        c.cells.code, c.cells.count, c.cells.keep = code, count, keep
    available = first = _family_totals(context, counted)
    slack = 8 * spec.phrasings  # what rounding may leave over
    asked, cap = spec.samples, _family_cap(context, counted)
    for _ in range(20):
        targets = family_targets(available, spec.families, asked, cap)
        _scale_all(context, counted, whole, tied, {f: targets.get(f, 0) / n for f, n in first.items()})
        _fit_tied(context, counted, tied, targets)
        made = _family_totals(context, counted)
        total = sum(made.values())
        short = {f for f, n in targets.items() if made.get(f, 0) < n - slack}
        if spec.samples is not None and asked is not None and total > spec.samples:
            asked -= total - spec.samples  # tied families followed their leaders up
        elif any(n > cap * total + slack for n in made.values()) or (
            short and total < sum(targets.values()) - slack * len(made)
        ):
            available = {f: made.get(f, 0) if f in short else n for f, n in available.items()}
        else:
            break


def _family_cap(context: Context, counted: list[Counted]) -> float:
    """The largest share of a family that so few families can keep to; those that only follow others hold none of it."""
    found = {
        t.family
        for u, c in zip(context.units, counted, strict=True)
        if c.cells.total and not (t := context.template(u)).tie
    }
    return max(context.spec.balance.family_cap, 1 / max(len(found), 1))


def _scale_all(
    context: Context,
    counted: list[Counted],
    whole: list[tuple[Array, Array, Array]],
    tied: dict[int, int],
    factors: dict[str, float],
) -> None:
    """Keeps a factor of each family, worked out from the whole; tied units follow their leaders."""
    carry: dict[str, float] = {}
    for number, (unit, c) in enumerate(zip(context.units, counted, strict=True)):
        t = context.template(unit)
        c.cells.code, c.cells.count, c.cells.keep = (part.copy() for part in whole[number])
        if number not in tied and t.family in factors:
            carry[t.family] = scale(c.cells, factors[t.family], TOGETHER[t.balance], carry.get(t.family, 0.5))
    for follower, leader in tied.items():
        _tie(context, counted, follower, leader)


def _leave_unlearnable(
    context: Context, counted: list[Counted], whole: list[tuple[Array, Array, Array]]
) -> Counter[str]:
    """Leaves out of the other splits, in `whole`, what train never answers; returns how much that is by template."""
    answers = [_answers(context, number, c.cells) for number, c in enumerate(counted)]
    learned = np.zeros(len(context.scenes.vocab), bool)
    for c, ids in zip(counted, answers, strict=True):
        learned[ids[(c.cells.keep > 0) & (c.cells.cell % len(SPLIT_NAMES) == 0)]] = True
    lost = Counter[str]()
    for number, (c, ids) in enumerate(zip(counted, answers, strict=True)):
        t = context.template(context.units[number])
        out = (c.cells.keep > 0) & ~learned[ids]
        if t.balance == "choice":  # the two sides of a pair stay alike
            out = np.isin(c.cells.cell, c.cells.cell[out])
        if out.any():
            code, _, keep = whole[number]
            gone = np.isin(code, c.cells.code[out])
            lost[t.id] += int(keep[gone].sum())
            keep[gone] = 0
    return +lost


def _trim_head(context: Context, units: list[int], counted: list[Counted]) -> None:
    """Takes from a template's most frequent answer what rounding in many small cells gave it above its target.

    A cell of three samples cannot have shares of 0.55 and 0.45; where nearly all cells are that small, such remainders
    can add up.
    """
    cells = [counted[n].cells for n in units if len(counted[n].cells.code)]
    if not cells:
        return
    answer = np.concatenate([_answers(context, n, counted[n].cells) for n in units])
    keep = np.concatenate([c.keep for c in cells])
    share = np.concatenate([c.target if c.target is not None else np.ones(len(c.code)) for c in cells])
    names = [np.unique(c.cell, return_inverse=True)[1] for c in cells]
    first = np.cumsum([0, *(int(name.max()) + 1 for name in names)])
    cell = np.concatenate([name + start for name, start in zip(names, first, strict=False)])
    share = share * (keep > 0)
    share = share / np.maximum(np.bincount(cell, share), 1e-12)[cell]
    while keep.any():
        kept, total = np.bincount(answer, keep), keep.sum()
        wanted = share * np.bincount(cell, keep)[cell]
        head = int(kept.argmax())
        if kept[head] <= wanted[answer == head].sum() + MOST_ABOVE * total:
            break
        over = np.where((answer == head) & (keep > 0), keep - wanted, -np.inf)
        keep[over.argmax()] -= 1
    for c, part in zip(cells, np.split(keep, np.cumsum([len(c.keep) for c in cells])[:-1]), strict=True):
        c.keep = part


def _answers(context: Context, number: int, cells: Cells) -> Array:
    """(codes,) vocabulary ids that each code of a unit answers."""
    unit = context.units[number]
    layout, t = context.judge.layout(unit), context.template(unit)
    side = cells.code % cells.sides
    if t.balance != "choice":
        return np.array([NO, YES])[side] if cells.sides == 2 and not layout.side_base else side + layout.side_base
    ids, rest = {}, cells.cell // len(SPLIT_NAMES)
    for name, base, count in reversed(layout.slots):
        ids[name], rest = rest % count + base, rest // count
    low, high = (ids[name] for name in option_slots(t))
    return np.where(side == 1, low, high)


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


def _tie(context: Context, counted: list[Counted], follower: int, leader: int) -> None:
    """Gives the follower its share; where it cannot reach it, the leader's cell shrinks until the share holds."""
    t = context.template(context.units[follower])
    if t.family == "B5":
        _negate(context, counted, follower, leader, 1.0, 0.0)
        return
    ratio = t.share / (1 - t.share)
    one, two = counted[leader].cells, counted[follower].cells
    if context.template(context.units[leader]).needs == t.id:
        one.keep = np.where(np.isin(one.cell, two.cell), one.keep, 0)  # what is never missing needs no look
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


def _negate(context: Context, counted: list[Counted], follower: int, leader: int, factor: float, carry: float) -> float:
    """Gives negations a factor of their share of the same statements with the opposite answer; returns the carry.

    Both sides of a cell keep equally many there, so here too.
    """
    share = context.template(context.units[follower]).share
    one, two = counted[leader].cells, counted[follower].cells
    opposite = dict(zip((one.code ^ 1).tolist(), one.keep.tolist(), strict=True))
    two.keep = np.array([opposite.get(code, 0) for code in two.code.tolist()], np.int64)
    drop_empty(two)
    return scale(two, factor * share / (1 - share), 2, carry)


def _fit_tied(context: Context, counted: list[Counted], tied: dict[int, int], targets: dict[str, int]) -> None:
    """Keeps negations within their family's share; not-present questions keep to their leaders whatever the share."""
    made, carry = _family_totals(context, counted).get("B5", 0), 0.5
    if made <= targets.get("B5", 0):
        return
    for follower, leader in tied.items():
        if context.template(context.units[follower]).family == "B5":
            carry = _negate(context, counted, follower, leader, targets.get("B5", 0) / made, carry)


def set_budgets(context: Context, folder: Path, counted: list[Counted]) -> bool:
    """Sets every picture's budget for every unit; False where no picture could exceed its budget anyway.

    The budget is shared by what each unit would keep of the picture without it; a question that a negation follows
    costs two. The sum over all units never exceeds `per_image`.
    """
    assert context.spec.per_image is not None
    valid = [np.asarray(pq.read_table(folder / f"valid-{n:05d}.parquet")["valid"]) for n in range(len(context.units))]
    times = phrasings(context)
    cost = np.array([float(times[u.template]) for u in context.units])
    followers = {leader: n for n, leader in links(context).items() if context.template(context.units[n]).family == "B5"}
    cost[list(followers)] *= 2
    counts = [len(c.cells.code) and int(c.cells.count.sum()) for c in counted]
    most = sum(v.astype(np.float64) * k for v, k in zip(valid, cost, strict=True))
    if not np.any(most > context.spec.per_image):
        return False
    trial = [Counted(Cells(c.cells.code.copy(), c.cells.count.copy(), c.cells.sides), c.moments) for c in counted]
    solve(context, trial)
    rate = [t.cells.total / max(n, 1) for t, n in zip(trial, counts, strict=True)]
    expected = [v * r for v, r in zip(valid, rate, strict=True)]
    load = sum(e * k for n, (e, k) in enumerate(zip(expected, cost, strict=True)) if n not in followers.values())
    # What rounding leaves over goes to the next unit; every picture starts at another place, so that no unit is last
    # in all of them.
    carry = -(mix(0, np.arange(len(load))) >> np.uint64(11)) * 2.0**-53 * cost.max()
    context.quotas = []
    for number, e in enumerate(expected):
        if number in followers.values():
            context.quotas.append(np.zeros(len(load), np.int64))
            continue
        share = carry + context.spec.per_image * e * cost[number] / np.maximum(load, 1e-9)
        quota = np.maximum(np.floor(share / cost[number] + 1e-9), 0)
        carry = share - quota * cost[number]
        context.quotas.append(quota.astype(np.int64))
    for leader, follower in followers.items():
        context.quotas[follower] = context.quotas[leader]
    return True
