"""Which samples make a batch: shuffled samples, or pictures with some questions each.

    (seed, epoch, batch number, rank, world) ─► Rounds ─► permute ─► rows of a `VQADataset`

Both are batch samplers of torch, though they need no torch, and sources of a `VQALoader`, which alone can say where in
an epoch it is: a `DataLoader` asks its sampler for batches long before it hands them out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.counter import mix, stream
from fashionkit.datagen.reading.order import Rounds, order_key, permute
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
AHEAD = 16  # batches whose rows are worked out at once: the cost is in the calls


class Rows(Protocol):
    """What the samplers need of a data set."""

    records: Array

    def batch(self, rows: Array) -> dict[str, Any]:
        """A collated batch."""

    def identity(self) -> dict[str, Any]:
        """What the data set is, for `state_dict`."""


def placed(rank: int | None, world: int | None) -> tuple[int, int]:
    """Rank and world as given, or those of torch's process group, or one process."""
    if rank is not None or world is not None:
        return rank or 0, 1 if world is None else world
    distributed: Any = sys.modules.get("torch.distributed")  # without it there is no process group
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class Batches:
    """Rows of each batch of an epoch; made by a subclass.

    Args:
        dataset: A `VQADataset`. total: Units of an epoch: samples, or groups of questions. batch: Units of a batch.
        seed: Another seed gives another order. shuffle: Else the order of the set.
        drop_last: Leaves out the last, incomplete round of batches, so that all batches and ranks are alike.
        rank, world: This process, of how many; torch's process group says so where neither is given.
    """

    def __init__(
        self,
        dataset: Rows,
        total: int,
        batch: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int | None = None,
        world: int | None = None,
    ):
        self.dataset, self.seed, self.shuffle = dataset, seed, shuffle
        self.rounds = Rounds(total, batch, *placed(rank, world), drop_last)
        self.epoch = self.start = 0
        self._ahead: tuple[tuple[int, int], list[Array]] | None = None

    def __len__(self) -> int:
        """Batches of an epoch, on this rank."""
        return len(self.rounds)

    def __iter__(self) -> Iterator[list[int]]:
        """Rows of each batch, from `start` of the epoch that `set_epoch` named."""
        start, self.start = self.start, 0
        for number in range(start, len(self)):
            yield self.rows(self.epoch, number).tolist()

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Says which epoch is read next, and from which batch on. Without it every epoch has the order of the first."""
        self.epoch, self.start = epoch, start

    def rows(self, epoch: int, number: int) -> Array:
        """(n,) rows of one batch."""
        raise NotImplementedError

    def fetch(self, epoch: int, number: int) -> dict[str, Any]:
        """The collated batch."""
        return self.dataset.batch(self.rows(epoch, number))

    def identity(self) -> dict[str, Any]:
        """What decides the order of samples; a state of another order cannot be continued."""
        return {**self.dataset.identity(), "seed": self.seed, "shuffle": self.shuffle, "total": self.rounds.total}

    def _units(self, epoch: int, number: int) -> Array:
        """(n,) units of one batch, in the epoch's order."""
        lo, hi = self.rounds.span(number)
        if not self.shuffle:
            return np.arange(lo, hi)
        block = (epoch, number // AHEAD)
        if self._ahead is None or self._ahead[0] != block:
            spans = [self.rounds.span(n) for n in range(block[1] * AHEAD, min((block[1] + 1) * AHEAD, len(self)))]
            positions = np.concatenate([np.arange(*span) for span in spans])
            key = order_key(self.seed, epoch, "units")
            ends = np.cumsum([hi - lo for lo, hi in spans])[:-1]
            self._ahead = block, np.split(permute(positions, self.rounds.total, key), ends)
        return self._ahead[1][number % AHEAD]


class SampleBatches(Batches):
    """Batches of samples, each sample once an epoch.

    Args:
        dataset: A `VQADataset`. batch_size: Samples of a batch. options: As `Batches`.
    """

    def __init__(self, dataset: Rows, batch_size: int, **options: Any):
        super().__init__(dataset, len(dataset.records), batch_size, **options)

    def rows(self, epoch: int, number: int) -> Array:
        """(batch_size,) rows of one batch."""
        return self._units(epoch, number)

    def identity(self) -> dict[str, Any]:
        """What decides the order of samples."""
        return {**super().identity(), "unit": "sample"}


class ImageBatches(Batches):
    """Batches of pictures with several questions each, so that a picture is decoded and encoded once for all of them.

    By default an epoch shows each picture once, with the next `questions` of its own in an order of its own: epochs ask
    different questions, and all have been asked after as many epochs as that takes. `cover` makes an epoch of all
    questions instead: pictures come back until theirs are used up, which is what an evaluation needs.

    Args:
        dataset: A `VQADataset`. images: Pictures of a batch. questions: Most questions of a picture in a batch; a
            picture that has fewer gives all.
        cover: All questions in each epoch. options: As `Batches`.

    Raises:
        InputError: `questions` is below 1.
    """

    def __init__(self, dataset: Rows, images: int, questions: int, cover: bool = False, **options: Any):
        if questions < 1:
            raise InputError("at least one question a picture is needed", found=questions)
        image = dataset.records["image"]
        self._order = None if (image[1:] >= image[:-1]).all() else np.argsort(image, kind="stable")
        _, self._starts, self._counts = np.unique(
            image if self._order is None else image[self._order], return_index=True, return_counts=True
        )
        self.questions, self.cover = questions, cover
        self._ends = np.cumsum(-(-self._counts // questions)) if cover else np.arange(1, len(self._counts) + 1)
        super().__init__(dataset, int(self._ends[-1]) if len(self._ends) else 0, images, **options)

    def rows(self, epoch: int, number: int) -> Array:
        """(at most images * questions,) rows of one batch, picture by picture."""
        unit = self._units(epoch, number)
        group = np.searchsorted(self._ends, unit, side="right")
        piece = unit - (self._ends[group - 1] * (group > 0)) if self.cover else np.full(len(unit), epoch)
        count = self._counts[group]
        place = piece[:, None] * self.questions + np.arange(self.questions)  # images, questions
        there = place < count[:, None] if self.cover else np.arange(self.questions) < count[:, None]
        which, _ = np.nonzero(there)
        place = place[there] % count[which]
        if self.shuffle:
            name = f"questions/{epoch}" if self.cover else "questions"
            place = permute(place, count[which], mix(stream(self.seed, name), group)[which])
        rows = self._starts[group][which] + place
        return rows if self._order is None else self._order[rows]

    def identity(self) -> dict[str, Any]:
        """What decides the order of samples."""
        return {**super().identity(), "unit": "image", "questions": self.questions, "cover": self.cover}
