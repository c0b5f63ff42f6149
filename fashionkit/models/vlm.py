"""A visual language model: one transformer reads picture and question and writes the answer.

    image (g, N, D) ──────► blocks ─► kept keys ┐ once a picture where `prefix` is `image`
    question (n, T) ids ──► the same blocks, attending to both ─► kept keys
    <sep> answer (n, A) ──► the same blocks, each token attending to all that and to what it has written ─► next token

A prefix language model (T5, arXiv 1910.10683, section 3.2.1; PaLI-Gemma's masks, arXiv 2407.07726): the prefix looks in
both directions, the answer backwards only. The words that go in and those that come out share their embedding. That one
transformer both reads and writes is FashionVQA's design (arXiv 2208.11253); its sizes are not public, these are ours.

With `prefix: image` the picture's tokens do not see the question, so their keys and values are worked out once for all
questions of a picture: as in a causal model whose prompt begins with the picture.

Letters: g pictures, n questions, N image tokens, T question tokens, A answer tokens, D width, V words, K answers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.tokenizer import EOS, PAD, SEP
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.models.vqa_parts import Block, ImageTokens, Kept, Places, causal, init_weights, run_prefix


class Vlm(nn.Module):
    """See the module's text.

    Args:
        config: Of kind `vlm`.
    """

    def __init__(self, config: VqaConfig):
        super().__init__()
        self.config = config
        self.image = None if config.blind else ImageTokens(config)
        self.words = nn.Embedding(config.words, config.width)
        self.question_position = nn.Parameter(torch.randn(config.question_length, config.width) * 0.02)
        self.answer_position = nn.Parameter(torch.randn(config.answer_length, config.width) * 0.02)
        self.drop = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        init_weights(self)

    def losses(
        self, cells: Tensor | None, image_of: Tensor, question: Tensor, answer: Tensor, answer_class: Tensor
    ) -> Tensor:
        """(n,) cross-entropy of each answer, summed over its tokens.

        Args:
            cells: (g, C, h, w) maps; None for a blind network. image_of: (n,) which of them a question is about.
            question: (n, T) ids, PAD behind. answer: (n, A) ids with EOS, PAD behind. answer_class: Not needed here.
        """
        places = Places.of(answer != PAD)
        states = self.states(self.prefix(cells, image_of, question), question, answer[:, :-1], places)  # (m, D)
        each = F.cross_entropy(self.next(states), places.packed(answer), reduction="none")
        return places.padded(each).sum(1)

    def prefix(self, cells: Tensor | None, image_of: Tensor, question: Tensor) -> list[Kept]:
        """Keys and values, block by block, of pictures and questions; arguments as in `losses`."""
        x = self.words(question) + self.question_position[: question.shape[1]]  # (n, T, D)
        held = question != PAD  # (n, T)
        if self.image is None:
            held = held | (torch.arange(held.shape[1], device=held.device) == 0)  # never nothing at all
            places = Places.of(held)
            return run_prefix(self.blocks, self.drop(places.packed(x)), held[:, None, None], places=places)
        assert cells is not None, "a network that looks needs pictures"
        image = self.image(cells)  # (g, N, D)
        whole = F.pad(held, (image.shape[1], 0), value=True)  # (n, N + T)
        mask = whole[:, None, None]
        if self.config.prefix == "full":
            places = Places.of(whole)
            x = self.drop(places.packed(torch.cat([image[image_of], x], 1)))
            return run_prefix(self.blocks, x, mask, places=places)
        places = Places.of(held)
        kept = run_prefix(self.blocks, self.drop(image), None)  # (g, H, N, D/H)
        x = self.drop(places.packed(x))
        return run_prefix(self.blocks, x, mask, [each.of(image_of) for each in kept], places)

    def logits(self, prefix: list[Kept], question: Tensor, answer: Tensor) -> Tensor:
        """(n, A + 1, V): of the token behind SEP, and behind each of (n, A) tokens of an answer."""
        return self.next(self.states(prefix, question, answer))

    def next(self, states: Tensor) -> Tensor:
        """(..., V) logits of the next token of (..., D) states."""
        found: Tensor = F.linear(self.norm(states), self.words.weight)
        return found

    def states(self, prefix: list[Kept], question: Tensor, answer: Tensor, places: Places | None = None) -> Tensor:
        """(n, A + 1, D) last states of SEP and of each of (n, A) answer tokens; (m, D) of those in some places."""
        tokens = F.pad(answer, (1, 0), value=SEP)
        x = self.words(tokens) + self.answer_position[: tokens.shape[1]]
        x = self.drop(x if places is None else places.packed(x))
        n, t = tokens.shape
        held = question != PAD
        held = F.pad(held, (self.config.image_tokens, 0), value=True)
        mask = torch.cat([held[:, None, None].expand(n, 1, t, -1), causal(t, x.device).expand(n, 1, t, t)], 3)
        for block, kept in zip(self.blocks, prefix, strict=True):
            x, _ = block(x, mask, kept, places=places)
        return x

    @torch.no_grad()
    def rank(self, cells: Tensor | None, image_of: Tensor, question: Tensor, trie: AnswerTrie, k: int = 1) -> Tensor:
        """(n, K) log-probabilities of the known answers, on the CPU, the k best of them exact; see `AnswerTrie`."""
        prefix = self.prefix(cells, image_of, question)

        def following(rows: Tensor, tokens: Tensor, length: Tensor) -> Tensor:
            rows, tokens, length = (each.to(question.device) for each in (rows, tokens, length))
            longest = int(length.max())
            whole = len(rows) == len(question) and longest == 0  # the first pass is of all questions as they stand
            kept = prefix if whole else [each.of(rows) for each in prefix]
            states = self.states(kept, question[rows], tokens[:, :longest])
            return self.next(states[torch.arange(len(rows), device=states.device), length])

        return trie.log_probabilities(len(question), following, k)

    @torch.no_grad()
    def greedy(self, cells: Tensor | None, image_of: Tensor, question: Tensor, length: int = 0) -> list[list[int]]:
        """n answers as tokens, the likeliest token after another until EOS or so many tokens; 0: what fits."""
        prefix = self.prefix(cells, image_of, question)
        return greedy_tokens(lambda tokens: self.logits(prefix, question, tokens)[:, -1], question, self.config, length)


def greedy_tokens(
    following: Callable[[Tensor], Tensor], question: Tensor, config: VqaConfig, length: int
) -> list[list[int]]:
    """Writes answers token by token.

    Args:
        following: (n, A) tokens → (n, V) logits of the next. question: (n, T). length: Most tokens; 0: what fits.
    """
    tokens = question.new_zeros(len(question), 0)
    open_ = torch.ones(len(question), dtype=torch.bool, device=question.device)
    for _ in range(min(length or config.answer_length, config.answer_length)):
        if not open_.any():
            break
        chosen = following(tokens).argmax(1).masked_fill(~open_, EOS)
        open_ &= chosen != EOS
        tokens = torch.cat([tokens, chosen[:, None]], 1)
    return [[token for token in row if token != EOS] for row in tokens.tolist()]
