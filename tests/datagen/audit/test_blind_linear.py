"""The linear models: products with sparse rows, the weights found, and what each of them can and cannot see."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from fashionkit.datagen.audit import blind_linear
from fashionkit.datagen.audit.blind_exam import Exam, exam_of, key_of
from fashionkit.datagen.audit.blind_linear import Bags, guess_by_slots, guess_by_words, word_features
from fashionkit.datagen.store import VQAStore
from fashionkit.engine.threads import one_thread
from tests.datagen.audit.asking import ask, changed, judging, pool, slot, tilt
from tests.datagen.conftest import Made

N = 6000


@pytest.fixture(scope="module")
def store(outfit_set: Made) -> VQAStore:
    return VQAStore(outfit_set.path)


def accuracy(exam: Exam, guess: np.ndarray) -> float:
    q = exam.questions
    return float((guess == q.answer)[q.judged].mean())


def by_parity(ids: np.ndarray) -> np.ndarray:
    return ids % 2 == 0


def dense(bags: Bags) -> np.ndarray:
    found = np.zeros((len(bags.start), bags.features))
    ends = [*bags.start[1:].tolist(), len(bags.index)]
    for row, (lo, hi) in enumerate(zip(bags.start.tolist(), ends, strict=True)):
        for e in range(lo, hi):
            found[row, bags.index[e]] += float(bags.value[e])
    return found


def test_products_with_bags_are_those_with_a_matrix() -> None:
    rng = np.random.default_rng(0)
    hashes = np.where(rng.random((30, 6)) < 0.7, rng.integers(1, 40, (30, 6)), 0).astype(np.uint64)
    hashes[3] = 0  # a row without features
    values, known = np.array([1.0, 1, 2, -1, -1, -2]), rng.random(30) < 0.6
    bags = Bags.of(hashes, values, known, 16)
    expected = np.zeros((30, 16))
    for row, col in zip(*np.nonzero(hashes), strict=True):
        expected[row, int(hashes[row, col]) % 16] += values[col]
    used = sorted({int(h) % 16 for h in hashes[known].ravel() if h})
    assert (dense(bags) == expected[:, used]).all()
    assert (dense(bags.learnt(known)) == dense(bags)[known]).all()
    weights, slope = torch.randn(bags.features, 3), torch.randn(30, 3)
    assert np.allclose(bags.forward(weights), dense(bags) @ weights.numpy(), atol=1e-5)
    assert np.allclose(bags.transposed().forward(slope), dense(bags).T @ slope.numpy(), atol=1e-5)


@pytest.mark.parametrize("answers", [2, 4])
def test_the_weights_found_are_those_where_the_slope_is_zero(answers: int) -> None:
    rng = np.random.default_rng(0)
    bags = Bags.of(rng.integers(1, 9, (200, 3)).astype(np.uint64), np.ones(3), np.ones(200, bool), 16)
    counts = rng.integers(0, 9, (200, answers)) * rng.integers(1, 3, answers)
    cost, width = (blind_linear._two_cost, 1) if answers == 2 else (blind_linear._many_cost, answers)
    with one_thread():
        start = torch.zeros(bags.features, width)
        w = blind_linear._minimise(bags, start, 3.0, torch.from_numpy(counts.astype(np.float32)), cost).numpy()
    x = dense(bags)
    scores = np.exp(x @ np.concatenate([w, 0 * w], axis=1) if answers == 2 else x @ w)
    share = scores / scores.sum(1, keepdims=True)
    slope = x.T @ (counts.sum(1, keepdims=True) * share - counts)[:, :width] + 3.0 * w
    assert np.abs(slope).max() < 1e-3 * counts.sum()
    assert np.abs(w).max() > 0.01


def test_the_prior_is_chosen_by_the_other_split() -> None:
    split = np.array([0, 1, 1, 1, 2, 2, 2])
    answer = np.array([5, 1, 1, 1, 2, 2, 2])
    guesses = np.array([[7, 1, 1, 1, 9, 9, 9], [8, 9, 9, 9, 9, 9, 9], [6, 9, 9, 1, 2, 2, 2]])
    assert blind_linear._chosen(guesses, answer, split).tolist() == [8, 9, 9, 1, 9, 9, 9]
    only = split == 1
    assert blind_linear._chosen(guesses[:, only], answer[only], split[only]).tolist() == [9, 9, 9]


def test_ngrams_are_of_words_their_neighbours_and_the_template() -> None:
    texts = pa.array(["Is the coat red?", "is the  coat RED", "Is the red coat?", "Is it?"])
    same = np.zeros(4, np.int64)
    found, _ = word_features(texts, same)
    assert found[0].tolist() == found[1].tolist()  # case, punctuation and spaces do not count
    sets = [set(row[row > 0].tolist()) for row in found]
    assert len(sets[0]) == 1 + 4 + 3 + 2
    assert len(sets[0] & sets[2]) == 1 + 4 + 1  # template, words, "is the"
    assert len(sets[3]) == 1 + 2 + 1
    assert not set(word_features(texts[:1], np.ones(1, np.int64))[0][0].tolist()) & sets[0]


def test_a_word_that_sways_the_answer_is_found_by_both(store: VQAStore) -> None:
    rng = np.random.default_rng(1)
    q = ask(store, "B2.modified", rng, N)
    exam = exam_of(store, tilt(rng, q, by_parity(slot(store, "B2.modified", q, "m")), 0.6))
    assert 0.57 < accuracy(exam, guess_by_words(exam, store)) < 0.63
    assert 0.57 < accuracy(exam, guess_by_slots(exam)) < 0.63


def test_two_words_that_only_tell_together_are_found_by_slots(store: VQAStore) -> None:
    rng = np.random.default_rng(2)
    q = ask(store, "B2.modified", rng, 2 * N)
    m, v = (by_parity(slot(store, "B2.modified", q, name)) for name in ("m", "v"))
    exam = exam_of(store, tilt(rng, q, m == v, 0.6))
    assert accuracy(exam, guess_by_slots(exam)) > 0.56
    assert accuracy(exam, guess_by_words(exam, store)) < 0.56  # they do not stand side by side


def test_a_wording_that_sways_the_answer_is_found_by_words(store: VQAStore) -> None:
    rng = np.random.default_rng(3)
    q = changed(ask(store, "B2.verify", rng, N), paraphrase=rng.integers(0, 4, N))
    exam = exam_of(store, tilt(rng, q, q.paraphrase < 2, 0.6))
    assert accuracy(exam, guess_by_words(exam, store)) > 0.57
    assert accuracy(exam, guess_by_slots(exam)) < 0.53


def test_an_option_that_wins_more_often_is_found_by_both(store: VQAStore) -> None:
    rng = np.random.default_rng(4)
    q = ask(store, "C2.choose", rng, N)
    v, w = (slot(store, "C2.choose", q, name) for name in ("v", "w"))
    likely = np.where(rng.random(N) < 0.65, np.minimum(v, w), np.maximum(v, w))
    exam = exam_of(store, changed(q, answer=likely.astype(np.int32)))
    assert accuracy(exam, guess_by_words(exam, store)) > 0.57
    assert accuracy(exam, guess_by_slots(exam)) > 0.6


def test_words_speak_for_an_option_wherever_it_stands(store: VQAStore) -> None:
    """What wins as the lower of two ids in training is known to win as the higher one."""
    rng = np.random.default_rng(9)
    q = ask(store, "C2.choose", rng, 4 * N)
    v, w = (slot(store, "C2.choose", q, name) for name in ("v", "w"))
    low, high = np.minimum(v, w), np.maximum(v, w)
    strong = pool(store, "C2.choose", "v")[::2]
    one = np.isin(low, strong) != np.isin(high, strong)
    winner = np.where(np.isin(low, strong), low, high)
    answer = np.where(rng.random(len(q)) < 0.8, winner, low + high - winner)
    exam = exam_of(store, changed(q, answer=answer.astype(np.int32), split=judging(winner == high)).take(one))
    assert accuracy(exam, guess_by_words(exam, store)) > 0.7


def test_an_open_answer_that_a_slot_tells_is_found_by_both(store: VQAStore) -> None:
    rng = np.random.default_rng(5)
    q = ask(store, "C1.modified", rng, N)
    colours = pool(store, "B2.verify", "v")
    m = slot(store, "C1.modified", q, "m")
    told = rng.random(N) < 0.5
    exam = exam_of(store, changed(q, answer=np.where(told, colours[m % 3], rng.choice(colours, N)).astype(np.int32)))
    expected = 0.5 + 0.5 / len(colours)
    assert accuracy(exam, guess_by_words(exam, store)) == pytest.approx(expected, abs=0.04)
    assert accuracy(exam, guess_by_slots(exam)) == pytest.approx(expected, abs=0.04)


def test_coin_tosses_tell_nothing(store: VQAStore) -> None:
    exam = exam_of(store, ask(store, "B2.modified", np.random.default_rng(6), 2 * N))
    assert accuracy(exam, guess_by_words(exam, store)) == pytest.approx(0.5, abs=0.03)
    assert accuracy(exam, guess_by_slots(exam)) == pytest.approx(0.5, abs=0.03)


def test_what_was_not_learnt_is_not_answered(store: VQAStore) -> None:
    q = ask(store, "B2.verify", np.random.default_rng(7), 50)
    for judged in (np.ones(50, bool), np.zeros(50, bool)):
        exam = exam_of(store, changed(q, split=judging(judged)))
        assert not guess_by_slots(exam).any()


def test_equal_questions_have_equal_answers(store: VQAStore) -> None:
    exam = exam_of(store, ask(store, "B2.verify", np.random.default_rng(8), 3000))
    guess = guess_by_slots(exam)
    key = key_of(exam.questions.split, *exam.slots.T)  # val and test may follow another prior
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    assert len(first) < 2500
    assert (guess == guess[first][which]).all()
