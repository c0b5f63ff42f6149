"""Draws feet and footwear: each foot in profile, turned outwards, so that heels can be seen."""

from __future__ import annotations

from typing import Final

import numpy as np

from fashionkit.catalog.draw.curves import Points, PointsLike, smooth
from fashionkit.catalog.draw.fabrics import Fabric, brightness, contrast, darker, edge, lighter
from fashionkit.catalog.draw.figure import ITEM_NUMBER, Figure
from fashionkit.catalog.draw.layers import BOOT_TOP
from fashionkit.catalog.draw.vocab import RGB
from fashionkit.catalog.draw.wear import Wear

LIFT: Final = {"flat": 0.0, "mid": 4.2, "high": 8.6}


class _Foot:
    """Local frame of one foot: u runs outwards to the toes, v down from the ankle; the ground is at v = `g`."""

    def __init__(self, fig: Figure, side: int) -> None:
        self.fig, self.side = fig, side
        self.x, self.y = (float(v) for v in fig.body.legs[(side + 1) // 2, 2])
        self.g = 199.5 - self.y
        self.lift = fig.body.lift

    def at(self, points: PointsLike) -> Points:
        """Returns local points in figure units."""
        return np.asarray(points, dtype=np.float64) * (self.side, 1) + (self.x, self.y)

    def shape(self, points: PointsLike, fabric: Fabric | RGB, *, shade: float = 1.2, outline: bool = True) -> None:
        """Draws a filled local outline."""
        self.fig.canvas.shape(self.at(points), fabric, round_shade=shade, outline=outline)

    def stroke(self, points: PointsLike, colour: RGB, width: float) -> None:
        """Draws a local line."""
        self.fig.canvas.stroke(self.at(points), colour, width)

    def heel(self, colour: RGB, slender: bool) -> None:
        """Draws the heel, as high as the foot is lifted."""
        if self.lift < 1:
            return
        g, w = self.g, 2.0 if slender else 4.4
        top = g - self.lift - 1.6
        self.shape([(-5.4, top), (-5.2 + w + 1.6, top + 1.2), (-5.0 + w, g), (-5.0, g)], colour, shade=0.8)


def draw_bare_foot(fig: Figure, side: int) -> None:
    """Draws one foot without a shoe, standing as the heel of the shoe makes it stand."""
    foot = _Foot(fig, side)
    g, lift = foot.g, foot.lift
    outline = [(-3.8, -2), (-4.8, g - lift - 3), (-3.6, g - lift - 1), (3.5, g - lift * 0.55 - 1), (8, g - 0.8),
               (13, g - 0.8),
               (13.2, g - 2.6), (8.5, g - 4.4 - lift * 0.1), (3.8, 1.4), (3.6, -2)]  # fmt: skip
    foot.shape(outline, fig.body.skin, shade=1.4, outline=False)
    for part in (outline[:6], outline[7:]):
        foot.stroke(part, edge(fig.body.skin), 0.45)


def _sneaker(foot: _Foot, fabric: Fabric) -> None:
    g = foot.g
    upper = [
        (-4.8, -1.8),
        (-5.6, g - 4),
        (-5.6, g - 1),
        (14.6, g - 1),
        (14.8, g - 4.4),
        (10.6, g - 6.4),
        (5.4, g - 9.2),
        (4.6, -1.8),
    ]
    foot.shape(smooth(upper, closed=True, steps=3), fabric)
    sole = (255, 255, 255) if brightness(fabric.base) < 225 else (198, 202, 210)
    foot.shape([(-6.0, g - 2.0), (15.2, g - 2.2), (15.4, g), (-6.0, g)], sole, shade=0)
    lace = contrast(fabric.base)
    for k in range(2):
        u = 5.4 + k * 2.6
        foot.stroke([(u, g - 8.4 + k * 1.3), (u + 1.6, g - 5.6 + k * 0.8)], lace, 0.9)


def _loafer(foot: _Foot, fabric: Fabric) -> None:
    g = foot.g
    upper = [(-4.9, g - 6.2), (-5.5, g - 2), (-5.2, g), (4, g), (9, g), (14.2, g), (15, g - 2.6), (11.5, g - 5.2),
             (5.6, g - 7.4), (2.6, g - 3.6), (-2, g - 4.6)]  # fmt: skip
    foot.shape(smooth(upper, closed=True, steps=3), fabric)
    saddle = lighter(fabric.base, 0.34) if brightness(fabric.base) < 170 else darker(fabric.base, 0.14)
    foot.shape([(4.6, g - 7.4), (7.4, g - 6.6), (9.2, g - 0.8), (6.2, g - 0.8)], saddle, shade=0)
    foot.stroke([(10.6, g - 5.0), (12.2, g - 2.8), (14.4, g - 2.4)], fabric.line, 0.6)
    foot.stroke([(-5.4, g - 0.4), (15, g - 0.4)], darker(fabric.base, 0.5), 0.9)


def _pump(foot: _Foot, fabric: Fabric) -> None:
    g = foot.g
    low = g - foot.lift
    upper = [(-4.6, low - 7.4), (-5.8, low - 3.4), (-5.2, low - 0.6), (2.6, g - foot.lift * 0.55), (8, g - 0.2),
             (15.6, g), (15.8, g - 1.8), (11, g - 4.6), (7.2, g - 4.9), (4.4, g - 2.4 - foot.lift * 0.45),
             (-1.6, low - 2.6)]  # fmt: skip
    foot.shape(upper, fabric)
    foot.heel(fabric.base, slender=True)


def _sandal(foot: _Foot, fabric: Fabric) -> None:
    g = foot.g
    low = g - foot.lift
    sole = [(-5.4, low - 1.4), (3, g - foot.lift * 0.52 - 1.6), (8, g - 1.8), (14.4, g - 1.8), (14.6, g), (7.6, g),
            (2.4, g - foot.lift * 0.5),
            (-5.2, low + 0.8)]  # fmt: skip
    if foot.lift < 1:
        sole = [(-5.4, g - 2.2), (14.6, g - 2.2), (14.8, g), (-5.4, g)]
    foot.shape(sole, fabric, shade=0)
    foot.heel(fabric.base, slender=False)
    straps = (
        [(8.2, g - 5.0 - foot.lift * 0.1), (10.6, g - 4.0), (11.8, g - 1.0), (8.6, g - 1.0)],
        [(-4.4, low - 7.6), (4.0, low - 8.4 + foot.lift * 0.2), (4.0, low - 5.8 + foot.lift * 0.2), (-4.8, low - 5.0)],
        [
            (3.2, g - 7.4 - foot.lift * 0.4),
            (5.4, g - 6.4 - foot.lift * 0.3),
            (3.4, g - 1.8 - foot.lift * 0.5),
            (1.0, g - 1.8 - foot.lift * 0.5),
        ],
    )
    for strap in straps:
        foot.shape(strap, fabric, shade=0)


def _boot(foot: _Foot, fabric: Fabric, wear: Wear) -> None:
    g, body = foot.g, foot.fig.body
    low = g - foot.lift
    top = BOOT_TOP[wear.get("garment_length")] - foot.lift * 0.6
    under = [(body.leg_at(foot.side, y) * foot.side - foot.x * foot.side, y - foot.y, body.leg_half(y) + 1.5)
             for y in np.linspace(top, foot.y - 4, 4)]  # fmt: skip
    back = [(u - w, v) for u, v, w in under]
    front = [(u + w, v) for u, v, w in under][::-1]
    vamp = [(-5.4, low - 4), (-5.4, low - 0.4), (3, g - foot.lift * 0.5 - 0.4), (8, g - 0.4), (14.6, g - 0.4),
            (15, g - 3.6),
            (11, g - 6.4), (6.6, g - 8.6 - foot.lift * 0.2), (5.6, 0)]  # fmt: skip
    foot.shape([*back, *vamp, *front], fabric, shade=1.8)
    foot.heel(darker(fabric.base, 0.35), slender=False)
    if foot.lift < 1:
        foot.shape([(-5.8, g - 1.8), (15.2, g - 1.8), (15.2, g), (-5.8, g)], darker(fabric.base, 0.45), shade=0)
    else:
        foot.stroke([(7, g - 0.6), (15, g - 0.6)], darker(fabric.base, 0.5), 1.4)
    foot.stroke([back[0], front[-1]], fabric.line, 1.2)
    foot.stroke([(1.6, low - 7), (2.8, low - 3.0), (1.2, low - 1.2)], fabric.line, 0.7)
    foot.stroke([(8.4, g - 6.4), (11.4, g - 5.0)], lighter(fabric.base, 0.4), 0.9)


def draw_shoes(fig: Figure, wear: Wear) -> None:
    """Draws both shoes."""
    fabric = fig.fabrics["shoes"]
    with fig.canvas.item(ITEM_NUMBER["shoes"]):
        for side in (-1, 1):
            foot = _Foot(fig, side)
            if wear.category == "sneakers":
                _sneaker(foot, fabric)
            elif wear.category == "loafers":
                _loafer(foot, fabric)
            elif wear.category == "heels":
                _pump(foot, fabric)
            elif wear.category == "sandals":
                _sandal(foot, fabric)
            else:
                _boot(foot, fabric, wear)
