"""What the three networks that answer questions share: image tokens, attention that can go on from kept keys, blocks.

    map (g, C, h, w) ─► squares of cells ─► norm, linear, + position ─► image tokens (g, N, D)
    x (n, T, D) ─► `Block`, with the keys and values of what stands before ─► x, its own keys and values behind them

Questions are of many lengths, so where `Places` are given x is (m, D), the tokens that are there: no layer works on
padding, and only attention lays them out as (n, T). Blocks are pre-norm (arXiv 2002.04745). Letters: g pictures, n
questions, N image tokens, T tokens, m tokens that are no padding, S tokens that are attended to, D width, H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.vqa_config import VqaConfig


class Kept(NamedTuple):
    """Keys and values, each (n, H, S, D/H), of tokens that later ones attend to."""

    key: Tensor
    value: Tensor

    def of(self, rows: Tensor) -> Kept:
        """Those of some rows, in their order."""
        return Kept(self.key[rows], self.value[rows])

    def then(self, other: Kept) -> Kept:
        """These, and others behind them."""
        return Kept(torch.cat([self.key, other.key], 2), torch.cat([self.value, other.value], 2))


class Places(NamedTuple):
    """Where the m tokens of n texts stand that are no padding."""

    at: Tensor  # (m,) in n rows of T, one behind the other
    held: Tensor  # (n, T), true there

    @classmethod
    def of(cls, held: Tensor) -> Places:
        """Those where (n, T) is true."""
        return cls(held.flatten().nonzero().squeeze(1), held)

    def packed(self, x: Tensor) -> Tensor:
        """(m, ...) of (n, T, ...)."""
        return x.flatten(0, 1).index_select(0, self.at)

    def padded(self, x: Tensor) -> Tensor:
        """(n, T, ...) of (m, ...), zero at padding."""
        rows = x.new_zeros(self.held.numel(), *x.shape[1:])
        return rows.index_copy_(0, self.at, x).unflatten(0, tuple(self.held.shape))


class ImageTokens(nn.Module):
    """(g, N, D) tokens of (g, C, h, w) maps: each square of cells is one, with its place added."""

    def __init__(self, config: VqaConfig):
        super().__init__()
        self.fold, size = config.fold, config.channels * config.fold**2
        self.cells = config.channels, *config.cells
        self.norm, self.linear = nn.LayerNorm(size), nn.Linear(size, config.width)
        self.position = nn.Parameter(torch.randn(config.image_tokens, config.width) * 0.02)

    def forward(self, cells: Tensor) -> Tensor:
        if tuple(cells.shape[1:]) != self.cells:
            raise ValueError(f"maps are (g, {', '.join(map(str, self.cells))}); got {tuple(cells.shape)}")
        tokens = F.pixel_unshuffle(cells, self.fold).flatten(2).transpose(1, 2)  # (g, N, C fold²)
        found: Tensor = self.linear(self.norm(tokens)) + self.position
        return found


def attend(query: Tensor, kept: Kept, mask: Tensor | None) -> Tensor:
    """(n, H, T, D/H) of queries of that shape; `mask`, which broadcasts to (n, H, T, S), is true where one may look."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # torch's fused kernel is far slower backwards with these than with float32 (2.14, on a CPU with AMX).
        scores = (query @ kept.key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(-1).to(query.dtype) @ kept.value
    return F.scaled_dot_product_attention(query, kept.key, kept.value, attn_mask=mask)


class Attention(nn.Module):
    """Attention of queries to keys and values of the same tokens, or of others; with places x is (m, D)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )

    def kept(self, x: Tensor, places: Places | None = None) -> Kept:
        """Keys and values of (n, T, D)."""
        both = self.key_value(x)
        key, value = (both if places is None else places.padded(both)).chunk(2, -1)
        return Kept(self._split(key), self._split(value))

    def forward(self, x: Tensor, kept: Kept, mask: Tensor | None, places: Places | None = None) -> Tensor:
        """(n, T, D) of queries from (n, T, D); `mask`, which broadcasts to (n, H, T, S), is true where one may look."""
        query = self.query(x)
        query = self._split(query if places is None else places.padded(query))
        mixed = attend(query, kept, mask)
        mixed = mixed.transpose(1, 2).flatten(2)  # (n, T, D)
        found: Tensor = self.out(mixed if places is None else places.packed(mixed))
        return found

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (n, H, T, D/H)


class Feed(nn.Sequential):
    """The feed-forward layer of a block."""

    def __init__(self, config: VqaConfig):
        super().__init__(nn.Linear(config.width, config.feed), nn.GELU(), nn.Linear(config.feed, config.width))


class Block(nn.Module):
    """Attention among tokens, and to those before them; where asked, attention to others; a feed-forward layer."""

    def __init__(self, config: VqaConfig, guided: bool = False):
        super().__init__()
        self.before_mix, self.mix = nn.LayerNorm(config.width), Attention(config.width, config.heads)
        self.before_guide, self.guide = None, None
        if guided:
            self.before_guide, self.guide = nn.LayerNorm(config.width), Attention(config.width, config.heads)
        self.before_feed, self.feed = nn.LayerNorm(config.width), Feed(config)
        self.drop = nn.Dropout(config.dropout)

    def kept(self, x: Tensor, before: Kept | None = None, places: Places | None = None) -> Kept:
        """Keys and values of (n, T, D) behind those of what stands before: all that later tokens need of this block."""
        ours = self.mix.kept(self.before_mix(x), places)
        return ours if before is None else before.then(ours)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        before: Kept | None = None,
        guides: Tensor | None = None,
        guide_mask: Tensor | None = None,
        places: Places | None = None,
    ) -> tuple[Tensor, Kept]:
        """The next (n, T, D), and keys and values (n, H, S, D/H) of what stood before and of these.

        Args:
            x: (n, T, D). mask: Broadcasts to (n, H, T, S). before: Of S - T tokens that stand before. guides: (n, S',
                D) what a guided block also attends to. guide_mask: Broadcasts to (n, H, T, S').
            places: Where the tokens stand if x, and what is given back, is (m, D).
        """
        normed = self.before_mix(x)
        ours = self.mix.kept(normed, places)
        kept = ours if before is None else before.then(ours)
        x = x + self.drop(self.mix(normed, kept, mask, places))
        if self.guide is not None and self.before_guide is not None and guides is not None:
            x = x + self.drop(self.guide(self.before_guide(x), self.guide.kept(guides), guide_mask, places))
        return x + self.drop(self.feed(self.before_feed(x))), kept


def run_prefix(
    blocks: nn.ModuleList,
    x: Tensor,
    mask: Tensor | None,
    before: list[Kept] | None = None,
    places: Places | None = None,
) -> list[Kept]:
    """Keys and values, block by block, of tokens whose own last states nobody reads: of the last block no more is made.

    Args:
        blocks: Of `Block`. x: (n, T, D). mask: Broadcasts to (n, H, T, S). before: For each block. places: As there.
    """
    found = []
    for number, block in enumerate(blocks):
        assert isinstance(block, Block)
        there = None if before is None else before[number]
        if number == len(blocks) - 1:
            found.append(block.kept(x, there, places))
        else:
            x, kept = block(x, mask, there, places=places)
            found.append(kept)
    return found


def causal(n: int, device: torch.device) -> Tensor:
    """(1, 1, n, n) bool: each token looks at itself and at those before it."""
    return torch.ones(n, n, dtype=torch.bool, device=device).tril()[None, None]


def init_weights(module: nn.Module) -> None:
    """Small normal weights and no offsets, as transformers from scratch begin with; LayerNorm and LSTM keep theirs."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
