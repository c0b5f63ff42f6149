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
FALSE, TRUE, OPEN = 0, 1, 2


@dataclass
class Items:
    """Which items of each picture satisfy (`sure`) or could satisfy (`may`) the clauses so far, (n,) masks each.

    Attributes:
        world: (n,) bool: no unlisted item could satisfy them.
        named: (n,) category the items were named by, 0 for none.
        countable: (n,) bool.
    """

    sure: Array
    may: Array
    world: Array
    named: Array
    countable: Array


@dataclass
class Item:
    """One item a row: its row in the scenes, or known to be missing, or neither (the question is unsound)."""

    row: Array
    ok: Array
    missing: Array


@dataclass
class Batch:
    """Questions to run: one picture and one id for each slot; attributes are the same for the whole batch.

    Attributes:
        image: (n,) int32 picture. slots: Name → (n,) uint16 vocabulary ids.
        attributes: Slot name → position in `Scenes.attributes` (or `labels`).
    """

    image: Array
    slots: dict[str, Array]
    attributes: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image)


class Runner:
    """Runs programs on one batch."""

    def __init__(self, scenes: Scenes, batch: Batch, skip: Call | None = None):
        self.s, self.b, self.skip = scenes, batch, skip
        self.n = len(batch)
        self._attribute = scenes.attribute_of_value
        self._known: dict[Call, Any] = {}

    def answer(self, program: Call) -> Array:
        """(n,) uint16 vocabulary ids; 0 where the tables do not settle the question."""
        result = self._run(program)
        if isinstance(result, np.ndarray) and result.dtype == np.int8:
            return np.array([NO, YES, NONE], np.uint16)[result]
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
        if call is self.skip:
            assert isinstance(call.arguments[0], Call)
            return self._run(call.arguments[0])
        arguments = [self._run(a) if isinstance(a, Call) else a for a in call.arguments]
        return getattr(self, f"_{call.function}")(*arguments)

    def _scene(self) -> Items:
        count = (self.s.start[self.b.image + 1] - self.s.start[self.b.image]).astype(np.uint64)
        mask = ((np.uint64(1) << count) - np.uint64(1)).astype(self.s.sure.dtype)
        return Items(mask, mask, np.full(self.n, self.s.all_closed), np.zeros(self.n, np.uint16), np.ones(self.n, bool))

    def _filter(self, items: Items, slot: Slot) -> Items:
        ids = self.b.slots[slot.name]
        column = self.s.clause[ids]
        assert (column >= 0).all(), "a slot names something that the catalogue does not have"
        category = self.s.is_category[ids]
        return Items(
            items.sure & self.s.sure[self.b.image, column],
            items.may & self.s.may[self.b.image, column],
            items.world | self.s.closed[ids],
            np.where(category, ids, items.named),
            items.countable & (self.s.countable[ids] | ~category),
        )

    def _unique(self, items: Items) -> Item:
        found = (np.bitwise_count(items.sure) == 1) & (items.may == items.sure)
        one = np.where(found, items.sure, np.ones(1, items.sure.dtype))
        row = self.s.start[self.b.image] + np.bitwise_count(one - one.dtype.type(1))
        row = np.minimum(row, len(self.s.leaf) - 1)
        product = self.s.facts.scene == "product"
        referred = items.world | (self.s.leaf[row] == items.named)
        if product:
            referred |= (items.named == NONE) | (items.named == self.s.root) | self.s.sole[items.named]
        return Item(row, found & referred, (items.may == 0) & items.world)

    def _exist(self, items: Items) -> Array:
        result = np.full(self.n, OPEN, np.int8)
        result[(items.may == 0) & items.world] = FALSE
        result[items.sure != 0] = TRUE
        return result

    def _count(self, items: Items) -> Array:
        number = np.bitwise_count(items.sure).astype(np.uint16)
        known = (items.sure == items.may) & items.world & items.countable & (number <= MAX_INT)
        return np.where(known, number + np.uint16(FIRST_INT), NONE).astype(np.uint16)

    def _verify(self, item: Item, slot: Slot) -> Array:
        ids = self.b.slots[slot.name]
        column = self.s.clause[ids]
        assert (column >= 0).all(), "a slot names something that the catalogue does not have"
        shift = self.s.bit[item.row]
        sure = (self.s.sure[self.b.image, column] >> shift) & 1
        may = (self.s.may[self.b.image, column] >> shift) & 1
        attribute = self._attribute[ids]
        stated = (attribute < 0) | (self.s.state[item.row, np.maximum(attribute, 0)] == S_PRESENT)
        result = np.full(self.n, OPEN, np.int8)
        result[item.ok & (may == 0) & stated] = FALSE
        result[item.ok & (sure == 1)] = TRUE
        return result

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
        known = item.ok & (self.s.state[item.row, number] == S_PRESENT)
        answer = np.where(known, self.s.value[item.row, number], NONE)
        return np.where(item.missing, NOT_PRESENT, answer).astype(np.uint16)

    def _list(self, item: Item, slot: Slot) -> Array:
        number = self.b.attributes[slot.name]
        known = item.ok & (self.s.state[item.row, number] == S_PRESENT) & self.s.complete[item.row, number]
        return np.where(known, self.s.value[item.row, number], NONE).astype(np.uint16)

    def _category(self, item: Item) -> Array:
        return np.where(item.ok, self.s.leaf[item.row], np.where(item.missing, NOT_PRESENT, NONE)).astype(np.uint16)

    def _region(self, item: Item) -> Array:
        return np.where(item.ok, self.s.region[item.row], np.where(item.missing, NOT_PRESENT, NONE)).astype(np.uint16)

    def _label(self, slot: Slot) -> Array:
        return self.s.label[self.b.image, self.b.attributes[slot.name]]

    def _same(self, one: Item, two: Item, slot: Slot) -> Array:
        number = self.b.attributes[slot.name]
        a, b = self.s.value[one.row, number], self.s.value[two.row, number]
        known = one.ok & two.ok & (one.row != two.row)
        known &= (self.s.state[one.row, number] == S_PRESENT) & (self.s.state[two.row, number] == S_PRESENT)
        result = np.full(self.n, OPEN, np.int8)
        result[known & (a == b)] = TRUE
        result[known & ~self.s.compatible[a, b]] = FALSE
        return result

    def _not(self, one: Array) -> Array:
        return np.array([TRUE, FALSE, OPEN], np.int8)[one]

    def _and(self, one: Array, two: Array) -> Array:
        both = np.where((one == TRUE) & (two == TRUE), TRUE, OPEN)
        return np.where((one == FALSE) | (two == FALSE), FALSE, both).astype(np.int8)

    def _or(self, one: Array, two: Array) -> Array:
        return self._not(self._and(self._not(one), self._not(two)))

    def _which(self, one: Array, slot_one: Slot, two: Array, slot_two: Slot) -> Array:
        first, second = self.b.slots[slot_one.name], self.b.slots[slot_two.name]
        result = np.where((one == TRUE) & (two == FALSE), first, NONE)
        return np.where((one == FALSE) & (two == TRUE), second, result).astype(np.uint16)


def degenerate(scenes: Scenes, batch: Batch, program: Call, answer: Array) -> Array:
    """(n,) bool: some `filter` can be left out and the answer stays, in a scene of two or more items."""
    several = scenes.start[batch.image + 1] - scenes.start[batch.image] >= 2
    found = np.zeros(len(batch), bool)
    for call in program.calls():
        if call.function == "filter":
            found |= Runner(scenes, batch, skip=call).answer(program) == answer
    return found & several
