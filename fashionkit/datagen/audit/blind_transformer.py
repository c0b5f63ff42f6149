"""A tiny transformer that reads the ids of a question and never its picture.

    [template, slot, slot, slot, slot] ─► embeddings + positions ─► 2 layers ─► the template's state ─► answers

One model learns all families. It reads ids in place of words: a question is then five tokens, not twenty, and in the
same time the model finds several times as much of what slots give away (the n-gram model reads the wording). Blocks
are pre-norm, arXiv 2002.04745; training is AdamW with one cycle of the learning rate, arXiv 1708.07120.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.datagen.audit.blind_exam import Exam, distinct, key_of
from fashionkit.datagen.counter import stream
from fashionkit.engine.threads import one_thread

# Legend: B questions of a batch, T tokens, D width, H heads, A answers, U distinct questions
Array = npt.NDArray[Any]
LAYERS, WIDTH, HEADS = 2, 64, 4
BATCH, RATE, DECAY = 512, 2e-3, 0.01
STEPS = (300, 2000)  # fewest and most
PASSES = 12  # over the distinct questions, within the bounds of STEPS
JUDGE_BATCH = 8192


class Block(nn.Module):
    """Attention among the tokens of a question, then a feed-forward layer."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.before_mix, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, held: Tensor) -> Tensor:
        """(B, T, D) states; `held` (B, 1, 1, T) is true where there is a token."""
        b, t, d = x.shape
        qkv = self.qkv(self.before_mix(x)).view(b, t, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D/H)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=held)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, d))  # (B, T, D)
        return x + self.feed(self.before_feed(x))


class BlindTransformer(nn.Module):
    """Scores of answers from the tokens of a question.

    Args:
        tokens: How many different ones there are; 0 is no token. length: T. answers: A.
    """

    def __init__(self, tokens: int, length: int, answers: int):
        super().__init__()
        self.embedding = nn.Embedding(tokens, WIDTH)
        self.position = nn.Parameter(torch.randn(length, WIDTH) * 0.1)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, answers)
        nn.init.normal_(self.embedding.weight, std=0.1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, token: Tensor) -> Tensor:
        """(B, A) scores of (B, T) tokens, the first of which is always there."""
        x = self.embedding(token) + self.position  # (B, T, D)
        held = (token > 0)[:, None, None]  # (B, 1, 1, T)
        for block in self.blocks:
            x = block(x, held)
        scores: Tensor = self.head(self.norm(x[:, 0]))
        return scores


class Lessons:
    """Distinct questions with how often each answer was right in training.

    Attributes:
        token: (U, T). options: (U, 2) answer numbers, as in `answers`. two: (U,) bool, whether there are only those.
        asked: (U,) times in training. won: (U,) times the first option was right.
        begin: (U + 1,) where a question's answers stand in `answer`, (e,) answer numbers, and `count`, (e,) times.
        answers: (A,) vocabulary ids. which: (n,) the question of each sample.
    """

    def __init__(self, exam: Exam):
        first, self.which = distinct(key_of(exam.wording, *exam.slots.T))
        raw = np.concatenate([exam.slots[first], -1 - exam.wording[first, None]], axis=1)[:, [4, 0, 1, 2, 3]]
        used, token = np.unique(raw, return_inverse=True)
        zero = int(np.searchsorted(used, 0))  # no token becomes 0, whatever its place among the others
        token = np.where(token == zero, 0, np.where(token < zero, token + 1, token)).reshape(raw.shape)
        self.tokens, self.token = len(used) + 1, torch.from_numpy(token)
        size, learnt = len(first), ~exam.questions.judged
        self.answers = np.unique(np.concatenate([exam.questions.answer[learnt], exam.options[first].reshape(-1)]))
        self.options = torch.from_numpy(np.searchsorted(self.answers, exam.options[first]))
        self.two = exam.options[first, 0] > 0
        which, answer = self.which[learnt], np.searchsorted(self.answers, exam.questions.answer[learnt])
        self.asked = np.bincount(which, minlength=size)
        self.won = np.bincount(which[answer == self.options.numpy()[which, 0]], minlength=size)
        pair, self.count = np.unique(which * np.int64(len(self.answers)) + answer, return_counts=True)
        self.answer = pair % len(self.answers)
        self.begin = np.searchsorted(pair // len(self.answers), np.arange(size + 1))


@one_thread()
def guess_by_transformer(exam: Exam, seed: int, say: Callable[[str], None] = lambda line: None) -> Array:
    """(n,) guessed answers; of questions with two possible answers one of those two.

    Args:
        exam: What to learn and to answer. seed: Of first weights and of the order of questions.
        say: Gets a line about every quarter of the training.
    """
    lessons = Lessons(exam)
    if not lessons.asked.any():
        return np.zeros(len(exam.scope), np.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(seed, "blind-transformer") >> 1)
        model = BlindTransformer(lessons.tokens, lessons.token.shape[1], len(lessons.answers))
    _train(model, lessons, np.random.default_rng(stream(seed, "blind-lessons")), say)
    return lessons.answers[_answers(model, lessons)][lessons.which]


def _train(model: BlindTransformer, lessons: Lessons, rng: np.random.Generator, say: Callable[[str], None]) -> None:
    """Draws questions by the root of how often they are asked, and weights them by the other root."""
    steps = int(np.clip(PASSES * (lessons.asked > 0).sum() // BATCH, *STEPS))
    chance = np.cumsum(np.sqrt(lessons.asked))
    weight = np.sqrt(lessons.asked) * (chance[-1] / max(lessons.asked.sum(), 1))
    solver = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(solver, RATE, total_steps=steps + 1, pct_start=0.1)
    model.train()
    seen = 0.0
    for step in range(1, steps + 1):
        rows = np.searchsorted(chance, rng.random(BATCH) * chance[-1], side="right")
        rows = np.minimum(rows, len(chance) - 1)
        loss = _loss(model(lessons.token[rows]), lessons, rows, weight[rows])
        solver.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        solver.step()
        schedule.step()
        seen += float(loss.detach())
        if step % (steps // 4) == 0:
            say(f"transformer: {step:,} of {steps:,} steps, loss {seen / (steps // 4):.4f}")
            seen = 0.0


def _loss(scores: Tensor, lessons: Lessons, rows: Array, weight: Array) -> Tensor:
    """Mean cross-entropy with the shares of the answers in training; two options compete among themselves only."""
    two = lessons.two[rows]
    options = lessons.options[rows]  # (B, 2)
    z = (scores.gather(1, options[:, :1]) - scores.gather(1, options[:, 1:]))[:, 0]  # (B,)
    share = torch.from_numpy((lessons.won[rows] / lessons.asked[rows]).astype(np.float32))
    loss = (torch.from_numpy((weight * two).astype(np.float32)) * (F.softplus(z) - share * z)).sum()
    some = rows[~two]
    if len(some):
        many = lessons.begin[some + 1] - lessons.begin[some]
        place = np.repeat(np.arange(len(some)), many)
        entry = np.arange(many.sum()) + np.repeat(lessons.begin[some] - np.cumsum(many) + many, many)
        share = lessons.count[entry] / lessons.asked[some][place] * weight[~two][place]
        log_p = scores[torch.from_numpy(~two)].log_softmax(1)[torch.from_numpy(place), lessons.answer[entry]]
        loss = loss - (log_p * torch.from_numpy(share.astype(np.float32))).sum()
    return loss / len(rows)


@torch.no_grad()
def _answers(model: BlindTransformer, lessons: Lessons) -> Array:
    """(U,) numbers of the answers with the highest score."""
    model.eval()
    found = np.zeros(len(lessons.asked), np.int64)
    for lo in range(0, len(found), JUDGE_BATCH):
        rows = slice(lo, lo + JUDGE_BATCH)
        scores, options = model(lessons.token[rows]), lessons.options[rows]
        better = scores.gather(1, options).argmax(1, keepdim=True)
        chosen = torch.where(torch.from_numpy(lessons.two[rows]), options.gather(1, better)[:, 0], scores.argmax(1))
        found[rows] = chosen.numpy()
    return found
