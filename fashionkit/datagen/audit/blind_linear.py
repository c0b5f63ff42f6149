"""Logistic regression on what a question says: hashed word n-grams, and combinations of its slots.

    words ─► 1- to 3-grams ─┐
    slots ─► all subsets  ──┴► hashed, present in training ─► weights (L-BFGS, Gaussian prior) ─► guessed answers

Both are fitted for each scope apart, an open one for each attribute it asks for, on distinct questions with the number
of times each answer was right: the likelihood is that of all samples at a fraction of the cost. Features also know the
template, which a reader knows from the wording. How strong the prior is, is chosen for val by test and for test by val:
what is judged has no part in the choice. (A part of train could not choose: its cells are balanced as a whole, so what
one part has too much of, the rest has too little of.) Method: K. Weinberger et al., "Feature hashing for large scale
multitask learning", arXiv 0902.2206; D. C. Liu and J. Nocedal, Math. Programming 45 (1989) 503-528.

Both directions of the product with the sparse features are sums over bags, so no gradient is ever recorded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.nn import functional as F

from fashionkit.datagen.audit.blind_exam import Exam, distinct, key_of
from fashionkit.datagen.store import VQAStore
from fashionkit.engine.threads import one_thread

Array = npt.NDArray[Any]
Features = Callable[[Array], tuple[Array, Array]]  # (u,) rows of the exam → (u, f) hashes, (f,) values
NGRAM = 3
BUCKETS = 1 << 20  # hashed features of a model with one number for each
WEIGHTS = 1 << 23  # most weights of a model with one for each answer
PRIORS = (300.0, 30.0, 3.0)  # inverse variances of a weight to choose from
ITERATIONS = 40
GOLDEN = 0x9E37


def guess_by_slots(exam: Exam) -> Array:
    """(n,) answers guessed from the slots of a question, alone and in all combinations."""
    return _guess(exam, key_of(exam.wording, *exam.slots.T), lambda rows: slot_features(exam, rows))


def guess_by_words(exam: Exam, store: VQAStore) -> Array:
    """(n,) answers guessed from the words of a question and their neighbours."""
    q = exam.questions

    def features(rows: Array) -> tuple[Array, Array]:
        texts = store.renderer.questions(q.template[rows], q.paraphrase[rows], list(q.slots[rows].T))
        grams, values = word_features(texts, exam.wording[rows])
        if exam.scopes[exam.scope[rows[0]]].kind != "choice":
            return grams, values
        # A word speaks for or against an option by what that option is, wherever it stands.
        options = exam.options[rows]
        sided = [np.where(grams > 0, key_of(grams, options[:, i : i + 1]), np.uint64(0)) for i in (0, 1)]
        return np.concatenate(sided, axis=1), np.concatenate([values, -values])

    return _guess(exam, key_of(exam.wording, q.template, q.paraphrase, *q.slots.T), features)


def slot_features(exam: Exam, rows: Array) -> tuple[Array, Array]:
    """(u, 16) hashes: the template, and every combination of its slots' ids, 0 where one is unused; (16,) values."""
    wording, slots = exam.wording[rows], exam.slots[rows]
    found = [key_of(wording, GOLDEN)]
    for size in range(1, slots.shape[1] + 1):
        for some in itertools.combinations(range(slots.shape[1]), size):
            key = key_of(wording, sum(1 << i for i in some), *slots[:, some].T)
            found.append(np.where((slots[:, some] > 0).all(1), key, np.uint64(0)))
    return np.stack(found, axis=1), np.ones(len(found))


def word_features(texts: pa.Array, wording: Array) -> tuple[Array, Array]:
    """(u, f) hashes of the 1- to 3-grams of each text, apart by template, 0 where a text is short; (f,) values."""
    words = pc.utf8_split_whitespace(pc.replace_substring_regex(pc.utf8_lower(texts), "[^\\w'\\s-]", ""))
    coded = words.flatten().dictionary_encode()
    digests = [blake2b(w.encode(), digest_size=8).digest() for w in coded.dictionary.to_pylist()]
    known = np.array([int.from_bytes(d, "little") for d in digests], np.uint64)
    length = pc.list_value_length(words).to_numpy(zero_copy_only=False)
    token = np.zeros((len(texts), int(length.max(initial=1))), np.uint64)
    token[np.arange(token.shape[1]) < length[:, None]] = known[coded.indices.to_numpy()]
    found = [key_of(wording, GOLDEN)[:, None]]
    for size in range(1, min(NGRAM, token.shape[1]) + 1):
        gram = [token[:, i : i + token.shape[1] - size + 1] for i in range(size)]
        found.append(np.where(gram[-1] > 0, key_of(wording[:, None], size, *gram), np.uint64(0)))
    hashes = np.concatenate(found, axis=1)
    return hashes, np.ones(hashes.shape[1])


@one_thread()
def _guess(exam: Exam, question: Array, features: Features) -> Array:
    """(n,) guesses of models fitted for each scope and asked attribute; `question` tells equal questions."""
    q, guess = exam.questions, np.zeros(len(exam.scope), np.int64)
    for number in range(len(exam.scopes)):
        inside = exam.rows(number)
        guesses = np.zeros((len(PRIORS), len(inside)), np.int64)
        for attribute in np.unique(exam.asked[inside]):
            some = np.flatnonzero(exam.asked[inside] == attribute)
            judged = q.judged[inside[some]]
            if judged.any() and not judged.all():
                guesses[:, some] = _block(exam, inside[some], question, features)
        guess[inside] = _chosen(guesses, q.answer[inside], q.split[inside])
    return guess


def _block(exam: Exam, rows: Array, question: Array, features: Features) -> Array:
    """(priors, r) guesses for questions of one scope that ask for one attribute."""
    q, two = exam.questions, exam.scopes[exam.scope[rows[0]]].kind != "open"
    first, which = distinct(question[rows])
    learnt = ~q.judged[rows]
    answer = q.answer[rows[learnt]]
    names, side = np.unique(answer, return_inverse=True)
    if two:
        side = (answer != exam.options[rows[learnt], 0]).astype(np.int64)
    size = 2 if two else len(names)
    count = np.bincount(which[learnt] * size + side, minlength=len(first) * size).reshape(-1, size)
    best = _fitted(*features(rows[first]), count.astype(np.float32), two)[:, which]
    one, other = exam.options[rows].T
    return np.where(best == 0, one, other) if two else names[best]


def _chosen(guesses: Array, answer: Array, split: Array) -> Array:
    """(r,) the guesses of the prior that does best on the other of the two judged splits; in train the middle one's."""
    found = guesses[len(PRIORS) // 2].copy()
    for judged, other in ((1, 2), (2, 1)):
        if (split == other).any():
            right = (guesses == answer)[:, split == other].mean(1)
            found[split == judged] = guesses[int(np.argmax(right))][split == judged]
    return found


def _fitted(hashes: Array, values: Array, counts: Array, two: bool) -> Array:
    """(priors, u) the most probable answer of each question, by number.

    Args:
        hashes: (u, f) features. values: (f,) theirs. counts: (u, a) how often each answer was right in training.
        two: A single score tells the two answers apart.
    """
    known, width = counts.sum(1) > 0, 1 if two else counts.shape[1]
    bags = Bags.of(hashes, values, known, min(BUCKETS, 1 << int(np.log2(WEIGHTS // width))))
    fit, held = bags.learnt(known), torch.from_numpy(counts[known])
    weights, found = torch.zeros(bags.features, width), []
    for prior in PRIORS:
        weights = _minimise(fit, weights, prior, held, _two_cost if two else _many_cost)
        scores = bags.forward(weights).numpy()
        found.append((scores[:, 0] < 0).astype(np.int64) if two else scores.argmax(1))
    return np.stack(found)


def _two_cost(scores: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of (r, 2) counts by (r, 1) scores of the first answer, and its slope."""
    z, asked = scores[:, 0], counts.sum(1)
    return (asked * F.softplus(z) - counts[:, 0] * z).sum(), (asked * torch.sigmoid(z) - counts[:, 0])[:, None]


def _many_cost(scores: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The same of (r, a) counts by (r, a) scores."""
    log_p = scores.log_softmax(1)
    return -(counts * log_p).sum(), counts.sum(1, keepdim=True) * log_p.exp() - counts


@dataclass(frozen=True)
class Bags:
    """Sparse rows of features.

    Attributes:
        index: (e,) feature of each entry, rows one after the other. start: (u,) where each row begins.
        value: (e,) float32. features: How many there are.
    """

    index: Tensor
    start: Tensor
    value: Tensor
    features: int

    @staticmethod
    def of(hashes: Array, values: Array, known: Array, buckets: int) -> Bags:
        """Rows of hashes (0: none), numbered by bucket; buckets that no known row has are left out."""
        bucket = (hashes % np.uint64(buckets)).astype(np.int64)
        used = np.zeros(buckets, bool)
        used[bucket[known][hashes[known] > 0]] = True
        held = (hashes > 0) & used[bucket]
        number = np.cumsum(used) - 1
        value = np.broadcast_to(values.astype(np.float32), hashes.shape)[held]
        start = np.cumsum(held.sum(1)) - held.sum(1)
        index = torch.from_numpy(number[bucket[held]])
        return Bags(index, torch.from_numpy(start), torch.from_numpy(value), int(used.sum()))

    def forward(self, weights: Tensor) -> Tensor:
        """(u, a) sums of the weights (f, a) of each row."""
        return F.embedding_bag(self.index, weights, self.start, mode="sum", per_sample_weights=self.value)

    def learnt(self, known: Array) -> Bags:
        """The known rows alone."""
        size = self._sizes().numpy()
        held = torch.from_numpy(np.repeat(known, size))
        start = np.cumsum(size[known]) - size[known]
        return Bags(self.index[held], torch.from_numpy(start), self.value[held], self.features)

    def transposed(self) -> Bags:
        """Rows and features in each other's place."""
        order = torch.argsort(self.index, stable=True)
        count = torch.bincount(self.index, minlength=self.features)
        row = torch.repeat_interleave(torch.arange(len(self.start)), self._sizes())
        return Bags(row[order], torch.cumsum(count, 0) - count, self.value[order], len(self.start))

    def _sizes(self) -> Tensor:
        """(u,) entries of each row."""
        return torch.diff(self.start, append=torch.tensor([len(self.index)]))


def _minimise(
    bags: Bags, start: Tensor, prior: float, counts: Tensor, cost: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> Tensor:
    """(f, a) weights with the least cost of `counts` and prior together, sought from `start` on."""
    back, total = bags.transposed(), max(float(counts.sum()), 1.0)
    weights = start.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weights],
        max_iter=ITERATIONS,
        history_size=5,
        tolerance_grad=1e-6,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        with torch.no_grad():
            value, slope = cost(bags.forward(weights), counts)
            weights.grad = (back.forward(slope) + prior * weights) / total
            return (value + prior / 2 * (weights**2).sum()) / total

    solver.step(closure)
    return weights.detach()
