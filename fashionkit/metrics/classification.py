"""How well labels and probabilities fit the truth: accuracy, F1, calibration, and intervals by group for any of them.

    truth, predicted (n,) ─► accuracy, F1 by class, macro-F1 ──────────┐
    probability of what was predicted (n,), was it right ─► ECE ───────┼─► whole groups drawn again ─► value, low, high
    truth (n,), probabilities (n, V) ─► negative log-likelihood ───────┘

Rows whose truth is unknown or not visible are left out by the caller: no number here stands for "do not know". The
intervals are those of `fashionkit.metrics.intervals`, for statistics that are no means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fashionkit.metrics.intervals import draws, student

Array = npt.NDArray[Any]
Binning = Literal["mass", "width"]
LEAST = 1e-12  # a truth that was held impossible costs 27.6 nats, not infinitely many


def accuracy(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of labels that were predicted, 0 to 1.

    Args:
        truth, predicted: (n,) whole numbers, booleans or texts, both of one kind.

    Raises:
        ValueError: Shapes differ, there are no rows, or labels are floats or of two kinds.
    """
    true, found = _labels(truth, predicted)
    return float((true == found).mean())


def f1_by_class(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """F1 of each class that occurs in the truth or among the predictions, each taken as "it" against all others.

    Args:
        truth, predicted: (n,) whole numbers, booleans or texts, both of one kind.

    Returns:
        (c,) classes, ascending; (c,) F1, 0 to 1; (c,) how often each is the truth.

    Raises:
        ValueError: Shapes differ, there are no rows, or labels are floats or of two kinds.
    """
    true, found = _labels(truth, predicted)
    classes, at = np.unique(np.concatenate([true, found]), return_inverse=True)
    at_true, at_found = at[: len(true)], at[len(true) :]
    support, named = (np.bincount(side, minlength=len(classes)) for side in (at_true, at_found))
    right = np.bincount(at_true[at_true == at_found], minlength=len(classes))
    return classes, 2 * right / (support + named), support


def macro_f1(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Mean F1 over the classes that occur in the truth or among the predictions, 0 to 1.

    A class that occurs in neither says nothing about the predictions and does not count; one that was only predicted
    counts with an F1 of 0. Of several definitions this is the mean of F1, not the F1 of means; see J. Opitz and S.
    Burst, "Macro F1 and Macro F1", arXiv 1911.03347.

    Raises:
        ValueError: As for `f1_by_class`.
    """
    return float(f1_by_class(truth, predicted)[1].mean())


def f1(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """F1 of "yes", 0 to 1; NaN where neither the truth nor a prediction is a yes.

    Args:
        truth, predicted: (n,) booleans.

    Raises:
        ValueError: Shapes differ, there are no rows, or values are no booleans.
    """
    true, found = _labels(truth, predicted)
    if true.dtype != bool:
        raise ValueError(f"yes and no are told by booleans, not by {true.dtype}")
    named = int(true.sum() + found.sum())
    return float(2 * (true & found).sum() / named) if named else float("nan")


def calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = 15, equal: Binning = "mass"
) -> float:
    """Expected calibration error, 0 to 1: the mean gap between how sure predictions were and how often they were right.

        sum over bins of  (rows in the bin / n) * |mean confidence - share of right ones|

    C. Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599. It is above 0 for perfect confidences,
    too, the more so the fewer rows a bin has; compare numbers of the same n, bins and binning only.

    Args:
        confidence: (n,) 0 to 1, the probability of what was predicted, or that of "yes".
        correct: (n,) booleans, whether the prediction was right, or the truth is "yes".
        bins: How many bins.
        equal: `mass`: bins hold about as many rows each (rows of one confidence share a bin); `width`: bins cover 0 to
            1 in equal steps, and most of them may be empty.

    Raises:
        ValueError: Shapes differ, there are no rows, a confidence outside 0 to 1, or a setting that makes no sense.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct)
    _same(sure, right, "confidences", "answers")
    if right.dtype != bool:
        raise ValueError(f"whether predictions were right is told by booleans, not by {right.dtype}")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("confidences lie within 0 to 1")
    if bins < 1 or equal not in ("mass", "width"):
        raise ValueError(f"{bins} bins of equal {equal!r}: one or more, of equal mass or width")
    if equal == "width":
        place = np.minimum((sure * bins).astype(np.int64), bins - 1)
    else:
        _, at, many = np.unique(sure, return_inverse=True, return_counts=True)
        place = ((np.cumsum(many) - many / 2) * bins / len(sure)).astype(np.int64)[at]  # by the middle of equal ones
    gaps = np.bincount(place, sure - right, bins)
    return float(np.abs(gaps).sum() / len(sure))


def negative_log_likelihood(truth: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Mean of -log of the probability that was given to the truth, in nats; 0 is best.

    Args:
        truth: (n,) whole numbers 0..V-1, or booleans where there is one probability a row.
        probability: (n, V), each row adding up to 1; or (n,), that of "yes". A probability below `LEAST` counts as
            `LEAST`.

    Raises:
        ValueError: Shapes or kinds do not fit, there are no rows, or numbers are no probabilities.
    """
    true, given = np.asarray(truth), np.asarray(probability, np.float64)
    if given.ndim not in (1, 2) or true.shape != given.shape[:1] or not true.size:
        raise ValueError(f"truth of shape {true.shape} does not go with probabilities of shape {given.shape}")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("probabilities lie within 0 to 1")
    if given.ndim == 1:
        if true.dtype != bool:
            raise ValueError(f"one probability a row goes with booleans, not with {true.dtype}")
        of_truth = np.where(true, given, 1 - given)
    else:
        if true.dtype.kind not in "iu" or true.min() < 0 or true.max() >= given.shape[1]:
            raise ValueError(f"the truth is told by whole numbers within 0..{given.shape[1] - 1}")
        if not np.allclose(given.sum(1), 1, atol=1e-3):
            raise ValueError("the probabilities of a row add up to 1")
        of_truth = np.take_along_axis(given, true[:, None].astype(np.int64), axis=1)[:, 0]
    return float(-np.log(np.maximum(of_truth, LEAST)).mean())


def grouped_bootstrap(
    statistic: Callable[..., float],
    arrays: Sequence[npt.ArrayLike],
    groups: npt.ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Bootstrap interval of any statistic over groups of rows; for a mean it is what `intervals` gives.

    Args:
        statistic: Called as `statistic(*arrays)` with rows drawn again; it must not depend on the order of rows.
        arrays: Each (n, ...). groups: (n,) labels of what belongs together, such as pictures or duplicates.
        resamples: How often whole groups are drawn again. seed: Of the draws. level: Above 0 and below 1.

    Returns:
        The value, and it minus and plus the distance that a share `level` of the resampled values stay within, wider
        where there are few groups. Distances are taken from the value, so a statistic that resampling shifts (ECE,
        macro-F1 of rare classes) gets a wider interval, never one without its value. Resamples for which the statistic
        is NaN do not count.

    Raises:
        ValueError: Lengths differ, fewer than two groups, or a level or number of resamples that makes no sense.
    """
    held, names = [np.asarray(array) for array in arrays], np.asarray(groups)
    if names.ndim != 1 or not held or any(array.shape[:1] != names.shape for array in held):
        raise ValueError(f"arrays of shapes {[a.shape for a in held]} do not go with groups of shape {names.shape}")
    _, group = np.unique(names, return_inverse=True)
    count = int(group.max(initial=-1)) + 1
    if count < 2 or resamples < 2 or not 0 < level < 1:
        raise ValueError(f"{count} groups, {resamples} resamples, level {level}: no interval follows from these")
    value, row, drawn = float(statistic(*held)), np.arange(len(group)), []
    for often in (each for some in draws(count, resamples, seed) for each in some):
        rows = np.repeat(row, often.astype(np.int64)[group])
        drawn.append(float(statistic(*(array[rows] for array in held))))
    width = _width(np.array(drawn) - value, count, level)
    return value, value - width, value + width


def paired_difference(
    statistic: Callable[[Array, Array], float],
    truth: npt.ArrayLike,
    one: npt.ArrayLike,
    two: npt.ArrayLike,
    groups: npt.ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """How much higher `statistic(truth, one)` is than `statistic(truth, two)`, with its interval.

    Both are worked out on the same draws, so what makes a picture hard for both cancels out.

    Args:
        truth, one, two: (n, ...) the truth and two models' predictions of the same rows. groups: (n,).
        resamples, seed, level: As for `grouped_bootstrap`.

    Raises:
        ValueError: As for `grouped_bootstrap`, and whatever the statistic refuses.
    """

    def difference(true: Array, first: Array, second: Array) -> float:
        return statistic(true, first) - statistic(true, second)

    return grouped_bootstrap(difference, (truth, one, two), groups, resamples, seed, level)


def _width(off: Array, groups: int, level: float) -> float:
    """Distance between value and bound from the deviations of resamples, as `intervals` has it for means."""
    off = np.abs(off[~np.isnan(off)])
    error = float(np.sqrt((off**2).mean())) if len(off) > 1 else float("nan")
    if not error >= 1e-12:  # rounding of what does not vary, or NaN
        return error * 0
    factor = student(np.asarray(np.quantile(off / error, level)), np.asarray(groups - 1))
    return float(factor) * error * float(np.sqrt(groups / (groups - 1)))


def _labels(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Array, Array]:
    true, found = (_texts(np.asarray(side)) for side in (truth, predicted))
    _same(true, found, "true labels", "predicted ones")
    kinds = {"i" if side.dtype.kind in "iu" else side.dtype.kind for side in (true, found)}
    if len(kinds) > 1 or not kinds <= set("ibU"):
        raise ValueError(f"labels are whole numbers, booleans or texts, both alike; got {true.dtype} and {found.dtype}")
    return true, found


def _texts(labels: Array) -> Array:
    """Texts as pyarrow gives them, an array of objects, become an array of texts; all else stays."""
    whole = labels.dtype == object and all(isinstance(label, str) for label in labels.flat)
    return labels.astype(str) if whole else labels


def _same(one: Array, two: Array, first: str, second: str) -> None:
    if one.ndim != 1 or one.shape != two.shape or not one.size:
        raise ValueError(f"{first} and {second} are two rows of one length, not {one.shape} and {two.shape}")
