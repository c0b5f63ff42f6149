"""Fabrics: a garment's colours and its pattern as reusable masks.

A pattern is one or two grey masks, drawn once for each picture size; a garment's own colours are pasted through them,
shifted and turned so that they follow a sleeve or a leg.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fashionkit.catalog.draw.vocab import PALETTE, RGB
from fashionkit.catalog.draw.wear import Dice

CREAM: Final[RGB] = (250, 243, 226)
GOLD: Final[RGB] = (214, 172, 74)
SILVER: Final[RGB] = (214, 218, 224)

# Second colours that stand out against the first and leave it the name of the garment.
_ACCENTS: Final[dict[str, tuple[str, ...]]] = {
    "black": ("white", "grey", "red", "yellow"), "white": ("navy", "black", "red", "teal"),
    "grey": ("white", "black", "navy"), "red": ("white", "black", "navy"), "orange": ("white", "navy", "brown"),
    "yellow": ("white", "black", "navy"), "green": ("white", "navy", "yellow"), "olive": ("beige", "black", "white"),
    "teal": ("white", "navy", "yellow"), "blue": ("white", "navy", "yellow"), "navy": ("white", "red", "beige"),
    "purple": ("white", "yellow", "black"), "pink": ("white", "burgundy", "navy"),
    "brown": ("beige", "white", "black"), "beige": ("brown", "navy", "white"),
    "burgundy": ("white", "beige", "pink"),
}  # fmt: skip
# White alone is too faint on these.
_FAINT: Final = {"yellow": (126, 84, 20), "beige": (126, 84, 50), "white": (40, 60, 120)}


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """Returns `first` with `share` (0..1) of `second` in it."""
    a, b, c = (round(p + (q - p) * share) for p, q in zip(first, second, strict=True))
    return a, b, c


def darker(colour: RGB, share: float = 0.3) -> RGB:
    """Returns a darker shade."""
    return mix(colour, (12, 10, 20), share)


def lighter(colour: RGB, share: float = 0.3) -> RGB:
    """Returns a lighter tint."""
    return mix(colour, (255, 255, 255), share)


def brightness(colour: RGB) -> float:
    """Returns the perceived brightness, 0..255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def edge(colour: RGB) -> RGB:
    """Returns a line colour that is seen on `colour`: darker, or lighter on near black."""
    return lighter(colour, 0.28) if brightness(colour) < 62 else darker(colour, 0.38)


def contrast(colour: RGB) -> RGB:
    """Returns a light or dark colour that stands out against `colour`."""
    return CREAM if brightness(colour) < 150 else (58, 50, 66)


@dataclass(frozen=True)
class Fabric:
    """What a garment is made of.

    Attributes:
        base: the colour that gives the garment its name.
        second: the pattern's colour.
        third: the pattern's smaller colour.
        pattern: a key of the vocabulary; `colour_block` is cut by the garment itself.
        turn: extra turn of the pattern in degrees (90 turns stripes upright).
        scale: size of the pattern, 1 for clothes.
        offset: shift of the pattern, figure units.
    """

    base: RGB
    second: RGB
    third: RGB
    pattern: str = "plain"
    turn: float = 0.0
    scale: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def line(self) -> RGB:
        """Colour of its outlines and seams."""
        return edge(self.base)


def make_fabric(dice: Dice, colour: str, pattern: str, *, turn: float = 0.0, scale: float = 1.0) -> Fabric:
    """Returns a fabric of a named colour, a little off its palette value, as dyes are."""
    drift = dice.uniform(-5, 5)
    base = tuple(min(255, max(0, round(v + drift))) for v in PALETTE[colour])
    assert len(base) == 3
    second_name = dice.pick(_ACCENTS[colour])
    second = _FAINT[colour] if second_name == "white" and colour in _FAINT else PALETTE[second_name]
    third = GOLD if second_name != "yellow" else PALETTE["red"]
    if pattern == "camouflage":
        second, third = camouflage(base)
    offset = (dice.uniform(0, 20), dice.uniform(0, 20))
    return Fabric(base, second, third, pattern, turn, scale, offset)


def camouflage(base: RGB) -> tuple[RGB, RGB]:
    """Returns the darker and the other tone of a camouflage around `base`."""
    if brightness(base) < 70:
        return lighter(base, 0.32), lighter(base, 0.16)
    return darker(base, 0.55), lighter(base, 0.45) if brightness(base) < 215 else darker(base, 0.28)


def _bars(side: int, period: float, width: float, level: int) -> Image.Image:
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    for k in range(math.ceil(side / period)):
        draw.rectangle((0, round(k * period), side, round(k * period + width) - 1), fill=level)
    return mask


def _checked(side: int, unit: float) -> Image.Image:
    bars = np.asarray(_bars(side, 8 * unit, 2.3 * unit, 145), dtype=np.uint16)
    return Image.fromarray(np.minimum(bars + bars.T, 255).astype(np.uint8))


def _dotted(side: int, unit: float) -> Image.Image:
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    step, radius = 7.8 * unit, 1.75 * unit
    for row in range(math.ceil(side / step * 2) + 1):
        for column in range(math.ceil(side / step) + 1):
            x, y = (column + 0.5 * (row % 2)) * step, row * step / 2 * 1.1
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return mask


def _zigzag(side: int, unit: float) -> Image.Image:
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    half, rise, period = 4.5 * unit, 4.5 * unit, 9 * unit
    for row in range(-1, math.ceil(side / period) + 1):
        y = row * period
        line = [(k * half, y + (rise if k % 2 else 0)) for k in range(math.ceil(side / half) + 2)]
        draw.line(line, fill=255, width=round(2.4 * unit), joint="curve")
    return mask


def _floral(side: int, unit: float) -> tuple[Image.Image, Image.Image]:
    petals, hearts = Image.new("L", (side, side)), Image.new("L", (side, side))
    draw, dot = ImageDraw.Draw(petals), ImageDraw.Draw(hearts)
    step = 12.2 * unit
    rng = np.random.default_rng(7)
    for row in range(math.ceil(side / step) + 1):
        for column in range(math.ceil(side / step) + 1):
            x, y = (column + 0.5 * (row % 2)) * step, row * step * 0.9
            turn, size = rng.uniform(0, 6), rng.uniform(0.85, 1.1) * unit
            for k in range(5):
                px, py = x + 2.5 * size * math.cos(turn + k * 1.2566), y + 2.5 * size * math.sin(turn + k * 1.2566)
                draw.ellipse((px - 1.9 * size, py - 1.9 * size, px + 1.9 * size, py + 1.9 * size), fill=255)
            dot.ellipse((x - 1.5 * size, y - 1.5 * size, x + 1.5 * size, y + 1.5 * size), fill=255)
    return petals, hearts


def _camouflage(side: int, unit: float) -> tuple[Image.Image, Image.Image]:
    rng = np.random.default_rng(11)
    masks = []
    for share in (0.70, 0.74):
        noise = rng.random((side, side), dtype=np.float32)
        blurred = Image.fromarray((noise * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.9))
        small = blurred.resize((max(8, round(side / (2.2 * unit))),) * 2, Image.Resampling.NEAREST)
        field = np.asarray(small.filter(ImageFilter.BoxBlur(1)).resize((side, side), Image.Resampling.BICUBIC))
        limit = np.quantile(field, share)
        masks.append(Image.fromarray(np.where(field > limit, 255, 0).astype(np.uint8)))
    return masks[0], masks[1]


@lru_cache(maxsize=64)
def pattern_masks(pattern: str, side: int, unit: float) -> tuple[Image.Image, ...]:
    """Returns the masks of a pattern: second colour, then third where there is one.

    Args:
        pattern: any pattern but `plain` and `colour_block`.
        side: pixels of the (square) masks.
        unit: pixels of one figure unit.
    """
    if pattern == "striped":
        return (_bars(side, 7.2 * unit, 2.6 * unit, 255),)
    if pattern == "checked":
        return (_checked(side, unit),)
    if pattern == "dotted":
        return (_dotted(side, unit),)
    if pattern == "zigzag":
        return (_zigzag(side, unit),)
    if pattern == "floral":
        return _floral(side, unit)
    assert pattern == "camouflage", pattern
    return _camouflage(side, unit)
