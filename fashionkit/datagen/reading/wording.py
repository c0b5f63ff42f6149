"""Questions of small batches as Python strings, without a loop over templates.

    (template, paraphrase, slots) ─► a code a question ─► known ──────────────────────────────┬─► texts
                                                      └─► new: form % its words, kept as known ┘
                                                                      └─ a code a word ─► known, or the grammar's

`Renderer` works through one template after the other, which is the quicker way for a million rows at once; a thousand
random rows hold hundreds of forms. Both ask the same grammar, and a test holds their texts together. Many pictures are
asked the same question, so texts are kept, up to a limit: the first to come are the most frequent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.packs import Place, Template
from fashionkit.datagen.reading.texts import Texts
from fashionkit.datagen.render import Renderer
from fashionkit.datagen.samples import SLOTS
from fashionkit.datagen.vocab import LOOK

Array = npt.NDArray[Any]
# Columns of the ids that a place may ask for: the slots, the attributes of the values in them, two nouns, nothing.
_ATTRIBUTE, _LOOK, _ROOT, _NOTHING = SLOTS, 2 * SLOTS, 2 * SLOTS + 1, 2 * SLOTS + 2
MOST_CODES = 1 << 62
KEPT = 1 << 20  # questions that a process keeps, and words: some 100 MB where there are so many


class Wording:
    """Writes questions.

    Args:
        renderer: Whose texts these are. kept: Most questions that are kept in memory.
    """

    def __init__(self, renderer: Renderer, kept: int = KEPT):
        self.renderer, self.kept = renderer, kept
        self._radix = len(renderer.grammar.vocab) + 1
        self._weights = np.array([self._radix**i for i in range(SLOTS - 1, -1, -1)], np.uint64).astype(np.int64)
        self._functions: list[tuple[str, bool]] = []
        self._compile()
        codes = max(len(self._formats), len(self._functions)) * self._radix**SLOTS
        self.fits = codes < MOST_CODES  # else there are some 10,000 ids, and `Renderer` writes everything
        self._known, self._full = Texts(kept), False
        self._words = Texts(kept)

    @property
    def full(self) -> bool:
        """Whether no further question is kept."""
        return not self.fits or self._full

    def questions(self, template: Array, paraphrase: Array, slots: Array) -> list[str]:
        """n texts.

        Args:
            template: (n,) positions in the pack. paraphrase: (n,) positions in the template's texts.
            slots: (n, 4) vocabulary ids.
        """
        if not self.fits:
            return self.renderer.questions(template, paraphrase, list(slots.T)).to_pylist()
        form = self._first_form[template] + paraphrase
        codes = form * self._radix**SLOTS + slots @ self._weights
        at = self._known.find(codes)
        new = np.flatnonzero(at < 0)
        if not len(new):
            return self._known.take(at)
        fresh, first, which = np.unique(codes[new], return_index=True, return_inverse=True)
        written = self._write(form[new[first]], slots[new[first]])
        texts = np.empty(len(codes), object)
        texts[at >= 0] = self._known.take(at[at >= 0])
        texts[new] = np.array(written, object)[which]
        self._full = not self._known.add(fresh, written)
        return texts.tolist()

    def _write(self, form: Array, slots: Array) -> list[str]:
        """n texts of the forms; slots are (n, 4)."""
        counts = self._places[form]
        row = np.repeat(np.arange(len(form)), counts)
        ends = np.cumsum(counts)
        place = form[row], np.arange(len(row)) - (ends - counts)[row]
        ids = self._ids(slots)[row[:, None], self._source[place]]  # places, 4
        words = self._look_up(self._function[place] * self._radix**SLOTS + ids @ self._weights)
        spans = zip(form.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True)
        return [self._formats[f] % tuple(words[lo:hi]) for f, lo, hi in spans]

    def _compile(self) -> None:
        """The forms: texts with `%s` for places, and what each place asks for."""
        templates, stored = self.renderer.pack.templates, self.renderer.slots
        forms = [(n, q.parts) for n, t in enumerate(templates) for q in t.paraphrases]
        self._first_form = np.cumsum([0, *(len(t.paraphrases) for t in templates)])
        self._formats: list[str] = []
        self._places = np.array([sum(isinstance(p, Place) for p in parts) for _, parts in forms], np.int64)
        shape = len(forms), int(self._places.max(initial=0))
        self._function, self._source = np.zeros(shape, np.int64), np.full((*shape, SLOTS), _NOTHING, np.int64)
        for form, (number, parts) in enumerate(forms):
            places = [(at == 0, part) for at, part in enumerate(parts) if isinstance(part, Place)]
            for column, (first, place) in enumerate(places):
                self._function[form, column] = self._number(place.function, first)
                source = [_source(templates[number], stored[number], name) for name in place.slots]
                self._source[form, column, : len(source)] = source
            text = "".join("%s" if isinstance(part, Place) else part.replace("%", "%%") for part in parts)
            self._formats.append(text[:1].upper() + text[1:])
        vocab = self.renderer.grammar.vocab
        self._attribute = np.zeros(len(vocab), np.int64)
        for (attribute, _), value in vocab.value.items():
            self._attribute[value] = vocab.attribute[attribute]

    def _number(self, function: str, first: bool) -> int:
        """Position of a place's function in `_functions`; at the start of a sentence it is another."""
        if (function, first) not in self._functions:
            self._functions.append((function, first))
        return self._functions.index((function, first))

    def _ids(self, slots: Array) -> Array:
        """(n, 11) int64; 0 stands for nothing, so that ids count from 1."""
        ids = np.zeros((len(slots), _NOTHING + 1), np.int64)
        ids[:, :SLOTS] = slots
        ids[:, _ATTRIBUTE:_LOOK] = self._attribute[slots]
        ids[:, _LOOK], ids[:, _ROOT] = LOOK, self.renderer.grammar.root
        ids[:, :_NOTHING] += 1
        return ids

    def _look_up(self, codes: Array) -> list[str]:
        """Words of the codes; the grammar says those that are new."""
        at = self._words.find(codes)
        if (at < 0).any():
            new = np.unique(codes[at < 0])
            if len(self._words) + len(new) > self.kept:
                self._words, new = Texts(max(self.kept, len(codes))), np.unique(codes)
            self._words.add(new, self._say(new))
            at = self._words.find(codes)
        return self._words.take(at)

    def _say(self, codes: Array) -> list[str]:
        functions, ids = np.divmod(codes, self._radix**SLOTS)
        digits = ids[:, None] // self._weights % self._radix  # n, 4
        texts = []
        for function, row in zip(functions.tolist(), digits.tolist(), strict=True):
            name, first = self._functions[function]
            text = self.renderer.grammar.say(name, tuple(digit - 1 for digit in row if digit))
            texts.append(text[:1].upper() + text[1:] if first else text)
        return texts


def _source(t: Template, stored: Sequence[str], name: str) -> int:
    """The column of `Wording._ids` that fills a slot of a place."""
    if name in stored:
        return stored.index(name)
    if name in ("look", "root"):
        return _LOOK if name == "look" else _ROOT
    return _ATTRIBUTE + stored.index(next(s.name for s in t.slots if s.of == name))
