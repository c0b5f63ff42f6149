"""Questions about pictures, answered: the small API that applications import.

    images ──► `picture_batches` ──► backbone, once a picture ──► maps ──┐
    questions ──► those that can be read ──► tokenizer ──────────────────┴──► network ──► likeliest known answers
              └─► those that cannot: "cannot tell", and why                                 └─► `Answer`

An answer is always one of those that the model knows, or that it cannot tell: nothing that stands in a question or in a
picture is followed or run. The rule for "cannot tell" is ours: the likeliest answer has a calibrated probability below
a threshold (the model's own, or one that is given), or the question cannot be read.

Letters: N pictures, n questions of a pass, C channels of a map, h x w its cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fashionkit.catalog.images import PictureError
from fashionkit.embed.picture_batches import batches, is_one, listed
from fashionkit.models.answering import LONGEST_QUESTION, NOT_PRESENT, AnsweringModel, Ranked
from fashionkit.models.answering_checkpoint import answering_from_checkpoint
from fashionkit.models.checkpoint import find_checkpoint
from fashionkit.models.model_card import Metrics
from fashionkit.models.model_folder import CONFIG
from fashionkit.models.tokenizer import normalise
from fashionkit.tables import InputError
from fashionkit.vision.memory import keep_memory
from fashionkit.vision.pictures import as_tensor, sized

Pixels = npt.NDArray[np.uint8]
ANSWERED, CANNOT_TELL = "answered", "cannot tell"  # states, beside NOT_PRESENT
TOGETHER = 256  # questions of one pass


@dataclass(frozen=True)
class Answer:
    """What is said to one question.

    Attributes:
        text: One of the known answers, or "cannot tell".
        probability: Of the likeliest known answer, calibrated; 0 where the question or the picture cannot be read.
        alternatives: The known answers that are next in probability, and theirs. Where `text` is "cannot tell" they
            begin with the likeliest one.
        state: "answered", "not present" (what is asked about is not in the picture), or "cannot tell".
        note: Why it cannot tell, or what of the question was not read; else empty.
    """

    text: str
    probability: float
    alternatives: tuple[tuple[str, float], ...] = ()
    state: str = ANSWERED
    note: str = ""


class VQAModel:
    """Answers questions about pictures.

    Args:
        model: What was trained. device: Where it runs. batch: Pictures of one pass.
    """

    def __init__(self, model: AnsweringModel, device: str | torch.device = "cpu", batch: int = 32):
        if batch < 1:
            raise InputError("a batch has at least 1 picture", found=batch)
        self.device, self.batch = torch.device(device), batch
        self.model = model.to(self.device)
        if self.device.type == "cpu":
            keep_memory()
            if model.backbone is not None:
                model.backbone.to(memory_format=torch.channels_last)

    @classmethod
    def load(
        cls,
        model: str | Path,
        device: str | torch.device = "cpu",
        batch: int = 32,
        weights: str | Path | None = None,
    ) -> VQAModel:
        """The model of a folder that `fashionkit share` or `save` wrote, or of a training run.

        Args:
            model: The folder, the run's folder or one of its checkpoints. device, batch: As for the class.
            weights: Of the backbone of a run on cached features, where they lie elsewhere than in training.

        Raises:
            InputError: There is no such folder, or what is in it is damaged or something else.
        """
        path = Path(model)
        if not path.exists():
            hint = "`fashionkit share RUN --out FOLDER` makes a model's folder of a training run"
            raise InputError("there is no such folder", file=path, hint=hint)
        of_training = path.is_file() or any(next(path.glob(where), None) for where in ("*.ckpt", "checkpoints/*.ckpt"))
        if of_training and not (path / CONFIG).is_file():
            return cls(answering_from_checkpoint(find_checkpoint(path), weights), device, batch)
        if weights is not None:
            raise InputError("a saved model has its own weights", file=path, column="weights", found=str(weights))
        return cls(AnsweringModel.load(path), device, batch)

    def save(self, folder: str | Path, about: str = "", metrics: Metrics = ()) -> Path:
        """Writes the model for others: weights, configuration and a card; see `AnsweringModel.save`."""
        return self.model.save(folder, about, metrics)

    @property
    def answers(self) -> list[str]:
        """All that it can answer."""
        return list(self.model.answers)

    @overload
    def ask(
        self,
        images: Sequence[object] | object,
        questions: str | list[str] | tuple[str, ...],
        alternatives: int = 4,
        on_error: str = "raise",
        threshold: float | None = None,
    ) -> list[Answer]: ...

    @overload
    def ask(
        self,
        images: Sequence[object] | object,
        questions: Sequence[list[str]] | Sequence[tuple[str, ...]],
        alternatives: int = 4,
        on_error: str = "raise",
        threshold: float | None = None,
    ) -> list[list[Answer]]: ...

    @torch.inference_mode()
    def ask(
        self,
        images: Sequence[object] | object,
        questions: str | Sequence[str] | Sequence[Sequence[str]],
        alternatives: int = 4,
        on_error: str = "raise",
        threshold: float | None = None,
    ) -> list[Answer] | list[list[Answer]]:
        """Answers in the order of the questions, a list a picture where several were asked of each.

        Args:
            images: One picture or a sequence, each a path, bytes, a Pillow picture, an array `(H, W, 3)` uint8 or a
                tensor `(3, H, W)`; URLs are refused. Each is prepared and looked at once, whatever is asked.
            questions: One text for all pictures; a list with one for each; or a list of lists, several for each. Of a
                picture that stands alone, in no list, a list of texts asks all of it.
            alternatives: So many answers beside the likeliest. on_error: `raise`, or `skip`: of a broken picture it
                cannot tell, and the note says why.
            threshold: It cannot tell where the likeliest answer is less likely than this; None: the model's own.

        Raises:
            InputError: A picture cannot be read (the error names its index), or questions of another number or type.
        """
        pictures = listed(images, on_error)
        asked, flat = _asked(questions, len(pictures), is_one(images))
        if isinstance(alternatives, bool) or not isinstance(alternatives, int) or alternatives < 0:
            raise InputError("a number of alternatives is 0 or more", column="alternatives", found=alternatives)
        least = self.model.cannot_tell if threshold is None else threshold
        if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
            raise InputError("a threshold lies within 0 to 1", column="threshold", found=threshold)
        several: list[list[Answer]] = [[] for _ in pictures]
        broken: dict[int, PictureError] = {}
        for rows, pixels in batches(pictures, self.batch, self._prepared, on_error, broken):
            places = [place for place, row in enumerate(rows) for _ in asked[row]]
            texts = [text for row in rows for text in asked[row]]
            answers = iter(self._answers(pixels, places, texts, alternatives, least))
            for row in rows:
                several[row] = [next(answers) for _ in asked[row]]
        for row, error in broken.items():
            several[row] = [_silent(f"the picture cannot be read: {error}")] * len(asked[row])
        return [answer for answers in several for answer in answers] if flat else several

    def _answers(
        self, pixels: list[Pixels], places: list[int], texts: list[str], alternatives: int, least: float
    ) -> list[Answer]:
        """What is said to some questions about the pictures of a batch.

        Args:
            pixels: Of the batch. places: Of each question, which of them it is about. texts: The questions.
        """
        cells = self._cells(pixels)
        problems = {text: self.unreadable(text) for text in set(texts)}
        found = [_silent(problems[text]) for text in texts]
        open_ = [number for number, text in enumerate(texts) if not problems[text]]
        for lo in range(0, len(open_), TOGETHER):
            part = open_[lo : lo + TOGETHER]
            asked = [texts[number] for number in part]
            ranked = self._ranked(cells, [places[number] for number in part], asked, alternatives)
            for at, number in enumerate(part):
                found[number] = self._answer(ranked, at, alternatives, least, self._cut(asked[at]))
        return found

    def unreadable(self, question: str) -> str:
        """Why a question cannot be read; empty where it can."""
        letters = [letter for letter in normalise(question[:LONGEST_QUESTION]) if letter.isalnum()]
        if not letters:
            return "there is no word in the question"
        if 2 * sum(letter in self._letters for letter in letters) < len(letters):
            return "most of the question is written in letters that the model was not trained on"
        return ""

    @cached_property
    def _letters(self) -> set[str]:
        """Letters that the tokenizer's texts were written in: those that a token holds whole."""
        tokenizer = self.model.tokenizer
        return {letter for number in range(len(tokenizer)) for letter in tokenizer.decode([number])} - {"\ufffd"}

    def _prepared(self, rows: list[int], pictures: list[Image.Image]) -> list[Pixels]:
        how = self.model.preprocess
        if how is None:  # a blind network: that the pictures can be read is all that counts
            return [np.zeros((1, 1, 3), np.uint8)] * len(pictures)
        return [sized(picture, how) for picture in pictures]

    def _cells(self, pixels: list[Pixels]) -> Tensor | None:
        """(g, C, h, w) of g prepared pictures; None for a blind network."""
        how = self.model.preprocess
        if how is None:
            return self.model.cells(torch.zeros(0))
        x = as_tensor(pixels, how).to(self.device)
        return self.model.cells(x.to(memory_format=torch.channels_last) if self.device.type == "cpu" else x)

    def _ranked(self, cells: Tensor | None, places: list[int], texts: list[str], alternatives: int) -> Ranked:
        """Of some questions, with those maps alone that they are about."""
        used, image_of = torch.tensor(places).unique(return_inverse=True)
        shown = None if cells is None else cells[used.to(cells.device)]
        return self.model.answer(shown, image_of, texts, alternatives + 1)

    def _cut(self, question: str) -> str:
        """What of a question is not read."""
        read, there = self.model.config.question_length, self.model.tokens(question)
        more = " or more" if len(question) > LONGEST_QUESTION else ""
        return "" if there <= read else f"only the first {read} tokens of the question were read, of {there:,}{more}"

    def _answer(self, ranked: Ranked, at: int, alternatives: int, least: float, note: str) -> Answer:
        known = [self.model.answers[number] for number in ranked.index[at].tolist()]
        likely = list(zip(known, ranked.probability[at].tolist(), strict=True))
        text, probability = likely[0]
        if probability < least:
            why = f"the likeliest answer is below the threshold of {least:g}"
            notes = "; ".join(filter(None, (why, note)))
            return Answer(CANNOT_TELL, probability, tuple(likely[:alternatives]), CANNOT_TELL, notes)
        state = NOT_PRESENT if text == NOT_PRESENT else ANSWERED
        return Answer(text, probability, tuple(likely[1:]), state, note)


def _silent(note: str) -> Answer:
    """What is said where the network is not even asked."""
    return Answer(CANNOT_TELL, 0.0, state=CANNOT_TELL, note=note)


def _asked(questions: object, count: int, one: bool) -> tuple[list[list[str]], bool]:
    """The questions of each picture, and whether answers come in one list.

    Args:
        questions: As for `VQAModel.ask`. count: Pictures. one: The picture stands alone.

    Raises:
        InputError: Of another number or type.
    """
    if isinstance(questions, str):
        return [[questions]] * count, True
    hint = "one text for all pictures, a list with one for each, or a list of lists"
    if not isinstance(questions, Iterable) or isinstance(questions, bytes | dict):
        raise InputError("questions are texts", column="questions", found=type(questions).__name__, hint=hint)
    given = list(questions)
    flat = all(isinstance(each, str) for each in given)
    if flat:
        rows = [given] if one else [[each] for each in given]
    else:
        for number, each in enumerate(given):
            if isinstance(each, str | bytes | dict) or not isinstance(each, Iterable):
                problem = f"the questions of picture {number} are no list of texts"
                raise InputError(problem, column="questions", found=each, hint=hint)
        rows = [list(each) for each in given]
    for number, row in enumerate(rows):
        for at, text in enumerate(row):
            if not isinstance(text, str):
                problem = f"question {at} of picture {number} is no text"
                raise InputError(problem, column="questions", found=text)
    if len(rows) != count:
        problem = f"questions for {len(rows)} pictures, and there are {count}"
        raise InputError(problem, column="questions", hint=hint)
    return rows, flat
