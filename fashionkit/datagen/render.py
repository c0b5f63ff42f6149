"""Text from ids, whole columns at a time.

    samples ─► by (template, paraphrase) ─► each place: distinct slot ids said once by the grammar ─► joined by Arrow

The grammar is asked once for each distinct combination of ids in a place, so a million questions cost a few thousand
calls of Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.datagen.grammar import Grammar
from fashionkit.datagen.packs import Pack, Place, Template
from fashionkit.datagen.vocab import LOOK

Array = npt.NDArray[Any]


class Renderer:
    """Renders questions and answers of one question set.

    Args:
        pack: Its templates. grammar: Its words. slots: For each template the names of the stored slots.
    """

    def __init__(self, pack: Pack, grammar: Grammar, slots: Sequence[Sequence[str]]):
        self.pack, self.grammar, self.slots = pack, grammar, slots
        self.answers = pa.array(grammar.vocab.text)
        vocab = grammar.vocab
        self._attribute = np.zeros(len(vocab), np.uint16)
        for (attribute, _), number in vocab.value.items():
            self._attribute[number] = vocab.attribute[attribute]
        self._said: dict[tuple[str, bool], dict[tuple[int, ...], str]] = {}

    def questions(self, template: Array, paraphrase: Array, slots: Sequence[Array]) -> pa.Array:
        """(n,) texts.

        Args:
            template: (n,) positions in the pack. paraphrase: (n,) positions in the template's texts.
            slots: Columns of (n,) vocabulary ids.
        """
        if not len(template):
            return pa.array([], pa.string())
        code = template.astype(np.int64) << 8 | paraphrase
        order = np.argsort(code, kind="stable")
        codes, first = np.unique(code[order], return_index=True)
        parts = []
        for value, lo, hi in zip(codes.tolist(), first, [*first, len(order)][1:], strict=True):
            rows = order[lo:hi]
            parts.append(self._form(value >> 8, value & 255, [s[rows] for s in slots]))
        inverse = np.empty(len(order), np.int64)
        inverse[order] = np.arange(len(order))
        return pa.concat_arrays(parts).take(pa.array(inverse))

    def answer_texts(self, answer: Array) -> pa.Array:
        """(n,) canonical answers."""
        return self.answers.take(pa.array(answer))

    def _form(self, template: int, paraphrase: int, slots: list[Array]) -> pa.Array:
        """All questions of one paraphrase."""
        t = self.pack.templates[template]
        columns = dict(zip(self.slots[template], slots, strict=False))
        n = len(slots[0])
        pieces: list[Any] = []
        for place, part in enumerate(t.paraphrases[paraphrase].parts):
            first = place == 0
            if isinstance(part, str):
                pieces.append(pa.scalar(part[:1].upper() + part[1:] if first else part))
            else:
                ids = [self._ids(t, name, columns, n) for name in part.slots]
                pieces.append(self._place(part, ids, first))
        texts = pc.binary_join_element_wise(*pieces, "")
        return texts if isinstance(texts, pa.Array) else pa.array([texts.as_py()] * n)

    def _ids(self, t: Template, name: str, columns: dict[str, Array], n: int) -> Array:
        """A stored slot, the attribute that a stored value implies, or one of the two nouns that are always there."""
        if name in columns:
            return columns[name]
        if name in ("look", "root"):
            return np.full(n, LOOK if name == "look" else self.grammar.root, np.uint16)
        value = next(s.name for s in t.slots if s.of == name)
        return self._attribute[columns[value]]

    def _place(self, place: Place, ids: list[Array], first: bool) -> pa.Array:
        code = np.zeros(len(ids[0]), np.int64)
        for column in ids:
            code = code << 16 | column  # at most four slots of 16 bits
        distinct, index, inverse = np.unique(code, return_index=True, return_inverse=True)
        said = self._said.setdefault((place.function, first), {})
        words = []
        for at in index.tolist():
            key = tuple(int(column[at]) for column in ids)
            if key not in said:
                text = self.grammar.say(place.function, key)
                said[key] = text[:1].upper() + text[1:] if first else text
            words.append(said[key])
        assert len(distinct) == len(words)
        return pa.array(words).take(pa.array(inverse))
