"""Runs question programs over whole batches: every function is a few array operations on the scenes' bit masks.

    Batch (image, slots) ──► items (sure, may) ──► item ──► bool / answer ids (0: not known, so never a sample)

All functions are three-valued: what the tables leave open comes out as unknown. `skip` leaves one `filter` out, which
is how a clause that changes nothing (a degenerate question) is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.expression import Call, Slot
from fashionkit.datagen.scene import S_PRESENT, Scenes
from fashionkit.datagen.vocab import FIRST_INT, MAX_INT, NO, NONE, NOT_PRESENT, YES

Array = npt.NDArray[Any]
FALSE, TRUE, OPEN = np.int8(0), np.int8(1), np.int8(2)


@dataclass
class Items:
    """Which items of each picture satisfy (`sure`) or could satisfy (`may`) the clauses so far.

    Attributes:
        mask: (n,) as `Scenes.masks`: `sure` in the low half of the bits, `may` in the high half.
        world: (n,) bool: no unlisted item could satisfy them.
        named: (n,) category the items were named by, 0 for none.
        countable: (n,) bool.
        described: Whether a clause other than a category is among them.
    """

    mask: Array
    world: Array | np.bool_
    named: Array | np.uint16
    countable: Array | np.bool_
    described: bool = False


@dataclass
class Item:
    """One item a row: its row in the scenes, or known to be missing, or neither (the question is unsound)."""

    row: Array
    ok: Array | np.bool_
    missing: Array | np.bool_


@dataclass
class Batch:
    """Questions to run: one picture and one id for each slot; attributes are the same for the whole batch.

    Attributes:
        image: (n,) int32 picture. slots: Name → (n,) uint16 vocabulary ids.
        attributes: Slot name → position in `Scenes.attributes` (or `labels`).
        subjects: `unique` call → (n,) item row it is known to single out, so that it need not be run.
    """

    image: Array
    slots: dict[str, Array]
    attributes: dict[str, int] = field(default_factory=dict)
    subjects: dict[Call, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image)


class Runner:
    """Runs programs on one batch."""

    def __init__(self, scenes: Scenes, batch: Batch, skip: Call | None = None):
        self.s, self.b, self.skip = scenes, batch, skip
        self.n = len(batch)
        self._known: dict[Call, Any] = {}
        self._first_mask = batch.image.astype(np.int64) * scenes.masks.shape[1]

    def answer(self, program: Call) -> Array:
        """(n,) uint16 vocabulary ids; 0 where the tables do not settle the question."""
        result = self._run(program)
        if isinstance(result, np.ndarray) and result.dtype == np.int8:
            return np.array([NO, YES, NONE], np.uint16).take(result)
        assert isinstance(result, np.ndarray)
        return result

    def item(self, call: Call) -> Item:
        """The item that a `unique` call singles out."""
        found = self._run(call)
        assert isinstance(found, Item)
        return found

    def _run(self, call: Call) -> Any:
        """The result of a call; equal parts of a program are run once."""
        if self.skip is None and call in self._known:
            return self._known[call]
        self._known[call] = result = self._apply(call)
        return result

    def _apply(self, call: Call) -> Any:
        if self.skip is None and call in self.b.subjects:
            return Item(self.b.subjects[call], np.True_, np.False_)
        if call is self.skip:
            assert isinstance(call.arguments[0], Call)
            return self._run(call.arguments[0])
        arguments = [self._run(a) if isinstance(a, Call) else a for a in call.arguments]
        return getattr(self, f"_{call.function}")(*arguments)

    def _scene(self) -> Items:
        s = self.s
        return Items(s.whole.take(self.b.image), np.bool_(s.all_closed), np.uint16(NONE), np.True_)

    def _clause(self, ids: Array) -> Array:
        """(n,) masks of the items that satisfy, or could, what `ids` name; the same kind of thing in every row."""
        column = self.s.clause.take(ids)
        assert (column >= 0).all(), "a slot names something that the catalogue does not have"
        return self.s.masks.reshape(-1).take(self._first_mask + column)

    def _halves(self, mask: Array) -> tuple[Array, Array]:
        """The `sure` and `may` of a mask."""
        half = mask.dtype.type(mask.dtype.itemsize * 4)
        return mask & mask.dtype.type((1 << int(half)) - 1), mask >> half

    def _filter(self, items: Items, slot: Slot) -> Items:
        s, ids = self.s, self.b.slots[slot.name]
        mask = items.mask & self._clause(ids)
        world = items.world if s.all_closed else items.world | s.closed.take(ids)
        if not s.is_category.take(ids[:1]).any():
            return Items(mask, world, items.named, items.countable, True)
        return Items(mask, world, ids, items.countable & s.countable.take(ids), items.described)

    def _unique(self, items: Items) -> Item:
        s = self.s
        sure, may = self._halves(items.mask)
        found = (np.bitwise_count(sure) == 1) & (may == sure)
        one = np.where(found, sure, sure.dtype.type(1))
        row = s.start.take(self.b.image) + np.bitwise_count(one - one.dtype.type(1))
        row = np.minimum(row, len(s.leaf) - 1)
        if not s.all_closed:
            referred = items.world | (s.leaf.take(row) == items.named)
            if s.facts.scene == "product":
                nameless = (items.named == NONE) | (items.named == s.root)
                referred |= s.sole[items.named] | (nameless & (s.alone.take(s.leaf.take(row)) | (not items.described)))
            found &= referred
        return Item(row, found, (may == 0) & items.world)

    def _exist(self, items: Items) -> Array:
        sure, may = self._halves(items.mask)
        false = (may == 0) & items.world
        return np.where(sure != 0, TRUE, np.where(false, FALSE, OPEN))

    def _count(self, items: Items) -> Array:
        sure, may = self._halves(items.mask)
        number = np.bitwise_count(sure).astype(np.uint16)
        known = (sure == may) & items.world & items.countable & (number <= MAX_INT)
        return np.where(known, number + np.uint16(FIRST_INT), NONE).astype(np.uint16)

    def _verify(self, item: Item, slot: Slot) -> Array:
        s, ids = self.s, self.b.slots[slot.name]
        mask = self._clause(ids) >> s.bit.take(item.row)
        sure, may = self._halves(mask)
        false = item.ok & (may & 1 == 0)
        attribute = s.attribute_of_value.take(ids[:1])
        if (attribute >= 0).any():
            false &= self._state(item.row, int(attribute[0])) == S_PRESENT
        return np.where(item.ok & (sure & 1 == 1), TRUE, np.where(false, FALSE, OPEN))

    def _state(self, row: Array, attribute: int) -> Array:
        return self.s.state.reshape(-1).take(row * self.s.state.shape[1] + attribute)

    def _value(self, row: Array, attribute: int) -> Array:
        return self.s.value.reshape(-1).take(row * self.s.value.shape[1] + attribute)

    def _label_is(self, slot: Slot) -> Array:
        ids = self.b.slots[slot.name]
        number = int(self.s.label_of_value[ids[0]]) if self.n else 0
        given = self.s.label[self.b.image, number]
        result = np.full(self.n, OPEN, np.int8)
        result[(given != NONE) & ~self.s.compatible[given, ids]] = FALSE
        result[(given != NONE) & (given == ids)] = TRUE
        return result

    def _query(self, item: Item, slot: Slot) -> Array:
        number = self.b.attributes[slot.name]
        known = item.ok & (self._state(item.row, number) == S_PRESENT)
        answer = np.where(known, self._value(item.row, number), NONE)
        return np.where(item.missing, NOT_PRESENT, answer).astype(np.uint16)

    def _list(self, item: Item, slot: Slot) -> Array:
        number = self.b.attributes[slot.name]
        known = item.ok & (self._state(item.row, number) == S_PRESENT) & self.s.complete[item.row, number]
        return np.where(known, self._value(item.row, number), NONE).astype(np.uint16)

    def _category(self, item: Item) -> Array:
        ok = item.ok & ~self.s.widened.take(self.s.leaf.take(item.row))
        return np.where(ok, self.s.leaf[item.row], np.where(item.missing, NOT_PRESENT, NONE)).astype(np.uint16)

    def _region(self, item: Item) -> Array:
        region = self.s.region.take(item.row)
        ok = item.ok & ~self.s.no_place.take(region)
        return np.where(ok, region, np.where(item.missing, NOT_PRESENT, NONE)).astype(np.uint16)

    def _label(self, slot: Slot) -> Array:
        return self.s.label[self.b.image, self.b.attributes[slot.name]]

    def _same(self, one: Item, two: Item, slot: Slot) -> Array:
        number = self.b.attributes[slot.name]
        a, b = self._value(one.row, number), self._value(two.row, number)
        known = one.ok & two.ok & (one.row != two.row)
        known &= (self._state(one.row, number) == S_PRESENT) & (self._state(two.row, number) == S_PRESENT)
        result = np.full(self.n, OPEN, np.int8)
        result[known & (a == b)] = TRUE
        settled = self.s.complete[one.row, number] & self.s.complete[two.row, number]
        result[known & settled & ~self.s.compatible[a, b]] = FALSE
        return result

    def _not(self, one: Array) -> Array:
        return np.array([TRUE, FALSE, OPEN], np.int8).take(one)

    def _and(self, one: Array, two: Array) -> Array:
        both = np.where((one == TRUE) & (two == TRUE), TRUE, OPEN)
        return np.where((one == FALSE) | (two == FALSE), FALSE, both)

    def _or(self, one: Array, two: Array) -> Array:
        return self._not(self._and(self._not(one), self._not(two)))

    def _which(self, one: Array, slot_one: Slot, two: Array, slot_two: Slot) -> Array:
        first, second = self.b.slots[slot_one.name], self.b.slots[slot_two.name]
        result = np.where((one == TRUE) & (two == FALSE), first, np.uint16(NONE))
        return np.where((one == FALSE) & (two == TRUE), second, result)


def degenerate(scenes: Scenes, batch: Batch, program: Call, answer: Array) -> Array:
    """(n,) bool: some `filter` can be left out and the answer stays, in a scene of two or more items."""
    several = scenes.start[batch.image + 1] - scenes.start[batch.image] >= 2
    found = np.zeros(len(batch), bool)
    for call in program.calls():
        if call.function == "filter":
            found |= Runner(scenes, batch, skip=call).answer(program) == answer
    return found & several
