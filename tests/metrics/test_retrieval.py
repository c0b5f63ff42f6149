"""Ranked results against plain loops and answers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fashionkit.metrics.retrieval import average_precision, hit_at, recall_at


def slow_average_precision(ranked: list[bool], total: int, k: int | None) -> float:
    """The mean of the precision at each relevant item; those not found have one of 0."""
    ranked = ranked if k is None else ranked[:k]
    precisions = [sum(ranked[: j + 1]) / (j + 1) for j, relevant in enumerate(ranked) if relevant]
    return sum(precisions) / (total if k is None else min(total, k))


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random((12, 9)) < 0.3
    found = relevant.sum(1)
    more = found + rng.integers(0, 4, 12)  # some of what there is lies beyond the ninth place
    for k in (1, 4, 9):
        recall, hits, cut = (
            recall_at(relevant, more, k),
            hit_at(relevant, more, k),
            average_precision(relevant, more, k),
        )
        assert recall.queries + recall.left_out == 12
        for i in range(12):
            if not more[i]:
                assert all(math.isnan(each.score[i]) for each in (recall, hits, cut))
                continue
            row = relevant[i].tolist()
            assert recall.score[i] == pytest.approx(sum(row[:k]) / more[i])
            assert hits.score[i] == any(row[:k])
            assert cut.score[i] == pytest.approx(slow_average_precision(row, more[i], k))
        assert recall.value == pytest.approx(np.nanmean(recall.score))
    whole = average_precision(relevant, found)
    for i in np.flatnonzero(found):
        assert whole.score[i] == pytest.approx(slow_average_precision(relevant[i].tolist(), found[i], None))


def test_what_scikit_learn_says() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    relevant = rng.random((8, 20)) < 0.4
    expected = [metrics.average_precision_score(row, -np.arange(20)) for row in relevant]
    assert average_precision(relevant, relevant.sum(1)).score == pytest.approx(expected)


def test_answers_worked_out_by_hand() -> None:
    relevant = np.array([[True, False, True], [False, False, False], [False, True, False]])
    total = np.array([2, 0, 5])
    recall = recall_at(relevant, total, 2)
    assert (recall.value, recall.queries, recall.left_out) == (pytest.approx((1 / 2 + 1 / 5) / 2), 2, 1)
    assert hit_at(relevant, total, 1).value == 0.5
    assert average_precision(relevant, total, 3).value == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2) / 3) / 2)


def test_a_perfect_ranking_scores_one_however_little_is_looked_at() -> None:
    relevant = np.arange(10)[None] < np.array([[3], [10], [1]])
    total = relevant.sum(1)
    assert average_precision(relevant, total).value == 1
    assert all(average_precision(relevant, total, k).value == 1 for k in range(1, 11))
    assert recall_at(relevant, total, 10).value == 1


def test_nothing_to_find_for_anybody() -> None:
    nothing = recall_at(np.zeros((3, 2), bool), np.zeros(3, int), 1)
    assert math.isnan(nothing.value) and (nothing.queries, nothing.left_out) == (0, 3)
    assert math.isnan(average_precision(np.zeros((0, 2), bool), np.zeros(0, int)).value)


GOOD, TOTAL = np.array([[True, False]]), np.array([1])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: recall_at(GOOD, TOTAL, 0),
        lambda: recall_at(GOOD, TOTAL, 3),
        lambda: recall_at(GOOD.astype(int), TOTAL, 1),
        lambda: recall_at(GOOD[0], TOTAL, 1),
        lambda: recall_at(GOOD, np.array([1, 1]), 1),
        lambda: recall_at(GOOD, np.array([1.0]), 1),
        lambda: recall_at(GOOD, np.array([float("nan")]), 1),
        lambda: recall_at(GOOD, np.array([0]), 1),
        lambda: hit_at(GOOD, np.array([-1]), 2),
        lambda: average_precision(GOOD, np.array([2])),
    ],
)
def test_misuse_raises(wrong: Any) -> None:
    with pytest.raises(ValueError):
        wrong()
