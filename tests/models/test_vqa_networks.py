"""The three networks that answer: against a slow reading of one question at a time, what each may see, and learning."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.encoder_decoder import EncoderDecoder
from fashionkit.models.mcan import AttFlat, Mcan
from fashionkit.models.tokenizer import EOS, PAD, SEP
from fashionkit.models.vlm import Vlm
from fashionkit.models.vqa import VqaNetwork, build_vqa, count_parameters, flops
from fashionkit.models.vqa_config import LARGEST, VqaConfig
from fashionkit.models.vqa_parts import Attention, Block, ImageTokens, Kept, run_prefix
from fashionkit.tables import InputError

# Legend: g pictures, n questions, N image tokens, T question tokens, A answer tokens, D width, V words, K answers
C, V = 6, 16
ANSWERS = [(5,), (5, 6), (5, 6, 7), (8, 9), (10,), (8, 11), (12, 9, 13), (12, 9, 7)]
TRIE, K = AnswerTrie(ANSWERS), len(ANSWERS)
TINY = VqaConfig(
    "vlm", C, (4, 2), V, K, width=16, layers=3, heads=2, feed=24, embedding=10, dropout=0.0, question_length=8,
    answer_length=5,
)  # fmt: skip
KINDS = [("vlm", "full"), ("vlm", "image"), ("encoder_decoder", "full"), ("mcan", "full")]
WRITERS = KINDS[:3]
every_kind = pytest.mark.parametrize(("kind", "prefix"), KINDS)
every_writer = pytest.mark.parametrize(("kind", "prefix"), WRITERS)
both = pytest.mark.parametrize("blind", [False, True], ids=["looks", "blind"])


def build(kind: str, prefix: str = "full", **changes: Any) -> Any:
    """A network in float64, for sharp comparisons, whose weights are large enough for all it is told to show."""
    network = build_vqa(replace(TINY, kind=kind, prefix=prefix, **changes)).double().eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            scale = 0.3 if name == "words.weight" else 0.8 if value.ndim > 1 else 0.1
            value.add_(torch.randn_like(value) * scale)
    return network


def padded(rows: Sequence[Sequence[int]], length: int = 0) -> Tensor:
    """(n, T) ids, PAD behind."""
    length = length or max(1, *map(len, rows))
    return torch.tensor([[*row, *[PAD] * (length - len(row))] for row in rows], dtype=torch.long)


QUESTIONS = [(4, 5, 6), (7,), (14, 3, 9, 9, 4), (3, 4, 5, 6, 7, 8, 9, 10), (), (6, 5, 4)]
IMAGE_OF = torch.tensor([2, 0, 1, 0, 2, 1])
CLASSES = torch.tensor([0, 2, 3, 6, 1, 4])
TOLD = [(*ANSWERS[at], EOS) for at in CLASSES.tolist()]


def pictures(g: int = 3) -> Tensor:
    """(g, C, h, w) maps."""
    return torch.randn(g, C, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def losses(network: Any, cells: Tensor | None = None, image_of: Tensor = IMAGE_OF, **other: Tensor) -> Tensor:
    """(n,) of the questions above, or of others."""
    inputs = {"question": padded(QUESTIONS), "answer": padded(TOLD), "answer_class": CLASSES, **other}
    found: Tensor = network.losses(pictures() if cells is None else cells, image_of, **inputs)
    return found


def rank(network: Any, cells: Tensor | None = None, image_of: Tensor = IMAGE_OF, k: int = K) -> Tensor:
    """(n, K) log-probabilities of the questions above."""
    found: Tensor = network.rank(pictures() if cells is None else cells, image_of, padded(QUESTIONS), TRIE, k)
    return found


def same(one: Tensor, other: Tensor) -> None:
    """Equal but for the last digits of float64, or of float32 where answers were ranked."""
    tolerance = 1e-9 if one.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


# ---- A slow reading of one question, nothing padded, shared or kept


def slow_attention(part: Attention, x: Tensor, others: Tensor, may: Tensor) -> Tensor:
    """(T, D): each of x looks at those of others it may."""
    key, value = part.key_value(others).chunk(2, -1)
    query, size = part.query(x), x.shape[1] // part.heads
    found = torch.zeros_like(x)
    for head in range(part.heads):
        columns = slice(head * size, (head + 1) * size)
        for at in range(len(x)):
            scores = (key[may[at], columns] * query[at, columns]).sum(1) / math.sqrt(size)
            found[at, columns] = (scores.exp() / scores.exp().sum()) @ value[may[at], columns]
    return part.out(found)


def slow_block(block: Any, x: Tensor, may: Tensor, guides: Tensor | None = None) -> Tensor:
    """(T, D) behind a block."""
    normed = block.before_mix(x)
    x = x + slow_attention(block.mix, normed, normed, may)
    if guides is not None:
        every = torch.ones(len(x), len(guides), dtype=torch.bool)
        x = x + slow_attention(block.guide, block.before_guide(x), guides, every)
    return x + block.feed(block.before_feed(x))


def slow_image(network: Any, picture: Tensor) -> Tensor:
    """(N, D): square by square of a (C, h, w) map."""
    fold, tokens = network.config.fold, list[Tensor]()
    for row in range(0, picture.shape[1], fold):
        for column in range(0, picture.shape[2], fold):
            square = picture[:, row : row + fold, column : column + fold].reshape(-1)
            tokens.append(network.image.linear(network.image.norm(square)) + network.image.position[len(tokens)])
    return torch.stack(tokens)


def slow_logits(network: Any, picture: Tensor, question: Sequence[int], answer: Sequence[int]) -> Tensor:
    """Of a network that writes: (A + 1, V) behind SEP and each token. Of `mcan`: (K,)."""
    config = network.config
    if config.blind and not question and config.kind != "vlm":
        question = [PAD]  # these two cannot look at nothing
    if config.kind == "mcan" and not question:
        question = [PAD]
    image = torch.zeros(0, config.width, dtype=torch.float64) if config.blind else slow_image(network, picture)
    asked, told = torch.tensor(question, dtype=torch.long), torch.tensor([SEP, *answer])
    if config.kind == "mcan":
        return slow_mcan(network, image, asked)
    read = network.words(asked) + network.question_position[: len(asked)]
    written = network.words(told) + network.answer_position[: len(told)]
    a = len(told)
    backwards = torch.tensor([[j <= i for j in range(a)] for i in range(a)])
    if config.kind == "vlm":
        zones = "i" * len(image) + "q" * len(asked) + "a" * a
        x, may = torch.cat([image, read, written]), torch.zeros(len(zones), len(zones), dtype=torch.bool)
        for i, one in enumerate(zones):
            for j, other in enumerate(zones):
                sees = {"i": "i" if config.prefix == "image" else "iq", "q": "iq", "a": "iqa"}[one]
                may[i, j] = other in sees and not (other == "a" and j > i)
        for block in network.blocks:
            x = slow_block(block, x, may)
        return network.norm(x[-a:]) @ network.words.weight.T
    states = torch.cat([image, read])
    for block in network.encoder:
        states = slow_block(block, states, torch.ones(len(states), len(states), dtype=torch.bool))
    x = written
    for block in network.decoder:
        x = slow_block(block, x, backwards, network.encoded(states))
    return network.norm(x) @ network.words.weight.T


def slow_mcan(network: Any, image: Tensor, asked: Tensor) -> Tensor:
    """(K,) logits."""
    x = network.lstm(network.words(asked))[0]
    for block in network.reading:
        x = slow_block(block, x, torch.ones(len(x), len(x), dtype=torch.bool))
    x = network.read(x)

    def flat(part: AttFlat, states: Tensor) -> Tensor:
        share = part.weight(states).exp()  # (S, 1)
        return part.merge((share / share.sum() * states).sum(0))

    found = flat(network.flat_question, x)
    if len(image):
        y = image
        for block in network.looking:
            y = slow_block(block, y, torch.ones(len(y), len(y), dtype=torch.bool), x)
        found = found + flat(network.flat_image, network.looked(y))
    return network.answers(network.norm(found))


def slow_losses(network: Any) -> Tensor:
    """(n,) of the questions above."""
    found = []
    for at, question in enumerate(QUESTIONS):
        picture = pictures()[IMAGE_OF[at]]
        if network.config.kind == "mcan":
            found.append(-slow_logits(network, picture, question, ()).log_softmax(0)[CLASSES[at]])
        else:
            scores = slow_logits(network, picture, question, TOLD[at][:-1]).log_softmax(1)
            found.append(-scores[torch.arange(len(scores)), torch.tensor(TOLD[at])].sum())
    return torch.stack(found)


@both
@every_kind
@torch.no_grad()
def test_losses_are_those_of_a_slow_reading(kind: str, prefix: str, blind: bool) -> None:
    network = build(kind, prefix, blind=blind)
    found = losses(network)
    assert found.shape == (len(QUESTIONS),) and (found > 0).all()
    same(found, slow_losses(network))
    assert found.std() > 0.01, "they tell the questions apart"


@every_kind
@torch.no_grad()
def test_so_are_those_of_folded_maps(kind: str, prefix: str) -> None:
    network = build(kind, prefix, fold=2)
    assert network.image.position.shape == (2, 16) and network.config.image_tokens == 2
    same(losses(network), slow_losses(network))


@both
@every_kind
@torch.no_grad()
def test_ranks_are_normalised_losses(kind: str, prefix: str, blind: bool) -> None:
    network = build(kind, prefix, blind=blind)
    found = rank(network)
    assert found.shape == (len(QUESTIONS), K) and found.dtype == torch.float32 and found.device.type == "cpu"
    same(found.exp().sum(1), torch.ones(len(QUESTIONS)))
    n, image_of, question = len(QUESTIONS), IMAGE_OF, padded(QUESTIONS)
    if kind == "mcan":
        costs = [losses(network, answer_class=torch.full((n,), at)) for at in range(K)]
        same(found, -torch.stack(costs, 1).float())
        return
    ended = [(*answer, EOS) for answer in ANSWERS]
    for at, answer in enumerate(ended):
        score = torch.zeros(n, dtype=torch.float64)
        for i in range(len(answer)):
            options = sorted({other[i] for other in ended if other[:i] == answer[:i]})
            told = [padded([(*answer[:i], option)] * n) for option in options]
            costs = [network.losses(pictures(), image_of, question, each, CLASSES) for each in told]
            score += (-torch.stack(costs, 1)).log_softmax(1)[:, options.index(answer[i])]
        same(found[:, at], score.float())


@every_writer
@torch.no_grad()
def test_the_best_answer_is_exact_where_little_is_looked_at(kind: str, prefix: str) -> None:
    network = build(kind, prefix)
    network.norm.weight.mul_(100)  # sure of itself, so that forks are left alone
    whole, found = rank(network), rank(network, k=1)
    assert (found == -torch.inf).any() and (whole > -torch.inf).all()
    same(found[found > -torch.inf], whole[found > -torch.inf])
    assert (found.argmax(1) == whole.argmax(1)).all()


# ---- A batch is its questions


@both
@every_kind
@torch.no_grad()
def test_a_batch_is_each_question_alone(kind: str, prefix: str, blind: bool) -> None:
    network = build(kind, prefix, blind=blind)
    whole, ranked = losses(network), rank(network)
    written = None if kind == "mcan" else network.greedy(pictures(), IMAGE_OF, padded(QUESTIONS))
    for at, question in enumerate(QUESTIONS):
        cells, image_of, asked = pictures()[IMAGE_OF[at]][None], torch.tensor([0]), padded([question])
        alone = network.losses(cells, image_of, asked, padded([TOLD[at]]), CLASSES[at : at + 1])
        same(whole[at : at + 1], alone)
        same(ranked[at : at + 1], network.rank(cells, image_of, asked, TRIE, K))
        if written is not None:
            assert written[at] == network.greedy(cells, image_of, asked)[0]


@both
@every_kind
@torch.no_grad()
def test_padding_changes_nothing(kind: str, prefix: str, blind: bool) -> None:
    network, short = build(kind, prefix, blind=blind), [question[:5] for question in QUESTIONS]
    found = losses(network, question=padded(short, 5))
    same(losses(network, question=padded(short, 8)), found)
    same(losses(network, question=padded(short, 5), answer=padded(TOLD, 5)), found)
    ranked = [network.rank(pictures(), IMAGE_OF, padded(short, t), TRIE, K) for t in (5, 8)]
    same(*ranked)
    network.words.weight[PAD] += 9  # nobody reads it, where there is any question at all
    if kind != "mcan":
        network.question_position[5:] += 9
    asked = torch.tensor([bool(question) for question in short])
    same(network.rank(pictures(), IMAGE_OF, padded(short, 8), TRIE, K)[asked], ranked[0][asked])


@every_kind
@torch.no_grad()
def test_each_question_is_about_its_picture(kind: str, prefix: str) -> None:
    network, cells = build(kind, prefix), pictures()
    found, ranked = losses(network), rank(network)
    order = torch.tensor([1, 2, 0])
    same(losses(network, cells[order], order.argsort()[IMAGE_OF]), found)
    same(rank(network, cells[order], order.argsort()[IMAGE_OF]), ranked)
    repeated = cells[IMAGE_OF], torch.arange(len(IMAGE_OF))
    same(losses(network, *repeated), found)
    same(rank(network, *repeated), ranked)
    more = torch.cat([cells, 9 * pictures(2)])
    same(losses(network, more), found)
    asked = {"question": padded(QUESTIONS[:1] * 2), "answer": padded(TOLD[:1] * 2), "answer_class": CLASSES[[0, 0]]}
    there, back = (losses(network, cells, torch.tensor(of), **asked) for of in ([0, 1], [1, 0]))
    same(there, back.flip(0))
    assert abs(there[0] - there[1]) > 1e-3


@every_kind
@torch.no_grad()
def test_a_blind_network_looks_at_nothing(kind: str, prefix: str) -> None:
    network = build(kind, prefix, blind=True)
    assert network.image is None and network.config.image_tokens == 0
    inputs = IMAGE_OF, padded(QUESTIONS)
    found = network.losses(None, *inputs, padded(TOLD), CLASSES)
    same(losses(network, pictures() * torch.nan), found)
    same(rank(network, pictures() * torch.nan), network.rank(None, *inputs, TRIE, K))
    assert count_parameters(network) < count_parameters(build(kind, prefix))
    with pytest.raises(AssertionError, match="pictures"):
        build(kind, prefix).losses(None, *inputs, padded(TOLD), CLASSES)


@both
@every_kind
def test_an_empty_question_can_be_asked(kind: str, prefix: str, blind: bool) -> None:
    network = build(kind, prefix, blind=blind)
    found = losses(network, question=padded([()] * len(QUESTIONS), 3))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(value.grad is None or value.grad.isfinite().all() for value in network.parameters())
    assert (rank(network) > -torch.inf).all()
    if blind:
        apart = losses(network, question=padded([()] * 2), answer=padded([TOLD[0]] * 2), answer_class=CLASSES[[0, 0]])
        same(apart[0], apart[1])


@both
@every_kind
def test_no_question_at_all_has_no_answer(kind: str, prefix: str, blind: bool) -> None:
    network, nothing = build(kind, prefix, blind=blind), torch.zeros(0, dtype=torch.long)
    question, answer = torch.zeros(0, 3, dtype=torch.long), torch.zeros(0, 2, dtype=torch.long)
    assert network.losses(pictures(), nothing, question, answer, nothing).shape == (0,)
    assert network.rank(pictures(), nothing, question, TRIE).shape == (0, K)
    if kind != "mcan":
        assert network.greedy(pictures(), nothing, question) == []


# ---- Who sees whom


@every_writer
@torch.no_grad()
def test_an_answer_does_not_see_what_comes_later(kind: str, prefix: str) -> None:
    network, question = build(kind, prefix), padded(QUESTIONS)

    def logits(answer: Tensor) -> Tensor:
        if isinstance(network, Vlm):
            return network.logits(network.prefix(pictures(), IMAGE_OF, question), question, answer)
        return network.logits(*network.encode(pictures(), IMAGE_OF, question), answer)

    answer = torch.randint(3, V, (len(QUESTIONS), 4))
    found = logits(answer)
    for at in range(4):
        changed = answer.clone()
        changed[:, at] = (answer[:, at] - 3 + 1) % (V - 3) + 3
        again = logits(changed)
        same(again[:, : at + 1], found[:, : at + 1])
        assert ((again - found)[:, at + 1 :].abs().amax(-1) > 1e-7).all(), "and all later ones see it"


def touched(network: Any, question: Sequence[int], other: Sequence[int]) -> list[bool]:
    """Which image tokens and question tokens are read otherwise where another question is asked."""
    states = []
    for asked in (question, other):
        if isinstance(network, Vlm):
            kept = network.prefix(pictures(1), torch.tensor([0]), padded([asked]))[-1]
            states.append(torch.cat([kept.key, kept.value], -1)[0].transpose(0, 1).flatten(1))
        elif isinstance(network, EncoderDecoder):
            states.append(network.encode(pictures(1), torch.tensor([0]), padded([asked]))[0][0])
        else:
            caught: list[Tensor] = []
            handle = network.read.register_forward_hook(lambda module, inputs, output, to=caught: to.append(output))
            network(pictures(1), torch.tensor([0]), padded([asked]))
            handle.remove()
            states += [each.reshape(-1, 16) for each in caught]
    return ((states[0] - states[1]).abs().amax(1) > 1e-7).tolist()


@every_kind
@torch.no_grad()
def test_a_question_is_read_in_both_directions(kind: str, prefix: str) -> None:
    network = build(kind, prefix)
    image = [] if kind == "mcan" else [prefix == "full"] * 8  # whether the picture's tokens see the question
    for other in ((9, 5, 6), (4, 9, 6), (4, 5, 9)):
        assert touched(network, (4, 5, 6), other) == [*image, True, True, True]


@pytest.mark.parametrize("prefix", ["full", "image"])
@torch.no_grad()
def test_a_prefix_is_what_whole_blocks_would_give(prefix: str) -> None:
    network = build("vlm", prefix)
    x, mask = torch.randn(2, 5, 16, dtype=torch.float64), torch.rand(2, 1, 1, 8) > 0.3
    before = [Kept(*(torch.randn(2, 2, 3, 8, dtype=torch.float64) for _ in range(2))) for _ in network.blocks]
    found, there = run_prefix(network.blocks, x, mask, before), x
    for block, kept, earlier in zip(network.blocks, found, before, strict=True):
        there, whole = block(there, mask, earlier)
        same(kept.key, whole.key)
        same(kept.value, whole.value)
        same(kept.key[:, :, :3], earlier.key)
        assert kept.value.shape == (2, 2, 8, 8)


@every_kind
@torch.no_grad()
def test_nothing_is_worked_out_for_padding_or_twice(kind: str, prefix: str) -> None:
    network, seen = build(kind, prefix), list[int]()
    stacks = {"vlm": ["blocks"], "encoder_decoder": ["encoder", "decoder"], "mcan": ["reading", "looking"]}[kind]
    for stack in stacks:
        getattr(network, stack)[0].register_forward_hook(
            lambda module, inputs, output: seen.append(inputs[0].numel() // inputs[0].shape[-1])
        )
    losses(network)
    g, n, m, told = 3, len(QUESTIONS), sum(map(len, QUESTIONS)), sum(map(len, TOLD))
    if kind == "mcan":
        assert seen == [m + 1, n * 8]  # it reads one token of an empty question
    else:
        assert seen == ([g * 8, m, told] if prefix == "image" else [n * 8 + m, told])


# ---- Free text


@both
@every_writer
@torch.no_grad()
def test_greedy_writes_the_likeliest_token_each_time(kind: str, prefix: str, blind: bool) -> None:
    network = build(kind, prefix, blind=blind)
    inputs = pictures(), IMAGE_OF, padded(QUESTIONS)
    written = network.greedy(*inputs)
    often = next(token for row in written for token in row if any(token not in other for other in written))
    network.words.weight[EOS] = 1.01 * network.words.weight[often]  # now some answers end, and others are cut
    for length in (0, 1, 3, 99):
        most = min(length or 5, 5)
        found = network.greedy(*inputs, length)
        for at, question in enumerate(QUESTIONS):
            tokens: list[int] = []
            while len(tokens) < most:
                token = int(slow_logits(network, pictures()[IMAGE_OF[at]], question, tokens)[-1].argmax())
                if token == EOS:
                    break
                tokens.append(token)
            assert found[at] == tokens
    assert len({len(tokens) for tokens in found}) > 1


@torch.no_grad()
def test_mcan_writes_nothing() -> None:
    with pytest.raises(NotImplementedError, match="chooses"):
        build("mcan").greedy(pictures(), IMAGE_OF, padded(QUESTIONS))


def test_an_unknown_answer_costs_mcan_nothing() -> None:
    network = build("mcan")
    classes = torch.tensor([-1, 2, -1, 6, -7, 4])
    found = losses(network, answer_class=classes)
    same(found[classes < 0], torch.zeros(3, dtype=torch.float64))
    same(found[classes >= 0], losses(network)[classes >= 0])
    found[classes < 0].sum().backward()
    assert all(value.grad is None or not value.grad.any() for value in network.parameters())


# ---- Learning


@both
@every_kind
def test_gradients_reach_every_weight(kind: str, prefix: str, blind: bool) -> None:
    torch.manual_seed(1)  # with the conftest's, units of a ReLU are all on or all off
    network = build(kind, prefix, blind=blind)
    losses(network).sum().backward()
    # A softmax does not change where all its numbers grow alike, so one offset teaches nothing.
    idle = {"flat_question.weight.3.bias", "flat_image.weight.3.bias"} if kind == "mcan" else set()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert (value.grad.abs().max() > 1e-9) == (name not in idle), name


@every_kind
def test_dropout_is_for_training_only(kind: str, prefix: str) -> None:
    network, called = build(kind, prefix, dropout=0.3), set[nn.Module]()
    drops = {part for part in network.modules() if isinstance(part, nn.Dropout)}
    for part in drops:
        part.register_forward_hook(lambda module, inputs, output: called.add(module))
    same(losses(network), losses(network))
    assert called == drops and {part.p for part in drops} == {0.3}
    network.train()
    assert (losses(network) - losses(network)).abs().max() > 1e-3


@every_kind
def test_half_precision_is_finite(kind: str, prefix: str) -> None:
    network = build_vqa(replace(TINY, kind=kind, prefix=prefix))
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(network, pictures().float())
        ranked = rank(network, pictures().float())
    torch.testing.assert_close(found.float(), losses(network, pictures().float()), atol=0.05, rtol=0.05)
    torch.testing.assert_close(ranked.exp().sum(1), torch.ones(len(QUESTIONS)), atol=0.02, rtol=0)


@every_kind
def test_a_small_table_is_learnt(kind: str, prefix: str) -> None:
    # The answer hangs on picture and question together: neither says it alone.
    g, asked = 8, [(4, 5), (6, 5, 7), (4, 9)]
    table = torch.randint(0, K, (g, len(asked)), generator=torch.Generator().manual_seed(3))
    cells = pictures(g).float()
    image_of, which = torch.arange(g).repeat_interleave(len(asked)), torch.arange(len(asked)).repeat(g)
    question, classes = padded(asked)[which], table[image_of, which]
    answer = padded([(*ANSWERS[at], EOS) for at in classes])
    network = build_vqa(replace(TINY, kind=kind, prefix=prefix, width=32, layers=2, feed=64))
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(120):
        optimiser.zero_grad()
        network.losses(cells, image_of, question, answer, classes).mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    network.eval()
    assert (network.rank(cells, image_of, question, TRIE).argmax(1) == classes).all()
    if kind != "mcan":
        assert network.greedy(cells, image_of, question) == [[*ANSWERS[at]] for at in classes]
    turned = network.rank(cells.roll(1, 0), image_of, question, TRIE).argmax(1)
    assert (turned == table.roll(1, 0)[image_of, which]).all(), "other pictures, other answers"


# ---- Parts, costs, settings


def test_kinds_and_seeds() -> None:
    for (kind, prefix), network in zip(KINDS, (Vlm, Vlm, EncoderDecoder, Mcan), strict=True):
        config = replace(TINY, kind=kind, prefix=prefix)
        found: list[VqaNetwork] = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(build_vqa(config))
        one, again, other = ([*each.state_dict().values()] for each in found)
        assert isinstance(found[0], network) and found[0].config == config
        assert all(map(torch.equal, one, again)) and not all(map(torch.equal, one, other))


def test_an_image_token_is_a_square_of_cells() -> None:
    tokens = ImageTokens(replace(TINY, cells=(4, 6), fold=2)).double()
    cells = torch.randn(1, C, 4, 6, dtype=torch.float64)
    found = tokens(cells)
    assert found.shape == (1, 6, 16)
    for row in range(4):
        for column in range(6):
            changed = cells.clone()
            changed[0, 0, row, column] += 1
            moved = ((tokens(changed) - found)[0].abs().amax(1) > 1e-6).nonzero().flatten().tolist()
            assert moved == [row // 2 * 3 + column // 2]


@every_kind
@pytest.mark.parametrize("shape", [(3, C, 2, 4), (3, C + 1, 4, 2), (3, C, 4), (3, C, 4, 3), (C, 4, 2)])
def test_maps_of_another_shape_are_refused(kind: str, prefix: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"maps are \(g, 6, 4, 2\)"):
        losses(build(kind, prefix), torch.zeros(shape, dtype=torch.float64))


def test_attention_without_a_mask_looks_at_all() -> None:
    block = Block(TINY).double()
    x = torch.randn(2, 4, 16, dtype=torch.float64)
    same(block(x)[0], block(x, torch.ones(1, 1, 4, 4, dtype=torch.bool))[0])


COSTED = replace(TINY, layers=2, decoder_layers=2, cells=(4, 4))
N, T, A, D, E, FEED, Q = 16, 7, 3, 16, 10, 24, 4  # as asked for below


def block_cost(x: int, seen: int) -> int:
    """Operations of a block of x tokens that look at `seen`."""
    return 2 * (4 * x * D * D + 2 * x * seen * D + 2 * x * D * FEED)


def guide_cost(x: int, seen: int) -> int:
    """Of attention of x tokens to others."""
    return 2 * (2 * x * D * D + 2 * seen * D * D + 2 * x * seen * D)


def flat_cost(x: int) -> int:
    """Of the weighted mean of x states."""
    return 2 * (x * D * D + 2 * x * D + 2 * D * D)


def cost(kind: str, prefix: str, blind: bool) -> int:
    """Operations of four questions of one picture, counted by hand."""
    n, image = (0, 0) if blind else (N, 2 * N * C * D)
    if kind == "mcan":
        lstm = 2 * T * 4 * D * (E + D)
        looking = 2 * (block_cost(N, N) + guide_cost(N, T)) + flat_cost(N) if n else 0
        return image + Q * (lstm + 2 * block_cost(T, T) + flat_cost(T) + looking + 2 * 2 * D * K)
    head, keys = 2 * A * D * V, 2 * 2 * D * D
    if kind == "encoder_decoder":
        return image + Q * (2 * block_cost(n + T, n + T) + 2 * (block_cost(A, A) + guide_cost(A, n + T)) + head)
    writing = 2 * block_cost(A, n + T + A) + head
    if prefix == "image" and n:
        return image + block_cost(n, n) + n * keys + Q * (block_cost(T, n + T) + T * keys + writing)
    return image + Q * (block_cost(n + T, n + T) + (n + T) * keys + writing)


@both
@every_kind
def test_operations_are_those_counted_by_hand(kind: str, prefix: str, blind: bool) -> None:
    network = build_vqa(replace(COSTED, kind=kind, prefix=prefix, blind=blind, dropout=0.2))
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in network.state_dict().items()}
    assert flops(network, Q, T, A) == cost(kind, prefix, blind) // Q
    assert torch.equal(torch.get_rng_state(), before) and network.training, "nothing is drawn or changed"
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_picture_that_is_shared_costs_less() -> None:
    config = replace(TINY, cells=(14, 14), question_length=14)
    full, image = (build_vqa(replace(config, prefix=prefix)) for prefix in ("full", "image"))
    assert flops(image) < 0.5 * flops(full)
    assert flops(image, questions=1) == pytest.approx(flops(full, questions=1), rel=0.3)
    assert count_parameters(image) == count_parameters(full)


def test_parameters_are_counted() -> None:
    def linear(one: int, other: int) -> int:
        return one * other + other

    block = linear(D, D) * 2 + linear(D, 2 * D) + linear(D, FEED) + linear(FEED, D) + 4 * D
    image = 2 * C + linear(C, D) + 8 * D
    words = V * D + 8 * D + 5 * D
    assert count_parameters(build_vqa(TINY)) == 3 * block + image + words + 2 * D
    assert count_parameters(build_vqa(replace(TINY, blind=True))) == 3 * block + words + 2 * D


@pytest.mark.parametrize("blind", [False, True])
@every_kind
def test_settings_come_back(kind: str, prefix: str, blind: bool) -> None:
    config = replace(TINY, kind=kind, prefix=prefix, blind=blind, fold=2, dropout=0)
    assert VqaConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    least = {"kind": kind, "channels": 8, "cells": [2, 2], "words": 300, "answers": 2}
    assert VqaConfig.from_dict(least).to_dict().items() >= least.items()


WHOLE = (
    "channels", "fold", "words", "answers", "width", "layers", "decoder_layers", "heads", "feed", "embedding",
    "question_length", "answer_length",
)  # fmt: skip
WRONG: dict[str, list[Any]] = {
    **{name: [0, -1, LARGEST + 1, 1.5, "7", None, True, [3]] for name in WHOLE},
    "heads": [0, 3, "4"],  # of a width of 16
    "fold": [0, 3, 4],  # of 4 x 2 cells
    "cells": [(), (4,), (4, 2, 1), (0, 2), (4, -2), (4, 2.0), (4, True), ("4", "2"), None, 4, "42", {"h": 4}],
    "dropout": [-0.1, 1, 1.0, math.nan, math.inf, "0.1", None, True, [0.1]],
    "kind": ["", "VLM", None, 3, ["vlm"], {}],
    "prefix": ["", "both", None, 3, ["full"]],
    "blind": [0, 1, "yes", None],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_are_refused(name: str) -> None:
    for value in WRONG[name]:
        with pytest.raises(InputError) as caught:
            VqaConfig.from_dict({**TINY.to_dict(), name: value})
        assert caught.value.column == name, value


@pytest.mark.parametrize("key", ["kind", "channels", "cells", "words", "answers"])
def test_settings_that_are_missing_or_unknown_are_refused(key: str) -> None:
    values = TINY.to_dict()
    del values[key]
    with pytest.raises(InputError, match="missing") as caught:
        VqaConfig.from_dict(values)
    assert caught.value.column == key
    with pytest.raises(InputError, match="no such setting") as caught:
        VqaConfig.from_dict({**TINY.to_dict(), key.upper(): 3})
    assert caught.value.column == key.upper()
