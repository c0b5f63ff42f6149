"""Template packs: question families as data.

    datagen/packs/core.yaml ──► load_pack ──► Template(slots, program, paraphrases, balance, entailments)

A template says which slots a question has and where their ids come from, which program gives its answer, how answers
are balanced, and the ways to put it. It is data: nothing in it is run by Python, and an unknown key, an unbound slot,
a program that does not fit or a place that is no form of the grammar is an error that names the line.

Slots (exactly one of the first four keys):
    category: own | other | either    the item's category, a confusable one, or both kinds in turn
    value:    own | other | either    the same for a value of the attribute in slot `of`
    attribute: each | KEY             every attribute the catalogue has, or one
    region:   own                     the item's region
    item: 1 | 2                       which of the picture's two items (anchor: pair)
    level: leaf | group | root        names the category at this level, whatever the template's `levels`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fashionkit.datagen.expression import Call, ProgramError, parse
from fashionkit.datagen.grammar import PLACES
from fashionkit.datagen.rules import ANSWERS, Entailment, answer_kind, conditions, misfit, sources
from fashionkit.tables import InputError
from fashionkit.tables.yamls import load_yaml

PACK_SCHEMA = "fashionkit.pack/1"
FAMILIES = ("B1", "B2", "B3", "B4", "B5", "B6", "C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "N1", "G1")
BALANCES = ("binary", "choice", "tempered", "tied")
LEVELS = ("leaf", "group", "root")
KINDS = ("category", "value", "attribute", "region")
PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
MAX_SLOTS, MIN_PARAPHRASES = 4, 4


@dataclass(frozen=True)
class SlotSpec:
    """Where a slot's ids come from."""

    name: str
    kind: str
    role: str
    of: str | None = None
    item: int = 1
    level: str | None = None

    @property
    def drawn(self) -> bool:
        """Whether some of its ids are drawn as negatives."""
        return self.role in ("other", "either")


@dataclass(frozen=True)
class Place:
    """A part of a paraphrase that the grammar fills."""

    function: str
    slots: tuple[str, ...]


@dataclass(frozen=True)
class Paraphrase:
    """One way to put a question; held-out ones appear in the `paraphrase` split only."""

    text: str
    parts: tuple[str | Place, ...]
    held_out: bool = False


@dataclass(frozen=True)
class Template:
    """A question family member.

    Attributes:
        anchor: What a question starts from: `item`, `pair` (two items of a picture) or `image` (its labels).
        levels: How items are named: own category, groups above it, the root noun.
        mix: For each combination of drawn slots, `o` (own) or `d` (drawn) a slot, as in "od".
        cell: Slots whose ids (with the split) form the cells in which answers are balanced.
        tie: For `tied`: the template whose cells this one follows; for B5, whose samples it negates.
        share: For `tied`: this template's share of both together.
        needs: A template without which this one could be answered without looking.
        scene: Kind of catalogue it suits: `product`, `outfit` or `any`.
        min_items: Fewest items of a picture.
        line: Line in the pack.
    """

    id: str
    family: str
    anchor: str
    slots: tuple[SlotSpec, ...]
    program: Call
    paraphrases: tuple[Paraphrase, ...]
    balance: str
    cell: tuple[str, ...]
    levels: tuple[str, ...] = ("leaf",)
    mix: tuple[str, ...] = ()
    tie: str | None = None
    share: float = 0.25
    needs: str | None = None
    scene: str = "any"
    min_items: int = 1
    leak: bool = True
    entails: tuple[Entailment, ...] = ()
    line: int | None = None

    def slot(self, name: str) -> SlotSpec:
        """The slot of this name."""
        return next(s for s in self.slots if s.name == name)

    @property
    def drawn_slots(self) -> tuple[SlotSpec, ...]:
        """Slots with drawn ids, in order."""
        return tuple(s for s in self.slots if s.drawn)

    @property
    def attribute_slots(self) -> tuple[SlotSpec, ...]:
        """Slots that hold an attribute."""
        return tuple(s for s in self.slots if s.kind == "attribute")

    @property
    def stored_slots(self) -> tuple[SlotSpec, ...]:
        """Slots whose ids a sample holds, in order: all but attributes that the value of another slot implies."""
        implied = {s.of for s in self.slots if s.kind == "value"}
        return tuple(s for s in self.slots if s.name not in implied)


@dataclass
class Pack:
    """A set of templates from one or several files."""

    templates: list[Template] = field(default_factory=list)

    def by_id(self, template: str) -> Template:
        """The template of this id."""
        return next(t for t in self.templates if t.id == template)

    def index(self, template: str) -> int:
        """Its position, which is its id in samples."""
        return next(i for i, t in enumerate(self.templates) if t.id == template)


def load_packs(paths: list[Path]) -> Pack:
    """Reads packs in the order given.

    Raises:
        InputError: Naming file, line and key.
    """
    pack = Pack()
    for path in paths:
        for template in _Reader(path).templates():
            if any(t.id == template.id for t in pack.templates):
                raise InputError("a template id is used twice", file=path, row=template.line, found=template.id)
            pack.templates.append(template)
        _check_references(pack, path)
    return pack


def _check_references(pack: Pack, path: Path) -> None:
    ids = [t.id for t in pack.templates]
    for t in pack.templates:
        for other in [t.tie, t.needs, *(e.template for e in t.entails)]:
            if other is not None and other not in ids:
                raise InputError(
                    "names a template that is not there", file=path, row=t.line, column=t.id, found=other, allowed=ids
                )
        for e in t.entails:
            problem, found = misfit(t, e, pack.by_id(e.template))
            if problem:
                raise InputError(problem, file=path, row=t.line, column=t.id, found=found)


class _Reader:
    def __init__(self, path: Path):
        self.path = path
        self.data, self.lines = load_yaml(path)

    def fail(self, problem: str, *at: str | int, **more: Any) -> InputError:
        return InputError(
            problem, file=self.path, row=self.lines.of(*at), column=".".join(map(str, at)) or None, **more
        )

    def templates(self) -> Iterator[Template]:
        self._keys(self.data, {"schema", "name", "templates", "about"})
        if self.data.get("schema") != PACK_SCHEMA:
            raise self.fail(
                "not a pack of this version", "schema", found=self.data.get("schema"), allowed=[PACK_SCHEMA]
            )
        entries = self.data.get("templates")
        if not isinstance(entries, list) or not entries:
            raise self.fail("a list of templates is needed", "templates", found=entries)
        for number, raw in enumerate(entries):
            yield self._template(raw, ("templates", number))

    def _keys(self, raw: Any, allowed: set[str], *at: str | int) -> None:
        if not isinstance(raw, dict):
            raise self.fail("a mapping is needed here", *at, found=raw)
        for key in raw:
            if key not in allowed:
                raise self.fail("unknown key", *at, key, found=key, allowed=allowed)

    def _word(
        self,
        raw: dict[str, Any],
        key: str,
        at: tuple[str | int, ...],
        allowed: tuple[str, ...] | None,
        default: str | None = None,
    ) -> str:
        value = raw.get(key, default)
        if not isinstance(value, str) or not value or (allowed is not None and value not in allowed):
            raise self.fail(f"`{key}` is missing or not one of the known words", *at, key, found=value, allowed=allowed)
        return value

    def _flag(self, raw: dict[str, Any], key: str, at: tuple[str | int, ...], default: bool) -> bool:
        value = raw.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(f"`{key}` must be true or false", *at, key, found=value)
        return value

    def _words(self, raw: dict[str, Any], key: str, at: tuple[str | int, ...], default: list[str]) -> tuple[str, ...]:
        value = raw.get(key, default)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.fail(f"`{key}` must be a list of words", *at, key, found=value)
        return tuple(value)

    def _number(
        self, raw: dict[str, Any], key: str, at: tuple[str | int, ...], default: float, low: float, high: float
    ) -> float:
        value = raw.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise self.fail(f"`{key}` must be a number from {low} to {high}", *at, key, found=value)
        return value

    def _template(self, raw: Any, at: tuple[str | int, ...]) -> Template:
        allowed = {
            "id",
            "family",
            "anchor",
            "slots",
            "program",
            "text",
            "balance",
            "cell",
            "levels",
            "mix",
            "tie",
            "share",
        }
        self._keys(raw, allowed | {"min_items", "leak", "entails", "needs", "scene"}, *at)
        slots = self._slots(raw.get("slots", {}), (*at, "slots"))
        kinds = {s.name: s.kind for s in slots}
        family = self._word(raw, "family", at, FAMILIES)
        program = self._program(raw, kinds, at)
        template = Template(
            id=self._word(raw, "id", at, None),
            family=family,
            anchor=self._word(raw, "anchor", at, ("item", "pair", "image"), "item"),
            slots=slots,
            program=program,
            paraphrases=self._paraphrases(raw.get("text"), kinds, (*at, "text")),
            balance=self._word(raw, "balance", at, BALANCES),
            cell=self._words(raw, "cell", at, []),
            levels=self._words(raw, "levels", at, ["leaf"]),
            mix=self._words(raw, "mix", at, []),
            tie=raw.get("tie"),
            needs=raw.get("needs"),
            scene=self._word(raw, "scene", at, ("product", "outfit", "any"), "any"),
            share=self._number(raw, "share", at, 0.25, 0.0, 1.0),
            min_items=int(self._number(raw, "min_items", at, 1, 0, 32)),
            leak=self._flag(raw, "leak", at, True),
            entails=self._entails(raw.get("entails", []), program, kinds, (*at, "entails")),
            line=self.lines.of(*at),
        )
        self._consistent(template, at)
        return template

    def _slots(self, raw: Any, at: tuple[str | int, ...]) -> tuple[SlotSpec, ...]:
        self._keys(raw, set(raw) if isinstance(raw, dict) else set(), *at)
        slots = []
        for name, entry in raw.items():
            self._keys(entry, {*KINDS, "of", "item", "level"}, *at, name)
            kinds = [k for k in KINDS if k in entry]
            if len(kinds) != 1:
                raise self.fail(f"a slot has exactly one of {', '.join(KINDS)}", *at, name, found=sorted(entry))
            kind = kinds[0]
            role = self._word(entry, kind, (*at, name), None if kind == "attribute" else ("own", "other", "either"))
            item = int(self._number(entry, "item", (*at, name), 1, 1, 2))
            level = self._word(entry, "level", (*at, name), LEVELS) if "level" in entry else None
            source = self._word(entry, "of", (*at, name), None) if "of" in entry else None
            slots.append(SlotSpec(name, kind, role, source, item, level))
        implied = {s.of for s in slots if s.kind == "value"}
        if sum(s.name not in implied for s in slots) > MAX_SLOTS:
            raise self.fail(f"at most {MAX_SLOTS} slots", *at)
        for s in slots:
            of = [o.name for o in slots if o.kind == "attribute"]
            if s.kind == "value" and s.of not in of:
                raise self.fail("a value slot names its attribute slot in `of`", *at, s.name, found=s.of, allowed=of)
        return tuple(slots)

    def _program(self, raw: dict[str, Any], kinds: dict[str, str], at: tuple[str | int, ...]) -> Call:
        try:
            return parse(self._word(raw, "program", at, None), kinds)
        except ProgramError as error:
            raise self.fail(str(error), *at, "program") from error

    def _paraphrases(self, raw: Any, kinds: dict[str, str], at: tuple[str | int, ...]) -> tuple[Paraphrase, ...]:
        if not isinstance(raw, list) or len(raw) < MIN_PARAPHRASES:
            raise self.fail(f"at least {MIN_PARAPHRASES} paraphrases are needed", *at, found=raw)
        found = []
        for number, entry in enumerate(raw):
            held_out = False
            if isinstance(entry, dict):
                self._keys(entry, {"text", "held_out"}, *at, number)
                held_out, entry = self._flag(entry, "held_out", (*at, number), False), entry.get("text")
            if not isinstance(entry, str) or not entry.strip():
                raise self.fail("a paraphrase is a line of text", *at, number, found=entry)
            found.append(Paraphrase(entry, self._parts(entry, kinds, (*at, number)), held_out))
        if len({p.text for p in found}) < len(found):
            raise self.fail("a paraphrase stands twice", *at)
        if not any(p.held_out for p in found) or all(p.held_out for p in found):
            raise self.fail("at least one paraphrase must be held out, and at least one not", *at)
        return tuple(found)

    def _parts(self, text: str, kinds: dict[str, str], at: tuple[str | int, ...]) -> tuple[str | Place, ...]:
        parts: list[str | Place] = []
        position = 0
        for match in PLACE.finditer(text):
            parts.append(text[position : match.start()])
            position = match.end()
            if match[0] in ("{{", "}}"):
                parts.append(match[0][0])
            elif match[1] is None:
                raise self.fail("a brace that is neither a place nor doubled", *at, found=text)
            else:
                parts.append(self._place(match[1], kinds, at))
        parts.append(text[position:])
        return tuple(p for p in _joined(parts) if p != "")

    def _place(self, inside: str, kinds: dict[str, str], at: tuple[str | int, ...]) -> Place:
        function, *slots = inside.split()[:1] + inside.split()[1:] if inside.split() else [""]
        if function not in PLACES:
            raise self.fail("no such form in the grammar", *at, found=function, allowed=PLACES)
        kinds = {**kinds, "look": "look", "root": "category"}
        for slot in slots:
            if slot not in kinds:
                raise self.fail("a place names a slot that the template does not have", *at, found=slot, allowed=kinds)
        if not _fits(PLACES[function], [kinds[s] for s in slots]):
            raise self.fail(f"{{{function}}} takes {' '.join(PLACES[function])}", *at, found=inside)
        return Place(function, tuple(slots))

    def _entails(
        self, raw: Any, program: Call, kinds: dict[str, str], at: tuple[str | int, ...]
    ) -> tuple[Entailment, ...]:
        entries = raw if isinstance(raw, list) else [raw]
        return tuple(self._entailment(e, program, kinds, (*at, number)) for number, e in enumerate(entries))

    def _entailment(self, raw: Any, program: Call, kinds: dict[str, str], at: tuple[str | int, ...]) -> Entailment:
        self._keys(raw, {"template", "slots", "answer", "when", "unless"}, *at)
        slots, known = raw.get("slots", {}), sources(program, kinds)
        self._keys(slots, set(slots) if isinstance(slots, dict) else set(), *at, "slots")
        for key, source in slots.items():
            if not isinstance(source, str) or source not in known:
                problem = "an entailment takes a slot or `answer`, `other`, `member`, `root` where there is one"
                raise self.fail(problem, *at, "slots", key, found=source, allowed=known)
        answer = self._word(raw, "answer", at, None)
        allowed = [a for a in ANSWERS if a != "opposite" or answer_kind(program, kinds) == "bool"]
        if answer not in (*allowed, *kinds):
            problem = "an entailed answer is yes, no, `answer`, a slot, or of yes and no the `opposite`"
            raise self.fail(problem, *at, "answer", found=answer, allowed=[*allowed, *kinds])
        when, unless = (self._condition(raw.get(key), program, (*at, key)) for key in ("when", "unless"))
        return Entailment(self._word(raw, "template", at, None), slots, answer, when, unless)

    def _condition(self, raw: Any, program: Call, at: tuple[str | int, ...]) -> str | None:
        """An answer on which it depends whether a question follows."""
        words = conditions(program)
        if raw is None:
            return None
        if isinstance(raw, bool) or str(raw) not in words:
            raise self.fail("no answer that this question can have", *at, found=raw, allowed=words)
        return str(raw)

    def _consistent(self, t: Template, at: tuple[str | int, ...]) -> None:
        names = [s.name for s in t.slots]
        for key in t.cell:
            if key not in names:
                raise self.fail(
                    "`cell` names a slot that the template does not have", *at, "cell", found=key, allowed=names
                )
        for level in t.levels:
            if level not in LEVELS:
                raise self.fail("no such level", *at, "levels", found=level, allowed=LEVELS)
        drawn = len(t.drawn_slots)
        for combination in t.mix:
            if len(combination) != drawn or set(combination) - {"o", "d"}:
                raise self.fail(f"`mix` says o or d for each of the {drawn} drawn slots", *at, "mix", found=combination)
        if drawn and not t.mix:
            raise self.fail("a template with drawn slots needs `mix`", *at)
        if t.balance in ("binary", "choice") and not t.cell:
            raise self.fail("`cell` is missing", *at)
        if t.balance == "tied" and t.tie is None:
            raise self.fail("a tied template names the other in `tie`", *at)
        used = {a.name for c in t.program.calls() for a in c.arguments if not isinstance(a, Call)}
        used |= {s.of for s in t.slots if s.of}
        if set(names) - used:
            raise self.fail(
                "a slot is used by neither the program nor another slot", *at, "slots", found=sorted(set(names) - used)
            )


def _joined(parts: list[str | Place]) -> Iterator[str | Place]:
    """Neighbouring pieces of plain text as one."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        else:
            yield text
            yield part
            text = ""
    yield text


def _fits(wanted: tuple[str, ...], kinds: list[str]) -> bool:
    """Whether a place's arguments are of the kinds its function takes."""
    if wanted[0].startswith("*"):
        extra = len(kinds) - len(wanted) + 1
        if extra < 0 or any(k != wanted[0][1:] for k in kinds[:extra]):
            return False
        wanted, kinds = wanted[1:], kinds[extra:]
    also = {"noun": ("category", "look"), "thing": ("value", "category", "region"), "any": (*KINDS, "look")}
    return len(wanted) == len(kinds) and all(k == w or k in also.get(w, ()) for w, k in zip(wanted, kinds, strict=True))
