"""An encoder reads picture and question in both directions; a decoder of its own writes the answer.

    [image (N) ; question (T)] (n, N + T, D) ─► encoder blocks ─► states
    <sep> answer (n, A) ─► decoder blocks: attention to what is written, then to the states ─► next token

The pattern of BLIP's VQA model (arXiv 2201.12086), with our sizes. The words of question and answer share an embedding,
as in the other networks here. Letters as in `fashionkit.models.vlm`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.answer_trie import AnswerTrie
from fashionkit.models.tokenizer import PAD, SEP
from fashionkit.models.vlm import greedy_tokens
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.models.vqa_parts import Block, ImageTokens, Places, causal, init_weights


class EncoderDecoder(nn.Module):
    """See the module's text.

    Args:
        config: Of kind `encoder_decoder`.
    """

    def __init__(self, config: VqaConfig):
        super().__init__()
        self.config = config
        self.image = None if config.blind else ImageTokens(config)
        self.words = nn.Embedding(config.words, config.width)
        self.question_position = nn.Parameter(torch.randn(config.question_length, config.width) * 0.02)
        self.answer_position = nn.Parameter(torch.randn(config.answer_length, config.width) * 0.02)
        self.drop = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.encoded = nn.LayerNorm(config.width)
        self.decoder = nn.ModuleList(Block(config, guided=True) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.width)
        init_weights(self)

    def losses(
        self, cells: Tensor | None, image_of: Tensor, question: Tensor, answer: Tensor, answer_class: Tensor
    ) -> Tensor:
        """(n,) cross-entropy of each answer, summed over its tokens; arguments as in `Vlm.losses`."""
        places = Places.of(answer != PAD)
        states = self.written(*self.encode(cells, image_of, question), answer[:, :-1], places)  # (m, D)
        each = F.cross_entropy(self.next(states), places.packed(answer), reduction="none")
        return places.padded(each).sum(1)

    def encode(self, cells: Tensor | None, image_of: Tensor, question: Tensor) -> tuple[Tensor, Tensor]:
        """States (n, N + T, D), and which of them are there, (n, 1, 1, N + T)."""
        x = self.words(question) + self.question_position[: question.shape[1]]  # (n, T, D)
        held = question != PAD
        if self.image is None:
            held = held | (torch.arange(held.shape[1], device=held.device) == 0)  # never nothing at all
        else:
            assert cells is not None, "a network that looks needs pictures"
            image = self.image(cells)  # (g, N, D)
            x, held = torch.cat([image[image_of], x], 1), F.pad(held, (image.shape[1], 0), value=True)
        places, mask = Places.of(held), held[:, None, None]
        x = self.drop(places.packed(x))  # (m, D)
        for block in self.encoder:
            x, _ = block(x, mask, places=places)
        return places.padded(self.encoded(x)), mask

    def logits(self, states: Tensor, mask: Tensor, answer: Tensor) -> Tensor:
        """(n, A + 1, V): of the token behind SEP, and behind each of (n, A) tokens of an answer."""
        return self.next(self.written(states, mask, answer))

    def next(self, written: Tensor) -> Tensor:
        """(..., V) logits of the next token of (..., D) states of what is written."""
        found: Tensor = F.linear(self.norm(written), self.words.weight)
        return found

    def written(self, states: Tensor, mask: Tensor, answer: Tensor, places: Places | None = None) -> Tensor:
        """(n, A + 1, D) last states of SEP and of each of (n, A) answer tokens; (m, D) of those in some places."""
        tokens = F.pad(answer, (1, 0), value=SEP)
        x = self.words(tokens) + self.answer_position[: tokens.shape[1]]
        x = self.drop(x if places is None else places.packed(x))
        backwards = causal(tokens.shape[1], x.device)
        for block in self.decoder:
            x, _ = block(x, backwards, guides=states, guide_mask=mask, places=places)
        return x

    @torch.no_grad()
    def rank(self, cells: Tensor | None, image_of: Tensor, question: Tensor, trie: AnswerTrie, k: int = 1) -> Tensor:
        """(n, K) log-probabilities of the known answers, on the CPU, the k best of them exact; see `AnswerTrie`."""
        states, mask = self.encode(cells, image_of, question)

        def following(rows: Tensor, tokens: Tensor, length: Tensor) -> Tensor:
            rows, tokens, length = (each.to(question.device) for each in (rows, tokens, length))
            written = self.written(states[rows], mask[rows], tokens[:, : int(length.max())])
            return self.next(written[torch.arange(len(rows), device=written.device), length])

        return trie.log_probabilities(len(question), following, k)

    @torch.no_grad()
    def greedy(self, cells: Tensor | None, image_of: Tensor, question: Tensor, length: int = 0) -> list[list[int]]:
        """n answers as tokens, the likeliest token after another until EOS or so many tokens; 0: what fits."""
        states, mask = self.encode(cells, image_of, question)
        return greedy_tokens(lambda tokens: self.logits(states, mask, tokens)[:, -1], question, self.config, length)
