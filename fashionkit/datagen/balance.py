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
        keep: (m,) samples to keep; filled by the solver.
    """

    code: Array
    count: Array
    sides: int
    keep: Array = field(default_factory=lambda: np.zeros(0, np.int64))

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
        cells: Counted cells. options: See there.
        single_too: Keep cells with one answer: another template gives them a second one.

    Returns:
        How many candidates stood in cells with a single answer.
    """
    cells.keep = np.zeros(len(cells.code), np.int64)
    _, first = np.unique(cells.cell, return_index=True)
    single = 0
    for lo, hi in zip(first, [*first, len(cells.code)][1:], strict=True):
        if hi - lo < 2 and single_too:
            cells.keep[lo:hi] = cells.count[lo:hi]
        elif hi - lo < 2:
            single += int(cells.count[lo:hi].sum())
        else:
            cells.keep[lo:hi] = tempered_counts(cells.count[lo:hi], options)
    return single


def tempered_counts(count: Array, options: BalanceOptions) -> Array:
    """Samples to keep of each answer of one cell: order kept, head at most its tempered share plus `slack`."""
    order = np.argsort(-count, kind="stable")
    n = count[order].astype(np.float64)
    for i in range(len(n) - 2, -1, -1):
        n[i] = min(n[i], options.ratio * n[i + 1])
    share = n**options.temper / (n**options.temper).sum()
    low, high = 0.0, float(n.max() ** (1 - options.temper))
    for _ in range(40):
        middle = (low + high) / 2
        kept = np.minimum(n, middle * n**options.temper)
        if kept[0] / kept.sum() <= share[0] + options.slack:
            low = middle
        else:
            high = middle
    # `low` may be 0 only if even the most even counts exceed the share, which `share` itself rules out.
    kept = np.floor(np.minimum(n, max(low, 1e-12) * n**options.temper) + 1e-9)
    result = np.zeros(len(count), np.int64)
    result[order] = kept
    return result


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
