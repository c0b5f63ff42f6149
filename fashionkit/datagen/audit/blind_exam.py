"""What the question-only models are asked: questions without pictures, grouped into what is judged together.

    Questions ─► kind of answer, the two possible answers, the slots in one order, the cell ─► Exam ─► guesses

Which of two options stands first, and which item of a pair, is put into one order here: a table over
slots then needs half the samples. The words themselves keep their order for the n-gram model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.audit.blind_sample import Questions
from fashionkit.datagen.audit.blind_scopes import Scope, kind_of, same_words, scopes_of
from fashionkit.datagen.audit.counts import facts_of
from fashionkit.datagen.counter import again
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, YES

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Exam:
    """Questions made ready for models; all arrays go with `questions`.

    Attributes:
        questions: What is asked. scopes: What is judged together; every template is in one.
        scope: (n,) positions in `scopes`.
        wording: (n,) template, or the one that asks in the same words: a not-present question follows its leader.
        slots: (n, 4) vocabulary ids; the two options, and the two items of a pair, in ascending order.
        options: (n, 2) the two possible answers, as ordered in `slots`; yes and no; 0 of open questions.
        asked: (n,) attribute that an open question asks for; 0 where its template asks for one thing only.
        cell: (n,) hash of what the answers of a question are balanced within: wording, cell slots, attributes.
    """

    questions: Questions
    scopes: list[Scope]
    scope: Array
    wording: Array
    slots: Array
    options: Array
    asked: Array
    cell: Array

    def rows(self, scope: int) -> Array:
        """Positions of a scope's questions."""
        return np.flatnonzero(self.scope == scope)


def exam_of(store: VQAStore, questions: Questions) -> Exam:
    """Makes the questions of a set ready."""
    pack, facts = store.pack, facts_of(store)
    scopes = scopes_of(pack, set(np.unique(questions.template).tolist()))
    of_template = np.zeros(len(pack.templates), np.int64)
    for number, scope in enumerate(scopes):
        of_template[list(scope.templates)] = number
    leader = [pack.index(str(t.tie)) if same_words(t, pack) else n for n, t in enumerate(pack.templates)]
    wording = np.array(leader, np.int32)[questions.template]
    slots, options = _in_order(store, questions)
    attributes = facts.attribute[slots]
    asked = np.zeros(len(questions), np.int32)
    cell = np.zeros_like(slots)
    for number, t in enumerate(pack.templates):
        rows = np.flatnonzero(questions.template == number)
        names = store.slots[number]
        stored = [i for i, n in enumerate(names) if t.slot(n).kind == "attribute"]
        if stored and kind_of(t, pack) == "open":
            asked[rows] = attributes[rows, stored[-1]]
        for i in (names.index(n) for n in t.cell if n in names):
            cell[rows, i] = slots[rows, i]
    return Exam(
        questions,
        scopes,
        of_template[questions.template],
        wording,
        slots,
        options,
        asked,
        key_of(wording, *cell.T, *attributes.T),
    )


def _in_order(store: VQAStore, questions: Questions) -> tuple[Array, Array]:
    """Slots with options and pairs in ascending order, and the two possible answers."""
    facts = facts_of(store)
    slots, options = questions.slots.copy(), np.zeros((len(questions), 2), np.int32)
    for number, t in enumerate(store.pack.templates):
        rows = np.flatnonzero(questions.template == number)
        kind, names = kind_of(t, store.pack), store.slots[number]
        pair = facts.options[number].tolist() if kind == "choice" else []
        if kind == "yes/no":
            options[rows] = YES, NO
            pair = [names.index(n) for n in ("cat", "cat2")] if t.anchor == "pair" else []
        if pair and len(rows):
            slots[np.ix_(rows, pair)] = np.sort(slots[np.ix_(rows, pair)], axis=1)
        if kind == "choice":
            options[rows] = slots[np.ix_(rows, pair)]
    return slots, options


def key_of(*columns: Any) -> Array:
    """(n,) uint64 hash of rows; columns are whole numbers that broadcast together."""
    key = np.zeros((), np.uint64)
    for column in columns:
        key = again(np.atleast_1d(key ^ np.asarray(column).astype(np.uint64)), 1)
    return key


def distinct(key: Array) -> tuple[Array, Array]:
    """(u,) position of the first row of each different key, and (n,) which of them each row has."""
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def most_frequent(keys: list[Array], answer: Array, learnt: Array) -> Array:
    """(n,) guesses of a table: the answer most frequent among what was learnt with the same key.

    Args:
        keys: (n,) each, from fine to coarse; a coarser one answers where a finer one was not learnt.
        answer: (n,) ids. learnt: (n,) bool.

    Returns:
        Ids; where no key was learnt the most frequent of all, 0 where nothing was. Of equally frequent answers the one
        with the lowest id.
    """
    guess = np.full(len(answer), np.argmax(np.bincount(answer[learnt], minlength=1)), np.int64)
    for key in reversed(keys):
        names, which = np.unique(key, return_inverse=True)
        size = int(answer.max(initial=0)) + 1
        pairs, count = np.unique(which[learnt] * np.int64(size) + answer[learnt], return_counts=True)
        order = np.lexsort((pairs, -count, pairs // size))
        held, first = np.unique((pairs // size)[order], return_index=True)
        best = np.zeros(len(names), np.int64)
        best[held] = (pairs % size)[order][first]
        guess = np.where(best[which] > 0, best[which], guess)
    return guess
