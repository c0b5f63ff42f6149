"""Intervals by group: against a formula, a plain loop, and how often they hold on data whose mean is known."""

from __future__ import annotations

import numpy as np
import pytest

from fashionkit.metrics.intervals import group_sums, intervals


def test_sums_are_those_of_a_plain_loop() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    sums, counts = group_sums(values, np.array([9, 2, 9, 2, 9]), np.array([0, 0, 1, 0, 1]), 3)
    assert sums.tolist() == [[10, 0, 0], [1, 20, 0]]  # groups 2 and 9
    assert counts.tolist() == [[2, 0, 0], [1, 2, 0]]


def test_the_width_is_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, 2000)
    sums, counts = group_sums(values, np.arange(2000), np.zeros(2000, int), 1)
    found = intervals(sums, counts, 2000, seed=1)
    assert found.value[0] == pytest.approx(values.mean())
    expected = 1.96 * values.std(ddof=1) / np.sqrt(2000)
    assert found.high[0] - found.value[0] == pytest.approx(expected, rel=0.08)
    assert found.value[0] - found.low[0] == pytest.approx(found.high[0] - found.value[0])


def test_saying_everything_ten_times_makes_nothing_surer() -> None:
    values = np.random.default_rng(0).normal(size=100)
    once = intervals(*group_sums(values, np.arange(100), np.zeros(100, int), 1))
    tenfold = intervals(*group_sums(np.repeat(values, 10), np.repeat(np.arange(100), 10), np.zeros(1000, int), 1))
    assert tenfold.low[0] == pytest.approx(once.low[0])
    alone = intervals(*group_sums(np.repeat(values, 10), np.arange(1000), np.zeros(1000, int), 1))
    assert alone.high[0] - alone.low[0] < 0.5 * (once.high[0] - once.low[0])


def misses(together: bool, sets: int = 300, groups: int = 30, looks: int = 20) -> float:
    """Share of data sets with at least one interval that lies above the true mean."""
    rng, missed = np.random.default_rng(5), 0
    for seed in range(sets):
        shared = rng.normal(0, 0.5, (groups, looks)).repeat(4, axis=0)  # four questions a picture, alike
        values = shared + rng.normal(size=shared.shape)
        group = np.repeat(np.arange(groups), 4)
        at = np.broadcast_to(np.arange(looks), values.shape)
        sums, counts = group_sums(values.ravel(), np.repeat(group, looks), at.ravel(), looks)
        missed += bool((intervals(sums, counts, 300, seed, together=together).low > 0).any())
    return missed / sets


def test_intervals_together_hold_together_and_one_by_one_they_do_not() -> None:
    assert misses(together=True) <= 0.05
    assert misses(together=False) > 0.2  # twenty looks at 2.5 % each


def test_what_does_not_vary_has_no_width_and_what_is_empty_no_mean() -> None:
    counts = np.array([[2.0, 0.0, 1.0]] * 5)
    found = intervals(counts * [0.5, 1, 1], counts)
    assert found.value[[0, 2]].tolist() == [0.5, 1]
    assert found.low[[0, 2]].tolist() == found.high[[0, 2]].tolist() == [0.5, 1]
    assert np.isnan(found.value[1])


def test_one_draw_of_groups_serves_every_mean() -> None:
    values = np.random.default_rng(0).normal(size=60)
    sums, counts = group_sums(values, np.arange(60), np.zeros(60, int), 1)
    twice = intervals(np.repeat(sums, 2, axis=1), np.repeat(counts, 2, axis=1), together=True)
    assert twice.low[0] == twice.low[1]
    assert twice.factor == pytest.approx(intervals(sums, counts, together=True).factor)  # two equal looks are one


def test_the_seed_decides() -> None:
    values = np.random.default_rng(0).normal(size=60)
    sums = group_sums(values, np.arange(60), np.zeros(60, int), 1)
    assert intervals(*sums, seed=1).low == intervals(*sums, seed=1).low
    assert intervals(*sums, seed=1).low != intervals(*sums, seed=2).low


def test_the_level_decides_the_width() -> None:
    values = np.random.default_rng(0).normal(size=200)
    sums = group_sums(values, np.arange(200), np.zeros(200, int), 1)
    narrow, wide = intervals(*sums, level=0.5), intervals(*sums, level=0.99)
    assert wide.high[0] - wide.low[0] > 3 * (narrow.high[0] - narrow.low[0])


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        group_sums(np.zeros(3), np.zeros(2, int), np.zeros(3, int), 1)
    with pytest.raises(ValueError, match="do not go with"):
        intervals(np.zeros((3, 1)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="1 groups"):
        intervals(np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(ValueError, match="level 1"):
        intervals(np.ones((3, 1)), np.ones((3, 1)), level=1)


def test_no_means_at_all() -> None:
    assert intervals(np.zeros((3, 0)), np.zeros((3, 0)), together=True).low.shape == (0,)
