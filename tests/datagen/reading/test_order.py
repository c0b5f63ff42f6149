"""The order of reading: permutations that are fair and of any size, and rounds that leave nothing out."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.reading.order import Rounds, order_key, permute
from fashionkit.tables import InputError


@given(st.integers(0, 5000), st.integers(0, 2**64 - 1))
def test_every_index_gets_a_place_of_its_own(size: int, key: int) -> None:
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


def test_it_holds_at_sizes_around_powers_of_two_and_beyond_memory() -> None:
    for size in (2**16 - 1, 2**16, 2**16 + 1):
        assert len(np.unique(permute(np.arange(size), size, 7))) == size
    far = permute(np.arange(10**12, 10**12 + 1000), 10**15, 7)
    assert len(np.unique(far)) == 1000 and far.min() >= 0 and far.max() < 10**15 and far.std() > 10**14


def test_parts_are_parts_of_the_whole() -> None:
    whole = permute(np.arange(1000), 1000, 5)
    assert permute(np.arange(300, 321), 1000, 5).tolist() == whole[300:321].tolist()
    assert permute(np.array([999, 0]), 1000, 5).tolist() == [whole[999], whole[0]]


def test_keys_and_sizes_one_for_each() -> None:
    index, size, key = np.array([0, 1, 2, 3]), np.array([1, 5, 3, 700]), np.array([9, 2**63, 4, 4], np.uint64)
    alone = [permute(index[i : i + 1], int(size[i]), int(key[i]))[0] for i in range(4)]
    assert permute(index, size, key).tolist() == alone


def test_other_keys_give_other_orders() -> None:
    one, two = permute(np.arange(10_000), 10_000, 1), permute(np.arange(10_000), 10_000, 2)
    assert (one == two).mean() < 0.002 and abs(np.corrcoef(one, two)[0, 1]) < 0.05
    assert len({order_key(seed, epoch, what) for seed in (0, 1) for epoch in (0, 1) for what in "ab"}) == 8


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_orders_of_a_few_are_alike_often(size: int) -> None:
    draws = 12_000
    keys = mix(stream(0, "test"), np.arange(draws))
    orders = np.stack([permute(np.full(draws, i), size, keys) for i in range(size)], axis=1)
    counts = Counter(map(tuple, orders.tolist()))
    expected = draws / math.factorial(size)
    chi = sum((counts[order] - expected) ** 2 / expected for order in counts)
    freedom = math.factorial(size) - 1
    assert len(counts) == freedom + 1 and chi < freedom + 5 * math.sqrt(2 * freedom)


def test_neighbours_are_scattered_evenly() -> None:
    """A batch takes neighbours in the order, and must have samples of everywhere."""
    size = 100_000
    order = permute(np.arange(size), size, 3)
    blocks = (order.reshape(100, 1000) * 20 // size)[:, :, None] == np.arange(20)  # blocks, rows, regions
    counts = blocks.sum(axis=1)
    assert 0.7 < counts.var() / counts.mean() < 1.3
    steps = np.bincount((np.diff(order) % size) * 50 // size, minlength=50)
    assert np.abs(steps - size / 50).max() < 5 * math.sqrt(size / 50)


sizes = st.tuples(st.integers(0, 300), st.integers(1, 40), st.integers(1, 5), st.booleans())


@given(sizes)
def test_ranks_share_everything_once(case: tuple[int, int, int, bool]) -> None:
    total, batch, world, drop_last = case
    ranks = [Rounds(total, batch, rank, world, drop_last) for rank in range(world)]
    lengths = [len(rounds) for rounds in ranks]
    spans = [rounds.span(number) for rounds in ranks for number in range(len(rounds))]
    there = sorted(position for lo, hi in spans for position in range(lo, hi))
    whole = total // (batch * world) * batch * world
    assert there == list(range(whole if drop_last else total))
    assert all(0 < hi - lo <= batch for lo, hi in spans) and max(lengths) - min(lengths) <= (0 if drop_last else 1)
    assert max(lengths) == min(lengths) or total % (batch * world) < world
    for rounds in ranks:
        with pytest.raises(IndexError):
            rounds.span(len(rounds))


@given(sizes, st.integers(0, 20))
def test_a_place_is_found_again(case: tuple[int, int, int, bool], number: int) -> None:
    total, batch, world, drop_last = case
    rounds = Rounds(total, batch, world - 1, world, drop_last)
    number = min(number, len(rounds))
    assert rounds.after(rounds.seen(number)) == number or rounds.seen(number) == total


def test_a_place_is_kept_where_batches_or_ranks_change() -> None:
    seen = Rounds(1000, 10, 0, 4).seen(6)
    assert seen == 240 and Rounds(1000, 20, 1, 2).after(seen) == 6 and Rounds(1000, 60, 0, 1).after(seen) == 4
    with pytest.raises(InputError, match="divides 240"):
        Rounds(1000, 50, 0, 1).after(seen)


@pytest.mark.parametrize("wrong", [(10, 0, 0, 1), (10, 2, 0, 0), (10, 2, 2, 2), (10, 2, -1, 2)])
def test_places_that_cannot_be_are_refused(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError):
        Rounds(*wrong)
