"""The little language of question programs: parsed, checked, never evaluated by Python.

    program:  verify(unique(filter(scene, cat)), v)
    tree:     Call("verify", (Call("unique", (Call("filter", (Call("scene"), Slot("cat"))),)), Slot("v")))

Every function has a signature (what it takes, what it gives); a program that does not fit is refused at load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

TOKEN = re.compile(r"\s*([a-z][a-z0-9_]*|[(),])")

# name → (types of the arguments, type of the result). "slot:x" takes a slot of that kind; "slot" any.
SIGNATURES: dict[str, tuple[tuple[str, ...], str]] = {
    "scene": ((), "items"),
    "filter": (("items", "slot:category|value|region"), "items"),
    "unique": (("items",), "item"),
    "exist": (("items",), "bool"),
    "count": (("items",), "answer"),
    "verify": (("item", "slot:category|value"), "bool"),
    "label_is": (("slot:value",), "bool"),
    "query": (("item", "slot:attribute"), "answer"),
    "list": (("item", "slot:attribute"), "answer"),
    "category": (("item",), "answer"),
    "region": (("item",), "answer"),
    "label": (("slot:attribute",), "answer"),
    "same": (("item", "item", "slot:attribute"), "bool"),
    "not": (("bool",), "bool"),
    "and": (("bool", "bool"), "bool"),
    "or": (("bool", "bool"), "bool"),
    "which": (("bool", "slot", "bool", "slot"), "answer"),
}
FUNCTIONS = frozenset(SIGNATURES)


class ProgramError(ValueError):
    """A program that cannot be parsed or does not fit together."""


@dataclass(frozen=True)
class Slot:
    """A use of one of the template's slots."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function applied to arguments."""

    function: str
    arguments: tuple[Call | Slot, ...] = ()

    @cached_property
    def _hash(self) -> int:
        return hash((self.function, self.arguments))

    def __hash__(self) -> int:
        """Worked out once, for it is asked often and a call may be deep."""
        return self._hash

    def calls(self) -> list[Call]:
        """This call and all below it, parents first."""
        below = [c for a in self.arguments if isinstance(a, Call) for c in a.calls()]
        return [self, *below]

    def slots(self) -> set[str]:
        """Names of all slots used."""
        return {a.name for c in self.calls() for a in c.arguments if isinstance(a, Slot)}

    def functions(self) -> set[str]:
        """Names of all functions used."""
        return {c.function for c in self.calls()}

    def text(self) -> str:
        """The program as it is written."""
        if not self.arguments:
            return self.function
        inner = ", ".join(a.text() if isinstance(a, Call) else a.name for a in self.arguments)
        return f"{self.function}({inner})"


def parse(text: str, slots: dict[str, str]) -> Call:
    """Parses and type-checks a program.

    Args:
        text: The program.
        slots: Slot name → kind (`category`, `value`, `region`, `attribute`).

    Raises:
        ProgramError: With the position and what was expected there.
    """
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = TOKEN.match(text, position)
        if match is None:
            raise ProgramError(f"unexpected character {text[position]!r} at position {position + 1} of {text!r}")
        tokens.append(match[1])
        position = match.end()
    call, rest = _call(tokens, 0, slots)
    if rest != len(tokens):
        raise ProgramError(f"{tokens[rest]!r} follows the end of the program {text!r}")
    result = SIGNATURES[call.function][1]
    if result not in ("bool", "answer"):
        raise ProgramError(f"the program gives {result}, and an answer is needed: {text!r}")
    return call


def _call(tokens: list[str], at: int, slots: dict[str, str]) -> tuple[Call, int]:
    if at >= len(tokens):
        raise ProgramError("the program ends too early")
    name = tokens[at]
    if name not in SIGNATURES:
        raise ProgramError(f"unknown function {name!r}; known: {', '.join(sorted(SIGNATURES))}")
    types = SIGNATURES[name][0]
    at += 1
    arguments: list[Call | Slot] = []
    if types:
        for number, wanted in enumerate(types):
            if at >= len(tokens) or tokens[at] != ("(" if number == 0 else ","):
                raise ProgramError(f"{name} takes {len(types)} argument{'s' * (len(types) > 1)}: {', '.join(types)}")
            argument, at = _argument(tokens, at + 1, wanted, name, slots)
            arguments.append(argument)
        if at >= len(tokens) or tokens[at] != ")":
            raise ProgramError(f"{name} is not closed after {len(types)} argument{'s' * (len(types) > 1)}")
        at += 1
    return Call(name, tuple(arguments)), at


def _argument(tokens: list[str], at: int, wanted: str, parent: str, slots: dict[str, str]) -> tuple[Call | Slot, int]:
    if wanted.startswith("slot"):
        if at >= len(tokens) or tokens[at] not in slots:
            found = tokens[at] if at < len(tokens) else "nothing"
            raise ProgramError(f"{parent} needs a slot here, found {found!r}; slots: {', '.join(slots)}")
        kinds = wanted.partition(":")[2]
        if kinds and slots[tokens[at]] not in kinds.split("|"):
            raise ProgramError(f"{parent} takes a slot that is {kinds}; {tokens[at]!r} is {slots[tokens[at]]}")
        return Slot(tokens[at]), at + 1
    call, at = _call(tokens, at, slots)
    given = SIGNATURES[call.function][1]
    if given != wanted:
        raise ProgramError(f"{parent} needs {wanted} here, and {call.function} gives {given}")
    return call, at
