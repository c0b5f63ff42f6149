"""Batches whose content depends on seed, epoch and number alone, so that a run can go on in the middle of an epoch.

    (seed, epoch) ──► order of all rows ──► batch 0, 1, 2, … ──► every world-th of them to each process
                        ▲                                              │
              Lightning says the epoch               state_dict: epoch, batches handed out

Nothing here reads a stream of random numbers: whoever knows where a run stood can draw what comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fashionkit.tables import InputError

Key = tuple[int, int]  # epoch, row


class Batches(Sampler[list[Key]]):
    """Lists of (epoch, row), from a place within an epoch on.

    Args:
        rows: Of the data set, 1 or more. batch: Rows of a batch. seed: Of the order.
        shuffle: Otherwise rows come as they are, all of them.
        rank, world: Which of how many processes this is. All get equally many batches: of a shuffled epoch the last
            ones are left out where they do not go round; otherwise the last rows come twice.

    Attributes:
        epoch: Of the next pass. start: Its first batch.
    """

    def __init__(self, rows: int, batch: int, seed: int = 0, shuffle: bool = True, rank: int = 0, world: int = 1):
        if rows < 1 or batch < 1 or not 0 <= rank < world:
            raise ValueError(f"no batches of {batch} of {rows} rows for process {rank} of {world}")
        self.rows, self.seed, self.shuffle, self.rank, self.world = rows, seed, shuffle, rank, world
        self.batch = min(batch, -(-rows // world))
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Batches of a whole epoch for this process."""
        whole = self.rows // self.batch if self.shuffle else -(-self.rows // self.batch)
        return max(1, whole // self.world if self.shuffle else -(-whole // self.world))

    def __iter__(self) -> Iterator[list[Key]]:
        order = np.arange(self.rows)
        if self.shuffle:
            order = np.random.default_rng([self.seed & 0xFFFFFFFF, self.epoch]).permutation(self.rows)
        count = -(-self.rows // self.batch)
        for number in range(self.start, len(self)):
            at = min(number * self.world + self.rank, count - 1)
            yield [(self.epoch, int(row)) for row in order[at * self.batch : (at + 1) * self.batch]]

    def set_epoch(self, epoch: int) -> None:
        """The next pass is of this epoch: from its beginning, unless it is the one that was gone into already."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0


class ResumableLoader:
    """Batches of a data set, that know how far they are. Lightning keeps their state in every checkpoint.

    It holds a DataLoader rather than being one, since Lightning rebuilds DataLoaders with samplers of its own.

    Args:
        dataset: Takes keys (epoch, row). batches: Which. collate_fn: Makes a batch of what the data set gives.
        options: Of `DataLoader`.
    """

    def __init__(
        self, dataset: Dataset[Any], batches: Batches, collate_fn: Callable[[Any], Any] | None = None, **options: Any
    ):
        self.dataset = dataset
        # Lightning looks under these names for whom to tell the epoch.
        self.sampler, self.batch_sampler = batches, None
        # A generator of its own: otherwise each pass takes a number from the global one, which dropout reads.
        self._loader: DataLoader[Any] = DataLoader(
            _Guarded(dataset),
            batch_sampler=batches,
            collate_fn=partial(_collated, collate_fn),
            generator=torch.Generator().manual_seed(0),
            **options,
        )
        self._handed = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        """A pass over what is left of the epoch.

        Raises:
            InputError: As the data set raised it, also where a worker process did.
        """
        self._handed = self.sampler.start
        for batch in self._loader:
            if isinstance(batch, InputError):
                raise batch
            self._handed += 1
            yield batch
        self.sampler.set_epoch(self.sampler.epoch + 1)
        self._handed = 0

    def state_dict(self) -> dict[str, int]:
        """Where the run stands."""
        return {"epoch": self.sampler.epoch, "batch": self._handed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on there."""
        self.sampler.epoch, self.sampler.start = state["epoch"], state["batch"]
        if self.sampler.start >= len(self.sampler):
            self.sampler.set_epoch(state["epoch"] + 1)


class _Guarded(Dataset[Any]):
    """A data set whose errors for users come as values: a worker process would wrap them into a traceback."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: list[Key]) -> Any:
        try:
            if hasattr(self.dataset, "__getitems__"):
                return self.dataset.__getitems__(keys)
            return [self.dataset[key] for key in keys]
        except InputError as error:
            return error


def _collated(collate: Callable[[Any], Any] | None, batch: Any) -> Any:
    return batch if collate is None or isinstance(batch, InputError) else collate(batch)
