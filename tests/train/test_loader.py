"""Batches by counter: their order, their share for each process, and going on in the middle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from fashionkit.tables import InputError
from fashionkit.train.loader import Batches, Key, ResumableLoader


class Keys(Dataset[Any]):
    """Gives the keys it is asked for; one row is broken."""

    def __init__(self, rows: int, broken: int = -1):
        self.rows, self.broken = rows, broken

    def __len__(self) -> int:
        return self.rows

    def __getitems__(self, keys: list[Key]) -> list[Key]:
        if self.broken in [row for _, row in keys]:
            raise InputError("cannot be read", found=self.broken)
        return keys


def rows_of(batches: Batches) -> list[list[int]]:
    return [[row for _, row in batch] for batch in batches]


@given(
    rows=st.integers(1, 60),
    batch=st.integers(1, 20),
    world=st.integers(1, 4),
    shuffle=st.booleans(),
    seed=st.integers(0, 9),
)
def test_processes_share_an_epoch(rows: int, batch: int, world: int, shuffle: bool, seed: int) -> None:
    each = [rows_of(Batches(rows, batch, seed, shuffle, rank, world)) for rank in range(world)]
    assert len({len(batches) for batches in each}) == 1, "a process that waits for another would wait for ever"
    assert all(len(batches) == len(Batches(rows, batch, seed, shuffle, 0, world)) >= 1 for batches in each)
    flat = [row for batches in each for rows_ in batches for row in rows_]
    if not shuffle:
        assert set(flat) == set(range(rows))
    elif rows >= world * batch:
        assert len(flat) == len(set(flat)), "no row twice"
        assert len(flat) > rows - world * batch, "at most the last batches are left out"
        assert all(len(rows_) == batch for batches in each for rows_ in batches)


def test_two_processes_together_see_the_batches_of_one_with_twice_the_rows() -> None:
    one = rows_of(Batches(20, 6, seed=5))
    two = [rows_of(Batches(20, 3, 5, True, rank, 2)) for rank in (0, 1)]
    assert one == [a + b for a, b in zip(*two, strict=True)]


def test_the_order_belongs_to_seed_and_epoch() -> None:
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        batches = Batches(50, 10, seed)
        batches.set_epoch(epoch)
        orders.append(rows_of(batches))
        assert orders[-1] == rows_of(batches)
    assert len({str(order) for order in orders}) == 4


@pytest.mark.parametrize(("rows", "batch", "rank", "world"), [(0, 1, 0, 1), (1, 0, 0, 1), (1, 1, 1, 1), (1, 1, -1, 1)])
def test_impossible_batches_raise(rows: int, batch: int, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match="no batches"):
        Batches(rows, batch, rank=rank, world=world)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_it_was(workers: int) -> None:
    def loader() -> ResumableLoader:
        return ResumableLoader(Keys(23), Batches(23, 4, seed=3), num_workers=workers)

    whole = loader()
    expected = [[*whole], [*whole]]
    assert len(expected[0]) == len(whole) == 5 and expected[0] != expected[1]
    for stop in (0, 2, 5):
        first = loader()
        passing = iter(first)  # held, as Lightning does, not run to its end
        handed = [next(passing) for _ in range(stop)]
        second = loader()
        second.load_state_dict(first.state_dict())
        if stop < 5:
            assert [*handed, *second] == expected[0]
        assert [*second] == expected[1], "the next epoch is whole"


def test_the_epoch_is_told_from_outside_as_lightning_does() -> None:
    loader = ResumableLoader(Keys(12), Batches(12, 4))
    iterator = iter(loader)
    next(iterator)
    assert loader.state_dict() == {"epoch": 0, "batch": 1}
    loader.sampler.set_epoch(1)  # the pass before was not finished, as with limit_train_batches
    assert [epoch for batch in loader for epoch, _ in batch] == [1] * 12
    again = ResumableLoader(Keys(12), Batches(12, 4))
    again.load_state_dict({"epoch": 1, "batch": 2})
    again.sampler.set_epoch(1)
    assert len([*again]) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_for_users_stay_as_they_are(workers: int) -> None:
    loader = ResumableLoader(Keys(4, broken=2), Batches(4, 2, shuffle=False), num_workers=workers)
    batches = iter(loader)
    assert next(batches) == [(0, 0), (0, 1)]
    with pytest.raises(InputError) as caught:
        next(batches)
    assert str(caught.value) == "cannot be read\n  found: 2"


def test_passes_take_nothing_from_the_global_generator() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state()
    _ = [*ResumableLoader(Keys(8), Batches(8, 2))]
    assert torch.equal(before, torch.get_rng_state())


def test_batches_are_collated() -> None:
    loader = ResumableLoader(Keys(4), Batches(4, 2, shuffle=False), collate_fn=len)
    assert [*loader] == [2, 2]
