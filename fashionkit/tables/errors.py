"""The error a user sees: it names the place, what was found there, what is allowed and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Bad input from outside: the command line prints its text and exits with 2, without a traceback.

    Args:
        problem: One sentence that says what is wrong.
        file: The file or folder it is in.
        row: Row of a table or line of a text file, counted from 1.
        column: Column or key.
        found: The offending value.
        allowed: Values that would be right; the nearest to `found` is named first.
        hint: What to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        found: object = None,
        allowed: Iterable[str] | None = None,
        hint: str | None = None,
    ) -> None:
        self.problem, self.file, self.row, self.column = problem, file, row, column
        self.found, self.hint = found, hint
        self.allowed = None if allowed is None else sorted(map(str, allowed))
        super().__init__(self._text())

    def _text(self) -> str:
        place = [str(self.file)] if self.file is not None else []
        if self.row is not None:
            place.append(f"row {self.row}")
        if self.column is not None:
            place.append(f"column {self.column!r}")
        lines = [(", ".join(place) + ": " if place else "") + self.problem]
        if self.found is not None:
            lines.append(f"  found: {shorten(self.found)}")
        if self.allowed is not None:
            close = nearest(str(self.found), self.allowed)
            if close:
                lines.append(f"  nearest allowed: {close!r}")
            lines.append(f"  allowed: {shorten(', '.join(self.allowed), 300)}")
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word most like `word`, or None where nothing is alike."""
    by_lower = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def shorten(value: object, limit: int = 120) -> str:
    """`value` as one printable line of at most `limit` characters; control characters are shown as escapes."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text[: 4 * limit + 1].split())
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
