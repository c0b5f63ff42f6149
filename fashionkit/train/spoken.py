"""The words of a question set: the tokenizer that reads its questions, and its answers as tokens and as classes.

    train split ─► distinct texts of questions and answers ─► `learn_tokenizer`
    vocabulary ids ─► `Answers` ─► tokens of each, class of each among those of the train split
    texts ─► `Questions` ─► tokens, kept as they were read before

All runs on one set read it alike: the questions that the tokenizer learns from do not depend on a run's seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fashionkit.datagen.dataset import VQADataset
from fashionkit.datagen.vocab import NO, NOT_PRESENT, YES, Vocab
from fashionkit.models.tokenizer import EOS, Tokenizer
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
SAMPLES = 200_000  # questions that a tokenizer is learnt from
_KEPT = 1 << 19  # questions whose tokens a process keeps: some 100 MB


def learn_tokenizer(train: VQADataset, words: int) -> Tokenizer:
    """A tokenizer of at most `words` tokens for the questions and answers of a split; the same for the same split."""
    rows = np.random.default_rng(0).permutation(len(train))[:SAMPLES]
    records = train.records[np.sort(rows)]
    texts = set(train.reader.columns(records)["question"])
    return Tokenizer.train([*sorted(texts), *canonical(train)], words)


def read_tokenizer(file: str | Path) -> Tokenizer:
    """A tokenizer's JSON, as `Tokenizer.to_text` gives it.

    Raises:
        InputError: No such file, or a damaged one.
    """
    try:
        return Tokenizer.from_text(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the tokenizer cannot be read: {error}", file=file, column="tokenizer") from error


def canonical(train: VQADataset) -> dict[str, int]:
    """Answers of a split, with yes, no and not present: text → vocabulary id, ascending."""
    vocab = train.reader.store.vocab
    ids = np.union1d(np.unique(train.records["answer"]), [YES, NO, NOT_PRESENT])
    return {vocab.text[number]: number for number in reversed(ids.tolist())}


class Answers:
    """The answers of a question set.

    Args:
        vocab: Of the set. known: Vocabulary ids of the answers that are known. tokenizer: It reads them.

    Attributes:
        texts: K of them, no two of the same tokens, by vocabulary id. class_of: (vocabulary,) int64, -1 for others.
    """

    def __init__(self, vocab: Vocab, known: Sequence[int], tokenizer: Tokenizer):
        by_tokens: dict[tuple[int, ...], int] = {}
        by_text = dict(zip(vocab.text, tokenizer.encode(vocab.text), strict=True))
        self.texts: list[str] = []
        for number in sorted(known):
            tokens = tuple(by_text[vocab.text[number]])
            if tokens not in by_tokens:
                by_tokens[tokens] = len(self.texts)
                self.texts.append(vocab.text[number])
        self.class_of = np.array([by_tokens.get(tuple(by_text[text]), -1) for text in vocab.text], np.int64)
        self._ended = [[*by_text[text], EOS] for text in vocab.text]

    def tokens(self, ids: Array) -> Tensor:
        """(n, A) int64 tokens of n vocabulary ids, EOS and then PAD behind each."""
        return padded([self._ended[number] for number in ids.tolist()])


class Questions:
    """Reads questions.

    Args:
        tokenizer: It.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def read(self, texts: Sequence[str], changed: dict[int, str]) -> list[list[int]]:
        """Ids of n texts; `changed`: what is read instead at some positions, which is not worth keeping."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > _KEPT:
            self._known, new = {}, list(dict.fromkeys(texts))
        self._known |= zip(new, self.tokenizer.encode(new), strict=True)
        found = [self._known[text] for text in texts]
        for row, ids in zip(changed, self.tokenizer.encode(list(changed.values())), strict=True):
            found[row] = ids
        return found


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(n, T) int64 of n rows of ids, with PAD behind the shorter ones; T is 1 at least."""
    length = np.fromiter(map(len, rows), np.int64, len(rows))
    found = np.zeros((len(rows), max(1, int(length.max(initial=0)))), np.int64)
    found[np.arange(found.shape[1]) < length[:, None]] = np.fromiter(chain.from_iterable(rows), np.int64)
    return torch.from_numpy(found)
