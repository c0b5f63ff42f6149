"""What is judged together, what a model may answer, and the table that stands for chance."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fashionkit.datagen.audit.blind_exam import exam_of, key_of, most_frequent
from fashionkit.datagen.audit.blind_sample import draw_questions
from fashionkit.datagen.audit.blind_scopes import kind_of, scopes_of
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, YES
from tests.datagen.conftest import Made, cell_of


@pytest.fixture(params=["outfit_set", "product_set"])
def store(request: pytest.FixtureRequest) -> VQAStore:
    found: Made = request.getfixturevalue(request.param)
    return VQAStore(found.path)


def test_families_are_judged_with_what_asks_in_their_words(outfit_set: Made) -> None:
    store = VQAStore(outfit_set.path)
    scopes = scopes_of(store.pack, set(range(len(store.pack.templates))))
    kinds = {s.name: s.kind for s in scopes}
    assert kinds["C1+N1"] == kinds["C6+N1"] == kinds["G1.query"] == "open"
    assert kinds["B5"] == kinds["G1.verify"] == "yes/no"
    assert kinds["C2"] == kinds["G1.choose"] == "choice"
    assert "C1" not in kinds and "N1" not in kinds and "G1" not in kinds
    assert sorted(t for s in scopes for t in s.templates) == list(range(len(store.pack.templates)))


def test_only_templates_with_questions_make_a_scope(outfit_set: Made) -> None:
    store = VQAStore(outfit_set.path)
    some = {store.pack.index(t) for t in ("C1.query", "G1.verify")}
    assert [(s.name, s.kind) for s in scopes_of(store.pack, some)] == [("C1", "open"), ("G1", "yes/no")]


def test_the_possible_answers_hold_the_right_one(store: VQAStore) -> None:
    exam = exam_of(store, draw_questions(store, 10**6, 0))
    q = exam.questions
    two = exam.options[:, 0] > 0
    assert (exam.options[two] == q.answer[two, None]).any(1).all()
    for n, t in enumerate(store.pack.templates):
        rows = q.template == n
        if rows.any() and kind_of(t, store.pack) == "yes/no":
            assert (exam.options[rows] == [YES, NO]).all()
        elif rows.any() and kind_of(t, store.pack) == "choice":
            assert (exam.options[rows, 0] < exam.options[rows, 1]).all()
        elif rows.any():
            assert not two[rows].any()


def test_slots_keep_their_ids_and_options_stand_in_order(store: VQAStore) -> None:
    exam = exam_of(store, draw_questions(store, 10**6, 0))
    assert (np.sort(exam.slots, axis=1) == np.sort(exam.questions.slots, axis=1)).all()
    turned = (exam.slots != exam.questions.slots).any(1)
    moved = {store.pack.templates[n].id for n in np.unique(exam.questions.template[turned])}
    assert "C2.choose" in moved
    assert all(store.pack.by_id(t).balance == "choice" or store.pack.by_id(t).anchor == "pair" for t in moved)


def test_cells_are_those_of_the_generator(store: VQAStore) -> None:
    """Two questions of a template share a cell here exactly where the generator balances them together."""
    exam = exam_of(store, draw_questions(store, 10**6, 0))
    q, pairs = exam.questions, Counter[tuple[object, ...]]()
    for n in range(0, len(q), 3):
        t, names = store.pack.templates[q.template[n]], store.slots[q.template[n]]
        slots = {name: int(q.slots[n, i]) for i, name in enumerate(names)}
        implied = tuple(store.vocab.attribute_of(s) for x, s in slots.items() if t.slot(x).kind == "value")
        pairs[(t.tie if t.family == "N1" else t.id, cell_of(t, slots, store), implied), int(exam.cell[n])] += 1
    assert len({there for there, _ in pairs}) == len({here for _, here in pairs}) == len(pairs)


def test_the_table_answers_as_a_plain_one_does() -> None:
    rng = np.random.default_rng(0)
    fine, coarse = rng.integers(0, 40, 600), rng.integers(0, 4, 600)
    answer, learnt = rng.integers(1, 6, 600), rng.random(600) < 0.3
    guess = most_frequent([fine, coarse], answer, learnt)
    for n in range(600):
        for key in (fine, coarse):
            seen = Counter(answer[learnt & (key == key[n])].tolist())
            if seen:
                assert guess[n] == min(seen, key=lambda a: (-seen[a], a))
                break


def test_the_table_falls_back_to_the_most_frequent_of_all() -> None:
    key, answer = np.array([1, 1, 2, 9]), np.array([4, 4, 7, 7])
    assert most_frequent([key], answer, np.array([True, True, True, False])).tolist() == [4, 4, 7, 4]
    assert most_frequent([key], answer, np.zeros(4, bool)).tolist() == [0, 0, 0, 0]


def test_keys_tell_rows_apart() -> None:
    a, b = np.meshgrid(np.arange(300), np.arange(300))
    assert len(np.unique(key_of(a.ravel(), b.ravel()))) == 90_000  # so order counts, too
    assert key_of(np.array([3]), 1)[0] != key_of(np.array([1]), 3)[0]
