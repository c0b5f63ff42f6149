"""How well ranked results hold what was looked for: recall, hits and average precision of the first k.

    relevant (Q, k): is result j of query i what it looked for? ──┐
    total (Q,): how many such items there are to find ────────────┴─► a score for each query ─► mean

A query with nothing to find cannot succeed or fail: it is left out of the mean and counted. Rows are best first; places
beyond the end of a short ranking are False. The query's own row of the gallery must be taken out before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Retrieval:
    """A mean over queries, and what it is of.

    Attributes:
        value: Mean of `score`, 0 to 1; NaN where no query counts.
        queries: How many count. left_out: How many have nothing to find.
        score: (Q,) of each query, NaN where it is left out; for intervals (group by product, say).
    """

    value: float
    queries: int
    left_out: int
    score: Array


def recall_at(relevant: npt.ArrayLike, total: npt.ArrayLike, k: int) -> Retrieval:
    """Share of what there is to find that stands among the first k.

    With more than k items to find it cannot reach 1. Papers on retrieval often say recall@k where they mean `hit_at`.

    Args:
        relevant: (Q, K) booleans, best first. total: (Q,) whole numbers. k: 1..K.

    Raises:
        ValueError: Shapes or kinds do not fit, k is out of range, or more was found than there is.
    """
    found, there = _checked(relevant, total, k)
    return _mean(found.sum(1) / np.maximum(there, 1), there)


def hit_at(relevant: npt.ArrayLike, total: npt.ArrayLike, k: int) -> Retrieval:
    """Share of queries with at least one relevant item among the first k; arguments and errors as for `recall_at`."""
    found, there = _checked(relevant, total, k)
    return _mean(np.minimum(found.sum(1), 1), there)


def average_precision(relevant: npt.ArrayLike, total: npt.ArrayLike, k: int | None = None) -> Retrieval:
    """Mean average precision, of the whole ranking or of its first k places.

        AP   = 1 / R         * sum over places j = 1..K of  relevant_j * (relevant ones among the first j) / j
        AP@k = 1 / min(R, k) * the same sum over j = 1..k

    R is the query's `total`. Both are 1 for a perfect ranking. C. Manning, P. Raghavan and H. Schütze, "Introduction to
    Information Retrieval" (2008), 8.4; divisors of AP@k differ between papers, and this one is that of Google Landmarks
    (arXiv 2004.01804).

    Args:
        relevant: (Q, K) booleans, best first. total: (Q,) whole numbers. k: 1..K; None: of the whole ranking, which
            then has to hold all that there is to find.

    Raises:
        ValueError: As for `recall_at`, or the ranking ends before all is found and no k is given.
    """
    found, there = _checked(relevant, total, k)
    if k is None and (short := int((found.sum(1) < there).sum())):
        raise ValueError(f"{short:,} rankings end before all is found; rank the whole gallery, or say k")
    place = np.arange(1, found.shape[1] + 1)
    precision = np.cumsum(found, axis=1) / place  # (Q, k)
    most = there if k is None else np.minimum(there, k)
    return _mean((precision * found).sum(1) / np.maximum(most, 1), there)


def _checked(relevant: npt.ArrayLike, total: npt.ArrayLike, k: int | None) -> tuple[Array, Array]:
    """(Q, k) bool and (Q,) int64."""
    found, there = np.asarray(relevant), np.asarray(total)
    if found.ndim != 2 or found.dtype != bool:
        raise ValueError(f"relevance is (Q, K) booleans, not {found.shape} of {found.dtype}")
    if there.shape != found.shape[:1] or there.dtype.kind not in "iu":
        raise ValueError(f"totals are ({len(found)},) whole numbers, not {there.shape} of {there.dtype}")
    if k is not None and not 1 <= k <= found.shape[1]:
        raise ValueError(f"k = {k} does not lie within 1..{found.shape[1]}, the places of the ranking")
    if (over := found.sum(1) > there).any():
        raise ValueError(f"query {int(np.argmax(over))} found more relevant items than its total says there are")
    return found[:, :k], there.astype(np.int64)


def _mean(score: Array, there: Array) -> Retrieval:
    counts = there > 0
    value = float(score[counts].mean()) if counts.any() else float("nan")
    return Retrieval(value, int(counts.sum()), int((~counts).sum()), np.where(counts, score, np.nan))
