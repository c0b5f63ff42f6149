"""The tiny transformer: what it reads, what it finds, that a seed repeats it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fashionkit.datagen.audit import blind_transformer
from fashionkit.datagen.audit.blind_exam import exam_of
from fashionkit.datagen.audit.blind_transformer import BlindTransformer, Lessons, _loss, guess_by_transformer
from fashionkit.datagen.store import VQAStore
from tests.datagen.audit.asking import ask, changed, judging, pool, slot, tilt, together
from tests.datagen.conftest import Made


@pytest.fixture(scope="module")
def store(outfit_set: Made) -> VQAStore:
    return VQAStore(outfit_set.path)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind_transformer, "STEPS", (120, 120))
    monkeypatch.setattr(blind_transformer, "BATCH", 256)


def test_lessons_count_what_was_answered_in_training(store: VQAStore) -> None:
    rng = np.random.default_rng(0)
    exam = exam_of(store, together(ask(store, "B2.verify", rng, 400), ask(store, "C2.choose", rng, 400)))
    lessons, q = Lessons(exam), exam.questions
    learnt = ~q.judged
    assert lessons.asked.sum() == lessons.count.sum() == learnt.sum()
    n = int(np.argmax(lessons.asked))
    rows = np.flatnonzero((lessons.which == n) & learnt)
    assert lessons.asked[n] == len(rows) > 1
    assert lessons.won[n] == (q.answer[rows] == exam.options[rows[0], 0]).sum()
    entries = slice(lessons.begin[n], lessons.begin[n + 1])
    told = dict(zip(lessons.answers[lessons.answer[entries]].tolist(), lessons.count[entries].tolist(), strict=True))
    assert told == {a: int((q.answer[rows] == a).sum()) for a in np.unique(q.answer[rows]).tolist()}
    assert lessons.token[:, 0].min() > 0 and int(lessons.token.max()) < lessons.tokens


def test_tokens_are_equal_where_questions_are(store: VQAStore) -> None:
    exam = exam_of(store, ask(store, "B2.verify", np.random.default_rng(0), 400))
    lessons = Lessons(exam)
    assert len(torch.unique(lessons.token, dim=0)) == len(np.unique(exam.slots, axis=0)) == len(lessons.asked)
    unused = torch.from_numpy(exam.slots[:, len(store.slots[exam.wording[0]]) :] == 0)
    assert unused.all() and (lessons.token[:, 3:] == 0).all()


def test_the_loss_is_that_of_a_plain_loop(store: VQAStore) -> None:
    rng = np.random.default_rng(0)
    parts = [ask(store, t, rng, 300) for t in ("B2.verify", "C2.choose", "C1.query")]
    parts[2] = changed(parts[2], answer=rng.choice(pool(store, "B2.verify", "v")[:3], 300).astype(np.int32))
    lessons = Lessons(exam_of(store, together(*parts)))
    rows = np.flatnonzero(lessons.asked)[:200]
    scores, weight = torch.randn(len(rows), len(lessons.answers)), rng.random(len(rows))
    expected = 0.0
    for b, n in enumerate(rows):
        kept = lessons.options[n].tolist() if lessons.two[n] else range(len(lessons.answers))
        log_p = {a: float(scores[b, a] - torch.logsumexp(scores[b, list(kept)], 0)) for a in kept}
        for e in range(lessons.begin[n], lessons.begin[n + 1]):
            expected -= weight[b] * lessons.count[e] / lessons.asked[n] * log_p[int(lessons.answer[e])]
    assert not lessons.two[rows].all() and lessons.two[rows].any()
    assert float(_loss(scores, lessons, rows, weight)) == pytest.approx(expected / len(rows), rel=1e-4)


def test_what_is_no_token_changes_nothing() -> None:
    torch.manual_seed(0)
    model = BlindTransformer(9, 5, 4)
    torch.nn.init.normal_(model.head.weight)
    token = torch.tensor([[3, 5, 0, 0, 0]])
    before = model(token)
    with torch.no_grad():
        model.embedding.weight[0] += 7
    assert torch.allclose(model(token), before, atol=1e-5)
    assert not torch.allclose(model(torch.tensor([[3, 6, 0, 0, 0]])), before, atol=1e-3)


def test_words_that_only_tell_together_are_found(store: VQAStore) -> None:
    rng = np.random.default_rng(1)
    q = ask(store, "B2.modified", rng, 10_000)
    m, v = (slot(store, "B2.modified", q, name) % 2 for name in ("m", "v"))
    q = tilt(rng, q, m == v, 0.7)
    fair = ask(store, "C2.choose", rng, 2000)
    colours = pool(store, "B2.verify", "v")
    answer = np.repeat(colours[[0, 1]], [3000, 1000]).astype(np.int32)
    opened = changed(ask(store, "C1.query", rng, 4000), answer=answer, split=judging(rng.random(4000) < 0.25))
    exam = exam_of(store, together(q, fair, opened))
    said: list[str] = []
    guess = guess_by_transformer(exam, 0, said.append)
    right = (guess == exam.questions.answer) & exam.questions.judged
    share = [right[exam.rows(n)].sum() / exam.questions.judged[exam.rows(n)].sum() for n in range(3)]
    assert [s.name for s in exam.scopes] == ["B2", "C1", "C2"]
    assert share[0] > 0.63
    assert share[1] == pytest.approx(0.75, abs=0.05)
    assert share[2] == pytest.approx(0.5, abs=0.08)
    assert len(said) == 4
    chosen = exam.rows(2)
    assert ((guess[chosen, None] == exam.options[chosen]).sum(1) == 1).all()


def test_a_seed_repeats_it_and_touches_no_other_random_number(store: VQAStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blind_transformer, "STEPS", (8, 8))
    exam = exam_of(store, ask(store, "B2.modified", np.random.default_rng(2), 2000))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = guess_by_transformer(exam, 3)
    assert torch.rand(1) == expected
    assert (guess_by_transformer(exam, 3) == first).all()
    assert (guess_by_transformer(exam, 4) != first).any()


def test_without_lessons_nothing_is_answered(store: VQAStore) -> None:
    q = ask(store, "B2.verify", np.random.default_rng(0), 20)
    assert not guess_by_transformer(exam_of(store, changed(q, split=judging(np.ones(20, bool)))), 0).any()
