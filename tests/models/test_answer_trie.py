"""Probabilities of known answers against a slow count over all of them; the best are exact wherever they hide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fashionkit.models import answer_trie
from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.tokenizer import EOS

WORDS = 12
NAVY, BLUE, RED, DARK, GREEN = 3, 4, 5, 6, 7
Sequences = Sequence[Sequence[int]]
Logits = Callable[[int, tuple[int, ...]], Tensor]


def drawn(seed: int, scale: float) -> Logits:
    """(V,) logits that depend on the question and on all that is written."""

    def logits(row: int, path: tuple[int, ...]) -> Tensor:
        number = hash((seed, row, *path)) % 2**31  # of whole numbers alone, so the same everywhere
        return scale * torch.randn(WORDS, generator=torch.Generator().manual_seed(number))

    return logits


class Network:
    """Gives logits, and remembers what it was asked: question row and path."""

    def __init__(self, logits: Logits):
        self.logits, self.asked, self.passes = logits, list[tuple[int, tuple[int, ...]]](), list[int]()

    def __call__(self, rows: Tensor, tokens: Tensor, length: Tensor) -> Tensor:
        assert len(rows) == len(tokens) == len(length) and tokens.shape[1] >= int(length.max())
        wanted = [(row, tuple(path[:n])) for row, path, n in zip(rows.tolist(), tokens.tolist(), length, strict=True)]
        self.asked += wanted
        self.passes.append(len(wanted))
        return torch.stack([self.logits(*each) for each in wanted])


def slow(sequences: Sequences, logits: Logits, row: int) -> list[float]:
    """Log-probability of each answer: at each of its tokens, a softmax over those that any answer goes on with."""
    ended = [(*sequence, EOS) for sequence in sequences]
    found = []
    for one in ended:
        score = 0.0
        for at, token in enumerate(one):
            options = {other[at] for other in ended if other[:at] == one[:at]}
            given_ = logits(row, tuple(one[:at])).double()
            score += float(given_[token]) - math.log(sum(math.exp(float(given_[option])) for option in options))
        found.append(score)
    return found


def check(sequences: Sequences, logits: Logits, n: int, exact: int) -> Tensor:
    """What a trie gives of n questions, its `exact` best and all that it looked at compared with `slow`."""
    found = AnswerTrie(sequences).log_probabilities(n, Network(logits), exact)
    truth = torch.tensor([slow(sequences, logits, row) for row in range(n)])
    assert found.shape == (n, len(sequences)) and found.dtype == torch.float32
    looked = found > -torch.inf
    torch.testing.assert_close(found[looked], truth[looked], atol=1e-4, rtol=1e-5)
    best = min(exact, len(sequences))
    torch.testing.assert_close(found.topk(best).values, truth.topk(best).values, atol=1e-4, rtol=1e-5)
    assert looked[truth > -9.1].all(), "whatever is likelier than 1e-4 is told"
    return found


answers = st.lists(st.lists(st.integers(3, 6), min_size=1, max_size=4).map(tuple), min_size=1, max_size=14, unique=True)


@given(answers, st.integers(0, 1000), st.sampled_from([0.0, 1.0, 6.0, 30.0]), st.integers(1, 5))
def test_probabilities_are_those_of_a_slow_count(sequences: Sequences, seed: int, scale: float, exact: int) -> None:
    logits = drawn(seed, scale)
    check(sequences, logits, n=3, exact=exact)
    whole = check(sequences, logits, n=3, exact=len(sequences))
    torch.testing.assert_close(whole.exp().sum(1), torch.ones(3))


def test_the_best_answer_may_hide_behind_an_unlikely_first_token() -> None:
    # 60 % go to "navy" and are shared by six, 40 % to "red" alone: the best answer does not begin with the best token.
    sequences = [(NAVY, other) for other in range(4, 10)] + [(RED,)]

    def logits(row: int, path: tuple[int, ...]) -> Tensor:
        found = torch.zeros(WORDS)
        if not path:
            found[NAVY], found[RED] = math.log(0.6), math.log(0.4)
        return found

    found = check(sequences, logits, n=2, exact=1)
    assert found.argmax(1).tolist() == [6, 6]
    torch.testing.assert_close(found[0].exp(), torch.tensor([0.1] * 6 + [0.4]))


def test_the_best_is_exact_below_the_floor() -> None:
    # 30,000 answers of one token, all equally unlikely; one of two tokens is twice as likely, and still below 1e-4.
    many, fork = 30_000, 3 + 30_000
    sequences = [*((token,) for token in range(3, fork)), (fork, 3), (fork, 4)]

    def next_logits(rows: Tensor, tokens: Tensor, length: Tensor) -> Tensor:
        found = torch.zeros(len(rows), fork + 1)
        if length.any():
            found[:, 3] = 30.0
        else:
            found[:, fork] = math.log(2)
        return found

    found = AnswerTrie(sequences).log_probabilities(1, next_logits, 1)[0]
    assert int(found.argmax()) == many
    assert float(found.max()) == pytest.approx(math.log(2 / (many + 2))) and float(found.max()) < answer_trie.FLOOR


def test_forks_that_can_yield_no_best_are_not_asked() -> None:
    sequences = [(RED,), (NAVY, BLUE), (NAVY, DARK), (GREEN, BLUE), (GREEN, DARK)]

    def logits(row: int, path: tuple[int, ...]) -> Tensor:
        found = torch.zeros(WORDS)
        if not path:
            found[NAVY], found[GREEN] = -20.0, -21.0
        return found

    trie = AnswerTrie(sequences)
    for exact, asked in ((1, {()}), (2, {(), (NAVY,), (GREEN,)}), (5, {(), (NAVY,), (GREEN,)})):
        network = Network(logits)
        found = trie.log_probabilities(1, network, exact)
        assert {path for _, path in network.asked} == asked
        assert (found > -torch.inf).sum() == (1 if exact == 1 else 5)


def test_an_answer_may_begin_another() -> None:
    sequences = [(NAVY,), (NAVY, BLUE), (NAVY, BLUE, DARK), (RED,)]
    found = check(sequences, drawn(1, 2.0), n=4, exact=4)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(4))
    assert check([(NAVY, BLUE), (NAVY,)], drawn(1, 0.0), n=1, exact=2)[0].exp().tolist() == pytest.approx([0.5, 0.5])


def test_tokens_that_lead_to_one_answer_cost_no_pass() -> None:
    network = Network(drawn(2, 1.0))
    found = AnswerTrie([(RED, 8, 9, 10), (NAVY, BLUE, 8, 9), (NAVY, BLUE, 8, 10)]).log_probabilities(1, network, 3)
    assert [path for _, path in network.asked] == [(), (NAVY, BLUE, 8)]
    assert float(found.exp().sum()) == pytest.approx(1)


def test_one_answer_is_certain() -> None:
    assert AnswerTrie([(RED, BLUE)]).log_probabilities(3, Network(drawn(3, 5.0)), 5).tolist() == [[0.0]] * 3
    assert len(AnswerTrie([(RED, BLUE)])) == 1


def test_no_question_asks_nothing() -> None:
    network = Network(drawn(3, 1.0))
    assert AnswerTrie([(RED,), (BLUE,)]).log_probabilities(0, network).shape == (0, 2)
    assert network.asked == []


def test_answers_keep_their_order() -> None:
    sequences, logits = [(RED,), (NAVY, BLUE), (DARK, RED), (NAVY,)], drawn(4, 2.0)
    found = check(sequences, logits, 2, 4)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(check([sequences[at] for at in order], logits, 2, 4), found[:, order])


def test_many_forks_are_asked_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = [(a, b, c) for a in range(3, 7) for b in range(3, 6) for c in (3, 4)]
    whole = check(sequences, drawn(5, 1.0), n=2, exact=24)
    monkeypatch.setattr(answer_trie, "PASS", 3)
    network = Network(drawn(5, 1.0))
    parts = AnswerTrie(sequences).log_probabilities(2, network, 24)
    assert network.passes[0] == 2 and max(network.passes) == 3 and sum(network.passes) == 2 * (1 + 4 + 12)
    torch.testing.assert_close(parts, whole, atol=0, rtol=0)
    network = Network(drawn(5, 1.0))
    AnswerTrie(sequences).log_probabilities(7, network, 24)
    assert network.passes[0] == 7 == max(network.passes), "the first pass is of all questions at once"


def test_logits_of_short_numbers_give_float32() -> None:
    def short(rows: Tensor, tokens: Tensor, length: Tensor) -> Tensor:
        return torch.arange(WORDS).expand(len(rows), WORDS).to(torch.bfloat16)

    found = AnswerTrie([(RED,), (RED, BLUE), (GREEN,)]).log_probabilities(2, short, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_logits_of_a_gpu_come_back_to_the_cpu() -> None:
    sequences, logits = [(RED,), (NAVY, BLUE), (NAVY,)], drawn(6, 1.0)
    network = Network(logits)
    found = AnswerTrie(sequences).log_probabilities(2, lambda *asked: network(*asked).cuda(), 3)
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, check(sequences, logits, 2, 3))


@pytest.mark.parametrize("wrong", [[], [()], [(RED,), ()], [(RED,), (NAVY,), (RED,)], [(RED, EOS)], [(RED, EOS, 4)]])
def test_wrong_answers_are_refused(wrong: Sequences) -> None:
    with pytest.raises(ValueError, match="answer"):
        AnswerTrie(wrong)
