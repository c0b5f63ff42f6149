"""Random numbers by counter: the same for the same row wherever it stands, and even enough to draw from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.datagen.counter import MASK, STEP, again, mix, stream


def splitmix(key: int, counter: int) -> int:
    """The finaliser of splitmix64 on Python's integers."""
    z = (counter * STEP + key) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_published_values() -> None:
    """The first outputs of splitmix64 from state 0, as its authors' C program prints them."""
    wanted = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert mix(0, np.array([1, 2, 3], np.uint64)).tolist() == wanted


@given(st.integers(0, MASK), st.lists(st.integers(0, MASK), min_size=1, max_size=20))
def test_equals_plain_integers(key: int, counters: list[int]) -> None:
    assert mix(key, np.array(counters, np.uint64)).tolist() == [splitmix(key, c) for c in counters]


def test_a_row_has_its_number_whatever_stands_beside_it() -> None:
    rows = np.arange(1000, dtype=np.uint64)
    whole = mix(stream(7, "x"), rows)
    order = np.random.default_rng(0).permutation(1000)
    assert (mix(stream(7, "x"), rows[order]) == whole[order]).all()
    assert (mix(stream(7, "x"), rows[300:400]) == whole[300:400]).all()
    assert (rows == np.arange(1000)).all(), "the counters that were given are left alone"


@pytest.mark.parametrize("name", ["", "B2.verify|colour", "ü/ß"])
def test_streams_differ_by_seed_and_name(name: str) -> None:
    keys = {stream(seed, name) for seed in range(50)} | {stream(seed, name + "x") for seed in range(50)}
    assert len(keys) == 100 and all(0 <= key <= MASK for key in keys)
    assert stream(1, "1/x") != stream(11, "/x"), "the seed is told from the name"
    assert stream(3, name) == stream(3, name)


def test_bits_are_even_and_draws_independent() -> None:
    bits = mix(stream(0, "even"), np.arange(40_000, dtype=np.uint64))
    other = again(bits, 3)
    for shift in (0, 7, 11, 20, 40, 55):
        one, two = (bits >> np.uint64(shift)) & np.uint64(1), (other >> np.uint64(shift)) & np.uint64(1)
        assert abs(one.mean() - 0.5) < 0.015 and abs((one ^ two).mean() - 0.5) < 0.015
    assert not (again(bits, 1) == again(bits, 2)).any()
    assert len(np.unique(bits)) == 40_000
