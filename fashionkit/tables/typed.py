"""Fills a dataclass from what a YAML says, strictly: no unknown key, no other type, each error with its line.

YAML ──► `load_yaml`: data, lines ──► `build(Spec, data, path, lines)` ──► Spec
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fashionkit.tables.errors import InputError
from fashionkit.tables.yamls import Lines

Key = str | int


def build(cls: Any, data: Any, path: Path, lines: Lines, at: Sequence[Key] = ()) -> Any:
    """The dataclass `cls` of a mapping. Its types may be str, int, float, bool, Literal, other dataclasses, lists and
    mappings of text to these, and any of them `| None`.

    Raises:
        InputError: An unknown or missing key, or a value of another type, with its line.
    """
    if not isinstance(data, dict):
        raise InputError("a mapping is needed here", file=path, row=lines.of(*at), column=_dotted(at), found=data)
    kinds, entries = get_type_hints(cls), fields(cls)
    names = [entry.name for entry in entries]
    for key in data:
        if key not in names:
            here = (*at, key)
            raise InputError(
                "unknown key", file=path, row=lines.of(*here), column=_dotted(here), found=key, allowed=names
            )
    for entry in entries:
        if entry.name not in data and entry.default is MISSING and entry.default_factory is MISSING:
            raise InputError(f"`{entry.name}` is missing", file=path, row=lines.of(*at), column=_dotted(at) or None)
    return cls(**{key: _value(kinds[key], value, path, lines, (*at, key)) for key, value in data.items()})


def _value(kind: Any, value: Any, path: Path, lines: Lines, at: tuple[Key, ...]) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in inner:
            return None
        (kind,) = (one for one in inner if one is not type(None))
        return _value(kind, value, path, lines, at)
    if is_dataclass(kind):
        return build(kind, value, path, lines, at)
    if origin is list and isinstance(value, list):
        return [_value(inner[0], one, path, lines, (*at, number)) for number, one in enumerate(value)]
    if origin is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _value(inner[1], one, path, lines, (*at, key)) for key, one in value.items()}
    if origin is Literal and value in inner:
        return value
    if kind is Any or (isinstance(kind, type) and type(value) is kind):
        return value
    if kind is float and type(value) is int:
        return float(value)
    allowed = inner if origin is Literal else None
    problem = "no such choice" if allowed else f"{getattr(kind, '__name__', kind)} is needed here"
    if origin in (list, dict):
        problem = f"{kind} is needed here"
    raise InputError(problem, file=path, row=lines.of(*at), column=_dotted(at), found=value, allowed=allowed)


def _dotted(at: Sequence[Key]) -> str:
    return ".".join(map(str, at))
