"""How strongly two kinds of labels go together in a table of counts.

    counts (rows, columns) ─► chi-square ─► Cramér's V, 0 (independent) to 1 (one tells the other), bias-corrected

Plain V is above 0 for independent labels, the more so the fewer samples and the more rows there are. The correction is
that of W. Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", J. Korean Stat. Soc. 42 (2013) 323-328.
"""

from __future__ import annotations

from math import erfc, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def chi_square(counts: Array) -> tuple[float, int]:
    """Pearson's statistic of independence and its degrees of freedom; rows and columns without counts do not matter.

    Args:
        counts: (r, c) counts, 0 or more.

    Returns:
        The statistic, and (r - 1)(c - 1) of the rows and columns that hold something; (0, 0) where nothing can vary.

    Raises:
        ValueError: Not a table, or a count that is negative or no number.
    """
    table = _dense(counts)
    if min(table.shape) < 2:
        return 0.0, 0
    n = table.sum()
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    return float(((table - expected) ** 2 / expected).sum()), (table.shape[0] - 1) * (table.shape[1] - 1)


def chance(statistic: float, freedom: int) -> float:
    """About how probable a chi-square statistic this large is among independent labels, 0 to 1.

    The approximation of E. Wilson and M. Hilferty, "The distribution of chi-square", PNAS 17 (1931) 684-688.
    """
    if freedom < 1:
        return 1.0
    spread = 2 / (9 * freedom)
    return 0.5 * erfc(((statistic / freedom) ** (1 / 3) - (1 - spread)) / sqrt(2 * spread))


def cramers_v(counts: Array) -> float:
    """Bias-corrected Cramér's V, 0 to 1; 0 where one side takes a single value.

    Args:
        counts: (r, c) counts, 0 or more.

    Raises:
        ValueError: Not a table, or a count that is negative or no number.
    """
    table = _dense(counts)
    n, (r, c) = float(table.sum()), table.shape
    if min(r, c) < 2 or n < 2:
        return 0.0
    statistic, freedom = chi_square(table)
    excess = max(0.0, statistic / n - freedom / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    return min(1.0, sqrt(excess / least)) if least > 0 else 0.0


def _dense(counts: Array) -> Array:
    """(r, c) float64 without empty rows and columns."""
    table = np.asarray(counts, np.float64)
    if table.ndim != 2:
        raise ValueError(f"a table of counts has rows and columns, not {table.ndim} dimensions")
    if not (table >= 0).all() or not np.isfinite(table).all():
        raise ValueError("a table of counts holds finite numbers of 0 or more")
    return table[np.ix_(table.sum(1) > 0, table.sum(0) > 0)]
