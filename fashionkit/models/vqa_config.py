"""The settings of a network that answers questions about pictures, for all three kinds.

`VqaConfig` ─► `fashionkit.models.vqa.build_vqa` ─► `Vlm`, `EncoderDecoder` or `Mcan`
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

from fashionkit.tables import InputError

KINDS = ("vlm", "encoder_decoder", "mcan")
PREFIXES = ("full", "image")
LARGEST = 1 << 24  # of any whole number: a folder from anybody must not ask for all memory there is
WHOLE = (
    "channels", "fold", "words", "answers", "width", "layers", "decoder_layers", "heads", "feed", "embedding",
    "question_length", "answer_length",
)  # fmt: skip


@dataclass(frozen=True)
class VqaConfig:
    """What a network is made of; sizes of the picture, the words and the answers come from the data.

    Attributes:
        kind: `vlm`, one transformer that reads the question and writes the answer; `encoder_decoder`, one that reads
            and one that writes; `mcan`, co-attention and a choice among known answers.
        channels, cells: Of the map of a picture, (C, h, w). words: Of the tokenizer. answers: Known answers.
        fold: Side of the square of cells that make one image token.
        width: D. layers: Of the trunk (of `mcan`: of each of its two stacks). heads: Of attention, divide D. feed:
            Inner width of feed-forward layers. dropout: Share that is left out in training.
        decoder_layers: Of the part of `encoder_decoder` that writes. embedding: Width of words of `mcan`.
        prefix: Of `vlm`. `full`: picture and question attend to each other; `image`: the picture attends to itself
            only, so that it is worked out once for all its questions.
        blind: The picture is not looked at; what is left is what questions give away.
        question_length, answer_length: Most tokens of each.

    Raises:
        InputError: A value out of range, or values that do not go together.
    """

    kind: str
    channels: int
    cells: tuple[int, int]
    words: int
    answers: int
    fold: int = 1
    width: int = 256
    layers: int = 6
    decoder_layers: int = 2
    heads: int = 4
    feed: int = 1024
    embedding: int = 300
    dropout: float = 0.1
    prefix: str = "full"
    blind: bool = False
    question_length: int = 32
    answer_length: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        for name in WHOLE:
            _check_whole(name, getattr(self, name))
        if len(self.cells) != 2:
            raise InputError("a map has rows and columns of cells", column="cells", found=self.cells)
        for side in self.cells:
            _check_whole("cells", side)
        for name, allowed in (("kind", KINDS), ("prefix", PREFIXES)):
            if getattr(self, name) not in allowed:
                raise InputError("no such choice", column=name, found=getattr(self, name), allowed=allowed)
        if not isinstance(self.blind, bool):
            raise InputError("yes or no is needed", column="blind", found=self.blind)
        if not isinstance(self.dropout, int | float) or not isfinite(self.dropout) or not 0 <= self.dropout < 1:
            raise InputError("a share below 1 is needed", column="dropout", found=self.dropout)
        if self.width % self.heads:
            raise InputError(f"{self.heads} heads do not divide a width of {self.width}", column="heads")
        if any(side % self.fold for side in self.cells):
            problem = f"squares of {self.fold} x {self.fold} cells do not fill a map of {self.cells}"
            raise InputError(problem, column="fold", found=self.fold)

    @property
    def image_tokens(self) -> int:
        """N; 0 for a blind network."""
        return 0 if self.blind else self.cells[0] * self.cells[1] // self.fold**2

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {**asdict(self), "cells": list(self.cells)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VqaConfig:
        """What `to_dict` gave.

        Raises:
            InputError: An unknown or a missing key, or see the class.
        """
        known = [entry.name for entry in fields(cls)]
        for key in values:
            if key not in known:
                raise InputError("no such setting", column=str(key), found=key, allowed=known)
        for key in ("kind", "channels", "cells", "words", "answers"):
            if key not in values:
                raise InputError("a setting is missing", column=key)
        if not isinstance(values["cells"], list | tuple):
            raise InputError("a map has rows and columns of cells", column="cells", found=values["cells"])
        return cls(**values)


def _check_whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise InputError(f"a whole number from 1 to {LARGEST:,} is needed", column=name, found=value)
