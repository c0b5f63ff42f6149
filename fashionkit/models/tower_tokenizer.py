"""The tokenizer of a language tower, as `fashionkit.models.tokenizer.Tokenizer` is used.

    tokenizer.json ─► package `tokenizers` ─► ids 0, 1, 2, … ─► + 3, for PAD, SEP and EOS stand in front

Texts are read as the tower knows them, in upper and lower case; only space around them goes. No text gives a special
token: `<|endoftext|>` in a question is letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import tokenizers

from fashionkit.tables import InputError
from fashionkit.vision.region_base import said_by

SHIFT: Final = 3  # PAD, SEP, EOS
FILE: Final = "tokenizer.json"
LARGEST: Final = 64 << 20  # bytes


class TowerTokenizer:
    """Made by `read` or `from_text`; `len` is one more than its largest id.

    Args:
        tokens: As the package has it. text: Its JSON.
    """

    def __init__(self, tokens: tokenizers.Tokenizer, text: str):
        tokens.no_padding()
        tokens.no_truncation()
        tokens.encode_special_tokens = True
        self._tokens, self._text = tokens, text
        self._rows = max(tokens.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def read(cls, folder: Path) -> TowerTokenizer:
        """That of a tower's folder.

        Raises:
            InputError: There is none, or see `from_text`.
        """
        file = folder / FILE
        if not file.is_file():
            raise InputError(f"the folder of a language tower lacks {FILE}", file=folder)
        if file.stat().st_size > LARGEST:
            raise InputError(f"no tokenizer has more than {LARGEST >> 20} MiB", file=file)
        try:
            return cls.from_text(file.read_text(encoding="utf-8"))
        except (InputError, UnicodeDecodeError) as error:
            raise InputError(f"the tokenizer cannot be read: {error}", file=file) from error

    @classmethod
    def from_text(cls, text: str) -> TowerTokenizer:
        """What `to_text` gave.

        Raises:
            InputError: It is damaged, or has no words.
        """
        try:
            return cls(tokenizers.Tokenizer.from_str(text), text)
        except Exception as error:  # the package raises its own, and ValueError where there are no words
            raise InputError("the tokenizer is damaged", column="tokenizer", found=said_by(error)) from error

    def encode(self, texts: Sequence[str], length: int | None = None) -> list[list[int]]:
        """Ids of each text, none of them special; the first `length` of them.

        Raises:
            TypeError: One text for the many.
        """
        if isinstance(texts, str):
            raise TypeError(f"a list of texts is needed; got one text: {texts[:40]!r}")
        return [[number + SHIFT for number in self._ids(text)[:length]] for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without the special ones.

        Raises:
            ValueError: No such id.
        """
        if len(ids) and not 0 <= min(ids) <= max(ids) < len(self):
            raise ValueError(f"ids are 0 to {len(self) - 1}; got {min(ids)} to {max(ids)}")
        return self._tokens.decode([number - SHIFT for number in ids if number >= SHIFT]).strip()

    def __len__(self) -> int:
        return self._rows + SHIFT

    def __reduce__(self) -> tuple[Any, ...]:
        return TowerTokenizer.from_text, (self.to_text(),)

    def to_text(self) -> str:
        """The tower's tokenizer.json."""
        return self._text

    def _ids(self, text: str) -> list[int]:
        """One by one, for a batch would start threads that forked workers do not have."""
        clean = text.encode("utf-8", "replace").decode("utf-8").strip()  # a surrogate is no character
        return self._tokens.encode(clean, add_special_tokens=False).ids if clean else []
