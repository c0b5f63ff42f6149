"""Logistic regression on what a question says: hashed word n-grams, and combinations of its slots.

    words ─► 1- to 3-grams ─┐
    slots ─► all subsets  ──┴► hashed, present in training ─► weights (L-BFGS, Gaussian prior) ─► guessed answers

Both are fitted for each scope apart, an open one for each attribute it asks for, on distinct questions with the number
of times each answer was right: the likelihood is that of all samples at a fraction of the cost. Features also know the
template, which a reader knows from the wording. Method: K. Weinberger et al., "Feature hashing for large scale
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

Array = npt.NDArray[Any]
Features = Callable[[Array], tuple[Array, Array | None]]  # (u,) rows of the exam → (u, f) hashes, (f,) signs
NGRAM = 3
BUCKETS = 1 << 20  # hashed features of a model with one number for each
WEIGHTS = 1 << 23  # most weights of a model with one for each answer
PRIOR = 3.0  # inverse variance of a weight
ITERATIONS = 40
GOLDEN = 0x9E37


def guess_by_slots(exam: Exam) -> Array:
    """(n,) answers guessed from the slots of a question, alone and in all combinations."""
    return _guess(exam, key_of(exam.wording, *exam.slots.T), lambda rows: (slot_features(exam, rows), None))


def guess_by_words(exam: Exam, store: VQAStore) -> Array:
    """(n,) answers guessed from the words of a question and their neighbours."""
    q = exam.questions

    def features(rows: Array) -> tuple[Array, Array | None]:
        texts = store.renderer.questions(q.template[rows], q.paraphrase[rows], list(q.slots[rows].T))
        grams = word_features(texts, exam.wording[rows])
        options = exam.options[rows]
        if not len(rows) or exam.scopes[exam.scope[rows[0]]].kind != "choice":
            return grams, None
        # A word speaks for or against an option by what that option is, wherever it stands.
        sided = [np.where(grams > 0, key_of(grams, options[:, i : i + 1]), np.uint64(0)) for i in (0, 1)]
        return np.concatenate(sided, axis=1), np.repeat([1.0, -1.0], grams.shape[1])

    return _guess(exam, key_of(exam.wording, q.template, q.paraphrase, *q.slots.T), features)


def slot_features(exam: Exam, rows: Array) -> Array:
    """(u, 16) hashes: the template, and every combination of its slots' ids; 0 where a slot of it is unused."""
    wording, slots = exam.wording[rows], exam.slots[rows]
    found = [key_of(wording, GOLDEN)]
    for size in range(1, slots.shape[1] + 1):
        for some in itertools.combinations(range(slots.shape[1]), size):
            key = key_of(wording, sum(1 << i for i in some), *slots[:, some].T)
            found.append(np.where((slots[:, some] > 0).all(1), key, np.uint64(0)))
    return np.stack(found, axis=1)


def word_features(texts: pa.Array, wording: Array) -> Array:
    """(u, f) hashes of the 1- to 3-grams of each text, apart by template; 0 fills short texts."""
    words = pc.utf8_split_whitespace(pc.replace_substring_regex(pc.utf8_lower(texts), "[^\\w'\\s-]", ""))
    coded = words.flatten().dictionary_encode()
    known = [
        int.from_bytes(blake2b(w.encode(), digest_size=8).digest(), "little") for w in coded.dictionary.to_pylist()
    ]
    length = pc.list_value_length(words).to_numpy(zero_copy_only=False)
    token = np.zeros((len(texts), int(length.max(initial=1))), np.uint64)
    token[np.arange(token.shape[1]) < length[:, None]] = np.array(known, np.uint64)[coded.indices.to_numpy()]
    found = [key_of(wording, GOLDEN)[:, None]]
    for size in range(1, NGRAM + 1):
        last = token.shape[1] - size + 1
        gram = [token[:, i : i + last] for i in range(size)]
        if last > 0:
            found.append(np.where(gram[-1] > 0, key_of(wording[:, None], size, *gram), np.uint64(0)))
    return np.concatenate(found, axis=1)


def _guess(exam: Exam, question: Array, features: Features) -> Array:
    """(n,) guesses of models fitted for each scope and asked attribute; `question` tells equal questions."""
    guess = np.zeros(len(exam.scope), np.int64)
    learnt, answer = ~exam.questions.judged, exam.questions.answer
    for number, scope in enumerate(exam.scopes):
        inside = exam.rows(number)
        for attribute in np.unique(exam.asked[inside]):
            rows = inside[exam.asked[inside] == attribute]
            if not learnt[rows].any() or learnt[rows].all():
                continue
            first, which = distinct(question[rows])
            hashes, signs = features(rows[first])
            known = np.bincount(which[learnt[rows]], minlength=len(first)) > 0
            if scope.kind == "open":
                guess[rows] = _many(hashes, known, which, answer[rows], learnt[rows])
            else:
                right = answer[rows] == exam.options[rows, 0]
                first_right = _two(hashes, signs, known, which[learnt[rows]], right[learnt[rows]])
                guess[rows] = np.where(first_right[which], exam.options[rows, 0], exam.options[rows, 1])
    return guess


def _two(hashes: Array, signs: Array | None, known: Array, which: Array, right: Array) -> Array:
    """(u,) bool: the first of the two possible answers is the more probable one."""
    bags = Bags.of(hashes, signs, known, BUCKETS)
    asked = torch.from_numpy(np.bincount(which, minlength=len(hashes))[known].astype(np.float32))
    won = torch.from_numpy(np.bincount(which[right], minlength=len(hashes))[known].astype(np.float32))

    def cost(logits: Tensor) -> tuple[Tensor, Tensor]:
        z = logits[:, 0]
        return (asked * F.softplus(z) - won * z).sum(), (asked * torch.sigmoid(z) - won)[:, None]

    weights = _minimise(bags.learnt(known), 1, cost, float(asked.sum()))
    return np.asarray(bags.forward(weights)[:, 0].numpy() > 0)


def _many(hashes: Array, known: Array, which: Array, answer: Array, learnt: Array) -> Array:
    """(n,) the most probable answer of each row among those seen in training."""
    answers, side = np.unique(answer[learnt], return_inverse=True)
    width = 1 << max(1, int(np.log2(WEIGHTS // len(answers))))
    bags = Bags.of(hashes, None, known, min(BUCKETS, width))
    count = np.bincount(which[learnt] * len(answers) + side, minlength=len(hashes) * len(answers))
    counts = torch.from_numpy(count.reshape(len(hashes), len(answers))[known].astype(np.float32))
    total = counts.sum(1, keepdim=True)

    def cost(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p = logits.log_softmax(1)
        return -(counts * log_p).sum(), total * log_p.exp() - counts

    weights = _minimise(bags.learnt(known), len(answers), cost, float(total.sum()))
    return np.asarray(answers[bags.forward(weights).argmax(1).numpy()][which])


@dataclass(frozen=True)
class Bags:
    """Sparse rows of features with values 1 or -1.

    Attributes:
        index: (e,) feature of each entry, rows one after the other. start: (u,) where each row begins.
        value: (e,) or None for ones. features: How many there are.
    """

    index: Tensor
    start: Tensor
    value: Tensor | None
    features: int

    @staticmethod
    def of(hashes: Array, signs: Array | None, known: Array, buckets: int) -> Bags:
        """Rows of hashes (0: none), numbered by bucket; buckets that no known row has are left out."""
        bucket = (hashes % np.uint64(buckets)).astype(np.int64)
        used = np.zeros(buckets, bool)
        used[bucket[known][hashes[known] > 0]] = True
        held = (hashes > 0) & used[bucket]
        number = np.cumsum(used) - 1
        value = None
        if signs is not None:
            value = torch.from_numpy(np.broadcast_to(signs.astype(np.float32), hashes.shape)[held])
        start = np.cumsum(held.sum(1)) - held.sum(1)
        return Bags(torch.from_numpy(number[bucket[held]]), torch.from_numpy(start), value, int(used.sum()))

    def forward(self, weights: Tensor) -> Tensor:
        """(u, a) sums of the weights (f, a) of each row."""
        return F.embedding_bag(self.index, weights, self.start, mode="sum", per_sample_weights=self.value)

    def learnt(self, known: Array) -> Bags:
        """The known rows alone."""
        ends = torch.cat([self.start[1:], torch.tensor([len(self.index)])])
        size = (ends - self.start).numpy()
        held = torch.from_numpy(np.repeat(known, size))
        start = np.cumsum(size[known]) - size[known]
        value = None if self.value is None else self.value[held]
        return Bags(self.index[held], torch.from_numpy(start), value, self.features)

    def transposed(self) -> Bags:
        """Rows and features in each other's place."""
        order = torch.argsort(self.index, stable=True)
        count = torch.bincount(self.index, minlength=self.features)
        ends = torch.cat([self.start[1:], torch.tensor([len(self.index)])])
        row = torch.repeat_interleave(torch.arange(len(self.start)), ends - self.start)
        value = None if self.value is None else self.value[order]
        return Bags(row[order], torch.cumsum(count, 0) - count, value, len(self.start))


def _minimise(bags: Bags, width: int, cost: Callable[[Tensor], tuple[Tensor, Tensor]], total: float) -> Tensor:
    """(f, width) weights that minimise cost and prior; `cost` gives its value and its slope by the logits."""
    back = bags.transposed()
    weights = torch.zeros(bags.features, width, requires_grad=True)
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
            value, slope = cost(bags.forward(weights))
            weights.grad = (back.forward(slope) + PRIOR * weights) / total
            return (value + PRIOR / 2 * (weights**2).sum()) / total

    solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()
