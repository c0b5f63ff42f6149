"""What a question of a question set asks for: its kind, the attributes that decide it, and the answers that it allows.

    template's program ─► kind, where its attributes stand ─┐
    ids in the slots of a sample ───────────────────────────┴─► `Asked`: kind, attributes, {text of an answer: its id}

Texts are compared by `plain_text`, so that "T-Shirt" and "t-shirt" are one answer. Which answers a question allows is
what validity of GQA (arXiv 1902.09506) is about: yes or no, a value of the attribute that is asked for, one of the two
that are offered, and `not present` where the item that is asked about may be missing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fashionkit.datagen.expression import SIGNATURES, Call, Slot
from fashionkit.datagen.packs import Template
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, NOT_PRESENT, YES

BINARY = "yes/no"
KINDS = {"query": "value", "label": "value", "list": "list", "category": "category", "region": "region"}
KINDS |= {"count": "number", "which": "choice"}  # by the outermost function; all others say yes or no
MAY_MISS = ("query", "category", "region")  # functions that answer `not present` where there is no such item
NAMED = {"category": "category", "region": "region", "count": "number"}  # what stands for an attribute where none does


@dataclass(frozen=True)
class Asked:
    """What one question asks for.

    Attributes:
        kind: `yes/no`, or one of KINDS. attribute: Keys of the attributes that decide it, with commas; `category`,
            `region` or `number` where it is about these.
        allowed: `plain_text` of each answer that it allows → its vocabulary id.
    """

    kind: str
    attribute: str
    allowed: Mapping[str, int]


def plain_text(text: str) -> str:
    """A text as it is compared: one form of Unicode, no capitals, single spaces, no full stop at the end."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!")


class Asking:
    """Says what the questions of a set ask for.

    Args:
        store: The question set.
    """

    def __init__(self, store: VQAStore):
        self.vocab = store.vocab
        self._templates = [_Plan(t, names) for t, names in zip(store.pack.templates, store.slots, strict=True)]
        self._allowed: dict[tuple[str, str], dict[str, int]] = {}
        self._any: dict[str, int] = {}
        for number, (kind, text) in enumerate(zip(self.vocab.kind, self.vocab.text, strict=True)):
            if kind not in ("none", "look", "attribute"):
                self._any.setdefault(plain_text(text), number)

    def of(self, template: int, slots: Sequence[int]) -> Asked:
        """What a question asks for.

        Args:
            template: Position in the pack. slots: Vocabulary ids of its slots, as a sample holds them.
        """
        plan = self._templates[template]
        named = {self._attribute(slots[place]) for place in plan.places} | plan.words
        attribute = ",".join(sorted(named))
        if plan.kind == "choice":
            options = {plain_text(self.vocab.text[slots[place]]): int(slots[place]) for place in plan.options}
            return Asked(plan.kind, attribute, options)
        return Asked(plan.kind, attribute, self._answers(plan, attribute))

    def id_of(self, text: str, asked: Asked | None) -> int | None:
        """Vocabulary id of an answer: one that the question allows, else any of this text; None: no such answer."""
        plain = plain_text(text)
        return asked.allowed[plain] if asked is not None and plain in asked.allowed else self._any.get(plain)

    def _attribute(self, number: int) -> str:
        kind, key = self.vocab.kind[number], self.vocab.key[number]
        return key.split("/", 1)[0] if kind in ("value", "set", "attribute") else kind

    def _answers(self, plan: _Plan, attribute: str) -> dict[str, int]:
        key = (f"{plan.kind} {plan.may_miss}", attribute if plan.kind in ("value", "list") else "")
        if key not in self._allowed:
            ids = [NOT_PRESENT] * plan.may_miss + [n for n in range(len(self.vocab)) if self._fits(plan, attribute, n)]
            # Of equal texts the last stays: a set of one value, which is the answer where several can hold.
            self._allowed[key] = {plain_text(self.vocab.text[number]): number for number in ids}
        return self._allowed[key]

    def _fits(self, plan: _Plan, attribute: str, number: int) -> bool:
        """Whether a word of the vocabulary is an answer of this kind."""
        kind = self.vocab.kind[number]
        if plan.kind == BINARY:
            return number in (YES, NO)
        if plan.kind == "number":
            return kind == "int"
        if plan.kind in ("value", "list"):
            return kind in ("value", "set") and self._attribute(number) == attribute
        return kind == plan.kind


class _Plan:
    """What a template asks for, before its slots are filled.

    Attributes:
        kind: Of its questions. places: Of the slots whose attributes decide it. words: What stands for attributes.
        options: Places of the two that a choice offers. may_miss: Whether it may be answered `not present`.
    """

    def __init__(self, t: Template, names: Sequence[str]):
        function = t.program.function
        self.kind = BINARY if SIGNATURES[function][1] == "bool" else KINDS[function]
        self.may_miss = function in MAY_MISS
        given = _decided_by(t.program, {s.name: s.kind for s in t.slots})
        implied = {s.of: s.name for s in t.slots if s.kind == "value"}
        self.places = sorted(names.index(n if n in names else implied[n]) for n in given if n not in NAMED.values())
        self.words = {name for name in given if name in NAMED.values()}
        slots = [a.name for a in t.program.arguments if isinstance(a, Slot)]
        self.options = [names.index(name) for name in slots] if self.kind == "choice" else []


def _decided_by(call: Call, kinds: Mapping[str, str]) -> set[str]:
    """Names of the slots whose attribute a program looks at, or words of NAMED."""
    function = call.function
    if function in NAMED:
        return {NAMED[function]}
    if function in ("query", "list", "label", "same", "verify", "label_is"):
        return {a.name for a in call.arguments if isinstance(a, Slot)}
    if function == "exist":  # "is there a red skirt?" is about red, "is there a skirt?" about categories
        filters = [a.name for c in call.calls() for a in c.arguments if isinstance(a, Slot)]
        return {name for name in filters if kinds[name] == "value"} or {"category"}
    return {name for a in call.arguments if isinstance(a, Call) for name in _decided_by(a, kinds)}
