"""Everything around the figure: backdrop, floor shadow and light. None of it depends on the style."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fashionkit.catalog.draw.canvas import Canvas
from fashionkit.catalog.draw.fabrics import darker, lighter, mix
from fashionkit.catalog.draw.vocab import RGB
from fashionkit.catalog.draw.wear import Dice

# Soft colours that no garment has, so that figures stand out.
_WALLS: Final[tuple[RGB, ...]] = (
    (232, 226, 218), (214, 226, 232), (226, 216, 226), (218, 230, 216), (240, 226, 206), (206, 212, 222),
    (236, 214, 208),
    (198, 214, 210),
)  # fmt: skip
_FLOORS: Final[tuple[RGB, ...]] = ((190, 164, 136), (176, 172, 170), (204, 190, 172), (160, 150, 146), (178, 186, 190))
_GAINS: Final = ((1.0, 1.0, 1.0), (1.02, 1.0, 0.96), (0.97, 0.99, 1.02), (1.03, 1.02, 1.0), (0.94, 0.94, 0.95))


@lru_cache(maxsize=8)
def _ramp(side: int) -> Image.Image:
    return Image.linear_gradient("L").resize((side, side))


@lru_cache(maxsize=8)
def _blot(side: int) -> Image.Image:
    width, height = round(side * 0.42), round(side * 0.075)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse((width * 0.12, height * 0.24, width * 0.88, height * 0.76), fill=110)
    return mask.filter(ImageFilter.GaussianBlur(side * 0.011))


def draw_backdrop(canvas: Canvas, dice: Dice) -> None:
    """Draws one of five backdrops and the shadow on the ground."""
    wall, floor = dice.pick(_WALLS), dice.pick(_FLOORS)
    kind = dice.pick(("plain", "gradient", "room", "street", "stripes"))
    side, pen = canvas.side, ImageDraw.Draw(canvas.image)
    pen.rectangle((0, 0, side, side), fill=wall)
    horizon = round(side * dice.uniform(0.76, 0.84))
    shift = dice.uniform()
    if kind == "gradient":
        canvas.image.paste(mix(wall, floor, 0.75), mask=_ramp(side))
    elif kind == "room":
        _room(pen, side, horizon, wall, floor, shift)
    elif kind == "street":
        _street(pen, side, horizon, wall, shift)
    elif kind == "stripes":
        step = side / 12
        for k in range(-1, 13, 2):
            x = (k + shift * 2) * step
            pen.rectangle((x, 0, x + step, side), fill=mix(wall, (255, 255, 255), 0.4))
        pen.rectangle((0, horizon, side, side), fill=darker(wall, 0.14))
    _shadow(canvas)


def _room(pen: ImageDraw.ImageDraw, side: int, horizon: int, wall: RGB, floor: RGB, shift: float) -> None:
    pen.rectangle((0, horizon, side, side), fill=floor)
    pen.rectangle((0, horizon - side * 0.022, side, horizon), fill=lighter(wall, 0.55))
    for k in range(1, 5):
        y = horizon + (side - horizon) * (k / 5) ** 1.4
        pen.line((0, y, side, y), fill=darker(floor, 0.12), width=max(1, side // 300))
    x, w = side * (0.03 + 0.05 * shift), side * 0.2
    x = x if shift < 0.5 else side * 0.97 - w - side * 0.05 * shift
    pen.rectangle((x, side * 0.12, x + w, side * 0.46), fill=lighter(wall, 0.6))
    pen.rectangle((x + w * 0.1, side * 0.14, x + w * 0.9, side * 0.44), fill=mix(wall, (150, 190, 214), 0.55))
    pen.line((x + w * 0.5, side * 0.14, x + w * 0.5, side * 0.44), fill=lighter(wall, 0.6), width=max(2, side // 110))
    pen.line((x + w * 0.1, side * 0.29, x + w * 0.9, side * 0.29), fill=lighter(wall, 0.6), width=max(2, side // 110))


def _street(pen: ImageDraw.ImageDraw, side: int, horizon: int, wall: RGB, shift: float) -> None:
    pen.rectangle((0, 0, side, horizon), fill=mix(wall, (196, 220, 238), 0.7))
    edges = np.array([0.0, 0.17, 0.33, 0.52, 0.7, 0.86, 1.05]) - 0.05 * shift
    heights = (0.30, 0.14, 0.38, 0.24, 0.12, 0.32)
    for k, top in enumerate(heights):
        tone = mix(_WALLS[(k * 3 + int(shift * 8)) % len(_WALLS)], (150, 150, 168), 0.34)
        x0, x1, y0 = edges[k] * side, edges[k + 1] * side, side * (top + 0.06 * shift)
        pen.rectangle((x0, y0, x1, horizon), fill=tone)
        for row in range(3):
            for column in range(2):
                wx, wy = x0 + (0.2 + 0.42 * column) * (x1 - x0), y0 + side * (0.05 + 0.11 * row)
                if wy + side * 0.06 < horizon:
                    pen.rectangle((wx, wy, wx + (x1 - x0) * 0.2, wy + side * 0.06), fill=lighter(tone, 0.35))
    pen.rectangle((0, horizon, side, side), fill=(184, 182, 184))
    pen.rectangle((0, horizon, side, horizon + side * 0.015), fill=(206, 204, 204))


def _shadow(canvas: Canvas) -> None:
    """Draws a soft shadow under the feet."""
    blot = _blot(canvas.side)
    x, y = canvas.to_pixels([(canvas.light * 3.0, 199.0)])[0]
    spot = (round(x - blot.width / 2), round(y - blot.height / 2))
    canvas.image.paste((52, 46, 58), spot, blot)


def pick_light(dice: Dice) -> tuple[float, float, float]:
    """Draws a mild light: gains of red, green and blue."""
    red, green, blue = dice.pick(_GAINS)
    level = dice.uniform(0.94, 1.04)
    return red * level, green * level, blue * level
