"""Association of two labels: against hand-worked tables, a plain loop, and independent labels."""

from __future__ import annotations

import numpy as np
import pytest

from fashionkit.metrics.association import chance, chi_square, cramers_v


def slow_chi_square(counts: np.ndarray) -> float:
    n, total = counts.sum(), 0.0
    for i in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            expected = counts[i].sum() * counts[:, j].sum() / n
            total += (counts[i, j] - expected) ** 2 / expected
    return total


def test_a_table_worked_by_hand() -> None:
    table = np.array([[30, 10], [10, 30]])  # phi is (30 * 30 - 10 * 10) / (40 * 40) = 1/2
    assert chi_square(table) == (pytest.approx(20.0), 1)
    # Bergsma: phi2 = 1/4 - 1/79, rows and columns 2 - 1/79 each
    assert cramers_v(table) == pytest.approx(((1 / 4 - 1 / 79) / (1 - 1 / 79)) ** 0.5)


def test_the_statistic_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    for shape in ((2, 2), (7, 2), (5, 4)):
        table = rng.integers(1, 50, shape)
        assert chi_square(table) == (pytest.approx(slow_chi_square(table)), (shape[0] - 1) * (shape[1] - 1))


def test_what_tells_the_other_is_one_and_what_says_nothing_is_zero() -> None:
    assert cramers_v(np.diag([50, 50, 50])) == pytest.approx(1.0)
    assert cramers_v(np.full((4, 2), 25)) == 0.0


def test_order_of_rows_and_empty_ones_do_not_matter() -> None:
    table = np.array([[5, 40], [30, 20], [9, 9]])
    wide = np.zeros((6, 3), int)
    wide[np.ix_([4, 0, 5], [2, 0])] = table
    assert cramers_v(wide) == pytest.approx(cramers_v(table))
    assert cramers_v(table.T) == pytest.approx(cramers_v(table))


@pytest.mark.parametrize("table", [[[3, 4]], [[3], [4]], [[0, 0], [5, 5]], [[0, 0], [0, 0]], [[1, 0], [0, 0]]])
def test_one_value_has_no_association(table: list[list[int]]) -> None:
    assert cramers_v(np.array(table)) == 0.0 and chi_square(np.array(table)) == (0.0, 0)
    assert chance(*chi_square(np.array(table))) == 1.0


def test_independent_labels_are_corrected_to_about_zero() -> None:
    rng = np.random.default_rng(1)
    plain, corrected = [], []
    for _ in range(200):
        table = rng.multinomial(400, np.full(60, 1 / 60)).reshape(30, 2)
        statistic, freedom = chi_square(table)
        plain.append((statistic / table.sum()) ** 0.5)
        corrected.append(statistic / table.sum() - freedom / (table.sum() - 1))
        assert cramers_v(table) <= plain[-1]
    assert np.mean(plain) > 0.2 and abs(np.mean(corrected)) < 0.005


@pytest.mark.parametrize(
    ("statistic", "freedom", "p"),
    [(3.841, 1, 0.05), (10.828, 1, 0.001), (18.307, 10, 0.05), (29.588, 10, 0.001), (124.342, 100, 0.05)],
)
def test_chance_follows_the_printed_quantiles(statistic: float, freedom: int, p: float) -> None:
    assert chance(statistic, freedom) == pytest.approx(p, rel=0.25)


@pytest.mark.parametrize("table", [[1, 2], [[1, -1], [2, 2]], [[1, float("nan")], [2, 2]], [[1, float("inf")], [2, 2]]])
def test_no_table_of_counts(table: list[object]) -> None:
    with pytest.raises(ValueError, match="table of counts"):
        cramers_v(np.array(table))
