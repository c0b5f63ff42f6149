"""The units of a run: each template with its attributes fixed, for the attributes that the catalogue has."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from fashionkit.datagen.packs import Pack, Template
from fashionkit.datagen.scene import S_PRESENT, Scenes
from fashionkit.datagen.vocab import NONE

MAX_GROUPS = 3
ROOT = -1


@dataclass(frozen=True)
class Unit:
    """One template with its attributes fixed: the smallest part whose answers are balanced by themselves.

    Attributes:
        template: Position in the pack. attributes: Keys for the template's attribute slots, in order.
    """

    template: int
    attributes: tuple[str, ...]


def unit_list(s: Scenes, pack: Pack) -> list[Unit]:
    """All units whose attributes the catalogue has; templates without any are left to the caller to report."""
    present = [n for a, n in enumerate(s.attributes) if (s.state[:, a] == S_PRESENT).any()]
    labelled = [n for a, n in enumerate(s.labels) if (s.label[:, a] != NONE).any()]
    units = []
    for number, t in enumerate(pack.templates):
        if t.scene not in ("any", s.facts.scene):
            continue
        pool = labelled if t.anchor == "image" else present
        units += [Unit(number, attributes) for attributes in _attribute_choices(s, t, pool)]
    return units


def levels(t: Template) -> list[int]:
    """How items are named: 0 by their own category, 1.. by a group above it, ROOT by the root noun."""
    free = any(x.kind == "category" and x.level is None for x in t.slots)
    if not free:
        return [0]
    found = [0] if "leaf" in t.levels else []
    found += list(range(1, MAX_GROUPS + 1)) if "group" in t.levels else []
    return found + ([ROOT] if "root" in t.levels else [])


def _attribute_choices(s: Scenes, t: Template, pool: list[str]) -> list[tuple[str, ...]]:
    slots = t.attribute_slots
    if not slots:
        return [()]
    exclusive = t.program.functions() & {"query", "same", "label"}
    listed = "list" in t.program.functions()
    choices = []
    for names in permutations(pool, len(slots)):
        if any(x.role not in ("each", n) for x, n in zip(slots, names, strict=True)):
            continue
        onto = s.ontology.attributes
        asked = names[-1]
        if (exclusive and not onto[asked].exclusive) or (listed and onto[asked].exclusive):
            continue
        if not _mirrored(t, names):
            choices.append(names)
    return choices


def _mirrored(t: Template, names: tuple[str, ...]) -> bool:
    """Whether attributes that play the same part stand in another order than the one that is used."""
    parts: dict[tuple[str, ...], str] = {}
    for slot, name in zip(t.attribute_slots, names, strict=True):
        part = tuple(sorted(v.role for v in t.slots if v.of == slot.name))
        if part and parts.get(part, "") > name:
            return True
        parts[part] = name
    return False
