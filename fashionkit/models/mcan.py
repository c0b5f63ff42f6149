"""MCAN: deep co-attention of question and picture, and a choice among known answers (arXiv 1906.10770).

    question (n, T) ids ─► words (E) ─► LSTM (D) ─► L blocks of self-attention ──┬─► AttFlat ─┐
    image (n, N, D) ─► L blocks: self-attention, attention to the question's end ┴─► AttFlat ─┴─► sum, norm ─► K answers

Facts from the paper and its code (openvqa's `mcan_small`): the encoder-decoder wiring, AttFlat with an inner MLP and an
output of 2 D, words of 300 numbers, an LSTM. Ours: blocks are pre-norm, as in the other networks here, and the loss is
the cross-entropy of the one right answer, where VQA's several annotators call for a sum of binary ones.
Letters as in `fashionkit.models.vlm`; E width of a word.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.tokenizer import PAD
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.models.vqa_parts import Block, ImageTokens, Places, init_weights


class AttFlat(nn.Module):
    """(n, 2 D) of (n, S, D) states: their mean, weighted by an MLP."""

    def __init__(self, config: VqaConfig):
        super().__init__()
        self.weight = nn.Sequential(
            nn.Linear(config.width, config.width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.width, 1)
        )
        self.merge = nn.Linear(config.width, 2 * config.width)

    def forward(self, x: Tensor, held: Tensor) -> Tensor:
        """held: (n, S) true where there is a token."""
        share = self.weight(x).squeeze(-1).masked_fill(~held, -torch.inf).softmax(1)  # (n, S)
        found: Tensor = self.merge(torch.einsum("ns,nsd->nd", share, x))
        return found


class Mcan(nn.Module):
    """See the module's text.

    Args:
        config: Of kind `mcan`; `layers` of each stack.
    """

    def __init__(self, config: VqaConfig):
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.words, config.embedding)
        self.lstm = nn.LSTM(config.embedding, config.width, batch_first=True)
        self.reading = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.read, self.flat_question = nn.LayerNorm(config.width), AttFlat(config)
        self.image = None if config.blind else ImageTokens(config)
        self.looking = nn.ModuleList(Block(config, guided=True) for _ in range(0 if config.blind else config.layers))
        self.looked = None if config.blind else nn.LayerNorm(config.width)
        self.flat_image = None if config.blind else AttFlat(config)
        self.drop = nn.Dropout(config.dropout)
        self.norm, self.answers = nn.LayerNorm(2 * config.width), nn.Linear(2 * config.width, config.answers)
        init_weights(self)

    def forward(self, cells: Tensor | None, image_of: Tensor, question: Tensor) -> Tensor:
        """(n, K) logits of the known answers; arguments as in `losses`."""
        held = question != PAD
        held = held | (torch.arange(held.shape[1], device=held.device) == 0)  # never nothing at all
        x, _ = self.lstm(
            self.drop(self.words(question))
        )  # (n, T, D); what stands behind the end changes nothing before
        places, mask = Places.of(held), held[:, None, None]
        x = places.packed(x)
        for block in self.reading:
            x, _ = block(x, mask, places=places)
        x = places.padded(self.read(x))
        found: Tensor = self.flat_question(x, held)
        if self.image is not None and self.looked is not None and self.flat_image is not None:
            assert cells is not None, "a network that looks needs pictures"
            y = self.drop(self.image(cells))[image_of]  # (n, N, D)
            for block in self.looking:
                y, _ = block(y, guides=x, guide_mask=mask)
            found = found + self.flat_image(self.looked(y), y.new_ones(y.shape[:2], dtype=torch.bool))
        logits: Tensor = self.answers(self.norm(found))
        return logits

    def losses(
        self, cells: Tensor | None, image_of: Tensor, question: Tensor, answer: Tensor, answer_class: Tensor
    ) -> Tensor:
        """(n,) cross-entropy of each answer among the known ones.

        Args:
            cells: (g, C, h, w) maps; None for a blind network. image_of: (n,) which of them a question is about.
            question: (n, T) ids, PAD behind. answer: Not needed here. answer_class: (n,) number of the answer; below 0
                where it is none of those known, which costs nothing.
        """
        logits = self.forward(cells, image_of, question)
        return F.cross_entropy(logits, answer_class.clamp(min=-1), ignore_index=-1, reduction="none")

    @torch.no_grad()
    def rank(self, cells: Tensor | None, image_of: Tensor, question: Tensor, trie: AnswerTrie, k: int = 1) -> Tensor:
        """(n, K) log-probabilities of the known answers, on the CPU; `trie` and `k` are not needed here."""
        return self.forward(cells, image_of, question).float().log_softmax(1).cpu()

    def greedy(self, cells: Tensor | None, image_of: Tensor, question: Tensor, length: int = 0) -> list[list[int]]:
        """This network chooses and does not write.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("mcan chooses among known answers and writes no text")
