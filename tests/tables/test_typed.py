"""YAML to dataclasses, strictly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from fashionkit.tables import InputError
from fashionkit.tables.typed import build
from fashionkit.tables.yamls import parse_yaml


@dataclass(frozen=True)
class Part:
    name: str
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Whole:
    parts: list[Part]
    share: float = 0.5
    most: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    on: bool = False
    switches: dict[str, Any] = field(default_factory=dict)


def read(text: str) -> Whole:
    data, lines = parse_yaml(text, "x.yaml")
    found: Whole = build(Whole, data, Path("x.yaml"), lines)
    return found


def test_everything_that_can_be_said() -> None:
    text = "parts:\n- {name: one}\n- {name: two, kind: b}\nshare: 1\nmost: 3\nweights: {x: 2}\non: true\n"
    text += "switches: {a: 1}\n"
    assert read(text) == Whole([Part("one"), Part("two", "b")], 1.0, 3, {"x": 2.0}, True, {"a": 1})
    assert isinstance(read(text).share, float)
    assert read("parts: []\nmost: null\n") == Whole([])


@pytest.mark.parametrize(
    ("text", "problem", "row", "column"),
    [
        ("parts: []\nshares: 1\n", "unknown key", 2, "shares"),
        ("share: 1\n", "`parts` is missing", 1, None),
        ("parts:\n- {kind: a}\n", "`name` is missing", 2, "parts.0"),
        ("parts:\n- {name: x}\n- {name: x, kind: c}\n", "no such choice", 3, "parts.1.kind"),
        ("parts: {}\n", "list", 1, "parts"),
        ("parts: []\nshare: true\n", "float is needed", 2, "share"),
        ("parts: []\nmost: 1.5\n", "int is needed", 2, "most"),
        ("parts: []\non: 1\n", "bool is needed", 2, "on"),
        ("parts: []\nweights: {1: 2}\n", "dict", 2, "weights"),
        ("- 1\n", "a mapping is needed", 1, ""),
    ],
)
def test_errors_name_the_place(text: str, problem: str, row: int, column: str | None) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        read(text)
    assert f"row {row}" in str(caught.value) or f"line {row}" in str(caught.value)
    assert not column or column in str(caught.value)
