"""Item region pooling: what a feature map says about each item of a picture.

    masks of a picture (B, K, H, W) ──► area average ──► soft (B, K, h, w) ──► threshold ──► hard (B, K, h, w)
                                                                                             │
    feature map (B, C, h, w) ────────────────────── masked mean ◄────────────────────────────┘
                                                         └──► an item's vector (B, K, C)

The method is IRSN's (Choi, Kwon, Kim, "Item region-based style classification network", Applied Intelligence 2024):
masks are shrunk without parameters and multiplied with the map. The threshold, the choice of denominators and the care
for tiny items are our own. No function here has parameters or a state.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

# Legend: B pictures, C channels, K items, H x W pixels of the masks, h x w cells of the feature map
Denominator = Literal["mask", "map"]
DENOMINATORS: tuple[Denominator, ...] = ("mask", "map")
THRESHOLD = 0.25  # of a cell's area
LEAST = 0.002  # of a picture's area
_ROUNDING = 1e-5  # so that a quarter is a quarter, whatever sums of float32 make of it


def shrink_masks(masks: Tensor, size: tuple[int, int], threshold: float | None = THRESHOLD) -> Tensor:
    """Masks at the size of a feature map.

    Each cell is the average of the area it covers, exactly, also where the sizes do not divide. So a soft mask keeps
    its share of the picture. An item too small to fill any cell to the threshold keeps its fullest one.

    Args:
        masks: (B, K, H, W) bool, or floats 0..1.
        size: (h, w).
        threshold: A cell belongs to the item from this share on, above 0 and up to 1; None keeps shares.

    Returns:
        (B, K, h, w) floats 0..1, of the masks' own type where that is a float type and float32 otherwise; 0 and 1 only
        where there is a threshold. A mask without a pixel stays empty.

    Raises:
        ValueError: A wrong shape or type, masks outside 0..1 or not a number, a threshold out of range.
    """
    check_masks(masks)
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"a threshold lies above 0 and up to 1, or is None for soft masks; got {threshold}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a feature map has 1 x 1 cells or more; got {tuple(size)}")
    kind = masks.dtype if masks.dtype.is_floating_point else torch.float32
    down = _overlaps(masks.shape[2], size[0], masks.device)  # (h, H)
    across = _overlaps(masks.shape[3], size[1], masks.device)  # (w, W)
    with torch.autocast(masks.device.type, enabled=False):  # bfloat16 has too few digits for a threshold
        soft = down @ masks.float() @ across.T  # (B, K, h, w)
    if threshold is None:
        return soft.clamp(0, 1).to(kind)
    flat = soft.flatten(2)  # (B, K, hw)
    most, fullest = flat.max(dim=2, keepdim=True)  # (B, K, 1)
    hard = (flat >= threshold - _ROUNDING).to(kind)
    hard = hard.scatter_reduce(2, fullest, (most > 0).to(kind), "amax")  # the fullest cell counts where it holds any
    return hard.view_as(soft)


def region_pool(feature_map: Tensor, masks: Tensor, denominator: Denominator = "mask") -> Tensor:
    """The masked mean of a feature map, for each item.

    Args:
        feature_map: (B, C, h, w).
        masks: (B, K, h, w) floats 0..1 or bool, of the map's own size (see `shrink_masks`).
        denominator: What the masked sum is divided by: `mask`, the mask's own sum, so that the size of an item does
            not matter; or `map`, all h x w cells, the plain global average pooling of a masked map.

    Returns:
        (B, K, C) of the map's type; zeros for an item whose mask is empty.

    Raises:
        ValueError: Shapes that do not fit each other, masks outside 0..1, or no such denominator.
    """
    check_masks(masks)
    if feature_map.ndim != 4 or feature_map.shape[0] != masks.shape[0] or feature_map.shape[2:] != masks.shape[2:]:
        raise ValueError(
            f"a map (B, C, h, w) and masks (B, K, h, w) of its size are needed; got {tuple(feature_map.shape)} and "
            f"{tuple(masks.shape)}"
        )
    if denominator not in DENOMINATORS:
        raise ValueError(f"no such denominator: {denominator!r}; allowed: {', '.join(DENOMINATORS)}")
    cells = masks.to(feature_map.dtype).flatten(2)  # (B, K, hw)
    sums = cells @ feature_map.flatten(2).transpose(1, 2)  # (B, K, C)
    if denominator == "map":
        return sums / cells.shape[2]
    area = masks.float().flatten(2).sum(dim=2, keepdim=True)  # (B, K, 1)
    return sums / torch.where(area > 0, area, 1).to(sums.dtype)


def present(masks: Tensor, least: float = LEAST) -> Tensor:
    """Which items a picture shows: those that cover a share `least` of it or more, and at least something.

    Args:
        masks: (B, K, H, W) bool, or floats 0..1, before they are shrunk. least: 0..1.

    Returns:
        (B, K) bool.

    Raises:
        ValueError: As `shrink_masks`; or `least` outside 0..1.
    """
    check_masks(masks)
    if not 0 <= least <= 1:
        raise ValueError(f"a share lies within 0..1; got {least}")
    share = masks.float().flatten(2).mean(dim=2)  # (B, K); the mean of bool has no operator in ONNX
    return (share >= least * (1 - _ROUNDING)) & (share > 0)


def check_masks(masks: Tensor) -> None:
    """Refuses what is no batch of masks. Values are looked at in float masks only, and not while a graph is exported.

    Raises:
        ValueError: Not (B, K, H, W) with a pixel, neither bool nor floats, outside 0..1, or not a number.
    """
    if masks.ndim != 4 or min(masks.shape[2:]) < 1:
        raise ValueError(f"masks are (B, K, H, W); got {tuple(masks.shape)}")
    if masks.dtype == torch.bool:
        return
    if not masks.dtype.is_floating_point:
        raise ValueError(f"masks are bool, or floats within 0..1; got {masks.dtype}")
    if masks.numel() and not torch.compiler.is_compiling() and not torch.onnx.is_in_onnx_export():
        low, high = torch.stack(torch.aminmax(masks)).tolist()
        if not (low >= 0 and high <= 1):  # false for NaN too
            raise ValueError(f"masks lie within 0..1; got values from {low:g} to {high:g}")


def _overlaps(pixels: int, cells: int, device: torch.device) -> Tensor:
    """(cells, pixels) share of each cell's length that lies in each pixel; every row sums to 1."""
    step = pixels / cells
    begin = torch.arange(cells, device=device, dtype=torch.float64)[:, None] * step  # (cells, 1)
    pixel = torch.arange(pixels, device=device, dtype=torch.float64)[None]  # (1, pixels)
    shared = torch.minimum(begin + step, pixel + 1) - torch.maximum(begin, pixel)  # (cells, pixels)
    return (shared.clamp(min=0) / step).float()
