"""Texts by a number of 63 bits, looked up for a whole batch at once.

    codes ─► hash ─► slot ─► is it this code? else the next slot ─► position ─► Arrow take ─► strings

Open addressing with linear probing (Knuth, The Art of Computer Programming 3, 6.4, algorithm L), each probe a numpy
gather. Beside a dict of strings it needs a third of the time and of the memory: the processor waits for many rows'
memory at once, and not for one row's after the other's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fashionkit.datagen.counter import STEP

Array = npt.NDArray[Any]
EMPTY = -1
MOST_BYTES = 1 << 30  # of all texts, whose offsets are 32-bit


class Texts:
    """A growing table of texts.

    Args:
        most: Texts that it takes; what is added beyond is forgotten.
    """

    def __init__(self, most: int):
        self.most, self._count = most, 0
        self._codes, self._numbers = np.full(1024, EMPTY, np.int64), np.zeros(1024, np.int32)
        self._offsets, self._bytes = np.zeros(1024, np.int32), np.zeros(1 << 16, np.uint8)

    def __len__(self) -> int:
        """Texts that are there."""
        return self._count

    def find(self, codes: Array) -> Array:
        """(n,) positions of the texts of codes; -1 where there is none.

        Args:
            codes: (n,) int64, not negative.
        """
        slot = self._slots(codes)
        there = self._codes[slot]
        other = np.flatnonzero((there != codes) & (there != EMPTY))
        while len(other):
            slot[other] = (slot[other] + 1) & (len(self._codes) - 1)
            there = self._codes[slot[other]]
            other = other[(there != codes[other]) & (there != EMPTY)]
        return np.where(self._codes[slot] == codes, self._numbers[slot], -1)

    def take(self, positions: Array) -> list[str]:
        """n texts at positions that `find` gave, none of them -1."""
        buffers = [pa.py_buffer(self._offsets), pa.py_buffer(self._bytes)]
        whole = pa.StringArray.from_buffers(self._count, *buffers)
        return whole.take(pa.array(positions)).to_pylist()

    def add(self, codes: Array, texts: list[str]) -> bool:
        """Adds texts, all or none of them; returns whether there was room.

        Args:
            codes: (n,) distinct, none of them there. texts: n.
        """
        encoded = [text.encode() for text in texts]
        ends = int(self._offsets[self._count]) + np.cumsum([len(text) for text in encoded])
        if not len(codes) or self._count + len(codes) > self.most or ends[-1] > MOST_BYTES:
            return not len(codes)
        first, start = self._count, int(self._offsets[self._count])
        self._offsets = _room(self._offsets, first + len(codes) + 1)
        self._bytes = _room(self._bytes, int(ends[-1]))
        self._offsets[first + 1 : first + len(codes) + 1] = ends
        self._bytes[start : ends[-1]] = np.frombuffer(b"".join(encoded), np.uint8)
        self._count += len(codes)
        while 2 * self._count > len(self._codes):
            self._widen()
        self._place(codes, np.arange(first, self._count, dtype=np.int32))
        return True

    def _slots(self, codes: Array) -> Array:
        """(n,) where to look first: the high bits of a product."""
        shift = np.uint64(64 - (len(self._codes).bit_length() - 1))
        return (codes.astype(np.uint64) * np.uint64(STEP) >> shift).astype(np.int64)

    def _widen(self) -> None:
        old = self._codes != EMPTY
        codes, numbers = self._codes[old], self._numbers[old]
        size = 4 * len(self._codes)
        self._codes, self._numbers = np.full(size, EMPTY, np.int64), np.zeros(size, np.int32)
        self._place(codes, numbers)

    def _place(self, codes: Array, numbers: Array) -> None:
        slot, left = self._slots(codes), np.arange(len(codes))
        while len(left):
            free = left[self._codes[slot[left]] == EMPTY]
            self._codes[slot[free]] = codes[free]  # of several that want one slot, the last has it
            won = self._codes[slot[left]] == codes[left]
            self._numbers[slot[left[won]]] = numbers[left[won]]
            left = left[~won]
            slot[left] = (slot[left] + 1) & (len(self._codes) - 1)


def _room(values: Array, size: int) -> Array:
    """The array with room for so many, at least doubled where it has not."""
    if len(values) >= size:
        return values
    return np.concatenate([values, np.zeros(max(len(values), size - len(values)), values.dtype)])
