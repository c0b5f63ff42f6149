"""Colour statistics: what colours a picture shows, and roughly where, as numbers that heads can read beside a vector.

    (B, S, S, 3) uint8 ─► means of k x k pixels ─► CIELAB ─┬─► distance from the border's colour ─► foreground 0..1
                                                           └─► soft bins of L, a, b
    foreground x 4 zones ─► weighted histogram, mean, deviation, share of each zone ─► (B, Q) float32

A backbone trained on ImageNet keeps little of colour in its vector; a joint histogram (Swain, Ballard, "Color
Indexing", IJCV 1991) brings it back. The foreground is that of `BorderForeground` made soft and without connected
components: what lies between foreground on all four sides is foreground too, so that a white shirt on white counts.
Zones, soft bins and the filling are our own. Plain operations without parameters, fit for export; the pixels are those
that the network gets.

Letters: B pictures, S side in pixels, h, w cells after averaging, P = h w, Z zones, Q numbers.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

CELLS: Final = 56  # about as many cells a side are looked at
BINS_L: Final = (5.0, 15.0, 27.0, 40.0, 54.0, 70.0, 85.0, 98.0)
BINS_AB: Final = (-60.0, -36.0, -18.0, -7.0, 0.0, 7.0, 18.0, 36.0, 60.0)  # finer near grey, where names divide
TOLERANCE: Final = (4.0, 12.0)  # CIE 1976 distance from the border's colour: background up to it, foreground from it on
BORDER: Final = 2  # cells
# Height of a zone's middle and how far it reaches, and the same across; None: the whole width. Shares of the side.
ZONES: Final = ((0.5, 0.12, 0.5, 0.12), (0.2, 0.12, None, None), (0.85, 0.1, None, None))
COLOUR_DIM: Final = (1 + len(ZONES)) * (len(BINS_L) * len(BINS_AB) ** 2 + 3 + 3 + 1)  # Q
_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
_LEAST = 1e-3  # cells of weight; keeps an empty zone finite
_FLAT = 1e-4  # share of a bin below which the root is nearly linear; at 0 it would blow rounding up


def colour_statistics(pixels: Tensor) -> Tensor:
    """Colour statistics of the whole foreground, and of its middle, upper and lower part.

    A zone holds the square root of a histogram of 8 x 9 x 9 soft bins of L, a and b that adds up to 1 (Hellinger's
    scaling: a difference of rare colours counts too), mean of L, a, b / 50, deviation / 20, log(1 + weight in cells) /
    5. An empty zone is 0 throughout. Mirroring a picture changes nothing. Heads want them standardised.

    Args:
        pixels: (B, S, S, 3) uint8 sRGB, as `fashionkit.vision.pictures.sized` makes them; S of 8 or more.

    Returns:
        (B, COLOUR_DIM) float32, all finite.

    Raises:
        ValueError: Another shape or type.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or min(pixels.shape[1:3]) < 8 or pixels.dtype != torch.uint8:
        raise ValueError(f"pixels are (B, S, S, 3) uint8, S 8 or more; got {tuple(pixels.shape)} {pixels.dtype}")
    step = max(1, min(pixels.shape[1:3]) // CELLS)
    cells = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255, step)  # (B, 3, h, w)
    lab = _lab(cells.permute(0, 2, 3, 1))  # (B, h, w, 3)
    weight = _zones(_foreground(lab)).flatten(2)  # (B, Z, P)
    colour = lab.flatten(1, 2)  # (B, P, 3)
    total = weight.sum(2, keepdim=True)  # (B, Z, 1)
    mean = weight @ colour / (total + _LEAST)  # (B, Z, 3)
    square = (colour[:, None] - mean[:, :, None]).square()  # (B, Z, P, 3)
    deviation = ((weight[..., None] * square).sum(2) / (total + _LEAST)).sqrt()
    bins = _histogram(colour, weight / (total + _LEAST))  # (B, Z, bins)
    parts = [(bins + _FLAT).sqrt() - _FLAT**0.5, mean / 50, deviation / 20, total.log1p() / 5]
    return torch.cat(parts, dim=2).flatten(1)


def _lab(rgb: Tensor) -> Tensor:
    """CIELAB (D65) of (..., 3) sRGB in 0..1: L 0..100, a and b about -100..100; IEC 61966-2-1 and CIE 1976."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = rgb.new_tensor(_TO_XYZ)
    xyz = linear @ (matrix / matrix.sum(1, keepdim=True)).T  # white is (1, 1, 1)
    bend = (6 / 29) ** 3
    f = torch.where(xyz > bend, xyz.clamp(min=bend) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def _foreground(lab: Tensor) -> Tensor:
    """(B, h, w) 0..1: how far (B, h, w, 3) is from the border's median colour, with what is enclosed filled."""
    b, inner = BORDER, lab[:, BORDER:-BORDER]
    edges = (lab[:, :b], lab[:, -b:], inner[:, :, :b], inner[:, :, -b:])
    border = torch.cat([edge.flatten(1, 2) for edge in edges], dim=1)  # (B, n, 3)
    ground = border.sort(dim=1).values[:, border.shape[1] // 2]  # (B, 3); a median has no operator in ONNX
    far = (lab - ground[:, None, None]).square().sum(3).sqrt()  # (B, h, w)
    low, high = TOLERANCE
    found = ((far - low) / (high - low)).clamp(0, 1)
    return torch.maximum(found, torch.minimum(_between(found, 1), _between(found, 2)).clamp(max=1))


def _between(found: Tensor, dim: int) -> Tensor:
    """How much foreground lies on the poorer of both sides of a cell, itself included."""
    before = found.cumsum(dim)
    after = found.sum(dim, keepdim=True) - before + found
    return torch.minimum(before, after)


def _zones(found: Tensor) -> Tensor:
    """(B, Z, h, w): a foreground (B, h, w) whole, and faded out around each of `ZONES`."""
    height, width = found.shape[1:]
    y, x = ((torch.arange(n, device=found.device) + 0.5) / n for n in (height, width))
    shapes = [found.new_ones(height, width)]
    for top, tall, left, wide in ZONES:
        across = torch.ones_like(x) if left is None or wide is None else _bell(x, left, wide)
        shapes.append(_bell(y, top, tall)[:, None] * across)
    return found[:, None] * torch.stack(shapes)


def _bell(place: Tensor, middle: float, reach: float) -> Tensor:
    return torch.exp(-(((place - middle) / reach) ** 2) / 2)


def _histogram(colour: Tensor, weight: Tensor) -> Tensor:
    """(B, Z, bins) weighted counts of (B, P, 3) colours, each shared among the eight bins around it."""
    light = _share(colour[..., 0], BINS_L)  # (B, P, l)
    a, b = (_share(colour[..., i], BINS_AB) for i in (1, 2))  # (B, P, a)
    hue = (a[..., :, None] * b[..., None, :]).flatten(2)  # (B, P, a b)
    weighted = weight[:, :, None] * light.transpose(1, 2)[:, None]  # (B, Z, l, P)
    counts = weighted.flatten(1, 2) @ hue  # (B, Z l, a b)
    return counts.unflatten(1, (weight.shape[1], len(BINS_L))).flatten(2)


def _share(value: Tensor, centres: tuple[float, ...]) -> Tensor:
    """(..., K) shares of each value in the bins, adding up to 1: linear between the two centres next to it."""
    middle = value.new_tensor(centres)
    gap = middle.diff()
    below, above = torch.cat([gap[:1], gap]), torch.cat([gap, gap[-1:]])
    value = value.clamp(centres[0], centres[-1])[..., None]
    return torch.where(value < middle, 1 - (middle - value) / below, 1 - (value - middle) / above).clamp(min=0)
