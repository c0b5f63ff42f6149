"""Random numbers by counter: a pure function of (seed, stream, row), the same in any order and any process.

The mixing function is the finaliser of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators"), applied to a whole array at once.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
STEP = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def stream(seed: int, name: str) -> int:
    """A 64-bit key for one named stream of a seed."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")


def mix(key: int, counter: Array) -> Array:
    """(n,) uint64 random bits of the counters of one stream."""
    z = counter.astype(np.uint64)
    z *= np.uint64(STEP)
    z += np.uint64(key)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def again(bits: Array, number: int) -> Array:
    """Another independent draw from the same rows."""
    return mix((number * 0xD1342543DE82EF95 + 0x63652B6D) & MASK, bits)
