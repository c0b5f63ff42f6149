"""IRSN: the style of an outfit from its items (Choi, Kwon, Kim, "Item region-based style classification network",
Applied Intelligence 2024): the network alone, after feature maps and before a training loop.

    map (B, C, h, w) ──┬── mean ──────────────────────────► z_map ───┐
                       │                                             │
    masks (B, K, H, W) ┴─► masked mean ─► (block) ─► z_1 … z_K ──────┼──► gates ──► sum ──► LN ──► logits
                                                                     │
    general (B, D) ────────────────────────────────► z_general ──────┘

From the paper's public texts: four items with binary masks, a tuned domain map, a frozen general vector, global average
pooling in the masked map, learned gates. The gates' formula and the loss are not public: those here are our own, as are
the block (pre-norm, arXiv 2002.04745), the care for absent items and the auxiliary heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.vision.pooling import DENOMINATORS, LEAST, THRESHOLD, Denominator, present, region_pool, shrink_masks

# Legend: B pictures, C channels of the map, D general width, K items, S streams, E width, N styles, A heads,
#         H x W pixels of the masks, h x w cells of the map, T = h * w
Gate = Literal["softmax", "sigmoid", "scalar", "concat", "mean"]
Encoder = Literal["none", "block"]
GATES: tuple[Gate, ...] = ("softmax", "sigmoid", "scalar", "concat", "mean")
ENCODERS: tuple[Encoder, ...] = ("none", "block")


@dataclass(frozen=True)
class IrsnConfig:
    """What a network is built from. The switches are those of the ablation grid.

    Attributes:
        classes: N. channels: C. general: D; 0 where there is no general vector. items: K. width: E.
        gate: How streams are weighed: `softmax` among streams for each channel, `sigmoid` for each stream and channel,
            `scalar` softmax with one number a stream, `concat` an MLP over all of them, `mean` equal weights.
        encoder: What an item's cells pass before they are pooled: `none`, or one transformer `block`.
        use_map: The map's mean is a stream. use_general: The general vector is one. use_regions: Each item is one.
        soft_masks: Masks keep the shares of cells; otherwise a cell belongs to an item from `threshold` on.
        denominator: What sums over a mask are divided by, see `region_pool`.
        least: An item below this share of the picture is absent.
        heads: Of the block. dropout: Before the last layer, and in the block's branches.
        auxiliary: Each item and the map's mean have a head of their own, which training listens to.
        check_values: Features that are no finite numbers raise; looking costs a wait on a GPU.
    """

    classes: int
    channels: int
    general: int = 0
    items: int = 4
    width: int = 512
    gate: Gate = "softmax"
    encoder: Encoder = "block"
    use_map: bool = True
    use_general: bool = True
    use_regions: bool = True
    soft_masks: bool = False
    threshold: float = THRESHOLD
    denominator: Denominator = "mask"
    least: float = LEAST
    heads: int = 8
    dropout: float = 0.1
    auxiliary: bool = True
    check_values: bool = True

    def __post_init__(self) -> None:
        for name in ("classes", "channels", "items", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more; got {getattr(self, name)}")
        for name, allowed in (("gate", GATES), ("encoder", ENCODERS), ("denominator", DENOMINATORS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"no such {name}: {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        if self.general < 0 or not 0 <= self.dropout < 1 or not 0 < self.threshold <= 1 or not 0 <= self.least <= 1:
            raise ValueError(f"general, dropout, threshold or least is out of range: {self}")
        if self.encoder == "block" and self.width % self.heads:
            raise ValueError(f"the width {self.width} cannot be shared among {self.heads} heads")
        if not self.streams:
            raise ValueError("nothing to look at: use the map, the regions, or the general vector (with its width)")

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the S streams, in the order of the gates."""
        items = [f"item_{i}" for i in range(self.items)] if self.use_regions else []
        return (*["map"] * self.use_map, *["general"] * (self.use_general and self.general > 0), *items)


class IrsnOutput(NamedTuple):
    """What the network says of B pictures.

    Attributes:
        logits: (B, N).
        gates: (B, S, E), a weight for each stream and channel; for `concat` 1 where a stream is there, else 0.
        held: (B, S) bool, which streams are there; an absent item is not.
        style: (B, E), what the last layer sees.
        aux_map: (B, N) or None. aux_items: (B, K, N) or None.
    """

    logits: Tensor
    gates: Tensor
    held: Tensor
    style: Tensor
    aux_map: Tensor | None
    aux_items: Tensor | None


class Irsn(nn.Module):
    """Scores of styles from a feature map, item masks and a general vector.

    An absent item has a learned vector in place of its features and gets no weight, so what lies under its mask changes
    nothing. Where no stream is there at all, the learned vectors get the weights.
    """

    def __init__(self, config: IrsnConfig):
        super().__init__()
        self.config, k, e, n = config, config.items, config.width, config.classes
        size = config.channels
        if config.use_map:
            self.from_map = nn.Linear(size, e)
        if "general" in config.streams:
            self.from_general = nn.Sequential(nn.LayerNorm(config.general), nn.Linear(config.general, e))
        if config.use_regions:
            if config.encoder == "block":
                self.encoder, size = ItemBlock(size, e, k, config.heads, config.dropout), e
            self.from_items = nn.ModuleList(nn.Sequential(nn.LayerNorm(size), nn.Linear(size, e)) for _ in range(k))
            self.absent = nn.Parameter(torch.randn(k, e) * 0.02)
        self.fusion = Fusion(len(config.streams), e, config.gate)
        self.norm, self.drop, self.head = nn.LayerNorm(e), nn.Dropout(config.dropout), nn.Linear(e, n)
        if config.auxiliary and config.use_map:
            self.map_head = nn.Linear(e, n)
        if config.auxiliary and config.use_regions:
            self.item_heads = nn.ModuleList(nn.Linear(e, n) for _ in range(k))

    def forward(self, feature_map: Tensor, masks: Tensor | None = None, general: Tensor | None = None) -> IrsnOutput:
        """Classifies pictures; what the config does not use may be left out and is not looked at.

        Args:
            feature_map: (B, C, h, w). masks: (B, K, H, W) bool or floats 0..1, at any size.
            general: (B, D), without gradient where its extractor is frozen.

        Raises:
            ValueError: A missing or misshapen input, masks outside 0..1, or features that are no finite numbers.
        """
        self._check(feature_map, masks, general)
        b, streams, held = feature_map.shape[0], [], []
        if self.config.use_map:
            streams.append(self.from_map(feature_map.mean(dim=(2, 3)))[:, None])  # (B, 1, E)
        if "general" in self.config.streams:
            streams.append(self.from_general(general)[:, None])  # (B, 1, E)
        held.append(torch.ones(b, len(streams), dtype=torch.bool, device=feature_map.device))
        if self.config.use_regions:
            assert masks is not None
            items, shown = self._items(feature_map, masks)
            streams.append(items)
            held.append(shown)
        z, there = torch.cat(streams, dim=1), torch.cat(held, dim=1)  # (B, S, E), (B, S)
        fused, gates = self.fusion(z, there)  # (B, E), (B, S, E)
        style = self.norm(fused)
        return IrsnOutput(self.head(self.drop(style)), gates, there, style, *self._auxiliary(z))

    def _items(self, feature_map: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, E) vectors of items, and (B, K) which of them are there."""
        config, shown = self.config, present(masks, self.config.least)
        h, w = feature_map.shape[2:]
        cells = shrink_masks(masks, (h, w), None if config.soft_masks else config.threshold)  # (B, K, h, w)
        if config.encoder == "block":
            pooled = self.encoder(feature_map, cells, config.denominator)  # (B, K, E)
        else:
            pooled = region_pool(feature_map, cells, config.denominator)  # (B, K, C)
        each = [layer(pooled[:, i]) for i, layer in enumerate(self.from_items)]
        z = torch.stack(each, dim=1)  # (B, K, E)
        return torch.where(shown[:, :, None], z, self.absent.to(z.dtype)), shown

    def _auxiliary(self, z: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(B, N) of the map's stream, which comes first, and (B, K, N) of the items' streams, which come last."""
        config, items = self.config, z[:, -self.config.items :]  # (B, K, E)
        if not config.auxiliary:
            return None, None
        of_map = self.map_head(z[:, 0]) if config.use_map else None
        if not config.use_regions:
            return of_map, None
        return of_map, torch.stack([head(items[:, i]) for i, head in enumerate(self.item_heads)], dim=1)

    def _check(self, feature_map: Tensor, masks: Tensor | None, general: Tensor | None) -> None:
        config = self.config
        if feature_map.ndim != 4 or feature_map.shape[1] != config.channels or min(feature_map.shape[2:]) < 1:
            raise ValueError(f"the map is (B, {config.channels}, h, w); got {tuple(feature_map.shape)}")
        b = feature_map.shape[0]
        if config.use_regions and (masks is None or masks.ndim != 4 or masks.shape[:2] != (b, config.items)):
            raise ValueError(f"masks are ({b}, {config.items}, H, W); got {None if masks is None else [*masks.shape]}")
        looked = [feature_map]
        if "general" in config.streams:
            if general is None or general.shape != (b, config.general):
                found = None if general is None else [*general.shape]
                raise ValueError(f"the general vector is ({b}, {config.general}); got {found}")
            looked.append(general)
        if config.check_values and not torch.compiler.is_compiling() and not torch.onnx.is_in_onnx_export():
            for name, tensor in zip(("map", "general vector"), looked, strict=False):
                if not _finite(tensor.detach()):
                    raise ValueError(f"the {name} holds values that are no finite numbers")


def _finite(x: Tensor) -> bool:
    """Whether all values are numbers; by their bounds, which is much quicker than looking at each with `isfinite`."""
    return not x.numel() or all(bool(bound.isfinite()) for bound in x.aminmax())


class ItemBlock(nn.Module):
    """Attention among the cells of an item, then a feed-forward layer, then the masked mean.

    All items share the weights; a learned vector tells the block which item it looks at.
    """

    def __init__(self, channels: int, width: int, items: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.tokens = nn.Linear(channels, width)
        self.item = nn.Parameter(torch.randn(items, width) * 0.02)
        self.before_mix, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, feature_map: Tensor, cells: Tensor, denominator: Denominator) -> Tensor:
        """(B, K, E) of (B, C, h, w) features and (B, K, h, w) masks; the weight of a cell is its share in the mask."""
        b, k, h, w = cells.shape
        x = self.tokens(feature_map.flatten(2).transpose(1, 2))  # (B, T, E)
        x = (x[:, None] + self.item[:, None]).flatten(0, 1)  # (BK, T, E)
        share = cells.reshape(b * k, 1, 1, h * w).to(x.dtype)  # (BK, 1, 1, T)
        share = torch.where(share.amax(dim=3, keepdim=True) > 0, share, 1)  # an empty mask must not divide by zero
        qkv = self.qkv(self.before_mix(x)).view(b * k, h * w, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (BK, A, T, E/A)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=share.log().to(query.dtype))
        x = x + self.drop(self.out(mixed.transpose(1, 2).flatten(2)))  # (BK, T, E)
        x = x + self.drop(self.feed(self.before_feed(x)))
        x = x.transpose(1, 2).reshape(b * k, -1, h, w)  # (BK, E, h, w)
        return region_pool(x, cells.reshape(b * k, 1, h, w), denominator).view(b, k, -1)


class Fusion(nn.Module):
    """Weighs S streams and adds them up."""

    def __init__(self, streams: int, width: int, gate: Gate):
        super().__init__()
        self.gate, joint = gate, streams * width
        if gate == "concat":
            self.mlp = nn.Sequential(nn.Linear(joint, width), nn.GELU(), nn.Linear(width, width))
        elif gate != "mean":
            self.look = nn.Linear(joint, width)  # U
            self.weigh = nn.Linear(width, streams if gate == "scalar" else joint)  # V

    def forward(self, z: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """(B, E) and the gates (B, S, E) of (B, S, E) streams, of which (B, S) are there."""
        b, s, e = z.shape
        if self.gate == "concat":  # the learned vectors of absent items tell the layers that they are absent
            return self.mlp(z.flatten(1)), held[:, :, None].to(z.dtype).expand(b, s, e)
        held = (held | ~held.any(dim=1, keepdim=True))[:, :, None]  # (B, S, 1)
        if self.gate == "mean":
            gates = (held / held.sum(dim=1, keepdim=True)).to(z.dtype).expand(b, s, e)  # (B, S, E)
            return (gates * z).sum(dim=1), gates
        scores = self.weigh(torch.tanh(self.look(z.flatten(1)))).view(b, s, -1)  # (B, S, E), or (B, S, 1) if scalar
        if self.gate == "sigmoid":
            gates = scores.sigmoid() * held
        else:
            gates = scores.masked_fill(~held, -torch.inf).softmax(dim=1)
        gates = gates.expand(b, s, e)  # (B, S, E)
        return (gates * z).sum(dim=1), gates


def irsn_loss(
    output: IrsnOutput, target: Tensor, smoothing: float = 0.1, aux_items: float = 0.3, aux_map: float = 0.3
) -> dict[str, Tensor]:
    """Cross-entropy of the logits and, weighted, of the auxiliary heads; the paper's own loss is not public.

    Args:
        output: Of B pictures. target: (B,) int64, 0..N-1. smoothing: Of the labels, 0..1.
        aux_items: Weight of the sum over the items that are there; aux_map: of the map's head; both 0 or more.

    Returns:
        Scalars by name: `loss`, the weighted sum, to go back from; and its unweighted parts `style`, `aux_items`,
        `aux_map`, as far as the network has these heads.

    Raises:
        ValueError: A target of another shape, type or range, or a setting out of range.
    """
    b, n = output.logits.shape
    if target.shape != (b,) or target.dtype != torch.int64:
        raise ValueError(f"targets are ({b},) int64; got {tuple(target.shape)} {target.dtype}")
    if not b or not ((target >= 0) & (target < n)).all():
        raise ValueError(f"targets lie within 0..{n - 1}, and one is needed")
    if not 0 <= smoothing <= 1 or not 0 <= aux_items < torch.inf or not 0 <= aux_map < torch.inf:
        raise ValueError(f"smoothing or a weight is out of range: {smoothing}, {aux_items}, {aux_map}")
    parts = {"style": F.cross_entropy(output.logits, target, label_smoothing=smoothing)}
    total = parts["style"]
    if output.aux_items is not None:
        k = output.aux_items.shape[1]
        each = F.cross_entropy(  # (BK,)
            output.aux_items.flatten(0, 1), target.repeat_interleave(k), label_smoothing=smoothing, reduction="none"
        )
        parts["aux_items"] = (each.view(b, k) * output.held[:, -k:]).sum() / b
        total = total + aux_items * parts["aux_items"]
    if output.aux_map is not None:
        parts["aux_map"] = F.cross_entropy(output.aux_map, target, label_smoothing=smoothing)
        total = total + aux_map * parts["aux_map"]
    return {"loss": total, **parts}
