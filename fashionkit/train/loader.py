"""Batches whose content depends on seed, epoch and number alone, so that a run can go on in the middle of an epoch.

    (seed, epoch) ──► order of all rows ──► batch 0, 1, 2, … ──► every world-th of them to each process
                                               ▲
                     state_dict: epoch, batches handed out

Nothing here reads a stream of random numbers: whoever knows where a run stood can draw what comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

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


class ResumableLoader(DataLoader[Any]):
    """A DataLoader over `Batches` that knows how far it is. Lightning keeps its state in every checkpoint.

    Args:
        dataset: Takes keys (epoch, row). batches: Which. options: Of `DataLoader`.
    """

    def __init__(self, dataset: Any, batches: Batches, **options: Any):
        # A generator of its own: otherwise each pass takes a number from the global one, which dropout reads.
        super().__init__(dataset, batch_sampler=batches, generator=torch.Generator().manual_seed(0), **options)
        self._batches, self._handed = batches, 0

    def __iter__(self) -> Any:
        self._handed = self._batches.start
        for batch in super().__iter__():
            self._handed += 1
            yield batch
        self._batches.epoch, self._batches.start, self._handed = self._batches.epoch + 1, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Where the run stands."""
        return {"epoch": self._batches.epoch, "batch": self._handed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on there."""
        self._batches.epoch, self._batches.start = state["epoch"], state["batch"]
        if self._batches.start >= len(self._batches):
            self._batches.epoch, self._batches.start = self._batches.epoch + 1, 0
