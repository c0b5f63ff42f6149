"""In which order samples are read, as a function of (seed, epoch, position): no list of rows is held or saved.

    epoch, position ─► permute ─► row
    batch number, rank, world ─► Rounds ─► positions

`permute` adds, multiplies by odd numbers and folds high bits onto low ones, which is all reversible in as many bits as
the range needs, and walks on until it is back in the range ("cycle walking": Black, Rogaway 2002, "Ciphers with
arbitrary finite domains"; for pictures Kensler 2013, "Correlated multi-jittered sampling"). Since nothing depends on
what was read before, any batch can be worked out alone: by any worker, and after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.counter import mix, stream
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
PASSES = 8  # fewer leave sets of three or four rows with favourite orders
_ONE, _HALF_WORD = np.uint64(1), np.uint64(32)
_STREAMS = [stream(0, f"permute/{number}") for number in range(PASSES)]


def permute(index: Array, size: int | Array, key: int | Array) -> Array:
    """Where each index stands in the permutation of 0 to `size` - 1 that `key` names.

    Args:
        index: (n,) int, each below its `size`. size: Of all, or (n,), one for each.
        key: 64 bits for all, or (n,) uint64, one for each.

    Returns:
        (n,) int64.
    """
    if not len(index):
        return np.zeros(0, np.int64)
    limit = np.asarray(size, np.uint64)
    bits = np.frexp((limit - _ONE).astype(np.float64))[1].astype(np.uint64)  # of the largest index
    mask, fold = (_ONE << bits) - _ONE, (bits + _ONE) >> _ONE
    numbers = _numbers(key) if isinstance(key, int) else [mix(s, key) for s in _STREAMS]
    found = _scatter(index.astype(np.uint64), mask, fold, numbers)
    outside = np.flatnonzero(found >= limit)
    while len(outside):
        some = [_of(n, outside) for n in numbers]
        found[outside] = _scatter(found[outside], _of(mask, outside), _of(fold, outside), some)
        outside = outside[found[outside] >= _of(limit, outside)]
    return found.astype(np.int64)


@lru_cache(maxsize=64)
def _numbers(key: int) -> list[Any]:
    return [mix(s, np.array([key], np.uint64))[0] for s in _STREAMS]


def _of(value: Any, rows: Array) -> Any:
    return value[rows] if np.ndim(value) else value


def _scatter(x: Array, mask: Any, fold: Any, numbers: list[Any]) -> Array:
    """A permutation of 0 to `mask`: each step can be undone."""
    for number in numbers:
        x = (x + (number >> _HALF_WORD)) * (number | _ONE) & mask
        x ^= x >> fold
    return x


def order_key(seed: int, epoch: int, what: str) -> int:
    """The key of one epoch's permutation of `what`."""
    return stream(seed, f"order/{epoch}/{what}")


@dataclass(frozen=True)
class Rounds:
    """How an epoch's positions are dealt out in batches to ranks: a batch for each rank in turn, round after round.

    The last, incomplete round is divided evenly, so that ranks differ by one batch at most, and only where fewer
    positions are left than there are ranks; `drop_last` leaves that round out.

    Args:
        total: Positions of an epoch. batch: Positions of a batch. rank, world: This process, of how many.
        drop_last: Leaves the incomplete round out.

    Raises:
        InputError: A batch or world below 1, or a rank that is none of the world's.
    """

    total: int
    batch: int
    rank: int = 0
    world: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.batch < 1 or self.world < 1:
            raise InputError("batches and world must be at least 1", found=(self.batch, self.world))
        if not 0 <= self.rank < self.world:
            raise InputError(f"the rank must be from 0 to {self.world - 1}", found=self.rank)

    @property
    def round(self) -> int:
        """Positions that all ranks together take in a whole round."""
        return self.batch * self.world

    def __len__(self) -> int:
        """Batches of this rank."""
        whole = self.total // self.round
        lo, hi = self._last()
        return whole + (hi > lo and not self.drop_last)

    def span(self, number: int) -> tuple[int, int]:
        """Positions `lo` to `hi` - 1 of this rank's batch `number`."""
        if not 0 <= number < len(self):
            raise IndexError(f"batch {number} of {len(self)}")
        if number == self.total // self.round:
            return self._last()
        lo = number * self.round + self.rank * self.batch
        return lo, lo + self.batch

    def _last(self) -> tuple[int, int]:
        start = self.total // self.round * self.round
        rest = self.total - start
        return start + self.rank * rest // self.world, start + (self.rank + 1) * rest // self.world

    def seen(self, number: int) -> int:
        """Positions that all ranks together have taken after so many rounds."""
        return min(number * self.round, self.total)

    def after(self, seen: int) -> int:
        """The number of the first batch beyond `seen` positions; the reverse of `seen`.

        Raises:
            InputError: Batches of this size do not start there.
        """
        if seen >= self.total:
            return len(self)
        if seen % self.round:
            hint = f"resume with a batch size and number of ranks whose product divides {seen}"
            raise InputError("the saved place lies within a batch of this size", found=seen, hint=hint)
        return seen // self.round
