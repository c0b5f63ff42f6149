"""How many samples each cell keeps: equal yes and no, both options alike, tempered open answers, capped families.

    counts of valid candidates by (cell, split, side) ─► solve ─► samples to keep by (cell, split, side)

Only counts are seen here; which samples fill the counts is decided by random number elsewhere. Everything is exact and
independent of any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BalanceOptions:
    """What balance means for a run.

    Attributes:
        temper: Exponent rho of open answers: shares follow p**rho (1 leaves them, 0 evens them out).
        ratio: Most that an open answer may outnumber the next frequent one.
        family_cap: Largest share of one family.
        slack: How far the head of an open cell may exceed its tempered share where rare answers run out.
    """

    temper: float = 0.7
    ratio: float = 3.0
    family_cap: float = 0.25
    slack: float = 0.01


@dataclass
class Cells:
    """Counts of one unit, sparse.

    Attributes:
        code: (m,) sorted (cell, split, side) codes. count: (m,) valid candidates. sides: How many a cell has.
        keep: (m,) samples to keep; filled by the solver. target: (m,) tempered share of an open answer in its cell.
    """

    code: Array
    count: Array
    sides: int
    keep: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    target: Array | None = None

    @property
    def cell(self) -> Array:
        """(m,) code without the side."""
        return self.code // self.sides

    @property
    def total(self) -> int:
        """Samples to keep."""
        return int(self.keep.sum())


def equal_sides(cells: Cells) -> None:
    """Both sides of every cell keep as many as the rarer has."""
    _, first = np.unique(cells.cell, return_index=True)
    size = np.diff(np.append(first, len(cells.code)))
    low = np.minimum.reduceat(cells.count, first) if len(first) else np.zeros(0, np.int64)
    cells.keep = np.repeat(np.where(size == 2, low, 0), size)


def temper(cells: Cells, options: BalanceOptions, single_too: bool = False) -> int:
    """Open answers keep shares close to p**rho, the head capped; cells with one answer only are left out.

    Args:
        cells: Counted cells; `keep` and `target` are filled.
        options: See there.
        single_too: Keep cells with one answer: another template gives them a second one.

    Returns:
        How many candidates stood in cells with a single answer.
    """
    cells.keep = np.zeros(len(cells.code), np.int64)
    cells.target = np.ones(len(cells.code))
    _, first = np.unique(cells.cell, return_index=True)
    size = np.diff(np.append(first, len(cells.code)))
    alone = np.repeat(size == 1, size)
    if single_too:
        cells.keep[alone] = cells.count[alone]
    for width in np.unique(size[size > 1]).tolist():  # cells with as many answers together
        rows = first[size == width][:, None] + np.arange(width)
        cells.keep[rows], cells.target[rows] = tempered_counts(cells.count[rows], options)
    return 0 if single_too else int(cells.count[alone].sum())


def tempered_counts(count: Array, options: BalanceOptions) -> tuple[Array, Array]:
    """Samples to keep of each answer: order kept, head at most its tempered share plus `slack`.

    Args:
        count: (cells, answers) candidates.

    Returns:
        (cells, answers) int64 to keep, and float64 tempered shares, which add up to 1.
    """
    order = np.argsort(-count, axis=1, kind="stable")
    n = np.take_along_axis(count, order, 1).astype(np.float64)
    for i in range(n.shape[1] - 2, -1, -1):
        n[:, i] = np.minimum(n[:, i], options.ratio * n[:, i + 1])
    tempered = n**options.temper
    share = tempered / tempered.sum(1, keepdims=True)
    # 0 would be reached only if even the most even counts exceeded the share, which `share` itself rules out.
    low, high = np.full(len(n), 1e-12), n.max(1) ** (1 - options.temper)
    for _ in range(40):
        middle = (low + high) / 2
        kept = np.minimum(n, middle[:, None] * tempered)
        fits = kept[:, 0] / kept.sum(1) <= share[:, 0] + options.slack + 1e-9
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    keep, target = np.zeros(count.shape, np.int64), np.zeros(count.shape)
    np.put_along_axis(keep, order, np.floor(np.minimum(n, low[:, None] * tempered) + 1e-9).astype(np.int64), 1)
    np.put_along_axis(target, order, share, 1)
    return keep, target


def scale(cells: Cells, factor: float, together: int, carry: float = 0.0) -> float:
    """Keeps `factor` of every cell, by cumulative rounding, so that totals fit and sides stay equal.

    Args:
        cells: Solved cells. factor: 0..1. together: 2 where the two sides of a cell move together, else 1.
        carry: What rounding left over in the cells before these, 0..1.

    Returns:
        What rounding leaves over for the cells that follow: many small units then lose nothing together.
    """
    if factor >= 1:
        return carry
    keep = cells.keep[::together] if together == 2 and _paired(cells) else cells.keep
    exact = np.cumsum(keep) * factor + carry
    running = np.floor(exact + 1e-9).astype(np.int64)
    scaled = np.minimum(np.diff(running, prepend=0), keep)
    cells.keep = np.repeat(scaled, 2) if keep is not cells.keep else scaled
    return max(0.0, float(exact[-1] - running[-1])) if len(exact) else carry


def _paired(cells: Cells) -> bool:
    return len(cells.code) % 2 == 0 and bool((cells.code[::2] // 2 == cells.code[1::2] // 2).all())


def drop_empty(cells: Cells) -> None:
    """Forgets codes that keep nothing (single-sided cells), so that pairs stand side by side."""
    held = cells.keep > 0
    cells.code, cells.count, cells.keep = cells.code[held], cells.count[held], cells.keep[held]
    if cells.target is not None:
        cells.target = cells.target[held]


def family_targets(
    available: dict[str, int], weight: dict[str, float], samples: int | None, cap: float
) -> dict[str, int]:
    """Samples of each family: at most what it has and `cap` of the whole; the rest is shared by weight.

    The total is `samples`, or the most that these limits allow.
    """
    have = {f: n for f, n in available.items() if n > 0}
    total = float(sum(have.values()) if samples is None else min(samples, sum(have.values())))
    if len(have) * cap < 1:
        cap = 1.0 / max(len(have), 1)
    for _ in range(1000):
        reach = sum(min(n, cap * total) for n in have.values())
        if reach >= total - 0.5:
            break
        total = reach
    limit = {f: min(float(n), cap * total) for f, n in have.items()}
    low, high = 0.0, max((limit[f] / weight.get(f, 1.0) for f in have), default=0.0)
    for _ in range(100):
        level = (low + high) / 2
        if sum(min(limit[f], level * weight.get(f, 1.0)) for f in have) < total:
            low = level
        else:
            high = level
    return {f: int(min(limit[f], high * weight.get(f, 1.0)) + 1e-6) for f in have}
