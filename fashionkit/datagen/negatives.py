"""Which wrong answers are hard: priors, confusability, and tables to draw negatives from in one gather.

    P(v | a, category)  ∝  (1 - eps) · exp(k(v, a) / T) · p(v | category)^gamma  +  eps · uniform

over values v that are known not to hold together with a. k is a similarity in 0..1: distance in CIE Lab where both
values are colours, else words and line of descent; a model's feedback mixes in how often it takes a for v. p is counted
on the train split, smoothed towards the attribute's overall shares. The form is ours (the FashionVQA abstract only says
that difficulty is considered).

Each (category, value) row is stored as `GUIDE` equal slots (inverse distribution), so a draw is one look-up, and draws
of one item are spread evenly over the row, which makes them mostly distinct.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.catalog.ontology import Ontology, Value, fold
from fashionkit.datagen.feedback import Feedback
from fashionkit.datagen.scene import S_PRESENT, Scenes
from fashionkit.datagen.vocab import LOOK, NONE

Array = npt.NDArray[Any]
GUIDE = 512
SMOOTHING = 5.0


@dataclass(frozen=True)
class NegativeOptions:
    """How hard negatives are.

    Attributes:
        temperature: T; lower draws more similar values.
        gamma: Exponent of the prior.
        uniform: eps, the share drawn evenly.
        draws: Values drawn for each item and attribute.
        alpha: Share of the similarity in k; the rest is the confusion of the feedback.
    """

    temperature: float = 0.1
    gamma: float = 0.5
    uniform: float = 0.15
    draws: int = 4
    alpha: float = 1.0


@dataclass
class Drawer:
    """Confusable alternatives and priors of one attribute (or of categories).

    Attributes:
        base, n: The ids it covers: base .. base + n - 1.
        prior: (rows of `context`, n) float32 p(value | context), smoothed, on train.
        similar: (n, n) float32 k in 0..1 of what is true (row) and what is not.
        hardest: (n,) similarity of the most similar value that excludes it.
        codes: Sorted context << 16 | own id; guide: (codes, GUIDE) ids to draw, 0 where nothing can be drawn.
    """

    base: int
    n: int
    prior: Array
    similar: Array
    hardest: Array
    codes: Array
    guide: Array

    def draw(self, context: Array, own: Array, at: Array, draws: int) -> Array:
        """(draws, n) ids; 0 where there is nothing, or where an earlier draw of the same item gave the same.

        Args:
            context: (n,) category ids, or LOOK.
            own: (n,) id that is true.
            at: (n,) uint64 random numbers.
            draws: How many, spread evenly over the row.
        """
        row, known = self._rows(context, own)
        result = np.stack([self._at(row, at, j, draws) for j in range(draws)])
        # A row lists equal ids side by side, so an id drawn twice is drawn in neighbouring draws, the last and the
        # first of which are neighbours too.
        again = np.zeros(result.shape, bool)
        again[1:] = result[1:] == result[:-1]
        wrapped = result == result[0]
        again[1:] |= wrapped[1:]
        result[again] = NONE
        result[:, ~known] = NONE
        return result

    def _rows(self, context: Array, own: Array) -> tuple[Array, Array]:
        code = context.astype(np.int64) << 16 | own
        row = np.minimum(np.searchsorted(self.codes, code), len(self.codes) - 1)
        return row, self.codes[row] == code

    def _at(self, row: Array, at: Array, number: int | Array, draws: int) -> Array:
        first = (at & np.uint64(GUIDE - 1)).astype(np.int64)
        ids: Array = self.guide.reshape(-1)[row * GUIDE + ((first + number * GUIDE // draws) & (GUIDE - 1))]
        return ids


def lab(rgb: tuple[int, int, int]) -> Array:
    """CIE L*a*b* (D65) of an sRGB colour, each of 0..255."""
    c = np.array(rgb, float) / 255
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ c
    f = np.array([v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1.0, 1.089]])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def value_similarity(one: Value, two: Value) -> float:
    """k in 0..1: colours by distance in Lab (40 apart: 1/e), others by shared words and parent."""
    if one.rgb is not None and two.rgb is not None:
        return float(np.exp(-np.linalg.norm(lab(one.rgb) - lab(two.rgb)) / 40))
    words = set(fold(one.name).split()), set(fold(two.name).split())
    shared = len(words[0] & words[1]) / len(words[0] | words[1])
    family = 0.4 if one.parent is not None and one.parent == two.parent else 0.0
    return min(1.0, 0.2 + 0.4 * shared + family)


def category_similarity(onto: Ontology, one: str, two: str) -> float:
    """k in 0..1: depth of the nearest common ancestor over the mean depth (Wu and Palmer 1994), same region added."""
    a, b = (one, *onto.ancestors(one)), (two, *onto.ancestors(two))
    common = next((len(a) - i for i, key in enumerate(a) if key in b), 0)
    same = onto.region_of(one) == onto.region_of(two)
    return 0.7 * 2 * common / (len(a) + len(b)) + 0.3 * same


def category_similarities(onto: Ontology) -> Array:
    """(n, n) float32 `category_similarity` of all categories, in the ontology's order."""
    keys = list(onto.categories)
    at = {key: n for n, key in enumerate(keys)}
    line = np.zeros((len(keys), len(keys)), np.float32)  # row: a category; column: it or an ancestor of it
    for key in keys:
        line[at[key], [at[k] for k in (key, *onto.ancestors(key))]] = 1
    depth = line.sum(1)
    regions = [onto.region_of(key) or "" for key in keys]
    same = np.equal.outer(np.array(regions), np.array(regions))
    result: Array = 0.7 * 2 * (line @ line.T) / np.add.outer(depth, depth) + np.float32(0.3) * same
    return result.astype(np.float32)


def value_drawer(s: Scenes, name: str, options: NegativeOptions, feedback: Feedback | None = None) -> Drawer:
    """The drawer of an item attribute or image label."""
    attribute = s.ontology.attributes[name]
    keys = list(attribute.values)
    base = s.vocab.value[name, keys[0]]
    values = list(attribute.values.values())
    similar = np.array([[value_similarity(a, b) for b in values] for a in values], np.float32)
    if feedback is not None and options.alpha < 1:
        similar = feedback.confusable(s.vocab, base, similar, options.alpha)
    if attribute.scope == "image":
        own = s.label[:, s.labels.index(name)]
        rows = np.flatnonzero(own != NONE)
        context, train = np.full(len(rows), LOOK), s.split[rows] == 0
        own = own[rows]
    else:
        a = s.attributes.index(name)
        rows = np.flatnonzero(s.state[:, a] == S_PRESENT)
        own, context, train = s.value[rows, a], s.leaf[rows], s.split[s.image[rows]] == 0
    members = [[m - base for m in (s.vocab.members[v] or (v,))] for v in range(len(s.vocab))]
    return _drawer(s, base, similar, context, own, train, members, options)


def category_drawer(s: Scenes, options: NegativeOptions, groups: bool, feedback: Feedback | None = None) -> Drawer:
    """Draws categories to ask about: labels used in the catalogue, or the groups above them."""
    onto, vocab = s.ontology, s.vocab
    keys = list(vocab.category)
    base, n = vocab.category[keys[0]], len(keys)
    similar = category_similarities(onto)
    if feedback is not None and options.alpha < 1:
        similar = feedback.confusable(vocab, base, similar, options.alpha)
    train = s.split[s.image] == 0
    if not groups:
        silent = {vocab.category[k] for k in keys if not onto.categories[k].spoken}
        members = [[v - base] if base <= v < base + n and v not in silent else [] for v in range(len(vocab))]
        return _drawer(s, base, similar, s.leaf, s.leaf, train, members, options)
    chains = {
        vocab.category[k]: [vocab.category[a] - base for a in onto.ancestors(k)[:-1] if onto.categories[a].spoken]
        for k in keys
    }
    members = [chains.get(v, []) for v in range(len(vocab))]
    labels = np.unique(s.leaf).astype(np.int64) - base  # a group that is a label too is drawn as a label
    return _drawer(s, base, similar, s.leaf, s.leaf, train, members, options, labels)


def _drawer(
    s: Scenes,
    base: int,
    similar: Array,
    context: Array,
    own: Array,
    train: Array,
    members: list[list[int]],
    options: NegativeOptions,
    never: Array | None = None,
) -> Drawer:
    n = len(similar)
    counts = np.zeros((len(s.vocab), n))
    codes, many = np.unique(context[train].astype(np.int64) << 16 | own[train], return_counts=True)
    for code, count in zip(codes.tolist(), many, strict=True):
        counts[code >> 16, members[code & 0xFFFF]] += count
    overall = counts.sum(0)
    share = (overall + 1e-3) / (overall.sum() + 1e-3 * n)
    total = counts.sum(1, keepdims=True)
    prior = ((counts + SMOOTHING * share) / (total + SMOOTHING)).astype(np.float32)
    codes = np.unique(context.astype(np.int64) << 16 | own)
    seen = np.zeros(n, bool)
    for code in codes.tolist():
        seen[members[code & 0xFFFF]] = True
    excludes = ~s.compatible[base : base + n, base : base + n]
    hardest = np.where(excludes & seen[None, :], similar, 0).max(1, initial=0)
    if never is not None:
        seen[never] = False
    guide = np.zeros((max(len(codes), 1), GUIDE), np.uint16)
    for row, code in enumerate(codes.tolist()):
        guide[row] = _guide(base, similar, excludes, seen, prior[code >> 16], members[code & 0xFFFF], options)
    return Drawer(base, n, prior, similar, hardest, codes if len(codes) else np.array([-1]), guide)


def _guide(
    base: int, similar: Array, excludes: Array, seen: Array, prior: Array, own: Iterable[int], options: NegativeOptions
) -> Array:
    own = list(own)
    allowed = np.flatnonzero(seen & excludes[own].all(0)) if own else np.empty(0, int)
    if not len(allowed):
        return np.zeros(GUIDE, np.uint16)
    hard = np.exp((similar[own].max(0)[allowed] - 1) / options.temperature) * prior[allowed] ** options.gamma
    p = (1 - options.uniform) * hard / hard.sum() + options.uniform / len(allowed)
    at = np.searchsorted(np.cumsum(p) / p.sum(), (np.arange(GUIDE) + 0.5) / GUIDE)
    return (base + allowed[np.minimum(at, len(allowed) - 1)]).astype(np.uint16)
