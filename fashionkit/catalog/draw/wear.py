"""What is worn, before anything is drawn: dice that replay a fixed row of uniforms, and the items of one outfit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fashionkit.catalog.draw.vocab import HEM

T = TypeVar("T")
Value = str | tuple[str, ...]


class Dice:
    """Hands out uniform numbers in [0, 1) one after the other."""

    def __init__(self, uniforms: Sequence[float]) -> None:
        self._uniforms = uniforms
        self._next = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Returns a number between `low` and `high`."""
        u = self._uniforms[self._next]
        self._next += 1
        return low + (high - low) * u

    def chance(self, probability: float) -> bool:
        """Returns True with `probability`."""
        return self.uniform() < probability

    def pick(self, values: Sequence[T]) -> T:
        """Returns one of `values`, all equally likely."""
        return values[int(self.uniform() * len(values))]

    def sign(self) -> int:
        """Returns -1 or 1."""
        return 1 if self.uniform() < 0.5 else -1


@dataclass
class Wear:
    """One item that is worn, seen or not: its true values and, once settled, which of them are hidden.

    Attributes:
        values: attribute -> value; details are a tuple, "" is an absent closure.
        hidden: attributes that cannot be seen.
        listed: whether enough of it shows to be listed at all.
        fraction: coarse visible share, used where no picture is drawn.
        tucked: a top worn inside the bottom; trousers worn inside boots.
    """

    slot: str
    category: str
    values: dict[str, Value] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    listed: bool = True
    fraction: float = 1.0
    tucked: bool = False

    def get(self, name: str) -> str:
        """Returns a single-valued attribute, "" where the category does not have it."""
        value = self.values.get(name, "")
        assert isinstance(value, str)
        return value

    @property
    def details(self) -> tuple[str, ...]:
        """The details it has."""
        value = self.values.get("details", ())
        assert isinstance(value, tuple)
        return value

    @property
    def hem(self) -> float:
        """Height of the hem in figure units."""
        return HEM[self.get("garment_length")]

    @property
    def closed(self) -> bool:
        """For outerwear: worn closed."""
        return self.get("closure") != "open_front"


Plan = dict[str, Wear]
