"""Looks the words of a source up in a mapping and its ontology.

cell ──► `values` ──► `unknown` / `absent` / `not_visible` ──► empty spellings ──► ontology names and synonyms
             └────────────── as written, then regardless of case, spaces and hyphens ──────────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fashionkit.catalog.mapping import CategorySpec, ValueSpec
from fashionkit.catalog.ontology import Ontology, fold
from fashionkit.catalog.schema import ABSENT, NOT_VISIBLE, PRESENT, UNKNOWN
from fashionkit.tables import nearest, shorten

UNMAPPED = "unmapped"


def value_words(ontology: Ontology, attribute: str) -> dict[str, str]:
    """Folded words of an attribute's values → key, with and without a plural s ("polka dots").

    A plural that is the name of a thing is none: `Shorts` says nothing of a length.
    """
    own, things = ontology.value_words[attribute], ontology.category_words
    plurals = {f"{word}s": key for word, key in own.items() if f"{word}s" not in things}
    return plurals | own


class Refused(ValueError):
    """A source row, or one cell of it, that cannot be taken over; becomes a row of the rejects table."""

    def __init__(self, reason: str, detail: str, column: str | None = None, found: str | None = None) -> None:
        self.reason, self.detail, self.column, self.found = reason, detail, column, found
        super().__init__(detail)


@dataclass(frozen=True)
class Found:
    """What a word means: a state of `schema.STATES` (or UNMAPPED), the value's key where present, the reason if not."""

    state: str
    key: str | None = None
    why: str = ""


class ValueWords:
    """Words of one attribute or label."""

    def __init__(self, spec: ValueSpec, ontology: Ontology, missing: Iterable[str]) -> None:
        self.spec = spec
        self._allowed = ontology.value_words[spec.attribute] if spec.words else {}
        known = value_words(ontology, spec.attribute) if spec.words else {}
        table: dict[str, Found] = {word: Found(PRESENT, key) for word, key in known.items()}
        table |= {fold(word): Found(UNKNOWN) for word in missing}
        exact: dict[str, Found] = {word: Found(UNKNOWN, why=why) for word, why in spec.unknown.items()}
        exact |= {word: Found(ABSENT) for word in spec.absent}
        exact |= {word: Found(NOT_VISIBLE) for word in spec.not_visible}
        exact |= {word: Found(PRESENT if key else UNKNOWN, key) for word, key in spec.values.items()}
        self._exact = exact
        self._table = table | {fold(word): found for word, found in exact.items()}
        self._looked_up: dict[str, Found] = {}

    def look(self, word: str | None) -> Found:
        """What a cell, or one of its parts, means."""
        if word is None:
            return Found(UNKNOWN)
        found = self._looked_up.get(word)
        if found is None:
            found = self._exact.get(word) or self._table.get(fold(word)) or Found(UNMAPPED, why=self._near(word))
            self._looked_up[word] = found
        return found

    def _near(self, word: str) -> str:
        name = self.spec.attribute
        return unknown_word(f"{name} value", word, [*self.spec.values, *self._allowed])


class CategoryWords:
    """Words of the category column."""

    def __init__(self, spec: CategorySpec, ontology: Ontology, missing: Iterable[str]) -> None:
        usable = {key for key, category in ontology.categories.items() if not category.abstract}
        own = {word: key for word, key in ontology.category_words.items() if key in usable} if spec.words else {}
        self._missing = {fold(word) for word in missing}
        self._exact: dict[str, str | None] = dict(spec.values)
        self._table: dict[str, str | None] = {**own, **{fold(word): key for word, key in spec.values.items()}}
        self._skip: Mapping[str, str] = {fold(word): why for word, why in spec.skip.items()}
        self._column = spec.column

    def look(self, word: str | None) -> str:
        """The category's key.

        Raises:
            Refused: Empty, left out by the mapping, or in neither the mapping nor the ontology.
        """
        if word in self._exact:
            key = self._exact[word]
        elif word is None or (fold(word) in self._missing and fold(word) not in self._table):
            raise Refused("missing_category", "the category is empty", self._column, word)
        elif fold(word) in self._skip:
            why = self._skip[fold(word)] or "left out by the mapping"
            raise Refused("skipped", f"{word}: {why}", self._column, word)
        else:
            key = self._table.get(fold(word))
            if key is None and fold(word) not in self._table:
                raise Refused("unmapped_category", unknown_word("category", word, self._table), self._column, word)
        if key is None:
            raise Refused("skipped", f"{word}: mapped to nothing", self._column, word)
        return key


def unknown_word(kind: str, word: str, allowed: Iterable[str]) -> str:
    """The message for a word found nowhere, with the nearest one there is."""
    close = nearest(word, allowed)
    hint = f"; nearest: {close!r}" if close else ""
    return f"no such {kind}: {shorten(word, 60)!r}{hint}"
