"""A model whose answers are known, and small question sets, for tests of `fashionkit eval vqa`.

`NumberMaps`: a picture's map is its number ─► `Oracle`: (number, question) ─► right answer, or a wrong one by seed
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fashionkit.datagen.store import VQAStore
from fashionkit.eval.vqa_answers import write_answers
from fashionkit.eval.vqa_human import HumanQuestions
from fashionkit.eval.vqa_questions import Questions


class NumberMaps:
    """Maps that say which picture they are of; counts how often each was asked for."""

    key = None

    def __init__(self, store: VQAStore):
        self._at = {name: number for number, name in enumerate(store.image_ids)}
        self.asked: list[str] = []

    def of(self, ids: Sequence[str]) -> Tensor:
        """(g, 1, 1, 1) numbers."""
        self.asked += ids
        return torch.tensor([float(self._at[name]) for name in ids])[:, None, None, None]


class Oracle:
    """Knows all answers, and gets some wrong.

    Args:
        questions: It knows the answers to these. errors: Share that it gets wrong. seed: Which. blind: It says the same
            of all pictures: the answer of the first. calls: After so many it is "killed".
    """

    def __init__(
        self,
        questions: Questions | HumanQuestions,
        errors: float = 0.2,
        seed: int = 0,
        blind: bool = False,
        calls: int | None = None,
    ):
        part = questions.part(0, len(questions))
        self.errors, self.seed, self.blind, self.calls = errors, seed, blind, calls
        self.right: dict[Any, str] = {}
        for number, text, right in zip(
            questions.image.tolist(), part.table["question"].to_pylist(), part.right, strict=True
        ):
            self.right.setdefault(self._key(number, text), right[0])
        known = {one[0] for one in part.right} | {"yes", "no", "not present"}
        self.answers = sorted(known - {"cannot tell"})
        self.seen = 0

    def _key(self, number: int, text: str) -> Any:
        return text if self.blind else (number, text)

    def said(self, number: int, text: str) -> tuple[str, float]:
        """The answer and its probability."""
        right = self.right[self._key(number, text)]
        bits = hashlib.blake2b(f"{self.seed} {number} {text}".encode(), digest_size=8).digest()
        chance, other = bits[0] / 256, int.from_bytes(bits[1:5], "little")
        sure = 0.5 + bits[5] / 520
        if chance >= self.errors and right in self.answers:
            return right, sure
        binary = right in ("yes", "no")
        pool = ["yes", "no"] if binary else self.answers
        wrong = [text for text in pool if text != right]
        return wrong[other % len(wrong)], sure - 0.2

    def log_probabilities(self, cells: Tensor | None, image_of: Tensor, questions: list[str], exact: int = 5) -> Tensor:
        """(n, K)."""
        assert cells is not None
        self.seen += 1
        if self.calls is not None and self.seen > self.calls:
            raise KeyboardInterrupt
        found = np.full((len(questions), len(self.answers)), 0.0)
        numbers = cells[image_of][:, 0, 0, 0].long().tolist()
        for row, (number, text) in enumerate(zip(numbers, questions, strict=True)):
            answer, sure = self.said(number, text)
            found[row] = (1 - sure) / (len(self.answers) - 1)
            found[row, self.answers.index(answer)] = sure
        return torch.from_numpy(np.log(found)).float()

    def free(self, cells: Tensor | None, image_of: Tensor, questions: list[str]) -> list[str]:
        """As the best answer, shouted."""
        assert cells is not None
        numbers = cells[image_of][:, 0, 0, 0].long().tolist()
        return [f"{self.said(number, text)[0].upper()}." for number, text in zip(numbers, questions, strict=True)]


def plan(questions: Questions | HumanQuestions, **more: Any) -> dict[str, Any]:
    """What `answer_questions` would ask for."""
    content = questions.store.manifest.content_hash()
    found = {"set": content, "split": questions.split, "asked": questions.key, "model": "oracle", "cannot_tell": 0.5}
    return {**found, **more}


def answered(questions: Questions | HumanQuestions, out: Path, size: int = 200, **oracle: Any) -> Path:
    """A folder of the oracle's answers."""
    model = Oracle(questions, **oracle)
    about = {"set": "made up", "model": "oracle"}
    return write_answers(model, questions, out, NumberMaps(questions.store), plan(questions), about, size=size)
