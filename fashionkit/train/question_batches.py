"""Batches of pictures with their questions, as tensors; which and in what order is `datagen.dataset`'s affair.

    (epoch, number) ─► `ImageBatches` ─► rows ─┬─► pictures, each once: pixels or maps ──┬─► some are empty
                                               └─► questions, answers: tokens, classes ──┴─► some questions have slips
    `QuestionLoader`: worker processes, an exact place in the epoch for checkpoints

A batch is a function of seed, epoch and its number, so runs go on exactly and workers change nothing.
Letters: g pictures, n questions, T and A tokens of questions and answers, C channels of a map, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fashionkit.datagen.dataset import VQADataset, VQALoader
from fashionkit.datagen.reading.batches import ImageBatches
from fashionkit.datagen.vocab import NOT_PRESENT
from fashionkit.tables import InputError
from fashionkit.train.empty_pictures import Empties, empty_picture
from fashionkit.train.loader import Key
from fashionkit.train.slips import Slips
from fashionkit.train.spoken import Answers, Questions, padded

Array = npt.NDArray[Any]
Batch = dict[str, Any]


class Pictures(Protocol):
    """Pictures of a split: `Examples` of pixels, or `Maps`."""

    def __len__(self) -> int:
        """How many."""

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """`row` (g,), and `image` (g, S, S, 3) uint8 or `map` (g, C, h, w) float32, of (epoch, row)."""


class Maps(Dataset[Any]):
    """Maps of pictures.

    Args:
        values: (P, C, h, w), of which only what is asked for is read or made.
    """

    def __init__(self, values: Any):
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """`row` (g,) and `map` (g, C, h, w) float32."""
        rows = np.array([row for _, row in keys])
        found = np.asarray(self.values[rows], np.float32)
        return {"row": torch.from_numpy(rows), "map": torch.from_numpy(found)}


class Changes:
    """What training changes.

    Args:
        slips: Of questions. empties: Pictures that are replaced by empty ones.

    Attributes:
        maps: (E, C, h, w) of the first empty pictures, where maps stand in for pixels.
    """

    def __init__(self, slips: Slips, empties: Empties):
        self.slips, self.empties = slips, empties
        self.maps: Tensor | None = None

    def empty(self, shown: Batch, numbers: Array) -> None:
        """Puts empty pictures into what is shown; numbers: (g,), -1 where a picture stays."""
        for place in np.flatnonzero(numbers >= 0).tolist():
            if "image" in shown:
                picture = empty_picture(int(numbers[place]), shown["image"].shape[1])
                shown["image"][place] = torch.from_numpy(picture)
            else:
                assert self.maps is not None, "maps of empty pictures are made before training"
                shown["map"][place] = self.maps[int(numbers[place]) % len(self.maps)]


class QuestionBatches:
    """A source of `VQALoader`: batches as a network takes them.

    Args:
        batches: Which rows. dataset: Whose rows. pictures: Of the split. row_of: (images,) the row of each image of the
            set in `pictures`. questions, answers: How they are read. changes: In training.
    """

    def __init__(
        self,
        batches: ImageBatches,
        dataset: VQADataset,
        pictures: Pictures,
        row_of: Array,
        questions: Questions,
        answers: Answers,
        changes: Changes | None = None,
    ):
        self.batches, self.dataset, self.pictures, self.row_of = batches, dataset, pictures, row_of
        self.questions, self.answers, self.changes = questions, answers, changes
        self.rounds = batches.rounds

    def __len__(self) -> int:
        """Batches of an epoch, in this process."""
        return len(self.batches)

    def identity(self) -> dict[str, Any]:
        """What decides the order of samples."""
        return self.batches.identity()

    def fetch(self, epoch: int, number: int) -> Any:
        """A batch, see the module; an InputError comes as a value, since a worker process would wrap it.

        Returns:
            `row` (g,) of the pictures; `image` (g, S, S, 3) uint8 or `cells` (g, C, h, w) float32; `image_of` (n,), the
            place of each question's picture among these; `question` (n, T) and `answer` (n, A) int64, PAD behind;
            `answer_class` (n,), -1 where it is none of those known; `qid` (n,); `tokens`, how many there are.
        """
        try:
            return self._batch(epoch, number)
        except InputError as error:
            return error

    def _batch(self, epoch: int, number: int) -> Batch:
        records = self.dataset.records[self.batches.rows(epoch, number)]
        image, image_of = np.unique(records["image"], return_inverse=True)
        shown = self.pictures.__getitems__([(epoch, row) for row in self.row_of[image].tolist()])
        texts = self.dataset.reader.columns(records)["question"]
        answer, slips = records["answer"], {}
        if self.changes is not None:
            slips = self.changes.slips(epoch, records["qid"], texts)
            numbers = self.changes.empties.numbers(epoch, image)
            self.changes.empty(shown, numbers)
            answer = np.where(numbers[image_of] >= 0, NOT_PRESENT, answer)
        question, tokens = padded(self.questions.read(texts, slips)), self.answers.tokens(answer)
        return {
            "row": shown["row"],
            **({"cells": shown["map"]} if "map" in shown else {"image": shown["image"]}),
            "image_of": torch.from_numpy(image_of),
            "question": question,
            "answer": tokens,
            "answer_class": torch.from_numpy(self.answers.class_of[answer]),
            "qid": torch.from_numpy(records["qid"].copy()),
            "tokens": int((question != 0).sum() + (tokens != 0).sum()),
        }


class QuestionLoader(VQALoader):
    """A `VQALoader` that raises what its workers found, and whose epochs Lightning counts.

    Args:
        source: What is read. options: As for `VQALoader`.
    """

    def __init__(self, source: QuestionBatches, **options: Any):
        # A generator of its own: otherwise each pass takes a number from the global one, which dropout reads.
        generator = torch.Generator().manual_seed(0)
        super().__init__(source, collate_fn=_as_it_is, generator=generator, **options)
        # Lightning looks under these names for whom to tell the epoch.
        self.sampler, self.batch_sampler = self, None

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch, or what is left of it.

        Raises:
            InputError: As it was found in a worker.
        """
        for batch in super().__iter__():
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """The next pass is of this epoch: from its beginning, unless it is the one that was gone into already."""
        if epoch != self.epoch:
            super().set_epoch(epoch)


def _as_it_is(batch: Any) -> Any:
    return batch
