"""Effects of groups on a number, shrunk: what is believed of a group's mean when its members differ by chance as well.

    (n,) groups and losses ─► count, sum, sum of squares by group ─► variance within and between ─► k ─► effects

One-way random effects, variances by the method of moments for groups of unequal size (Searle, Casella and McCulloch
1992, "Variance Components"); an effect is its mean times n / (n + k), k the variance within over that between, which is
the empirical Bayes estimate (Efron and Morris 1975). Sums of parts add up, so nothing needs to be held at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
NEVER = 1e12  # k of groups that explain nothing


@dataclass
class Groups:
    """Numbers summed up by group.

    Attributes:
        code: (g,) ascending. n, total, squares: (g,) float64 count, sum and sum of squares.
    """

    code: Array
    n: Array
    total: Array
    squares: Array

    @staticmethod
    def of(code: Array, number: Array) -> Groups:
        """The groups of (n,) codes."""
        return Groups.merged([Groups(code, np.ones(len(code)), number, number.astype(np.float64) ** 2)])

    @staticmethod
    def merged(parts: list[Groups]) -> Groups:
        """The groups of several parts as one."""
        code, *columns = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Groups))
        return Groups._summed(code, columns)

    @staticmethod
    def _summed(code: Array, columns: list[Array]) -> Groups:
        codes, group = np.unique(code, return_inverse=True)
        return Groups(codes, *(np.bincount(group, column, len(codes)) for column in columns))

    def under(self, parent: Array) -> Groups:
        """Summed up by the code of each group's parent."""
        return Groups._summed(parent, [self.n, self.total, self.squares])

    def less(self, amount: Array) -> Groups:
        """The same with `amount` (g,) taken off every number of a group."""
        squares = self.squares - 2 * amount * self.total + self.n * amount**2
        return Groups(self.code, self.n, self.total - self.n * amount, squares)

    def only(self, keep: Array) -> Groups:
        """The groups of a mask."""
        return Groups(*(getattr(self, f.name)[keep] for f in fields(Groups)))

    def variances(self) -> tuple[float, float]:
        """Variance within groups, and that of the groups' true means (0 where chance explains their spread)."""
        n, groups = float(self.n.sum()), len(self.n)
        if groups < 2 or n <= groups:
            return 0.0, 0.0
        mean = self.total / self.n
        within = max(float((self.squares - self.n * mean**2).sum()), 0.0) / (n - groups)
        between = float((self.n * (mean - self.total.sum() / n) ** 2).sum()) / (groups - 1)
        size = (n - float((self.n**2).sum()) / n) / (groups - 1)  # what the mean size is where all are equal
        return within, max((between - within) / size, 0.0)

    def shrink(self) -> float:
        """k: how many numbers a group needs for half of its mean's distance from the whole to be believed."""
        within, between = self.variances()
        return min(within / between, NEVER) if between > 0 else NEVER

    def shrunk_means(self) -> Array:
        """(g,) means drawn towards the mean of all."""
        centre = self.total.sum() / max(self.n.sum(), 1)
        found: Array = centre + (self.total - self.n * centre) / (self.n + self.shrink())
        return found
