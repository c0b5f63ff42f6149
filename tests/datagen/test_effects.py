"""Effects of groups: variances that are known by construction, and how much of a mean is believed."""

from __future__ import annotations

import numpy as np
import pytest

from fashionkit.datagen.effects import NEVER, Groups


def drawn(rng: np.random.Generator, between: float, within: float, groups: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Codes and numbers of groups of 1 to 9 with the given standard deviations."""
    code = np.repeat(rng.permutation(groups * 7)[:groups], rng.integers(1, 10, groups))
    effect = dict(zip(np.unique(code).tolist(), rng.normal(0, between, groups), strict=True))
    return code, 5 + np.array([effect[c] for c in code.tolist()]) + rng.normal(0, within, len(code))


def test_variances_are_those_the_numbers_were_drawn_with() -> None:
    groups = Groups.of(*drawn(np.random.default_rng(0), 0.5, 2.0))
    within, between = groups.variances()
    assert within == pytest.approx(4.0, rel=0.05) and between == pytest.approx(0.25, rel=0.25)
    assert groups.shrink() == pytest.approx(16, rel=0.3)


def test_shrunk_means_are_nearer_to_the_truth_than_means_or_the_mean_of_all() -> None:
    rng = np.random.default_rng(1)
    code = np.repeat(np.arange(2000), rng.integers(1, 20, 2000))
    truth = rng.normal(0, 0.5, 2000)
    groups = Groups.of(code, truth[code] + rng.normal(0, 1, len(code)))

    def error(guess: np.ndarray) -> float:
        return float(((guess - truth) ** 2).mean())

    shrunk = error(groups.shrunk_means())
    assert shrunk < 0.9 * error(groups.total / groups.n) and shrunk < 0.7 * error(np.zeros(2000))


def test_groups_that_chance_explains_are_not_believed() -> None:
    believed = []
    for seed in range(20):
        groups = Groups.of(*drawn(np.random.default_rng(seed), 0.0, 1.0, 400))
        believed.append(np.abs(groups.shrunk_means() - groups.total.sum() / groups.n.sum()).max())
    assert np.median(believed) < 0.1, "an effect that is not there"


@pytest.mark.parametrize("code", [[1, 1, 1], [1, 2, 3], [4]], ids=["one group", "all alone", "one number"])
def test_where_nothing_can_be_told_nothing_is_believed(code: list[int]) -> None:
    groups = Groups.of(np.array(code), np.arange(len(code)) * 2.0)
    assert groups.variances() == (0.0, 0.0) and groups.shrink() == NEVER
    assert groups.shrunk_means() == pytest.approx(np.full(len(set(code)), np.arange(len(code)).mean() * 2))


def test_numbers_that_do_not_vary_within_groups_are_believed_at_once() -> None:
    groups = Groups.of(np.array([0, 0, 1, 1]), np.array([2.0, 2.0, 4.0, 4.0]))
    assert groups.shrink() == 0 and groups.shrunk_means().tolist() == [2, 4]


def test_parts_add_up_and_parents_sum_their_groups() -> None:
    code, number = drawn(np.random.default_rng(2), 1.0, 1.0, 50)
    whole = Groups.of(code, number)
    parts = Groups.merged([Groups.of(code[i::3], number[i::3]) for i in range(3)])
    for name in ("code", "n", "total", "squares"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))
    parent = whole.under(whole.code % 4)
    for row, number_of in enumerate(parent.code.tolist()):
        mine = number[code % 4 == number_of]
        assert (parent.n[row], parent.total[row]) == (len(mine), pytest.approx(mine.sum()))
        assert parent.squares[row] == pytest.approx((mine**2).sum())


def test_what_is_taken_off_is_gone() -> None:
    code, number = drawn(np.random.default_rng(3), 1.0, 1.0, 30)
    groups = Groups.of(code, number)
    amount = np.random.default_rng(4).normal(size=len(groups.code))
    left = Groups.of(code, number - amount[np.searchsorted(groups.code, code)])
    for name in ("n", "total", "squares"):
        assert getattr(groups.less(amount), name) == pytest.approx(getattr(left, name))
