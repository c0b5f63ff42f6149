"""Question sets for training with torch: by row, in pictures with several questions, or as a stream.

    parts of ids ─┬─► VQADataset (a split in memory) ─► SampleBatches, ImageBatches ─┬─► VQALoader ─► batches
                  └─► VQAStream (a window of parts) ─────────────────────────────────┘
                                                       text is written, and pictures are decoded, in the workers

    dataset = VQADataset("questions", "train", catalog="catalog", transform=to_tensor)
    loader = VQALoader(ImageBatches(dataset, images=128, questions=8, seed=1), num_workers=4)
    for batch in loader:                      # a dict: see `VQADataset.batch`
        ...

The processes that read pass numbers only. Which samples a batch has is a function of (seed, epoch, batch number, rank),
so their order is the same for any number of workers, and goes on exactly where a `state_dict` says. All of it works
with torch's own `DataLoader`, too; what is then exact is told in docs/training_data.md.

This is the one module of its room that imports torch, and no other imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from fashionkit.datagen.reading.batches import AHEAD, ImageBatches, SampleBatches, placed
from fashionkit.datagen.reading.order import Rounds, order_key, permute
from fashionkit.datagen.reading.reader import Columns, Reader, rows_of
from fashionkit.datagen.reading.records import RECORD
from fashionkit.tables import InputError

__all__ = ["ImageBatches", "SampleBatches", "VQADataset", "VQALoader", "VQAStream", "collate"]

Array = npt.NDArray[Any]
Sample = dict[str, Any]
Batch = dict[str, Any]
WINDOW = 1 << 22  # samples that a stream shuffles at a time: 105 MB
AT_ONCE = 1024  # samples whose text a stream of single samples writes in one go


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of a `VQADataset` or `VQAStream` as one batch, as `VQADataset.batch` gives it; for `DataLoader`."""
    columns: Columns = {name: [s[name] for s in samples] for name in samples[0]} if samples else {}
    for name in ("qid", "answer_id"):
        columns[name] = np.array(columns.get(name, []), np.int64)
    if (images := columns.pop("image", None)) is not None:
        first = {name: at for at, name in reversed(list(enumerate(columns["image_id"])))}
        places = {name: number for number, name in enumerate(sorted(first, key=lambda name: first[name]))}
        columns["images"] = [images[first[name]] for name in places]
        columns["image_of"] = np.array([places[name] for name in columns["image_id"]], np.int64)
    return _tensors(columns)


def _tensors(columns: Columns) -> Batch:
    """Numbers as tensors; pictures stacked where the transform made them tensors of one shape."""
    batch = {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in columns.items()}
    images = batch.get("images")
    if isinstance(images, list) and images and _alike(images):
        batch["images"] = torch.stack(images)
    return batch


def _alike(images: list[Any]) -> bool:
    return all(isinstance(image, torch.Tensor) and image.shape == images[0].shape for image in images)


class _Reopened:
    """A data set that travels to a spawned worker as the arguments it was made with, and is opened there again."""

    _arguments: tuple[Any, ...]
    reader: Reader

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._arguments, self.reader.store.manifest.content_hash())

    def identity(self) -> dict[str, Any]:
        """Which samples these are, for `state_dict`."""
        store, samples = self.reader.store, self.reader.samples
        return {"set": store.manifest.content_hash(), "split": samples.split, "families": ",".join(samples.families)}


def _reopen(kind: type[Any], arguments: tuple[Any, ...], content: str) -> Any:
    found = kind(*arguments)
    if found.reader.store.manifest.content_hash() != content:
        raise InputError("the question set has changed since it was opened", file=found.reader.store.path)
    return found


class VQADataset(_Reopened, Dataset[Sample]):
    """A split of a question set, its ids held in memory (25 bytes a sample).

    `dataset[7]` is a sample: a dict of `qid`, `image_id`, `question`, `answer`, `answer_id`, `family`, `template`, and
    `image` where there is a catalogue. `dataset[[7, 1, 4]]` is a batch.

    Args:
        path: The question set. split: One of its splits, or `absent` (the not-present questions of test).
        family: One question family, several, or all.
        catalog: Catalogue folder with the pictures; text alone is read without one.
        transform: Called with each picture (PIL, RGB, upright), once a batch; a module-level function where workers
            are spawned.
        damaged: What to do about a picture that cannot be decoded: `raise`, or `skip` its samples in batches.
        cache: Folder into which a catalogue's embedded pictures are unpacked, once, for all processes to share; they
            are held in memory without one.

    Raises:
        InputError: No such set, split or family; the catalogue is not the set's, or has no pictures.
    """

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        family: str | Sequence[str] | None = None,
        catalog: str | Path | None = None,
        transform: Callable[[Any], Any] | None = None,
        damaged: str = "raise",
        cache: str | Path | None = None,
    ):
        self._arguments = (path, split, family, catalog, transform, damaged, cache)
        self.reader = Reader(*self._arguments)
        self.records: Array = self.reader.samples.read_all()

    def __len__(self) -> int:
        """Samples."""
        return len(self.records)

    def __getitem__(self, row: Any) -> Any:
        """One sample, or the batch of several rows.

        Raises:
            IndexError: No such row. InputError: The picture is damaged, whatever `damaged` says where it is one row.
        """
        if not isinstance(row, int | np.integer):
            return self.batch(row)
        samples = self.__getitems__([int(row)])
        if not samples:
            raise InputError("the picture of this sample is damaged", file=self.reader.store.path, found=int(row))
        return samples[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Sample]:
        """Several samples at once, as `DataLoader` asks for them; pictures that they share are decoded once."""
        return rows_of(self.reader.columns(self._records(rows)))

    def batch(self, rows: Sequence[int] | Array) -> Batch:
        """Several samples, collated.

        Args:
            rows: (n,) positions.

        Returns:
            `qid`, `answer_id`: (n,) int64 tensors; `image_id`, `question`, `answer`, `family`, `template`: lists of n
            strings. With a catalogue also `images`: of g different pictures what `transform` made of them, stacked
            where they are tensors of one shape, else a list; `image_of`: (n,) int64, which of them each sample has;
            `skipped`: samples that were left out for their damaged picture.

        Raises:
            IndexError: No such row. InputError: A picture is damaged, and `damaged` is `raise`.
        """
        return _tensors(self.reader.columns(self._records(rows)))

    def prepare(self) -> VQADataset:
        """Writes the questions now, as many as are kept (a million), and returns itself.

        Workers that are forked afterwards share their texts; else each writes those that it comes across.
        """
        self.reader.prepare(self.records)
        return self

    def _records(self, rows: Sequence[int] | Array) -> Array:
        wanted = np.asarray(rows, np.int64)
        if len(wanted) and not (-len(self) <= wanted.min() and wanted.max() < len(self)):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(self)} samples")
        return self.records[wanted]


class VQAStream(_Reopened, IterableDataset[Any]):
    """A split of a question set, read from disk a window of row groups at a time: memory does not follow its size.

    Row groups (of up to a million samples, of pictures that follow each other) come in a random order; as many as fill
    a window are shuffled together. Iterating gives batches, or single samples where `batch_size` is None; rank, world
    and the worker that iterates share them without overlap. Every worker reads every window and uses its own part.

    Args:
        path, split, family, catalog, transform, damaged, cache: As `VQADataset`.
        batch_size: Samples of a batch; None gives single samples.
        seed: Another seed gives another order. shuffle: Else the order of the set.
        window: Samples that are shuffled together, at least; 25 bytes each, in each worker.
        drop_last: Leaves out the last, incomplete round of batches, so that all batches and ranks are alike.
        rank, world: This process, of how many; torch's process group says so where neither is given.

    Raises:
        InputError: As `VQADataset`; a batch size or window below 1.
    """

    def __init__(
        self,
        path: str | Path,
        split: str = "train",
        family: str | Sequence[str] | None = None,
        catalog: str | Path | None = None,
        transform: Callable[[Any], Any] | None = None,
        damaged: str = "raise",
        cache: str | Path | None = None,
        batch_size: int | None = AT_ONCE,
        seed: int = 0,
        shuffle: bool = True,
        window: int = WINDOW,
        drop_last: bool = False,
        rank: int | None = None,
        world: int | None = None,
    ):
        if window < 1:
            raise InputError("a window has at least one sample", found=window)
        rank, world = placed(rank, world)
        reading = (path, split, family, catalog, transform, damaged, cache)
        self._arguments = (*reading, batch_size, seed, shuffle, window, drop_last, rank, world)
        self.reader = Reader(*reading)
        self.batch_size, self.seed, self.shuffle, self.window = batch_size, seed, shuffle, window
        self._counts = self.reader.samples.counts
        self.rounds = Rounds(int(self._counts.sum()), batch_size or 1, rank, world, drop_last)
        self._place, self._exact = (0, 0), False
        self._plan: tuple[int, Array, Array, Array] | None = None
        self._window: tuple[tuple[int, int], Array] | None = None
        self._ahead: dict[tuple[int, int], Array] = {}

    def __len__(self) -> int:
        """Batches of an epoch on this rank, or samples."""
        return len(self.rounds)

    def __iter__(self) -> Iterator[Any]:
        """Batches from where `set_epoch` or `load_state_dict` said; of a `DataLoader`'s workers, each its share."""
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        epoch, start = self._place
        first = start if self._exact else start + worker
        self._place, self._exact = (epoch, first), True
        return self._batches(epoch, first, workers) if self.batch_size else self._samples(epoch, first, workers)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Says which epoch is read next, and from which batch on. Without it every epoch has the order of the first."""
        self._place, self._exact = (epoch, start), False

    def state_dict(self) -> dict[str, Any]:
        """Where in the epoch this process is, or this worker: `start` is the next batch that it will give."""
        epoch, start = self._place
        return {"epoch": epoch, "start": start, **self._sizes(), **self.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was asked for, by the same rank and worker.

        Raises:
            InputError: The state is of another set, split, order or batch size.
        """
        _check_state(state, {**self._sizes(), **self.identity()})
        self._place, self._exact = (state["epoch"], state["start"]), True

    def _sizes(self) -> dict[str, Any]:
        return {"batch": self.rounds.batch, "world": self.rounds.world}

    def identity(self) -> dict[str, Any]:
        """What decides the order of samples; a state of another order cannot be continued."""
        settings = {name: getattr(self, name) for name in ("seed", "shuffle", "window")}
        return {**super().identity(), **settings, "total": self.rounds.total, "unit": "streamed sample"}

    def fetch(self, epoch: int, number: int) -> Batch:
        """The collated batch."""
        return _tensors(self.reader.columns(self._ahead_of(epoch, number)))

    def _ahead_of(self, epoch: int, number: int) -> Array:
        """The records of one batch; it costs little to work out the next ones of this worker with them."""
        if (epoch, number) not in self._ahead:
            info = get_worker_info()
            step = 1 if info is None else info.num_workers
            numbers = range(number, min(number + step * AHEAD, len(self)), step)
            spans = [self.rounds.span(one) for one in numbers]
            records = self._records(epoch, np.concatenate([np.arange(*span) for span in spans]))
            parts = np.split(records, np.cumsum([hi - lo for lo, hi in spans])[:-1])
            self._ahead = {(epoch, one): part for one, part in zip(numbers, parts, strict=True)}
        return self._ahead[epoch, number]

    def _batches(self, epoch: int, first: int, step: int) -> Iterator[Batch]:
        for number in range(first, len(self), step):
            batch = self.fetch(epoch, number)
            self._place = epoch, number + step
            yield batch
        self._place, self._exact = (epoch, 0), False

    def _samples(self, epoch: int, first: int, step: int) -> Iterator[Sample]:
        at_once = AT_ONCE if not self.reader.has_pictures else 1
        for lo in range(first, len(self), step * at_once):
            numbers = range(lo, min(lo + step * at_once, len(self)), step)
            records = self._records(epoch, np.array([self.rounds.span(number)[0] for number in numbers]))
            samples = rows_of(self.reader.columns(records))  # none where the one picture is damaged and skipped
            for number, sample in zip(numbers, samples, strict=False):
                self._place = epoch, number + step
                yield sample
        self._place, self._exact = (epoch, 0), False

    def _records(self, epoch: int, positions: Array) -> Array:
        """(n,) records at ascending positions of an epoch's order."""
        if not len(positions):
            return np.zeros(0, RECORD)
        _, starts, _ = self._order(epoch)
        window = np.searchsorted(starts, positions, side="right") - 1
        found = []
        for number in np.unique(window).tolist():
            records = self._read(epoch, number)
            index = positions[window == number] - starts[number]
            if self.shuffle:
                index = permute(index, len(records), order_key(self.seed, epoch, f"window {number}"))
            found.append(records[index])
        return np.concatenate(found)

    def _order(self, epoch: int) -> tuple[Array, Array, Array]:
        """Row groups in the epoch's order, the first position of each window, and its first row group."""
        if self._plan is None or self._plan[0] != epoch:
            groups = np.flatnonzero(self._counts)
            if self.shuffle:
                groups = groups[permute(np.arange(len(groups)), len(groups), order_key(self.seed, epoch, "groups"))]
            before = np.cumsum(self._counts[groups]) - self._counts[groups]
            _, first = np.unique(before // self.window, return_index=True)
            self._plan = epoch, groups, before[first], np.append(first, len(groups))
        return self._plan[1:]

    def _read(self, epoch: int, number: int) -> Array:
        """The records of one window; the last one that was asked for is kept."""
        if self._window is None or self._window[0] != (epoch, number):
            self._window = None  # before the next is read, so that only one is held
            groups, _, first = self._order(epoch)
            parts = [self.reader.samples.read(group) for group in groups[first[number] : first[number + 1]].tolist()]
            self._window = (epoch, number), np.concatenate(parts)
        return self._window[1]


class Source(Protocol):
    """What a `VQALoader` reads: `SampleBatches`, `ImageBatches`, or a `VQAStream` of batches."""

    rounds: Rounds

    def __len__(self) -> int:
        """Batches of an epoch."""

    def fetch(self, epoch: int, number: int) -> Batch:
        """One batch, whatever was read before."""

    def identity(self) -> dict[str, Any]:
        """What decides the order of samples."""


class VQALoader:
    """Reads batches in worker processes and knows which of them were handed out.

    Iterating gives the batches of one epoch; the next time it gives those of the next epoch. `state_dict` counts the
    batches that were handed out, not those that workers have ready: a loader that loads it gives exactly the batches
    that are left of the epoch, in their order, for any number of workers. Batch size and number of ranks may change
    with it, where the new batches start at the same place.

    Args:
        source: What is read. num_workers: Processes that read; 0 reads in this one.
        collate_fn: Called in the worker with each batch (a dict), such as to make tokens of its questions.
        options: Go to torch's `DataLoader`: `pin_memory`, `prefetch_factor`, `persistent_workers`,
            `multiprocessing_context` and the like.

    Raises:
        InputError: An option that the source decides, or a stream of single samples.
    """

    def __init__(
        self, source: Source, num_workers: int = 0, collate_fn: Callable[[Batch], Any] | None = None, **options: Any
    ):
        decided = {"batch_size", "shuffle", "sampler", "batch_sampler", "drop_last"} & set(options)
        if decided:
            raise InputError("the source decides this, not the loader", found=", ".join(sorted(decided)))
        if isinstance(source, VQAStream) and source.batch_size is None:
            hint = "give the stream a batch_size, or read it with torch's DataLoader"
            raise InputError("a loader reads batches, and this stream gives single samples", hint=hint)
        self.source, self.epoch = source, 0
        self._done, self._start = 0, 0
        self._numbers = _Numbers(source)
        self._packed = collate_fn is None
        finish: Any = collate_fn or _packed
        batches, numbers = _ByNumber(source), self._numbers
        self._loader: DataLoader[Any] = DataLoader(
            batches, batch_size=None, sampler=numbers, num_workers=num_workers, collate_fn=finish, **options
        )

    def __len__(self) -> int:
        """Batches of a whole epoch, on this rank."""
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        """The batches of the epoch, or what is left of it after `load_state_dict`."""
        self._done, self._start = self._start, 0
        self._numbers.place = self.epoch, self._done
        for batch in self._loader:
            self._done += 1
            if self._done == len(self):  # not after the loop: who counts batches never asks for one too many
                self.epoch, self._done = self.epoch + 1, 0
            yield _tensors(batch) if self._packed else batch

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is read next, from its start."""
        self.epoch, self._done, self._start = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """The epoch, and how many samples (pictures, of `ImageBatches`) all ranks together have had of it.

        The batch that a training step is working on counts as had; with the last one, the next epoch begins. All ranks
        have the same state, but while only some of them have a batch of the last round.
        """
        return {"epoch": self.epoch, "seen": self.source.rounds.seen(self._done), **self.source.identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration goes on where `state_dict` was asked for.

        Raises:
            InputError: The state is of another set, split or order, or batches of this size do not start there.
        """
        _check_state(state, self.source.identity())
        start = self.source.rounds.after(state["seen"])
        self.epoch, start = (state["epoch"], start) if start < len(self) else (state["epoch"] + 1, 0)
        self._start = self._done = start


class _Numbers(Sampler[tuple[int, int]]):
    """Epoch and number of each batch that is left."""

    def __init__(self, source: Source):
        self.source, self.place = source, (0, 0)

    def __len__(self) -> int:
        return max(len(self.source) - self.place[1], 0)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, start = self.place
        return ((epoch, number) for number in range(start, len(self.source)))


class _ByNumber(Dataset[Batch]):
    """Batches by epoch and number."""

    def __init__(self, source: Source):
        self.source = source

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        return self.source.fetch(*place)


def _packed(batch: Batch) -> Batch:
    """The batch with arrays for its small tensors: between processes each tensor is a shared file, which costs more."""
    return {name: v.numpy() if isinstance(v, torch.Tensor) and name != "images" else v for name, v in batch.items()}


def _check_state(state: dict[str, Any], identity: dict[str, Any]) -> None:
    for name in ("epoch", *identity):
        if name not in state:
            raise InputError("this is no state of a reader of questions", column=name, allowed=sorted(identity))
        if name in identity and state[name] != identity[name]:
            problem = "the state was saved with another order of samples, which cannot be continued"
            hint = f"here it is {identity[name]!r}; read with the same set and settings, or start anew"
            raise InputError(problem, column=name, found=state[name], hint=hint)
