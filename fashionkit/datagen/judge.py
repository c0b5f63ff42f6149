"""Runs a unit's candidates: answers, what is refused and why, difficulty, and the cell each sample is balanced in.

    Candidates ─► program ─► answer ─► refused? (unsettled, degenerate, leak, held out) ─► cell, side, difficulty

Difficulty is d = w1 z(surprisal) + w2 z(confusability) + w3 z(smallness) + w4 z(predicted loss); a sample is preferred
with weight clip(exp(beta d), 1/c, c). Preference never touches balance: it only decides which samples of a cell are
kept. What a model's feedback says of whole cells works before: of easy ones a share of the candidates is left out by
lot, both sides alike, so that hard ones have more of the set.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.catalog.ontology import fold
from fashionkit.datagen.counter import again
from fashionkit.datagen.feedback import Feedback
from fashionkit.datagen.grammar import Grammar
from fashionkit.datagen.negatives import Drawer
from fashionkit.datagen.packs import Pack, Template
from fashionkit.datagen.program import Runner, degenerate
from fashionkit.datagen.propose import Candidates, option_slots
from fashionkit.datagen.scene import Scenes
from fashionkit.datagen.units import Unit
from fashionkit.datagen.vocab import FIRST_INT, LOOK, MAX_INT, NONE, NOT_PRESENT, YES

Array = npt.NDArray[Any]
SPLIT_NAMES = ("train", "val", "test", "compositional")
COMPOSITIONAL = 3
DEGENERATE_FAMILIES = ("B6", "C3", "C4", "C5")
STEPS = 16  # difficulty is stored in steps of 1/16
LIMIT = 4.0


@dataclass(frozen=True)
class DifficultyOptions:
    """How much each part of difficulty counts, and how strongly hard samples are preferred (beta, clip).

    Attributes:
        loss: Weight of the loss that a model's feedback gives a cell: how much more of the set hard kinds of questions
            have. item_loss: Weight of the loss that it gives a picture and an item: which samples of a cell are kept.
    """

    surprisal: float = 1.0
    confusability: float = 1.0
    smallness: float = 0.5
    loss: float = 0.0
    item_loss: float = 0.0
    beta: float = 0.7
    clip: float = 4.0


@dataclass
class Judged:
    """What the program says of each candidate.

    Attributes:
        answer: (n,) ids, 0 where refused. split: (n,) index into SPLIT_NAMES. refused: Reason → count.
        surprisal, confusable: (n,) float32.
    """

    answer: Array
    split: Array
    refused: Counter[str]
    surprisal: Array
    confusable: Array


@dataclass
class Moments:
    """Running sums over a unit's valid candidates, for z-scores of surprisal and confusability."""

    n: int = 0
    sums: Array = field(default_factory=lambda: np.zeros((2, 2)))

    def add(self, judged: Judged) -> None:
        """Takes in the valid candidates of one block; blocks come in order, so the sums are the same in every run."""
        valid = judged.answer != NONE
        self.n += int(valid.sum())
        for row, part in enumerate((judged.surprisal[valid], judged.confusable[valid])):
            self.sums[row] += part.sum(dtype=np.float64), (part.astype(np.float64) ** 2).sum()

    @property
    def mean(self) -> Array:
        """(2,) means."""
        return self.sums[:, 0] / max(self.n, 1)

    @property
    def deviation(self) -> Array:
        """(2,) standard deviations; 1 where nothing varies."""
        variance = self.sums[:, 1] / max(self.n, 1) - self.mean**2
        return np.where(variance > 1e-9, np.sqrt(np.maximum(variance, 0)), 1.0)


@dataclass(frozen=True)
class Layout:
    """How a unit's cells are numbered: `cell` slots by (first id, how many), then splits, then sides."""

    slots: tuple[tuple[str, int, int], ...]
    side_base: int
    sides: int

    @property
    def size(self) -> int:
        """Number of (cell, split, side) codes."""
        size = len(SPLIT_NAMES) * self.sides
        for _, _, count in self.slots:
            size *= count
        return size


class Judge:
    """Judges candidates of any unit.

    Args:
        scenes, pack, drawers: As for `Proposer`. noun, look: What the root and the picture are called.
        feedback: What a model found hard; needed where the options give its losses a weight.
    """

    def __init__(
        self,
        scenes: Scenes,
        pack: Pack,
        drawers: dict[str, Drawer],
        options: DifficultyOptions,
        noun: str,
        look: str,
        feedback: Feedback | None = None,
    ):
        self.s, self.pack, self.drawers, self.options = scenes, pack, drawers, options
        self.grammar = Grammar(scenes.vocab, scenes.root, noun, look)
        self.leak = leak_table(scenes)
        self.answer_words = _answer_words(scenes)
        self.misnames = misname_table(scenes)
        self.literal_leak = {n: self._literals(t) for n, t in enumerate(pack.templates)}
        d = np.arange(-int(LIMIT * STEPS), int(LIMIT * STEPS) + 1) / STEPS
        self.predicted = feedback.scores(scenes) if feedback is not None and options.item_loss else None
        self.feedback = feedback if options.loss else None
        self.shares: dict[Unit, tuple[Array, Array, float]] = {}
        self.weight = np.clip(np.exp(options.beta * d), 1 / options.clip, options.clip)

    def judge(self, unit: Unit, c: Candidates, with_difficulty: bool = True) -> Judged:
        """Answers and refusals of a unit's candidates."""
        t = self.pack.templates[unit.template]
        answer = Runner(self.s, c.batch).answer(t.program)
        if t.family == "N1":
            answer = np.where(answer == NOT_PRESENT, answer, NONE).astype(np.uint16)
        refused: Counter[str] = Counter()
        if c.unclear:
            refused["not the only item it could mean"] = c.unclear
        answer = self._refuse(refused, "not settled by the tables", answer, answer == NONE)
        if t.family in DEGENERATE_FAMILIES:
            answer = self._refuse(
                refused, "a clause changes nothing", answer, degenerate(self.s, c.batch, t.program, answer)
            )
        if t.leak and t.balance != "binary" and t.family not in ("N1", "B5"):  # yes and no stand in no question
            answer = self._refuse(refused, "the question holds the answer", answer, self._leaks(unit, t, c, answer))
        answer = self._refuse(refused, "reads like the name of another category", answer, self._misnames(t, c))
        if self.feedback is not None and t.family != "N1":  # which follows what it is tied to
            answer = self._refuse(
                refused, "easy for the model whose feedback the spec names", answer, self._easy(unit, c)
            )
        split, held = self._split(t, c, answer)
        answer = self._refuse(refused, "composition held out for the test", answer, held & (split < 2))
        split = np.where(held & (split == 2), COMPOSITIONAL, split).astype(np.uint8)
        if not with_difficulty:
            empty = np.zeros(0, np.float32)
            return Judged(answer, split, refused, empty, empty)
        surprisal, confusable = self._hardness(unit, t, c, answer)
        return Judged(answer, split, refused, surprisal, confusable)

    def _refuse(self, refused: Counter[str], reason: str, answer: Array, where: Array) -> Array:
        count = int((where & (answer != NONE)).sum()) if reason != "not settled by the tables" else int(where.sum())
        if count:
            refused[reason] += count
            return np.where(where, NONE, answer).astype(np.uint16)
        return answer

    def _leaks(self, unit: Unit, t: Template, c: Candidates, answer: Array) -> Array:
        leaks = self.literal_leak[unit.template][answer]
        for slot in t.slots:
            leaks = leaks | self.leak[c.batch.slots[slot.name], answer]
        return leaks

    def _misnames(self, t: Template, c: Candidates) -> Array:
        """(n,) bool: a noun names another category with the value before it, or that says nothing (`misname_table`)."""
        found = np.zeros(len(c.batch), bool)
        for value, noun in modifiers(t):
            found |= self.misnames[c.batch.slots[value], c.batch.slots[noun]]
        return found

    def _literals(self, t: Template) -> Array:
        """(vocabulary,) bool: the answer stands in the fixed words of a paraphrase."""
        texts = [" ".join(p for p in q.parts if isinstance(p, str)) for q in t.paraphrases]
        if any("{name look}" in q.text for q in t.paraphrases):
            texts.append(self.grammar.look_noun)
        return _contains(texts, self.answer_words, len(self.s.vocab))

    def _split(self, t: Template, c: Candidates, answer: Array) -> tuple[Array, Array]:
        """Split of the picture, and where the sample rests on a held-out composition."""
        s = self.s
        split = s.split.take(c.batch.image)
        if t.anchor == "image":
            return split, np.zeros(len(split), bool)
        held = np.zeros(len(split), bool)
        if s.held_out.any():
            values = [c.batch.slots[x.name] for x in t.slots if x.kind == "value"]
            contexts = [s.leaf.take(c.row)] + ([s.leaf.take(c.row2)] if t.anchor == "pair" else [])
            contexts += [c.batch.slots[x.name] for x in t.slots if x.kind == "category"]
            if t.program.functions() & {"query", "list", "same"}:
                values.append(answer)
            if "same" in t.program.functions():
                number = next(iter(c.batch.attributes.values()))
                values += [s.value[c.row, number], s.value[c.row2, number]]
            ever: Array = np.asarray(s.held_out.any(axis=0))
            for value in values:
                few = np.flatnonzero(ever.take(value))
                ids = value[few].astype(np.int64)
                found = np.zeros(len(few), bool)
                for context in contexts:
                    found |= s.held_out.reshape(-1).take(context[few] * np.int64(len(ever)) + ids)
                held[few] |= found
        return split, held

    def _hardness(self, unit: Unit, t: Template, c: Candidates, answer: Array) -> tuple[Array, Array]:
        """Surprisal -log p(answer) and similarity to the nearest wrong answer, (n,) float32 each."""
        p, k = np.ones(len(answer), np.float32), np.zeros(len(answer), np.float32)
        # Options change places, so both count, or the order would sway which samples are kept.
        options = option_slots(t) if t.balance == "choice" and any(c.drawn[n].any() for n in option_slots(t)) else ()
        # B5 negates a B2 or B1 question and must rank its candidates as that one does.
        yes = (answer == YES) != (t.family == "B5")
        for slot in t.slots:
            ids = c.batch.slots[slot.name]
            at = c.row if slot.item == 1 else c.row2
            if slot.kind == "value":
                drawer = self.drawers[self._attribute(unit, t, str(slot.of))]
            elif slot.kind == "category" and (slot.drawn or slot.name in options) and t.family != "N1":
                drawer = self.drawers["category"]
            else:
                continue
            context = self._context(t, at)
            local = ids.astype(np.int64) - drawer.base
            own = self._own(t, unit, slot.of, at, drawer)
            share = drawer.prior.reshape(-1).take(context * drawer.n + local)
            near = drawer.similar.reshape(-1).take(own * drawer.n + local)
            near = np.where(c.drawn[slot.name], near, drawer.hardest.take(local))
            if t.balance == "binary" or t.family == "B5":
                p *= np.where(yes, share, 1 - share)
            elif t.balance == "choice":
                p *= np.where(c.drawn[slot.name], 1, share)
            k = np.maximum(k, near)
        if t.balance in ("tempered", "tied") and (answer != NONE).any():
            p, k = self._open(unit, t, c, answer, p, k)
        return -np.log(np.maximum(p, np.float32(1e-4))), k

    def _open(self, unit: Unit, t: Template, c: Candidates, answer: Array, p: Array, k: Array) -> tuple[Array, Array]:
        functions = t.program.functions()
        if functions & {"query", "label"} and t.family not in ("N1", "B5"):
            drawer = self.drawers[unit.attributes[-1]]
        elif "category" in functions:
            drawer = self.drawers["category"]
        else:
            return p, k
        local = np.where(answer == NONE, 0, answer.astype(np.int64) - drawer.base)
        context = self._context(t, c.row)
        share = drawer.prior[context, local] if "category" not in functions else drawer.prior.max(0, initial=0)[local]
        return p * share, np.maximum(k, drawer.hardest[local])

    def _context(self, t: Template, at: Array) -> Array:
        return np.full(len(at), LOOK, np.int64) if t.anchor == "image" else self.s.leaf.take(at).astype(np.int64)

    def _own(self, t: Template, unit: Unit, of: str | None, at: Array, drawer: Drawer) -> Array:
        """Local ids of what is true of the anchor, for the similarity of what was drawn instead."""
        if of is None:
            return self.s.leaf.take(at).astype(np.int64) - drawer.base
        name = self._attribute(unit, t, of)
        if t.anchor == "image":
            own = self.s.label[at, self.s.labels.index(name)]
        else:
            own = self.s.value.reshape(-1).take(at * len(self.s.attributes) + self.s.attributes.index(name))
        return np.clip(own.astype(np.int64) - drawer.base, 0, drawer.n - 1)

    def _attribute(self, unit: Unit, t: Template, slot: str) -> str:
        return unit.attributes[[x.name for x in t.attribute_slots].index(slot)]

    def layout(self, unit: Unit) -> Layout:
        """The numbering of a unit's cells."""
        t, vocab = self.pack.templates[unit.template], self.s.vocab
        ranges = []
        for name in t.cell:
            slot = t.slot(name)
            if slot.kind == "value":
                drawer = self.drawers[self._attribute(unit, t, str(slot.of))]
                ranges.append((name, drawer.base, drawer.n))
            else:
                ids = vocab.category if slot.kind == "category" else vocab.region
                ranges.append((name, min(ids.values()), len(ids)))
        if t.balance in ("binary", "choice") or t.family == "B5":
            return Layout(tuple(ranges), 0, 2)
        if t.balance == "tied":
            return Layout(tuple(ranges), NOT_PRESENT, 1)
        base, sides = self._answers(unit, t)
        return Layout(tuple(ranges), base, sides)

    def _answers(self, unit: Unit, t: Template) -> tuple[int, int]:
        functions, vocab = t.program.functions(), self.s.vocab
        if functions & {"query", "label"}:
            drawer = self.drawers[unit.attributes[-1]]
            return drawer.base, drawer.n
        if "count" in functions:
            return FIRST_INT, MAX_INT + 1
        if "list" in functions:
            sets = [n for n in vocab.sets.values() if vocab.attribute_of(n) == unit.attributes[-1]]
            return min(sets), max(sets) - min(sets) + 1
        ids = vocab.category if "category" in functions else vocab.region
        return min(ids.values()), len(ids)

    def codes(self, unit: Unit, layout: Layout, c: Candidates, judged: Judged) -> Array:
        """(n,) int64 (cell, split, side) code of each valid candidate; meaningless where the answer is 0."""
        t = self.pack.templates[unit.template]
        if t.balance == "choice":
            side = (judged.answer == np.minimum(*(c.batch.slots[n] for n in option_slots(t)))).astype(np.int64)
        elif layout.sides == 2:
            side = (judged.answer == YES).astype(np.int64)
        else:
            side = judged.answer.astype(np.int64) - layout.side_base
        code = cell_codes(t, layout, c.batch.slots, len(judged.answer))
        return (code * len(SPLIT_NAMES) + judged.split) * layout.sides + side

    def _easy(self, unit: Unit, c: Candidates) -> Array:
        """(n,) bool: left out by lot, so that of a cell the share stays that its predicted loss gives it."""
        t, layout = self.pack.templates[unit.template], self.layout(unit)
        if unit not in self.shares:
            self.shares[unit] = self._cell_shares(unit, t, layout)
        known, share, other = self.shares[unit]
        kept = np.full(len(c.bits), other)
        if len(known):
            code = cell_codes(t, layout, c.batch.slots, len(kept))
            at = np.minimum(np.searchsorted(known, code), len(known) - 1)
            kept = np.where(known[at] == code, share[at], other)
        lot = (again(c.bits, 55) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return lot >= kept

    def _cell_shares(self, unit: Unit, t: Template, layout: Layout) -> tuple[Array, Array, float]:
        """Cells that the feedback knows, ascending, the share of candidates that each keeps, and that of all others."""
        assert self.feedback is not None
        o, vocab = self.options, self.s.vocab
        name = str(t.tie) if t.family == "B5" else t.id  # a negation keeps what its statement keeps
        ids, effect = self.feedback.cells(name, unit.attributes, vocab, [(base, n) for _, base, n in layout.slots])
        code = cell_codes(t, layout, dict(zip(t.cell, ids.T, strict=True)), len(effect))

        def weight(e: Array | float) -> Array:
            return np.clip(np.exp(o.beta * o.loss * np.asarray(e)), 1 / o.clip, o.clip)

        # The hardest cell of a family keeps all it has: how much the family has of the set is not for feedback to say.
        family = next(one.family for one in self.pack.templates if one.id == name)
        top = float(weight(self.feedback.hardest({one.id for one in self.pack.templates if one.family == family})))
        order = np.argsort(code)
        return code[order], (weight(effect) / top)[order], float(weight(0.0)) / top

    def difficulty(self, unit: Unit, row: Array, judged: Judged, moments: Moments) -> Array:
        """(n,) int16 steps of 1/16 in -64..64, from z-scores by the unit's own moments."""
        o = self.options
        z = o.surprisal * (judged.surprisal - moments.mean[0]) / moments.deviation[0]
        z = z + o.confusability * (judged.confusable - moments.mean[1]) / moments.deviation[1]
        if self.pack.templates[unit.template].anchor != "image":
            z = z + o.smallness * self.s.small[row]
        if self.predicted is not None:
            of_image, of_item = self.predicted
            z = z + o.item_loss * (of_image if self.pack.templates[unit.template].anchor == "image" else of_item)[row]
        return np.clip(np.rint(z * STEPS), -LIMIT * STEPS, LIMIT * STEPS).astype(np.int16)

    def race(self, bits: Array, steps: Array) -> Array:
        """(n,) float64 keys in 0..1; the lowest of a cell are kept (sequential Poisson sampling, Ohlsson 1998).

        A uniform number over the sample's weight: heavy (hard) samples tend to come first.
        """
        u = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return u / (self.weight[steps + int(LIMIT * STEPS)] * self.options.clip)


def interchangeable(t: Template) -> tuple[str, ...]:
    """Two slots that say the same in either order: options, and "a hat and a bag" or "a bag and a hat"."""
    if t.balance == "choice":
        return option_slots(t)
    return ("cat", "cat2") if t.anchor == "pair" and (t.balance == "binary" or t.family == "B5") else ()


def cell_codes(t: Template, layout: Layout, slots: dict[str, Array], n: int) -> Array:
    """(n,) int64 number of the cell; `slots` holds (n,) vocabulary ids by name."""
    columns = {name: slots[name] for name, _, _ in layout.slots}
    if pair := interchangeable(t):
        one, two = (slots[name] for name in pair)
        columns |= {pair[0]: np.minimum(one, two), pair[1]: np.maximum(one, two)}
    code = np.zeros(n, np.int64)
    for name, base, count in layout.slots:
        code = code * count + (columns[name].astype(np.int64) - base)
    return code


def _answer_words(s: Scenes) -> dict[tuple[str, ...], list[int]]:
    """Token sequence → ids that saying it would give away: by their text or a synonym."""
    found: dict[tuple[str, ...], list[int]] = {}
    for number, (kind, key) in enumerate(zip(s.vocab.kind, s.vocab.key, strict=True)):
        words = [s.vocab.text[number]]
        if kind == "category":
            words += [*s.ontology.categories[key].synonyms]
        elif kind == "value":
            attribute, name = key.split("/", 1)
            words += [*s.ontology.attributes[attribute].values[name].synonyms]
        elif kind not in ("region", "set"):
            words = []
        for word in words:
            if word:
                found.setdefault(tuple(fold(word).split()), []).append(number)
    return found


def _grams(text: str) -> set[tuple[str, ...]]:
    tokens = fold(text).replace("'s", "").split()
    return {tuple(tokens[i:j]) for i in range(len(tokens)) for j in range(i + 1, len(tokens) + 1)}


def _contains(texts: list[str], words: dict[tuple[str, ...], list[int]], size: int) -> Array:
    """(size,) bool: ids whose words stand in one of the texts."""
    found = np.zeros(size, bool)
    for text in texts:
        plain = "".join(ch if ch.isalnum() or ch in "'-" else " " for ch in text)
        for gram in _grams(plain):
            found[words.get(gram, [])] = True
    return found


def modifiers(t: Template) -> set[tuple[str, str]]:
    """(value slot, category slot): the value is said right before the category in some text."""
    kinds = {slot.name: slot.kind for slot in t.slots}
    found = set()
    for place in (part for q in t.paraphrases for part in q.parts if not isinstance(part, str)):
        for at, noun in enumerate(place.slots):
            if kinds.get(noun) == "category":
                found |= {(value, noun) for value in place.slots[:at] if kinds.get(value) == "value"}
    return found


def misname_table(s: Scenes) -> Array:
    """(vocabulary, vocabulary) bool over (value, category): the two together read like another category, or like none.

    "Casual" sandals called "shoes" are no casual shoes, "smart-casual shoes" say "casual shoes", and a sports shoe that
    is for "sports" is a sports shoe in any case.
    """
    table = np.zeros((len(s.vocab), len(s.vocab)), bool)
    words = s.ontology.category_words
    for (attribute, key), value in s.vocab.value.items():
        adjective = s.ontology.attributes[attribute].values[key].adj
        if not adjective:
            continue
        before = fold(adjective).split()
        for name, category in s.vocab.category.items():
            noun = fold(s.ontology.categories[name].name).split()
            both = [" ".join([*before[i:], *noun]) for i in range(len(before))]
            table[value, category] = any(phrase in words for phrase in both) or noun[: len(before)] == before
    return table


def leak_table(s: Scenes) -> Array:
    """(vocabulary, vocabulary) bool: saying the first in any of its forms says the second."""
    words = _answer_words(s)
    table = np.zeros((len(s.vocab), len(s.vocab)), bool)
    for number, (kind, key) in enumerate(zip(s.vocab.kind, s.vocab.key, strict=True)):
        texts: list[str] = []
        if kind == "category":
            c = s.ontology.categories[key]
            texts = [c.name, c.plural, c.unit]
        elif kind == "value":
            attribute, name = key.split("/", 1)
            v = s.ontology.attributes[attribute].values[name]
            texts = [t for t in (v.name, v.adj, v.pred, v.post) if t]
        elif kind == "region":
            r = s.ontology.regions[key]
            texts = [r.name, r.phrase]
        elif kind == "attribute":
            a = s.ontology.attributes[key]
            texts = [a.name, a.plural, *a.ask]
        if texts:
            table[number] = _contains(texts, words, len(s.vocab))
    return table
