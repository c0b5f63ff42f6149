"""Candidates of one unit (template x attributes x level) for a range of pictures: slots bound, nothing decided yet.

    anchors (items, pairs, pictures) ─► own and drawn ids of every slot ─► Candidates (image, slots, random bits)

What is proposed here is judged by the program later; a proposal that the tables do not settle is dropped there and
counted. The same unit and range give the same candidates in the same order wherever they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.counter import again, mix, stream
from fashionkit.datagen.expression import Call
from fashionkit.datagen.negatives import Drawer
from fashionkit.datagen.packs import Pack, SlotSpec, Template
from fashionkit.datagen.program import Batch, Runner
from fashionkit.datagen.scene import S_PRESENT, Scenes
from fashionkit.datagen.units import MAX_GROUPS, ROOT, Unit, levels
from fashionkit.datagen.vocab import LOOK, NONE

Array = npt.NDArray[Any]


@dataclass
class Candidates:
    """Bound questions.

    Attributes:
        batch: Pictures, slots, attributes. row, row2: (n,) anchors: item rows, or the picture for labels.
        bits: (n,) uint64 random bits of each. drawn: (n,) bool per drawn slot name.
        unclear: Ways of naming an anchor that fit other items too; they were left out.
    """

    batch: Batch
    row: Array
    row2: Array
    bits: Array
    drawn: dict[str, Array]
    unclear: int = 0

    def take(self, keep: Array) -> Candidates:
        """The candidates of a mask or index."""
        slots = {k: v[keep] for k, v in self.batch.slots.items()}
        subjects = {k: v[keep] for k, v in self.batch.subjects.items()}
        batch = Batch(self.batch.image[keep], slots, self.batch.attributes, subjects)
        drawn = {k: v[keep] for k, v in self.drawn.items()}
        return Candidates(batch, self.row[keep], self.row2[keep], self.bits[keep], drawn)


class Proposer:
    """Makes candidates. One for each process; holds only tables.

    Args:
        scenes: The catalogue. pack: The templates. drawers: Attribute key, `category` or `group` → its drawer.
        seed: Of the whole run. draws: Negatives for each item and slot.
    """

    def __init__(self, scenes: Scenes, pack: Pack, drawers: dict[str, Drawer], seed: int, draws: int):
        self.s, self.pack, self.drawers, self.seed, self.draws = scenes, pack, drawers, seed, draws
        self.subjects = [_subjects(t) for t in pack.templates]
        self.rates: dict[Unit, float] = {}  # share of the anchors that is looked at; all where nothing stands
        self.chain = self._chains()
        self.members, self.member_count = self._member_table()
        self.applies = self._applies()

    def _chains(self) -> Array:
        """(vocabulary, MAX_GROUPS + 1) category at each level, 0 where the line ends below the root."""
        table = np.zeros((len(self.s.vocab), MAX_GROUPS + 1), np.uint16)
        for key, number in self.s.vocab.category.items():
            groups = [k for k in self.s.ontology.ancestors(key)[:-1] if self.s.ontology.categories[k].spoken]
            if self.s.ontology.categories[key].spoken:
                table[number, 0] = number
            for level, name in enumerate(groups[:MAX_GROUPS]):
                table[number, level + 1] = self.s.vocab.category[name]
        return table

    def _member_table(self) -> tuple[Array, Array]:
        sets = self.s.vocab.members
        count = np.array([max(len(m), 1) for m in sets], np.uint64)
        table = np.zeros((len(sets), int(count.max())), np.uint16)
        for number, members in enumerate(sets):
            table[number, : max(len(members), 1)] = members or (number,)
        return table, count

    def _applies(self) -> dict[str, Array]:
        found = {}
        for name in self.s.attributes:
            flags = np.zeros(len(self.s.vocab), bool)
            for key, number in self.s.vocab.category.items():
                flags[number] = self.s.ontology.applies(name, key)
            found[name] = flags
        return found

    def propose(self, unit: Unit, lo: int, hi: int) -> Candidates:
        """Candidates of pictures lo..hi-1."""
        t = self.pack.templates[unit.template]
        # B5 negates the very questions its partner keeps: same stream, same bits, same order.
        name = t.tie if t.balance == "tied" and t.family == "B5" else t.id
        key = stream(self.seed, f"{name}|{','.join(unit.attributes)}")
        row, row2 = self._thinned(unit, key, *self._anchors(t, lo, hi, key))
        keep = self._eligible(t, unit, row, row2)
        row, row2 = row[keep], row2[keep]
        return self._bound(t, unit, row, row2, _base(key, row, row2))

    def _thinned(self, unit: Unit, key: int, row: Array, row2: Array) -> tuple[Array, Array]:
        """The unit's share of the anchors: those whose random number lies in an interval that starts at random.

        A number of its own for every unit and anchor would cost as much as proposing the few that stay.
        """
        rate = self.rates.get(unit, 1.0)
        if rate >= 1:
            return row, row2
        number = self._number.take(row)
        if row2 is not row:
            number = number * np.uint32(3) + self._number.take(row2)
        keep = np.flatnonzero(number + np.uint32(key & 0xFFFFFFFF) < np.uint32(rate * 2.0**32))
        one = row.take(keep)
        return one, one if row2 is row else row2.take(keep)

    @cached_property
    def _number(self) -> Array:
        """(items or pictures, whichever are more) uint32 random numbers."""
        rows = np.arange(max(len(self.s.leaf), len(self.s.image_ids)))
        return (mix(stream(self.seed, "thin"), rows) >> np.uint64(32)).astype(np.uint32)

    def _variants(self, t: Template) -> list[tuple[str, int, int]]:
        """(mix, number of the draw, level) of each round of proposals."""
        if not t.drawn_slots:
            return [("", 0, level) for level in levels(t)]
        found = []
        for level in levels(t):
            for m in t.mix:
                modes = dict(zip((x.name for x in t.drawn_slots), m, strict=True))
                categories = [modes.get(x.name, "o") for x in t.slots if x.kind == "category" and x.level is None]
                if "d" in categories and (level == ROOT or (level > 1 and "o" not in categories)):
                    continue  # there is no other root; groups are drawn once, whatever the item's own depth
                found += [(m, j, level) for j in (range(self.draws) if "d" in m else range(1))]
        return found

    def _anchors(self, t: Template, lo: int, hi: int, key: int) -> tuple[Array, Array]:
        s = self.s
        if t.anchor == "image":
            row = np.arange(lo, hi)
            return row, row
        first, last = int(s.start[lo]), int(s.start[hi])
        rows = np.arange(first, last)
        if t.anchor == "item":
            return rows, rows
        size = (s.start[s.image[rows] + 1] - rows - 1).astype(np.int64)  # items after this one in its picture
        one = np.repeat(rows, size)
        two = one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(size) - size, size)
        flip = (
            mix(key, one.astype(np.uint64) << np.uint64(8) | (two & 255).astype(np.uint64)) >> np.uint64(40)
        ) & np.uint64(1)
        return np.where(flip, two, one), np.where(flip, one, two)

    def _eligible(self, t: Template, unit: Unit, row: Array, row2: Array) -> Array:
        s = self.s
        keep = np.ones(len(row), bool)
        attributes = dict(zip((x.name for x in t.attribute_slots), unit.attributes, strict=True))
        if t.anchor == "image":
            for name in unit.attributes:
                keep &= s.label[row, s.labels.index(name)] != NONE
            return keep
        if t.min_items > 1:
            keep &= s.start[s.image[row] + 1] - s.start[s.image[row]] >= t.min_items
        for slot in t.slots:
            if slot.kind == "value":
                at = row if slot.item == 1 else row2
                keep &= s.state[at, s.attributes.index(attributes[str(slot.of)])] == S_PRESENT
            if slot.kind == "region":
                keep &= s.region[row] != NONE
        asked = t.program.functions() & {"query", "list", "same"}
        if asked and any(x.kind == "category" and x.role == "own" for x in t.slots):
            keep &= s.state[row, s.attributes.index(unit.attributes[-1])] == S_PRESENT
        return keep

    def _bound(self, t: Template, unit: Unit, row: Array, row2: Array, base: Array) -> Candidates:
        """Every round's slots side by side as (rounds, anchors), then only those rows that are bound throughout."""
        rounds = self._variants(t)
        attributes = _attributes(t, unit)
        clear, unclear = self._clear(t, unit, row, row2, base, {level for _, _, level in rounds})
        some = np.flatnonzero(np.logical_or.reduce(list(clear.values())))
        row, row2, base = row[some], row2[some], base[some]
        slots, drawn = {}, {}
        keep = np.stack([clear[level][some] for _, _, level in rounds])
        for salt, slot in _slots(t):
            at = row if slot.item == 1 else row2
            ids, taken = self._round_ids(t, slot, attributes, at, again(base, salt), rounds)
            keep &= ids != NONE
            slots[slot.name], drawn[slot.name] = ids.reshape(-1), taken
        bound = np.flatnonzero(keep)
        anchor, of_round = bound % max(len(row), 1), bound // max(len(row), 1)
        slots = {name: ids.take(bound) for name, ids in slots.items()}
        drawn = {name: taken.take(of_round) for name, taken in drawn.items()}
        row, row2, base = row.take(anchor), row2.take(anchor), base.take(anchor)
        found = self._tidied(t, unit, self._found(t, unit, slots, drawn, row, row2, base, of_round))
        found.unclear = unclear
        return found

    def _clear(
        self, t: Template, unit: Unit, row: Array, row2: Array, base: Array, levels: set[int]
    ) -> tuple[dict[int, Array], int]:
        """For each level (anchors,) bool: its words single the anchor out; and how often they do not.

        What is drawn cannot change which item is meant, so this is asked once a level and before anything is drawn.
        """
        calls = list(self.subjects[unit.template])
        if not calls:
            return {level: np.ones(len(row), bool) for level in levels}, 0
        clear, unclear = {}, 0
        used = set().union(*(call.slots() for call in calls))
        slots = [(salt, slot) for salt, slot in _slots(t) if slot.name in used]
        for level in levels:
            ids = {}
            for salt, slot in slots:
                at = row if slot.item == 1 else row2
                ids[slot.name] = self._own(t, slot, _attributes(t, unit), at, again(base, salt), _level(slot, level))
            said = np.logical_and.reduce([i != NONE for i in ids.values()]) if ids else np.ones(len(row), bool)
            at = np.flatnonzero(said)
            runner = Runner(self.s, Batch(self.s.image.take(row[at]), {name: i[at] for name, i in ids.items()}))
            known = np.logical_and.reduce([runner.item(call).ok for call in calls])
            unclear += int(np.count_nonzero(~known))
            said[at] = known
            clear[level] = said
        return clear, unclear

    def _found(
        self,
        t: Template,
        unit: Unit,
        slots: dict[str, Array],
        drawn: dict[str, Array],
        row: Array,
        row2: Array,
        base: Array,
        of_round: Array,
    ) -> Candidates:
        for name, attribute in _attributes(t, unit).items():
            slots[name] = np.full(len(row), self.s.vocab.attribute[attribute], np.uint16)
        image = row if t.anchor == "image" else self.s.image[row]
        batch = Batch(image.astype(np.int32), slots, self._positions(t, unit))
        bits = mix(0x2545F491, base + of_round.astype(np.uint64))
        batch.subjects = {c: row if first else row2 for c, first in self.subjects[unit.template].items()}
        return Candidates(batch, row, row2, bits, drawn)

    def _round_ids(
        self,
        t: Template,
        slot: SlotSpec,
        attributes: dict[str, str],
        at: Array,
        salt: Array,
        rounds: list[tuple[str, int, int]],
    ) -> tuple[Array, Array]:
        """(rounds, anchors) ids of one slot, and for each round whether they are drawn."""
        which = [x.name for x in t.drawn_slots].index(slot.name) if slot.drawn else None
        taken = np.array([which is not None and mix_[which] == "d" for mix_, _, _ in rounds])
        ids = np.empty((len(rounds), len(at)), np.uint16)
        own: dict[int, Array] = {}
        drawn: dict[bool, Array] = {}
        for number, (_, draw, level) in enumerate(rounds):
            level = _level(slot, level)
            if taken[number]:
                group = slot.kind == "category" and level > 0
                if group not in drawn:
                    drawn[group] = self._drawn(t, slot, attributes, at, salt, group)
                ids[number] = drawn[group][draw]
            else:
                if level not in own:
                    own[level] = self._own(t, slot, attributes, at, salt, level)
                ids[number] = own[level]
        return ids, taken

    def _positions(self, t: Template, unit: Unit) -> dict[str, int]:
        names = self.s.labels if t.anchor == "image" else self.s.attributes
        return {x.name: names.index(n) for x, n in zip(t.attribute_slots, unit.attributes, strict=True)}

    def _own(
        self, t: Template, slot: SlotSpec, attributes: dict[str, str], at: Array, salt: Array, level: int
    ) -> Array:
        """(anchors,) ids that are true of the anchor, 0 where there is none."""
        s = self.s
        if slot.kind == "region":
            return s.region[at]
        if slot.kind == "category":
            return np.full(len(at), s.root, np.uint16) if level == ROOT else self.chain[s.leaf[at], level]
        own = self._values(t, attributes[str(slot.of)], at)
        if (self.member_count[own] == 1).all():
            return self.members[own, 0]
        return self.members[own, ((salt >> np.uint64(20)) % self.member_count[own]).astype(np.int64)]

    def _drawn(
        self, t: Template, slot: SlotSpec, attributes: dict[str, str], at: Array, salt: Array, group: bool
    ) -> Array:
        """(draws, anchors) ids that are drawn instead, 0 where nothing new can be."""
        drawer, context, own = self._source(t, slot, attributes, at, group)
        return drawer.draw(context, own, salt, self.draws)

    def _source(
        self, t: Template, slot: SlotSpec, attributes: dict[str, str], at: Array, group: bool
    ) -> tuple[Drawer, Array, Array]:
        """What a slot's negatives are drawn from: the drawer, and each anchor's context and own id."""
        if slot.kind == "category":
            leaf = self.s.leaf[at]
            return self.drawers["group" if group else "category"], leaf, leaf
        name = attributes[str(slot.of)]
        context = np.full(len(at), LOOK, np.uint16) if t.anchor == "image" else self.s.leaf[at]
        return self.drawers[name], context, self._values(t, name, at)

    def _values(self, t: Template, name: str, at: Array) -> Array:
        if t.anchor == "image":
            return self.s.label[at, self.s.labels.index(name)]
        return self.s.value[at, self.s.attributes.index(name)]

    def _tidied(self, t: Template, unit: Unit, found: Candidates) -> Candidates:
        """Attributes only where they apply, questions that stand twice once."""
        keep = np.ones(len(found.batch), bool)
        if t.family == "N1" and unit.attributes:
            keep = self.applies[unit.attributes[-1]][found.batch.slots["cat"]]
        if t.anchor == "pair":  # "a hat or a hat", "an accessory and a belt" are no questions
            keep &= ~self.s.compatible[found.batch.slots["cat"], found.batch.slots["cat2"]]
        if t.program.functions() & {"exist", "count"} or t.family == "N1" or t.anchor == "pair":
            keep &= _first(found, t)
        return found if keep.all() else found.take(keep)


def _attributes(t: Template, unit: Unit) -> dict[str, str]:
    return dict(zip((x.name for x in t.attribute_slots), unit.attributes, strict=True))


def _subjects(t: Template) -> dict[Call, bool]:
    """Calls of `unique` that single out the anchor by its own slots alone → whether that is the first of a pair."""
    loose = {x.name for x in t.slots if x.drawn} | set(option_slots(t) if t.balance == "choice" else ())
    calls = [c for c in t.program.calls() if c.function == "unique" and not c.slots() & loose]
    second = {x.name for x in t.slots if x.item == 2}
    return {c: not c.slots() & second for c in calls}


def _slots(t: Template) -> list[tuple[int, SlotSpec]]:
    """Slots that are not attributes, each with the number of its random draw."""
    return list(enumerate((x for x in t.slots if x.kind != "attribute"), start=1000))


def _level(slot: SlotSpec, level: int) -> int:
    return {"leaf": 0, "group": 1, "root": ROOT, None: level}[slot.level]


def _base(key: int, row: Array, row2: Array) -> Array:
    return mix(key, row.astype(np.uint64) << np.uint64(8) | (row2 & 255).astype(np.uint64))


def option_slots(t: Template) -> tuple[str, str]:
    """Names of the two slots a choice is between."""
    call = next(c for c in t.program.calls() if c.function == "which")
    return call.arguments[1].name, call.arguments[3].name  # type: ignore[union-attr]


def _first(found: Candidates, t: Template) -> Array:
    """(n,) bool: the first of those with equal picture and slots (options and symmetric pairs in either order)."""
    names = [x.name for x in t.slots if x.kind != "attribute"]
    code = found.batch.image.astype(np.uint64)
    columns = [found.batch.slots[n].astype(np.uint64) for n in names]
    if len(columns) >= 2 and (t.balance == "choice" or t.anchor == "pair"):
        at = [names.index(n) for n in (option_slots(t) if t.balance == "choice" else ("cat", "cat2"))]
        low, high = np.minimum(columns[at[0]], columns[at[1]]), np.maximum(columns[at[0]], columns[at[1]])
        columns[at[0]], columns[at[1]] = low, high
    for column in columns:
        code = mix(0, code ^ (column << np.uint64(44))) if len(columns) > 2 else code << np.uint64(16) | column
    keep = np.zeros(len(code), bool)
    keep[np.unique(code, return_index=True)[1]] = True
    return keep
