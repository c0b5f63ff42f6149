"""Confidence intervals of means whose observations come in groups, several at a time.

    (G, k) sums and counts by group ─► whole groups drawn again with replacement ─► k means, R times ─► intervals

Questions about one picture succeed and fail together, so pictures are drawn (or what belongs together), not questions:
the cluster bootstrap, A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application" (1997), 3.8. Looking
at many means finds some far out by chance alone; `together` widens all intervals so that, together, they all hold
with the probability asked for, by the largest standardised deviation of a resample: J. P. Romano and M. Wolf, "Exact
and approximate stepdown methods for multiple hypothesis testing", JASA 100 (2005) 94-108 (its single-step form).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
CHUNK = 1 << 22  # drawn group numbers held at a time


@dataclass(frozen=True)
class Intervals:
    """Intervals of k means.

    Attributes:
        value: (k,) means. low, high: (k,) their bounds.
        factor: How many standard errors lie between value and bound where there are many groups.
    """

    value: Array
    low: Array
    high: Array
    factor: float


def group_sums(values: Array, group: Array, column: Array, columns: int) -> tuple[Array, Array]:
    """What the intervals rest on: sums and counts by group.

    Args:
        values: (n,) numbers. group: (n,) whole numbers, any. column: (n,) the mean each value belongs to.
        columns: k, how many means there are.

    Returns:
        (G, k) sums and (G, k) counts of the G groups that occur, in ascending order of their numbers.

    Raises:
        ValueError: Lengths differ.
    """
    if not len(values) == len(group) == len(column):
        raise ValueError(f"{len(values)} values, {len(group)} groups and {len(column)} columns do not go together")
    names, at = np.unique(group, return_inverse=True)
    cell, size = at.astype(np.int64) * columns + column, len(names) * columns
    sums, counts = np.bincount(cell, values, size), np.bincount(cell, minlength=size)
    return sums.reshape(-1, columns), counts.reshape(-1, columns).astype(np.float64)


def intervals(
    sums: Array, counts: Array, resamples: int = 1000, seed: int = 0, level: float = 0.95, together: bool = False
) -> Intervals:
    """Bootstrap intervals of k means over groups.

    Args:
        sums, counts: (G, k) as `group_sums` gives them.
        resamples: How often the groups are drawn again.
        seed: Of the draws; the same seed gives the same intervals.
        level: Probability with which an interval holds, above 0 and below 1.
        together: All k intervals hold at once with this probability, not each by itself.

    Returns:
        Intervals of mean plus or minus `factor` standard errors, the latter from the spread of the resampled means, and
        wider where there are few groups. A mean of nothing is NaN; one that does not vary has an interval of no width.

    Raises:
        ValueError: Shapes differ, fewer than two groups, or a level or number of resamples that makes no sense.
    """
    if sums.shape != counts.shape or sums.ndim != 2:
        raise ValueError(f"sums of shape {sums.shape} do not go with counts of shape {counts.shape}")
    if len(sums) < 2 or resamples < 2 or not 0 < level < 1:
        raise ValueError(f"{len(sums)} groups, {resamples} resamples, level {level}: no interval follows from these")
    with np.errstate(invalid="ignore", divide="ignore"):
        value = sums.sum(0) / counts.sum(0)
        drawn = np.concatenate([w @ sums / (w @ counts) for w in draws(len(sums), resamples, seed)])
    off = np.abs(np.where(np.isnan(drawn), 0, drawn - value))
    groups = (counts > 0).sum(0)
    small = np.sqrt(groups / np.maximum(groups - 1, 1))  # drawing from G groups shows (G - 1)/G of the variance
    error = np.sqrt((off**2).mean(0))
    error[error < 1e-12] = 0  # rounding of means that do not vary
    scaled = np.divide(off, error, out=np.zeros_like(off), where=error > 0)
    one_by_one = not together and off.shape[1] > 1
    worst = scaled if one_by_one else scaled.max(1, initial=0)[:, None]
    factor = np.quantile(worst, level, axis=0) if worst.shape[1] else np.zeros(0)
    width = student(factor, np.maximum(groups - 1, 1)) * error * small
    return Intervals(value, value - width, value + width, float(np.max(factor, initial=0)))


def student(z: Array, freedom: Array) -> Array:
    """About the quantile of Student's distribution that lies where `z` does in the normal one.

    A spread that is itself estimated from few groups makes far means more likely. Expansion 26.7.5 of M. Abramowitz and
    I. A. Stegun, "Handbook of Mathematical Functions" (1964).
    """
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + (z**3 + z) / (4 * freedom) + second


def draws(groups: int, resamples: int, seed: int) -> Iterator[Array]:
    """(r, G) how often each group is drawn, some resamples at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // groups)
    for lo in range(0, resamples, step):
        rows = min(step, resamples - lo)
        drawn = rng.integers(groups, size=(rows, groups)) + np.arange(rows)[:, None] * groups
        yield np.bincount(drawn.reshape(-1), minlength=rows * groups).reshape(rows, groups).astype(np.float64)
