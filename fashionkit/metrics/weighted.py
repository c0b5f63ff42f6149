"""Measures as functions of how often each group is drawn, and their intervals over groups and seeds.

    values (S, n), group (n,) ─► sums by group (S, G, k) ─► `Weighted`: weights (R, G) ─► values (R, S)
    two of the same groups ─► `gain`: their difference, on the same draws
    `estimate`: all groups once ─► value;  groups drawn again, and what seeds differ by ─► low, high

Groups of pictures are drawn again with replacement, as in `fashionkit.metrics.intervals`. Seeds are the outer level: a
value is the mean over the networks of S seeds, and what their values differ by is added to the error, s²/S, with the
degrees of freedom of Welch and Satterthwaite; this way of counting seeds is ours. One seed tells nothing of others: its
interval is about this network.

Letters: n questions, S seeds, G groups, R draws, k sums or labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.metrics.intervals import draws, student

Array = npt.NDArray[Any]
ROUNDING = 1e-12  # an error below it is that of numbers that do not vary


@dataclass(frozen=True)
class Measure:
    """A measure with its interval; NaN where there is none, as of a single group.

    Attributes:
        value, low, high: Of it. n: Questions (or pairs, or samples) that it is of.
    """

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: None where a number does not exist."""
        found = {name: plain(getattr(self, name)) for name in ("value", "low", "high")}
        return {**found, "n": self.n}


@dataclass(frozen=True)
class Weighted:
    """A measure as a function of how often each group is drawn.

    Attributes:
        of: (R, G) weights → (R, S) values, NaN where there is nothing to measure. size: G.
        groups: How many of them have a question that counts. n: Such questions. bounds: Of what it can be.
    """

    of: Callable[[Array], Array]
    size: int
    groups: int
    n: int
    bounds: tuple[float, float] = (0.0, 1.0)


def plain(value: float) -> float | None:
    """A number as JSON can hold it."""
    return float(value) if np.isfinite(value) else None


def mean(values: npt.ArrayLike, group: npt.ArrayLike, size: int) -> Weighted:
    """The mean of numbers, such as whether answers are right.

    Args:
        values: (n,) or (S, n); NaN does not count. group: (n,) whole numbers 0..G-1. size: G.

    Raises:
        ValueError: Shapes or group numbers do not fit.
    """
    found, groups = checked(values, group, size)
    there = ~np.isnan(found)
    sums = np.stack([by_group(np.where(there, found, 0), groups, size), by_group(there, groups, size)], 2)
    known = found[there]
    share = not known.size or (known.min() >= 0 and known.max() <= 1)
    made = from_sums(lambda t: ratio(t[..., 0], t[..., 1]), sums, groups[there.any(0)], size)
    return made if share else replace(made, bounds=(-np.inf, np.inf))


def mean_over(
    values: npt.ArrayLike,
    label: npt.ArrayLike,
    group: npt.ArrayLike,
    size: int,
    harmonic: bool = False,
    within: npt.ArrayLike | None = None,
) -> Weighted:
    """The mean over labels of the means of their questions: each label counts as much as any other.

    Args:
        values: (n,) or (S, n) whether answers are right. label: (n,) answers, or families, of any type.
        group, size: As for `mean`. harmonic: The harmonic mean, which is 0 where a label's mean is.
        within: (n,) coarser labels: the mean over these of the mean over their labels, such as over families of the
            mean over answers, which is TDIUC's normalised mean per type.

    Raises:
        ValueError: Shapes or group numbers do not fit.
    """
    found, groups = checked(values, group, size)
    names = np.asarray(label)
    if names.shape != groups.shape or (within is not None and np.shape(within) != groups.shape):
        raise ValueError(f"{len(groups)} questions and {names.shape} labels do not go together")
    coarse = np.zeros(len(names), np.int64) if within is None else np.unique(np.asarray(within), return_inverse=True)[1]
    _, fine = np.unique(names, return_inverse=True)
    cell, at = np.unique(coarse * (int(fine.max(initial=0)) + 1) + fine, return_inverse=True)
    above = cell // (int(fine.max(initial=0)) + 1)
    k = len(cell)
    sums = np.concatenate([by_cell(found, groups, size, at, k), by_cell(np.ones_like(found), groups, size, at, k)], 2)

    def statistic(t: Array) -> Array:
        each = ratio(t[..., :k], t[..., k:])
        if within is not None:
            each = np.stack([_mean_there(each[..., above == one]) for one in range(int(above.max(initial=0)) + 1)], -1)
        return _harmonic_there(each) if harmonic else _mean_there(each)

    return from_sums(statistic, sums, groups, size)


def gain(one: Weighted, two: Weighted) -> Weighted:
    """How much higher a measure is than another of the same questions, by the same draws of groups.

    Networks of as many seeds are taken in pairs, in the order of their seeds; else seeds are told apart on each side.

    Raises:
        ValueError: The sides have other groups.
    """
    if one.size != two.size:
        raise ValueError(f"{one.size} groups and {two.size}: these are not the same questions")

    def of(weights: Array) -> Array:
        first, second = one.of(weights), two.of(weights)
        if first.shape == second.shape:
            return first - second
        # Deviations of both sides from their means, spread over all pairs: mean and variance s1²/S1 + s2²/S2 hold.
        return _crossed(first, second)

    low, high = one.bounds[0] - two.bounds[1], one.bounds[1] - two.bounds[0]
    return Weighted(of, one.size, max(one.groups, two.groups), one.n, (low, high))


def estimate(found: Weighted, resamples: int = 1000, seed: int = 0, level: float = 0.95) -> Measure:
    """A measure with its interval.

    Args:
        found: From one of the functions here. resamples: Draws of groups. seed: Of the draws. level: Above 0, below 1.

    Returns:
        The mean over seeds; its interval is NaN where fewer than two groups count.

    Raises:
        ValueError: A level or number of resamples that makes no sense.
    """
    if resamples < 2 or not 0 < level < 1:
        raise ValueError(f"{resamples} resamples, level {level}: no interval follows from these")
    each = found.of(np.ones((1, found.size)))[0]  # (S,)
    value = float(np.mean(each)) if len(each) else float("nan")
    if found.groups < 2 or not np.isfinite(value):
        return Measure(value, float("nan"), float("nan"), found.n)
    drawn = np.concatenate([found.of(weights).mean(1) for weights in draws(found.size, resamples, seed)])
    width = _width(drawn[~np.isnan(drawn)] - value, found.groups, each, level)
    low, high = found.bounds
    return Measure(value, max(value - width, low), min(value + width, high), found.n)


def checked(values: npt.ArrayLike, group: npt.ArrayLike, size: int) -> tuple[Array, Array]:
    """(S, n) float64 and (n,) int64."""
    found, groups = np.atleast_2d(np.asarray(values, np.float64)), np.asarray(group)
    if found.ndim != 2 or groups.shape != found.shape[1:] or (groups.size and groups.dtype.kind not in "iu"):
        raise ValueError(f"values of shape {found.shape} do not go with groups of shape {groups.shape}")
    if groups.size and not 0 <= groups.min() <= groups.max() < size:
        raise ValueError(f"groups are whole numbers within 0..{size - 1}")
    return found, groups.astype(np.int64)


def by_group(values: Array, group: Array, size: int) -> Array:
    """(S, G) sums of (S, n)."""
    return np.stack([np.bincount(group, row, size) for row in values]).astype(np.float64)


def by_cell(values: Array, group: Array, size: int, cell: Array, k: int) -> Array:
    """(S, G, k) sums of (S, n) by group and cell."""
    place = group * k + cell
    return np.stack([np.bincount(place, row, size * k).reshape(size, k) for row in values]).astype(np.float64)


def from_sums(statistic: Callable[[Array], Array], sums: Array, counted: Array, size: int) -> Weighted:
    """A statistic (…, k) → (…) of (S, G, k) sums by group."""
    return Weighted(
        lambda weights: statistic(weights @ sums).T, size, len(np.unique(counted)), len(counted)
    )  # (R, G) @ (S, G, k) → (S, R, k) → (S, R)


def ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _mean_there(values: Array) -> Array:
    """Mean over the last axis of what is not NaN."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0).sum(-1), there.sum(-1).astype(np.float64))


def _harmonic_there(values: Array) -> Array:
    there = ~np.isnan(values)
    with np.errstate(divide="ignore"):
        inverse = np.where(there, 1 / np.where(there, values, 1), 0).sum(-1)  # infinite where a value is 0
    return np.where(there.any(-1), there.sum(-1) / np.where(inverse > 0, inverse, 1), np.nan)


def _crossed(first: Array, second: Array) -> Array:
    """(R, S) differences of (R, S1) and (R, S2) whose mean is that of both sides and whose s²/S is s1²/S1 + s2²/S2."""
    middle = first.mean(1) - second.mean(1)
    parts = [side.var(1, ddof=1) / side.shape[1] if side.shape[1] > 1 else 0 * middle for side in (first, second)]
    off = np.sqrt(parts[0] + parts[1])  # of two values m ± off the variance is 2 off², and s²/S is off²
    return np.stack([middle - off, middle + off], 1)


def _width(off: Array, groups: int, each: Array, level: float) -> float:
    """Distance between value and bound.

    Args:
        off: (R,) deviations of resampled values. groups: G that count. each: (S,) values of the seeds.
    """
    if len(off) < 2:
        return float("nan")
    error = float(np.sqrt((off**2).mean()))
    factor = float(np.quantile(np.abs(off) / error, level)) if error >= ROUNDING else 2.0
    of_groups = error**2 * groups / (groups - 1) if error >= ROUNDING else 0.0
    of_seeds = float(each.var(ddof=1)) / len(each) if len(each) > 1 else 0.0
    total = of_groups + of_seeds
    if total < ROUNDING**2:
        return 0.0
    parts = of_groups**2 / (groups - 1) + (of_seeds**2 / (len(each) - 1) if len(each) > 1 else 0.0)
    return float(student(np.asarray(factor), np.asarray(total**2 / parts))) * float(np.sqrt(total))
