"""Questions as people type them: with letters swapped, dropped or doubled, words run together, no question mark.

    (seed, epoch, qid) ─► is it slipped? how? ─► Is the blazer striped? ─► Is the balzer striped

Templates never slip, and who learns from them alone reads no typing error. What is changed is the question's spelling,
never what it asks: words that turn a question round (`not`, `or`) and first letters stay. All of it is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.counter import again, mix, stream
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
LONG_WORD = re.compile(r"[^\W\d_]{4,}")  # a letter more or less leaves these readable
SMALL = frozenset(
    ("a", "an", "the", "of", "in", "this", "that", "is", "are", "do", "does", "it", "there", "can", "you")
)


class Slips:
    """Which questions are slipped, and into what.

    Args:
        share: Of questions, 0 to 1. seed: Of all choices.

    Raises:
        InputError: No such share.
    """

    def __init__(self, share: float, seed: int):
        if not 0 <= share <= 1:
            raise InputError("a share lies within 0 to 1", column="noise", found=share)
        self.share, self.seed = share, seed

    def __call__(self, epoch: int, qid: Array, texts: Sequence[str]) -> dict[int, str]:
        """The questions that are slipped in an epoch: position → what is read instead.

        Args:
            qid: (n,) of the questions. texts: n.
        """
        bits = mix(stream(self.seed, f"slips/{epoch}"), qid)
        at = np.flatnonzero((bits >> np.uint64(11)) * 2.0**-53 < self.share)
        how = np.stack([again(bits[at], number) for number in (1, 2)], 1).tolist()
        return {row: slipped(texts[row], *numbers) for row, numbers in zip(at.tolist(), how, strict=True)}


def slipped(text: str, kind: int, place: int) -> str:
    """The text with one slip, and one time in two without its question mark; as it is where it offers no place.

    Args:
        kind, place: 64 random bits each, for which slip, and where.
    """
    first, found = kind % len(KINDS), text
    for number in range(len(KINDS)):  # not every text has a place for every slip
        found = KINDS[(first + number) % len(KINDS)](text, place)
        if found != text:
            break
    found = _no_mark(found, place) if (kind >> 32) % 2 else found
    return found if found.strip() else text


def _no_mark(text: str, place: int) -> str:
    return text.rstrip("?") if text.endswith("?") else text


def _swapped(text: str, place: int) -> str:
    at = _letter(text, place, last=2)
    return text if at is None else text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _dropped(text: str, place: int) -> str:
    at = _letter(text, place)
    return text if at is None else text[:at] + text[at + 1 :]


def _doubled(text: str, place: int) -> str:
    at = _letter(text, place)
    return text if at is None else text[:at] + text[at] + text[at:]


def _joined(text: str, place: int) -> str:
    spaces = [at for at, letter in enumerate(text) if letter == " "]
    if not spaces:
        return text
    at = spaces[place % len(spaces)]
    return text[:at] + text[at + 1 :]


def _short(text: str, place: int) -> str:
    """Without some of the small words, one at least."""
    words = text.split(" ")
    small = [at for at, word in enumerate(words) if word.lower() in SMALL]
    if not small or len(small) == len(words):
        return text
    gone = {at for number, at in enumerate(small) if place >> (8 + number) & 1} or {small[place % len(small)]}
    return " ".join(word for at, word in enumerate(words) if at not in gone)


def _letter(text: str, place: int, last: int = 1) -> int | None:
    """Position of a letter in a long word, neither its first nor one of those behind its `last`-to-last."""
    words = list(LONG_WORD.finditer(text))
    if not words:
        return None
    word = words[place % len(words)]
    return word.start() + 1 + (place >> 16) % (word.end() - word.start() - last)


KINDS: tuple[Callable[[str, int], str], ...] = (_no_mark, _swapped, _dropped, _doubled, _joined, _short)
