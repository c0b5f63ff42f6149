"""The questions of a set as a worker meets them: each is put into words once, however many samples ask it.

    part ─► batches of id columns, checked ─► distinct (template, wording, slots) ─► met before? ─┐
                                                                                     no ─► text ──┼─► its hash, and
                                                              and with each answer: no ─► text ───┘   what it gives away

Memory holds a batch and the questions met, some millions at most, so it does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.datagen.audit.counts import facts_of, programs
from fashionkit.datagen.audit.wording import distinct, folded, hashes, questions_of, words_of
from fashionkit.datagen.samples import SAMPLE_SPLITS, SLOTS
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
Rows = dict[str, Array]
Part = tuple[str, Path]  # split, file

TEXTS = 1 << 16  # put into words at a time
MOST = 1 << 21  # questions remembered
COLUMNS = ("template", "paraphrase", *(f"slot{i}" for i in range(SLOTS)))


class Numbers:
    """Numbers for keys, counting up in the order in which they are first met.

    Attributes:
        key, number: (m,) int64, ascending keys with their numbers.
    """

    def __init__(self) -> None:
        self.key, self.number = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.key)

    def of(self, key: Array) -> tuple[Array, Array]:
        """(k,) the numbers of distinct ascending keys, and (k,) bool: which of them are new."""
        place = np.searchsorted(self.key, key)
        new = np.append(self.key, -1)[place] != key
        number = np.append(self.number, -1)[place]
        number[new] = np.arange(len(self), len(self) + int(new.sum()))
        self.number = np.insert(self.number, place[new], number[new])
        self.key = np.insert(self.key, place[new], key[new])
        return number, new


class Questions:
    """What a set can ask, and what was met of it.

    Args:
        store: The set.

    Attributes:
        facts: Of its templates and words. open: (T,) bool: the question may not hold the answer.
        held: (T, wordings) bool: kept for the paraphrase split.
        same: (vocab,) a number for each answer text.
        heard: (2, m) uint64: both hashes of each text of the paraphrase split, the first ones ascending.
        code, repeats: By number of a question: the hash of its text; whether the paraphrase split has it.
        gives: By number of a question with an answer: whether the text says the answer.
    """

    def __init__(self, store: VQAStore):
        templates, vocab = store.pack.templates, store.vocab
        self.store, self.facts = store, facts_of(store)
        self.forms = np.array([len(t.paraphrases) for t in templates])
        self.held = np.zeros((len(templates), int(self.forms.max())), bool)
        names = {name: number for number, name in enumerate(dict.fromkeys(["none", *vocab.kind]))}
        self._kind = np.array([names[kind] for kind in vocab.kind])  # of each id
        self._kinds = np.zeros((SLOTS, len(templates)), np.int64)  # of what each slot holds
        for row, (t, slots) in enumerate(zip(templates, store.slots, strict=True)):
            self.held[row, : len(t.paraphrases)] = [form.held_out for form in t.paraphrases]
            self._kinds[: len(slots), row] = [names.get(t.slot(name).kind, -1) for name in slots]
        closed = self.facts.binary | self.facts.choice
        self.open = ~closed & np.array([t.family != "N1" for t in templates])
        self.same = folded(pa.array(vocab.text)).dictionary_encode().indices.to_numpy()
        self.heard = np.zeros((2, 0), np.uint64)
        self._words: dict[int, tuple[str, ...]] = {}
        self._limits = [len(templates), self.held.shape[1], *[len(vocab)] * SLOTS]
        self.forget()

    def forget(self) -> None:
        """Starts anew; numbers given before mean nothing any more."""
        self._asked, self._answered = Numbers(), Numbers()
        self.code, self.repeats = np.zeros(0, np.uint64), np.zeros(0, bool)
        self.gives = np.zeros(0, bool)

    def read(self, part: Part) -> Iterator[Rows]:
        """Batches of a part: columns of ids, `split`, and `first` of each program's wordings.

        Raises:
            InputError: The part is damaged or names an id that its template cannot say.
        """
        split, path = part
        for columns, first in programs(path, self.facts):
            self._check(path, columns)
            if max(len(self._asked), len(self._answered)) > MOST or prod(self._limits) >= 1 << 62:
                self.forget()  # too many; or so many words that the keys of `ask` hold for one batch only
            yield {**columns, "first": first, "split": np.full(len(first), SAMPLE_SPLITS.index(split), np.uint8)}

    def _check(self, path: Path, columns: Rows) -> None:
        """Refuses wordings that a template does not have, and slots with ids of another kind than theirs."""
        template, pack = columns["template"], self.store.pack.templates
        forms = self.forms.take(template)
        if (columns["paraphrase"] >= forms).any():
            at = int(np.flatnonzero(columns["paraphrase"] >= forms)[0])
            problem = f"{pack[template[at]].id} has the wordings 0 to {forms[at] - 1}"
            raise InputError(problem, file=path, column="paraphrase", found=int(columns["paraphrase"][at]))
        for number in range(SLOTS):
            name = f"slot{number}"
            wrong = self._kind.take(columns[name]) != self._kinds[number].take(template)
            if wrong.any():
                at = int(np.flatnonzero(wrong)[0])
                t, names = pack[template[at]], self.store.slots[template[at]]
                problem = f"{t.id} has {len(names)} slots"
                if number < len(names):
                    problem = f"{names[number]!r} of {t.id} holds a {t.slot(names[number]).kind}"
                key = self.store.vocab.key[columns[name][at]]
                raise InputError(f"{problem}, and this is something else", file=path, column=name, found=key)

    def hashes_of(self, part: Part) -> Array:
        """(m, 2) uint64: both hashes of the distinct questions of a part."""
        found = [np.zeros((0, 2), np.uint64)]
        for rows in self.read(part):
            for _, texts in self._put(rows, self.distinct(rows)[0]):
                found.append(np.stack([hashes(texts, 0), hashes(texts, 1)], 1))
        return np.unique(np.concatenate(found), axis=0)

    def ask(self, rows: Rows) -> Array:
        """(n,) the number of the question of each row."""
        at, question, key = self.distinct(rows)
        number, new = self._asked.of(key)
        for _, texts in self._put(rows, at[new]):
            code = hashes(texts, 0)
            self.code = np.append(self.code, code)
            self.repeats = np.append(self.repeats, self._among_heard(texts, code))
        return number.take(question)

    def answer(self, rows: Rows, number: Array) -> tuple[Array, Array]:
        """(m,) rows of open templates, and (m,) bool: whether their question says their answer.

        Args:
            rows: A batch. number: (n,) what `ask` gave it.
        """
        vocab = self.facts.vocab
        some = np.flatnonzero(self.open.take(rows["template"]))
        at, pair, key = distinct([number[some], rows["answer"][some]], [len(self._asked), vocab])
        given, new = self._answered.of(key)
        for lo, texts in self._put(rows, some[at[new]]):
            answer = rows["answer"][some[at[new]][lo : lo + len(texts)]]
            self.gives = np.append(self.gives, self._says(texts, answer))
        return some, self.gives.take(given).take(pair)

    def distinct(self, rows: Rows) -> tuple[Array, Array, Array]:
        """The distinct questions of some rows, as `wording.distinct` gives them."""
        return distinct([rows[name] for name in COLUMNS], self._limits)

    def _put(self, rows: Rows, at: Array) -> Iterator[tuple[int, pa.Array]]:
        """Some rows in words, folded, a few at a time, with the place of the first."""
        for lo in range(0, len(at), TEXTS):
            yield lo, folded(questions_of(self.store, rows, at[lo : lo + TEXTS]))

    def _among_heard(self, texts: pa.Array, code: Array) -> Array:
        """(n,) bool: texts, whose first hash is given, of which both hashes stand in `heard`."""
        place = np.searchsorted(self.heard[0], code)
        found: Array = np.append(self.heard[0], 0)[place] == code
        found &= place < self.heard.shape[1]
        at = np.flatnonzero(found)
        found[at] = hashes(texts.take(pa.array(at)), 1) == self.heard[1, place[at]]
        return found

    def _says(self, texts: pa.Array, answer: Array) -> Array:
        """(n,) bool: the text holds words that say the answer."""
        found = np.zeros(len(texts), bool)
        order = np.argsort(answer, kind="stable")
        answers, start = np.unique(answer[order], return_index=True)
        for number, lo, hi in zip(answers.tolist(), start, [*start, len(order)][1:], strict=True):
            if number not in self._words:
                self._words[number] = words_of(self.store, number)
            said = texts.take(pa.array(order[lo:hi]))
            for word in self._words[number]:
                found[order[lo:hi]] |= pc.match_substring(said, word).to_numpy(zero_copy_only=False)
        return found
