"""How good answers to questions about pictures are: measures of VQA, most of them with intervals by picture and seed.

    right (S, n), group (n,) ─► `mean`, `mean_over`, `detection`, `calibration`, `swap` ─► `Weighted`, see
                                `fashionkit.metrics.weighted` ─► `estimate` ─► value, low, high
    probability, right (n,) ─► `reliability`, `coverage_risk`;  right and given answers ─► `distribution`, `confusions`

Sources: mean per type, arithmetic and harmonic, of TDIUC (arXiv 1703.09684); validity, distribution and consistency of
GQA (arXiv 1902.09506), the latter in `fashionkit.metrics.consistency`; expected calibration error of arXiv 1706.04599;
coverage and risk of arXiv 1705.08500. The swap of pictures is ours.

Letters: n questions, S seeds, G groups, R draws, P pairs, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.metrics.weighted import (
    Measure,
    Weighted,
    by_cell,
    by_group,
    checked,
    estimate,
    from_sums,
    gain,
    mean,
    mean_over,
    plain,
    ratio,
)

Array = npt.NDArray[Any]
Rows = list[dict[str, Any]]
__all__ = [
    "Measure",
    "Weighted",
    "calibration",
    "confusions",
    "coverage_risk",
    "detection",
    "distribution",
    "estimate",
    "gain",
    "mean",
    "mean_over",
    "plain",
    "reliability",
    "swap",
    "swap_pairs",
]


def detection(truth: npt.ArrayLike, said: npt.ArrayLike, group: npt.ArrayLike, size: int) -> dict[str, Weighted]:
    """Precision, recall and F1 of one answer, such as `not present`, against all others.

    Args:
        truth: (n,) booleans, it is the right answer. said: (n,) or (S, n) booleans, it was given.
        group, size: As for `mean`.

    Returns:
        `precision`, `recall`, `f1`; each is NaN where it is never the truth and never said.

    Raises:
        ValueError: Shapes or group numbers do not fit.
    """
    given, groups = checked(said, group, size)
    true = np.broadcast_to(np.asarray(truth, np.float64), given.shape)
    sums = np.stack([by_group(part, groups, size) for part in (given * true, given, true)], 2)
    counted = groups[(true + given).any(0)]
    parts: dict[str, Callable[[Array], Array]] = {
        "precision": lambda t: ratio(t[..., 0], t[..., 1]),
        "recall": lambda t: ratio(t[..., 0], t[..., 2]),
        "f1": lambda t: ratio(2 * t[..., 0], t[..., 1] + t[..., 2]),
    }
    return {name: from_sums(part, sums, counted, size) for name, part in parts.items()}


def calibration(
    probability: npt.ArrayLike, right: npt.ArrayLike, group: npt.ArrayLike, size: int, bins: int = 15
) -> Weighted:
    """Expected calibration error: by how much probabilities miss how often answers are right, 0 to 1.

    Bins hold about as many questions each, by the whole of them; resamples keep these bins. For one seed the value is
    that of `fashionkit.metrics.classification.calibration_error`.

    Args:
        probability: (n,) or (S, n) of the answers given, 0 to 1. right: Of the same shape, booleans.
        group, size: As for `mean`. bins: B.

    Raises:
        ValueError: Shapes or group numbers do not fit, or a probability outside 0 to 1.
    """
    sure, groups = checked(probability, group, size)
    correct, _ = checked(right, group, size)
    if sure.shape != correct.shape or not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("probabilities within 0 to 1 are needed, and as many answers")
    places = np.stack([_places(row, bins) for row in sure]) if sure.size else np.zeros(sure.shape, np.int64)
    gaps = np.stack(
        [by_cell(row[None], groups, size, at, bins)[0] for row, at in zip(sure - correct, places, strict=True)]
    )
    sums = np.concatenate([gaps, by_group(np.ones_like(sure), groups, size)[..., None]], 2)
    return from_sums(lambda t: ratio(np.abs(t[..., :-1]).sum(-1), t[..., -1]), sums, groups, size)


def reliability(probability: npt.ArrayLike, right: npt.ArrayLike, bins: int = 15) -> Rows:
    """Bins of about as many questions each, for a plot: `n`, mean `probability`, share `right`; empty ones left out."""
    sure, correct = np.asarray(probability, np.float64).reshape(-1), np.asarray(right, np.float64).reshape(-1)
    place = _places(sure, bins)
    n, total, hits = (np.bincount(place, part, bins) for part in (np.ones(len(sure)), sure, correct))
    return [
        {"n": int(n[one]), "probability": float(total[one] / n[one]), "right": float(hits[one] / n[one])}
        for one in np.flatnonzero(n)
    ]


def coverage_risk(probability: npt.ArrayLike, right: npt.ArrayLike) -> tuple[Array, Array]:
    """What remains wrong where only the surest answers are given.

    Args:
        probability: (n,) of the answers given. right: (n,) booleans.

    Returns:
        (n,) coverage, ascending to 1, and (n,) share of wrong ones among that share of surest answers; equally sure
        ones come in together, so that their order does not matter.

    Raises:
        ValueError: Lengths differ.
    """
    sure, wrong = np.asarray(probability, np.float64), 1.0 - np.asarray(right, np.float64)
    if sure.shape != wrong.shape or sure.ndim != 1:
        raise ValueError(f"{sure.shape} probabilities and {wrong.shape} answers do not go together")
    _, at, many = np.unique(-sure, return_inverse=True, return_counts=True)
    within = np.bincount(at, wrong, len(many)) / np.maximum(many, 1)  # among equally sure answers
    count = np.arange(1, len(sure) + 1)
    return count / max(len(sure), 1), np.cumsum(np.repeat(within, many)) / count


def swap_pairs(question: npt.ArrayLike, picture: npt.ArrayLike, answer: npt.ArrayLike, seed: int = 0) -> Array:
    """Pairs of rows with the same question, two pictures and two answers; each row is in one pair at most.

    Args:
        question, picture, answer: (n,) each, of any type that sorts. seed: Decides who is paired with whom.

    Returns:
        (P, 2) rows.

    Raises:
        ValueError: Lengths differ.
    """
    codes = [np.unique(np.asarray(part), return_inverse=True)[1] for part in (question, picture, answer)]
    if len({part.shape for part in codes}) > 1:
        raise ValueError("questions, pictures and answers are of one length")
    asked, shown, true = codes
    chance = np.random.default_rng(seed).permutation(len(asked))
    turn = _count_before(np.lexsort((chance, true, asked)), asked, true)  # the first of each answer, then the second, …
    order = np.lexsort((chance, turn, asked))
    place = _count_before(order, asked)
    one, two = order[:-1], order[1:]
    kept = (asked[one] == asked[two]) & (place[one] % 2 == 0) & (true[one] != true[two]) & (shown[one] != shown[two])
    return np.stack([one[kept], two[kept]], 1)


def swap(right: npt.ArrayLike, pairs: Array, group: npt.ArrayLike, size: int) -> Weighted:
    """How often both answers of a pair of `swap_pairs` are right: what cannot be had without looking.

    Args:
        right: (n,) or (S, n) booleans. pairs: (P, 2) rows. group, size: As for `mean`; a pair is drawn as often as both
            its groups together allow, their product.

    Raises:
        ValueError: Shapes or group numbers do not fit.
    """
    correct, groups = checked(right, group, size)
    both = correct[:, pairs[:, 0]] * correct[:, pairs[:, 1]]  # (S, P)
    one, two = groups[pairs[:, 0]], groups[pairs[:, 1]]

    def of(weights: Array) -> Array:
        found = np.full((len(weights), len(both)), np.nan)
        for row, weight in enumerate(weights):  # P numbers a draw, never R x P
            often = weight[one] * weight[two]
            if total := often.sum():
                found[row] = both @ often / total
        return found

    return Weighted(of, size, len(np.unique(groups[pairs])), len(pairs))


def distribution(label: npt.ArrayLike, truth: npt.ArrayLike, said: npt.ArrayLike) -> float:
    """How unlike the given answers are distributed to the right ones; 0 is best, there is no upper bound.

    Of each label chi-square of the counts of given answers against those of right ones, over the right ones; the mean
    weighted by size, divided by 100, as GQA's evaluation has it. It grows with the number of questions.

    Args:
        label: (n,) what was asked for, such as an attribute. truth, said: (n,) answers.

    Raises:
        ValueError: Lengths differ.
    """
    names, true, given = (np.asarray(part) for part in (label, truth, said))
    if not names.shape == true.shape == given.shape:
        raise ValueError("labels, right and given answers are of one length")
    total = 0.0
    for name in np.unique(names):
        mine = names == name
        answers, count = np.unique(true[mine], return_counts=True)
        found = np.array([(given[mine] == answer).sum() for answer in answers])
        total += float(((found - count) ** 2 / count).sum()) * int(mine.sum())
    return total / len(names) / 100 if len(names) else float("nan")


def confusions(truth: Sequence[str], said: Sequence[str], most: int = 20) -> Rows:
    """The most frequent wrong answers: `answer`, `given`, `n`, and `share` of all questions with that answer."""
    pairs: dict[tuple[str, str], int] = {}
    asked: dict[str, int] = {}
    for true, given in zip(truth, said, strict=True):
        asked[true] = asked.get(true, 0) + 1
        if true != given:
            pairs[true, given] = pairs.get((true, given), 0) + 1
    order = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:most]
    return [{"answer": a, "given": g, "n": pairs[a, g], "share": pairs[a, g] / asked[a]} for a, g in order]


def _places(sure: Array, bins: int) -> Array:
    """(n,) bins of about equal mass; equal numbers share a bin, the one where their middle lies."""
    _, at, many = np.unique(sure, return_inverse=True, return_counts=True)
    found: Array = ((np.cumsum(many) - many / 2) * bins / max(len(sure), 1)).astype(np.int64)
    return found[at]


def _count_before(order: Array, *codes: Array) -> Array:
    """(n,) how many rows of equal codes stand before each row in an order that keeps equal ones together."""
    sorted_ = np.stack([code[order] for code in codes])
    starts = np.ones(len(order), bool)
    starts[1:] = (sorted_[:, 1:] != sorted_[:, :-1]).any(0)
    at = np.arange(len(order))
    found = np.empty(len(order), np.int64)
    found[order] = at - np.maximum.accumulate(np.where(starts, at, 0))
    return found
