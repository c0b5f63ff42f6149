"""Text and tokens: byte-level BPE over the texts of a question set; any text can be read, and nothing is unknown.

    text ─► NFKC, lower case, no space around it ─► a space before the first word ─► words ─► bytes ─► merges ─► ids

BPE as of arXiv 1508.07909, on bytes as in GPT-2, by the package `tokenizers`, whose JSON is what is saved. A word has
the same tokens wherever it stands, for a space is put before the first one too: an answer is then written in the words
of the question. Three ids are ours, and no text of a user ever gives them: no merge makes them, and `<eos>` in a
question is five characters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from fashionkit.tables.errors import InputError

PAD, SEP, EOS = 0, 1, 2
SPECIAL = ("<pad>", "<sep>", "<eos>")  # by id
BYTES = frozenset(pre_tokenizers.ByteLevel.alphabet())  # the 256 letters that stand for bytes
SMALLEST, LARGEST = len(SPECIAL) + len(BYTES), 1 << 16  # tokens
LONGEST_TOKEN = 32  # bytes; else a text of one letter a million times would become a token
LARGEST_TEXT = 16 << 20  # bytes of JSON
THREADS = "TOKENIZERS_PARALLELISM"
NORMALIZER = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])


def normalise(text: str) -> str:
    """What is read of a text: NFKC, lower case, no space around it; `?` for a surrogate, which is no character."""
    return NORMALIZER.normalize_str(_characters(text))


class Tokenizer:
    """Made by `train` or `from_text`; `len` is the number of its tokens, the special ones among them.

    Args:
        merges: Pairs of tokens that become one, the first ones first. vocab: Id of each token.
    """

    def __init__(self, merges: Sequence[tuple[str, str]], vocab: dict[str, int]):
        self._tokens = _empty(models.BPE(vocab=vocab, merges=list(merges)))

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 2048) -> Tokenizer:
        """The tokenizer of some texts; the same for the same texts, in any order.

        Args:
            texts: As often as they should count. size: Most tokens; there are fewer where all words have theirs.

        Raises:
            InputError: A size out of range. TypeError: One text for the many.
        """
        if isinstance(size, bool) or not isinstance(size, int) or not SMALLEST <= size <= LARGEST:
            problem = f"a tokenizer has from {SMALLEST} (three and the bytes) to {LARGEST:,} tokens"
            raise InputError(problem, column="words", found=size)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(BYTES),
            max_token_length=LONGEST_TOKEN,
            show_progress=False,
        )
        trained = _empty(models.BPE())
        with _one_thread():
            trained.train_from_iterator(map(_characters, _several(texts)), trainer)
        return cls.from_text(trained.to_str())

    def encode(self, texts: Sequence[str], length: int | None = None) -> list[list[int]]:
        """Ids of each text, none of them special; the first `length` of them.

        Raises:
            TypeError: One text for the many.
        """
        # One by one, which is as fast, for a batch would start threads that forked workers do not have.
        return [self._tokens.encode(_characters(text)).ids[:length] for text in _several(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without the special ones; bytes that are no character become U+FFFD.

        Raises:
            ValueError: No such id.
        """
        if len(ids) and not 0 <= min(ids) <= max(ids) < len(self):
            raise ValueError(f"ids are 0 to {len(self) - 1}; got {min(ids)} to {max(ids)}")
        return self._tokens.decode(list(ids)).removeprefix(" ")

    def __len__(self) -> int:
        return self._tokens.get_vocab_size()

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer.from_text, (self.to_text(),)

    def to_text(self) -> str:
        """Its JSON, which the package `tokenizers` reads as well (where it takes `<eos>` in a text for the token)."""
        return self._tokens.to_str()

    @classmethod
    def from_text(cls, text: str) -> Tokenizer:
        """What `to_text` gave.

        Raises:
            InputError: It is damaged, too large, or of another kind of tokenizer.
        """
        if len(text.encode("utf-8", "replace")) > LARGEST_TEXT:
            raise InputError(f"no tokenizer has more than {LARGEST_TEXT >> 20} MiB", column="tokenizer")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the tokenizer is damaged: {error}", column="tokenizer") from error
        vocab, merges = _parts(values)
        _check(values, vocab, merges)
        return cls([(left, right) for left, right in merges], vocab)


def _empty(model: models.Model) -> tokenizers.Tokenizer:
    """All that is not learnt, around a model."""
    found = tokenizers.Tokenizer(model)
    found.normalizer = NORMALIZER
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(list(SPECIAL))
    found.encode_special_tokens = True  # as what they are made of: a text holds none
    return found


def _parts(values: Any) -> tuple[dict[str, int], list[list[str]]]:
    """Takes ids and merges out of a tokenizer's JSON."""
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE":
        found = model.get("type") if isinstance(model, dict) else None
        raise InputError("this is no byte-level BPE tokenizer", column="tokenizer", found=found)
    vocab, merges = model.pop("vocab", None), model.pop("merges", None)
    if not isinstance(vocab, dict) or not all(type(number) is int for number in vocab.values()):
        raise InputError("the tokenizer is damaged: each token has a number", column="vocab")
    if not isinstance(merges, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in merges
    ):
        raise InputError("the tokenizer is damaged: merges are pairs of tokens", column="merges")
    return vocab, merges


def _check(frame: dict[str, Any], vocab: dict[str, int], merges: list[list[str]]) -> None:
    """Refuses what `Tokenizer` cannot have written; `frame` is the JSON without ids and merges."""
    if [vocab.get(token) for token in SPECIAL] != list(range(len(SPECIAL))):
        raise InputError(f"the first tokens are {', '.join(SPECIAL)}", column="vocab", found=list(vocab)[:3])
    known = set(BYTES)
    for left, right in merges:
        if left not in known or right not in known:
            raise InputError("a merge of tokens that are not there", column="merges", found=[left, right])
        known.add(left + right)
    if known & set(SPECIAL):
        raise InputError("a special token is made of no others", column="merges", found=sorted(known & set(SPECIAL)))
    if set(vocab) != known | set(SPECIAL) or sorted(vocab.values()) != list(range(len(vocab))):
        raise InputError("the tokenizer is damaged: tokens are not those of its merges, 0, 1, 2, …", column="vocab")
    ours = json.loads(_empty(models.BPE()).to_str())
    del ours["model"]["vocab"], ours["model"]["merges"]
    given, ours = _said(frame), _said(ours)
    for key in sorted(ours.keys() | given.keys()):
        if given.get(key) != ours.get(key):
            raise InputError("a tokenizer of another kind", column=key, found=given.get(key))


def _said(frame: dict[str, Any]) -> dict[str, Any]:
    """Keys of a tokenizer and its model, without those that say nothing: the package adds such from time to time."""
    pairs = [*frame.items(), *((f"model.{key}", value) for key, value in frame["model"].items())]
    return {key: value for key, value in pairs if key != "model" and value is not None and value is not False}


def _characters(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _several(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, str):
        raise TypeError(f"a list of texts is needed; got one text: {texts[:40]!r}")
    return texts


@contextmanager
def _one_thread() -> Iterator[None]:
    """The package without its pool of threads: workers forked later would lack them, and print a warning each."""
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before
