"""Reads the YAML files that people write, strictly, and knows the line of everything in them.

    file ──► UTF-8 text ──► parser events ──► plain dicts, lists, strings, numbers
                                         └──► Lines: key path ──► line number, for `InputError(row=…)`

Where plain YAML surprises people, this reads what they meant: `no`, `off`, `on`, `yes` and `y` stay words (only `true`
and `false` are booleans), `1:30`, `2024-01-01` and `007` stay text, `1e-4` is a number. Anchors, tags, a key written
twice, several documents in a file, deep nesting and large files are refused: none is needed to state a recipe, and
each either hides a mistake or lets a small file fill the memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from fashionkit.tables.errors import InputError, shorten

MAX_BYTES = 5_000_000
MAX_DEPTH = 32
MAX_DIGITS = 18  # what an int64 holds

Key = str | int

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser where PyYAML was built with it
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,2}(?:_[0-9]{3})+|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", re.ASCII)


@dataclass(frozen=True)
class Lines:
    """Line numbers (from 1) of a YAML file by key path; a list's entries are counted from 0."""

    at: dict[tuple[Key, ...], int] = field(default_factory=dict)

    def of(self, *path: Key) -> int | None:
        """The line of what lies at `path`, or of the nearest parent that the file has."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.at:
                return self.at[path[:length]]
        return None


def load_yaml(path: Path) -> tuple[Any, Lines]:
    """Reads one YAML file into plain Python data.

    Args:
        path: The file.

    Returns:
        The data (dict, list, str, int, float, bool, None; keys are str or int), and the line of each key path.

    Raises:
        InputError: No such file, too large, not UTF-8, empty, not YAML, or YAML that this reader refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", file=path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"the file has {size:,} bytes; at most {MAX_BYTES:,} are read as YAML", file=path)
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw.count(b"\n", 0, error.start) + 1
        hint = "save the file as UTF-8"
        raise InputError("the file is not UTF-8 text", file=path, row=row, found=raw[error.start], hint=hint) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, source: str | Path) -> tuple[Any, Lines]:
    """As `load_yaml`, from a text; `source` is what errors call it."""
    return _Builder(text, source).document()


def _row(event: Event) -> int:
    assert event.start_mark is not None, "the parser marks every event"
    return event.start_mark.line + 1


class _Builder:
    """Turns the parser's events into data. `where` is the key path of what is being built."""

    def __init__(self, text: str, source: str | Path) -> None:
        self.source = source
        self.lines: dict[tuple[Key, ...], int] = {}
        self.events = self._events(text)

    def _events(self, text: str) -> Iterator[Event]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            row = mark.line + 1 if mark is not None else None
            problem = str(error.problem or error.context)
            if "nesting depth" in problem:  # PyYAML 6.0.4 has a limit of its own, and reads ahead of the events
                raise InputError(f"nested deeper than {MAX_DEPTH} levels", file=self.source, row=row) from error
            hint = "a tab in the indentation, a missing quote, or `: ` inside a word are the usual causes"
            message = f"this is not YAML: {problem}"
            raise InputError(message, file=self.source, row=row, hint=hint) from error
        except yaml.reader.ReaderError as error:
            row = text.count("\n", 0, error.position) + 1
            problem = "a character that YAML does not allow"
            raise InputError(problem, file=self.source, row=row, found=f"code {error.character!r}") from error

    def document(self) -> tuple[Any, Lines]:
        """The one document of the text."""
        next(self.events)  # the stream's start
        if not isinstance(next(self.events), DocumentStartEvent):
            raise InputError("the file is empty", file=self.source)
        first = next(self.events)
        if isinstance(first, ScalarEvent) and first.value == "" and first.implicit[0]:
            raise InputError("the file is empty", file=self.source)
        data = self._node(first, ())
        next(self.events)  # the document's end
        after = next(self.events)
        if isinstance(after, DocumentStartEvent):
            self._refuse("a second document starts here (`---`); one file holds one", after)
        return data, Lines(self.lines)

    def _node(self, event: Event, where: tuple[Key, ...]) -> Any:
        self.lines.setdefault(where, _row(event))
        self._check(event, where)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        return self._mapping(where) if isinstance(event, MappingStartEvent) else self._list(where)

    def _check(self, event: Event, where: tuple[Key, ...]) -> None:
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            self._refuse("anchors and aliases (`&name`, `*name`) are not read", event, "quote a text that starts so")
        if getattr(event, "tag", None) is not None:
            self._refuse("tags (`!name`) are not read", event, "quote a text that starts with `!`")
        if len(where) > MAX_DEPTH:
            self._refuse(f"nested deeper than {MAX_DEPTH} levels", event)

    def _mapping(self, where: tuple[Key, ...]) -> dict[Key, Any]:
        data: dict[Key, Any] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self._key(event, where)
            here = (*where, key)
            if key in data:
                self._refuse(f"key {key!r} stands here and in line {self.lines[here]}", event, "keep one of them")
            self.lines[here] = _row(event)
            data[key] = self._node(next(self.events), here)
        return data

    def _key(self, event: Event, where: tuple[Key, ...]) -> Key:
        self._check(event, where)
        key = self._scalar(event) if isinstance(event, ScalarEvent) else None
        if isinstance(key, bool) or not isinstance(key, str | int):
            found = event.value if isinstance(event, ScalarEvent) else "a list or mapping"
            self._refuse(
                "a key must be a word or a whole number", event, f"found {found!r}; quote it to make it a word"
            )
        return key

    def _list(self, where: tuple[Key, ...]) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := next(self.events), SequenceEndEvent):
            data.append(self._node(event, (*where, len(data))))
        return data

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # quoted or a block: text, whatever it looks like
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                self._refuse("half of a surrogate pair, which is no character", event)
            return text
        if text in _WORDS:
            return _WORDS[text]
        is_int = _INT.fullmatch(text) is not None
        if not is_int and _FLOAT.fullmatch(text) is None:
            return text
        number = int(text) if is_int and len(text) <= MAX_DIGITS + 6 else float(text)
        if (is_int and abs(number) >= 10**MAX_DIGITS) or abs(number) == float("inf"):
            self._refuse(f"the number is too large: {shorten(text, 40)}", event, "quote it if it is an id")
        return number

    def _refuse(self, problem: str, event: Event, hint: str | None = None) -> NoReturn:
        raise InputError(problem, file=self.source, row=_row(event), hint=hint)
