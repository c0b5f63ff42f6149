"""Made-up samples for the exact checks: columns as `programs` gives them, on the words and templates of a real set."""

from __future__ import annotations

from typing import Any

import numpy as np

from fashionkit.datagen.audit.balance_checks import balance_checks
from fashionkit.datagen.audit.counts import Counts, count_batch, empty, facts_of
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.samples import SLOTS
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, YES

Array = Any
OPTIONS = AuditOptions()


def ids(store: VQAStore, kind: str, of: str = "") -> Array:
    """Vocabulary ids of one kind; of the values of one attribute."""
    found = [n for n, k in enumerate(store.vocab.kind) if k == kind and store.vocab.key[n].startswith(of)]
    return np.array(found, np.int64)


def rows(store: VQAStore, template: str, answer: Array, slots: dict[str, Array]) -> dict[str, Array]:
    """Columns of samples of one template, each about a picture of its own as far as there are so many."""
    n, number = len(answer), store.pack.index(template)
    columns = {f"slot{i}": np.zeros(n, np.uint16) for i in range(SLOTS)}
    for i, name in enumerate(store.slots[number]):
        columns[f"slot{i}"] = np.broadcast_to(slots[name], n).astype(np.uint16)
    image = np.arange(n) % len(store.image_ids)
    return {
        "image": image.astype(np.int32),
        "template": np.full(n, number, np.uint16),
        "paraphrase": np.zeros(n, np.uint8),
        **columns,
        "answer": np.asarray(answer, np.uint16),
    }


def counted(store: VQAStore, **splits: list[dict[str, Array]]) -> Counts:
    """Counts of samples by split; each row is a program."""
    facts = facts_of(store)
    total = empty(facts)
    for split, parts in splits.items():
        for part in parts:
            total = total + count_batch(facts, split, part, np.ones(len(part["answer"]), bool))
    return total


def judged(store: VQAStore, options: AuditOptions = OPTIONS, **splits: list[dict[str, Array]]) -> list[Verdict]:
    """The verdicts on samples by split."""
    return balance_checks(store, facts_of(store), counted(store, **splits), options)


def failed(verdicts: list[Verdict]) -> list[tuple[str, str]]:
    """Check and scope of what failed."""
    return [(v.check, v.scope) for v in verdicts if v.verdict == "fail"]


def yes_no(yes: int, n: int) -> Array:
    """(n,) answers, `yes` of them yes."""
    return np.where(np.arange(n) < yes, YES, NO)


def fair_verify(store: VQAStore, rng: np.random.Generator, template: str, n: int) -> dict[str, Array]:
    """Yes/no samples: equal in each combination of slots but for `m`, which is left to chance."""
    half, slots = n // 2, {}
    for name in store.slots[store.pack.index(template)]:
        slot = store.pack.by_id(template).slot(name)
        pool = ids(store, slot.kind, "colour/" if name == "v" else "pattern/" if slot.kind == "value" else "")
        skewed = 1 / np.arange(1, len(pool) + 1)  # a few values are common, as in life
        within = name != "m"
        chosen = rng.choice(pool, half if within else 2 * half, p=skewed / skewed.sum())
        slots[name] = np.concatenate([chosen, chosen]) if within else chosen
    return rows(store, template, np.repeat([YES, NO], half), slots)


def fair_choice(store: VQAStore, rng: np.random.Generator, n: int, template: str = "C2.choose") -> dict[str, Array]:
    """Choices between two values: either is right equally often, and stands first in every second sample."""
    pool, half = ids(store, "value", "colour/"), n // 2
    one = rng.integers(len(pool), size=half)
    two = (one + rng.integers(1, len(pool), half)) % len(pool)
    right, wrong = pool[np.concatenate([one, two])], pool[np.concatenate([two, one])]
    flip = np.arange(2 * half) % 2 == 0
    slots = {"cat": ids(store, "category")[0], "v": np.where(flip, wrong, right), "w": np.where(flip, right, wrong)}
    return rows(store, template, right, slots)
