"""Turns the cells of one item into attributes, and those of one picture into labels (see `words` for single words).

    cell ──► parts ──► words ──► present / absent / not visible / unknown ──► does it apply, is it one value ──► draft

Whatever costs the cell its meaning (a word found nowhere, two values of an exclusive attribute, an attribute that the
category cannot have) leaves the attribute unknown and is noted in the rejects; the item itself stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from fashionkit.catalog.drafts import AttributeDraft, Shard
from fashionkit.catalog.mapping import Mapping, ValueSpec
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import ABSENT, NOT_VISIBLE, PRESENT, UNKNOWN
from fashionkit.catalog.words import UNMAPPED, Refused, ValueWords

Cell = str | list[str] | None


class ValueReader:
    """Reads the cells of one attribute or label."""

    def __init__(self, spec: ValueSpec, mapping: Mapping) -> None:
        self.spec, self.ontology = spec, mapping.ontology
        self.column = spec.column or spec.attribute
        self.label = f"{self.column} as {spec.attribute}"
        self.words = ValueWords(spec, mapping.ontology, mapping.table.missing)
        self.attribute = mapping.ontology.attributes[spec.attribute]
        self.complete = self._complete(mapping)
        self._not_for = frozenset().union(*(mapping.ontology.descendants(key) for key in spec.not_for))

    def _complete(self, mapping: Mapping) -> frozenset[str]:
        """The categories for which the column lists every value that holds."""
        every = frozenset(mapping.ontology.categories)
        if self.spec.complete is True or self.attribute.exclusive:
            return every
        if self.spec.attribute in mapping.facts.complete_attributes:
            return every
        named = self.spec.complete or []
        return frozenset().union(*(mapping.ontology.descendants(key) for key in named))

    def read(self, cell: Cell, category: str, row: int, shard: Shard) -> AttributeDraft | None:
        """The attribute that a cell states, or None where it states nothing; `category` is the item's."""
        if category in self._not_for:
            shard.tally.count(self.label, "left_out")
            return None
        found = [(part, self.words.look(part)) for part in self._parts(cell)]
        states = {what.state for _, what in found}
        keys = list(dict.fromkeys(what.key for _, what in found if what.key is not None))
        try:
            self._unmapped(cell, [(part, what.why) for part, what in found if what.state == UNMAPPED], row, shard)
            state = self._state(cell, states, keys, category)
        except Refused as why:
            shard.tally.count(self.label, why.reason)
            shard.reject(row, why)
            return None
        shard.tally.count(self.label, state)
        if state == UNKNOWN:
            return None
        whole = not states & {UNKNOWN, UNMAPPED} and category in self.complete
        source = self.spec.source or self.spec.column
        values = sorted(keys)
        return AttributeDraft(self.spec.attribute, state, values, whole, source, self.spec.confidence)

    def _parts(self, cell: Cell) -> Sequence[str | None]:
        if isinstance(cell, str) and self.spec.separator is not None:
            cell = [part for part in cell.split(self.spec.separator) if part.strip()] or None
        if isinstance(cell, list):
            return [part.strip() for part in cell] or [None]
        return [cell if cell is None else cell.strip()]

    def _unmapped(self, cell: Cell, parts: list[tuple[str | None, str]], row: int, shard: Shard) -> None:
        """Notes parts that mean nothing; a cell of nothing else is lost as a whole."""
        refusals = [Refused("unmapped_value", why, self.column, part) for part, why in parts]
        for why in refusals[1:] if len(refusals) == len(self._parts(cell)) else refusals:
            shard.reject(row, why)
        if refusals and len(refusals) == len(self._parts(cell)):
            raise refusals[0]

    def _state(self, cell: Cell, states: set[str], keys: list[str], category: str) -> str:
        """The cell's state; raises Refused where it cannot hold."""
        stated = states & {PRESENT, ABSENT, NOT_VISIBLE}
        found = ", ".join(cell) if isinstance(cell, list) else cell
        name = self.spec.attribute
        if stated and self.attribute.scope == "item" and not self.ontology.applies(name, category):
            detail = f"{name} {found!r}: a {category} has no {name} in the ontology"
            raise Refused("does_not_apply", detail, self.column, found)
        if len(stated) > 1:
            detail = f"{name} {found!r}: both a value and none"
            raise Refused("conflicting_values", detail, self.column, found)
        if self.attribute.exclusive and len(distinct(self.ontology, name, keys)) > 1:
            detail = f"{name} {found!r}: an item has one {name}, and these are several"
            raise Refused("conflicting_values", detail, self.column, found)
        return stated.pop() if stated else UNKNOWN


def distinct(ontology: Ontology, attribute: str, keys: Sequence[str]) -> set[str]:
    """The values without those that are an ancestor of another one."""
    ancestors = {above for key in keys for above in ontology.value_ancestors(attribute, key)}
    return set(keys) - ancestors


def joined(drafts: Sequence[AttributeDraft], ontology: Ontology, row: int, shard: Shard) -> list[AttributeDraft]:
    """One draft an attribute: values of several columns are put together, or given up where they exclude each other."""
    found: dict[str, AttributeDraft] = {}
    lost: set[str] = set()
    for draft in drafts:
        before = found.get(draft.name)
        if before is None:
            found[draft.name] = draft
            continue
        values = sorted({*before.values, *draft.values})
        one = ontology.attributes[draft.name].exclusive and len(distinct(ontology, draft.name, values)) > 1
        if one or before.state != draft.state:
            lost.add(draft.name)
        before.values, before.complete = values, before.complete and draft.complete
    for name in sorted(lost):
        detail = f"{name}: the source states things that exclude each other: {', '.join(found[name].values)}"
        shard.reject(row, Refused("conflicting_values", detail, name, ", ".join(found[name].values)))
    return [draft for name, draft in found.items() if name not in lost]
