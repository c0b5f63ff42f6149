"""Made-up questions for the models that never look: on the words and templates of a real set, answers as planted."""

from __future__ import annotations

from typing import Any

import numpy as np

from fashionkit.datagen.audit.blind_sample import Questions
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, YES
from tests.datagen.audit.made_up import ids

Array = Any
POOL = {"category": "", "attribute": "", "region": "", "v": "colour/", "w": "colour/", "m": "pattern/"}


def pool(store: VQAStore, template: str, slot: str) -> Array:
    """Ids that a slot may hold."""
    kind = store.pack.by_id(template).slot(slot).kind
    return ids(store, kind, POOL[slot] if kind == "value" else "")


def ask(store: VQAStore, template: str, rng: np.random.Generator, n: int, questions_a_group: int = 4) -> Questions:
    """Questions with slots at random and yes or no, or the first option, by the toss of a coin; a quarter is judged."""
    t, number = store.pack.by_id(template), store.pack.index(template)
    slots = np.zeros((n, 4), np.int32)
    for i, name in enumerate(store.slots[number]):
        slots[:, i] = rng.choice(pool(store, template, name), n)
    if t.balance == "choice":
        v, w = (store.slots[number].index(name) for name in ("v", "w"))
        others = pool(store, template, "v")
        step = rng.integers(1, len(others), n)
        slots[:, w] = others[(np.searchsorted(others, slots[:, v]) + step) % len(others)]
        answer = np.where(rng.random(n) < 0.5, slots[:, v], slots[:, w])
    else:
        answer = np.where(rng.random(n) < 0.5, YES, NO)
    texts = np.flatnonzero([not p.held_out for p in t.paraphrases])
    return Questions(
        qid=np.arange(n),
        template=np.full(n, number, np.int32),
        paraphrase=rng.choice(texts, n).astype(np.int32),
        slots=slots,
        answer=answer.astype(np.int32),
        group=(np.arange(n) // questions_a_group).astype(np.int32),
        split=np.where(np.arange(n) < n * 3 // 4, 0, 1 + np.arange(n) // questions_a_group % 2).astype(np.uint8),
    )


def slot(store: VQAStore, template: str, questions: Questions, name: str) -> Array:
    """(n,) ids of one slot."""
    found: Array = questions.slots[:, store.slots[store.pack.index(template)].index(name)]
    return found


def tilt(rng: np.random.Generator, questions: Questions, towards: Array, share: float) -> Questions:
    """Answers anew: of the two possible ones `towards` (n,) with probability `share`; yes or no."""
    right = rng.random(len(questions)) < share
    answer = np.where(right == towards, YES, NO).astype(np.int32)
    return changed(questions, answer=answer)


def changed(questions: Questions, **columns: Array) -> Questions:
    """With other columns."""
    return Questions(**{**vars(questions), **columns})


def judging(judged: Array) -> Array:
    """(n,) splits: what is judged is half val, half test, the rest train."""
    return np.where(judged, 1 + np.arange(len(judged)) % 2, 0).astype(np.uint8)


def together(*parts: Questions) -> Questions:
    """Several as one; each keeps pictures of its own."""
    first = np.cumsum([0, *(int(p.group.max()) + 1 for p in parts)])
    moved = [changed(p, group=p.group + f) for p, f in zip(parts, first, strict=False)]
    return Questions(**{n: np.concatenate([getattr(p, n) for p in moved]) for n in vars(parts[0])})
