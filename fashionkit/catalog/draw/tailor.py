"""Outlines of what covers the torso: the cut of tops, outerwear, dresses and jumpsuit bodices, and their sleeves.

fit, length, neckline  ->  Cut (outline, neckline, hem, sides)   and   sleeve outlines along the arms
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from fashionkit.catalog.draw.body import Body
from fashionkit.catalog.draw.curves import Points, cut, limb, moved, smooth
from fashionkit.catalog.draw.wear import Wear

Half = Callable[[float], float]

SLEEVE_SHARE: Final = {"sleeveless": 0.0, "short": 0.30, "elbow": 0.56, "long": 0.99}
_SLEEVE_EASE: Final = {
    "slim": (0.9, 1.0, 0.8),
    "regular": (1.8, 2.0, 1.5),
    "loose": (3.0, 4.0, 3.4),
}


@dataclass(frozen=True)
class Cut:
    """One piece of cloth on the torso.

    Attributes:
        outline: closed outline.
        neck: the upper edge, left to right.
        hem: the lower edge, left to right.
        left, right: side seams, downwards.
    """

    outline: Points
    neck: Points
    hem: Points
    left: Points
    right: Points


def torso_half(body: Body, fit: str, extra: float = 0.0) -> Half:
    """Returns the half width of a garment on the torso as a function of height; `extra` for outer layers."""
    chest, hip = body.half(53), body.half(96)

    def slim(y: float) -> float:
        return body.half(max(y, 53)) + 0.9 + extra

    def regular(y: float) -> float:
        straight = float(np.interp(y, (53, 77, 98), (chest + 1.6, (chest + hip) / 2 + 0.4, hip + 1.8)))
        return 0.35 * body.half(max(y, 53)) + 0.65 * straight + 1.6 + extra

    def loose(y: float) -> float:
        return max(chest, hip) + 5.6 + (y - 53) * 0.03 + extra

    return {"slim": slim, "regular": regular, "loose": loose}[fit]


def skirt_half(body: Body, fit: str, hem: float, waist: Half) -> Half:
    """Returns the half width of a skirt (or a dress below the waist) that ends at `hem`."""
    hip = body.half(96)
    end = {"slim": hip - 0.4, "regular": hip + 3.5 + (hem - 96) * 0.10, "loose": hip + 13 + (hem - 96) * 0.21}[fit]
    end = max(end, max(body.legs_reach(y) for y in (hem - 6, min(hem, 146), hem)) + 1.0)
    full = {"slim": hip + 1.2, "regular": hip + 2.6, "loose": hip + 6.5}[fit]

    def half(y: float) -> float:
        return float(np.interp(y, (77, 96, max(hem, 97)), (waist(77), max(full, waist(96) * 0.9), end)))

    return half


_ROUND: Final = [(-8.6, 34.7), (-6.6, 40.0), (0, 43.0), (6.6, 40.0), (8.6, 34.7)]
_CREW: Final = [(-7.0, 33.8), (-5.2, 37.4), (0, 39.4), (5.2, 37.4), (7.0, 33.8)]
# Upper edges between the shoulders, left to right, about the body's middle.
_NECKLINES: Final[dict[str, Points]] = {
    "round": smooth(_ROUND, steps=4),
    "hooded": smooth(_ROUND, steps=4),
    "crew": smooth(_CREW, steps=4),
    "turtleneck": np.array([(-7.6, 34.2), (-5.7, 31), (-5.4, 27.5), (0, 28.8), (5.4, 27.5), (5.7, 31), (7.6, 34.2)]),
    "v_neck": np.array([(-8.2, 34.6), (-7.2, 36.5), (0, 56.0), (7.2, 36.5), (8.2, 34.6)]),
    "square": np.array([(-11.6, 36.0), (-11.2, 49.0), (11.2, 49.0), (11.6, 36.0)]),
    "deep": np.array([(-7.8, 34.4), (-6.8, 37.0), (0, 53.0), (6.8, 37.0), (7.8, 34.4)]),
    "lapel": np.array([(-7.6, 34.4), (-6.6, 37.0), (0, 62.0), (6.6, 37.0), (7.6, 34.4)]),
    "collared": np.array([(-7.0, 33.8), (-5.2, 35.0), (0, 41.5), (5.2, 35.0), (7.0, 33.8)]),
}


def torso_cut(body: Body, half: Half, hem: float, neckline: str, *, sleeved: bool, outer: bool = False) -> Cut:
    """Returns the cut of a whole front.

    Args:
        body: who wears it.
        half: half width by height, from 53 down.
        hem: height of the lower edge.
        neckline: a key of the vocabulary, or `crew` (a close round), `lapel` or `deep` (of outer layers).
        sleeved: with sleeves the shoulder reaches out to where they are set in.
        outer: a layer over others: a little wider at the shoulders, a deeper opening.
    """
    x = body.centre(40)
    heights = [y for y in (53.0, 60.0, 69.0, 77.0, 87.0, 96.0, 108.0, 122.0, 140.0, 160.0) if y < hem - 3] + [hem]
    right = smooth([(body.centre(y) + half(y), y) for y in heights], steps=3)
    left = smooth([(body.centre(y) - half(y), y) for y in heights], steps=3)
    wide = body.shoulder + (1.4 if outer else 0.4)
    if neckline == "off_shoulder":
        neck = smooth([(x - wide - 1, 47.5), (x - 12, 46.2), (x, 48.5), (x + 12, 46.2), (x + wide + 1, 47.5)], steps=3)
        edges = [neck]
    else:
        neck = moved(_NECKLINES[neckline], x, 0)
        tip = wide if sleeved else min(15.5, wide - 4)
        slope = 40.2 if sleeved else 38.2
        shoulder = np.array([(tip - 3, slope - 1.6), (tip, slope)])
        armhole = np.array([(tip + 0.2, 45.0), (half(53) - 0.2, 50.5)]) if sleeved else np.array([(tip - 1.2, 46.0)])
        edge = np.concatenate([shoulder, armhole])
        edges = [edge[::-1] * (-1, 1) + (x, 0), neck, moved(edge, x, 0)]
    sag = 1.4 if hem < 110 else 2.2
    middle = (left[-1] + right[-1]) / 2 + (0, sag)
    bottom = smooth([left[-1], (left[-1] + middle) / 2 + (0, sag * 0.3), middle,
                     (right[-1] + middle) / 2 + (0, sag * 0.3), right[-1]], steps=3)  # fmt: skip
    outline = np.concatenate([*edges, right[:-1], bottom[::-1], left[:-1][::-1]])
    return Cut(outline, neck, bottom, left, right)


def open_panels(body: Body, half: Half, hem: float, neckline: str, gap: float) -> tuple[Cut, Cut]:
    """Returns the left and the right front of a garment worn open; `gap` is the half width it leaves at the hem."""
    whole = torso_cut(
        body, half, hem, "lapel" if neckline in ("collared", "v_neck") else "round", sleeved=True, outer=True
    )
    x = body.centre(40)
    panels = []
    for side in (-1, 1):
        seam = whole.right if side > 0 else whole.left
        front = smooth([(x + side * 7.8, 34.4), (x + side * 7.6, 44), (body.centre(66) + side * (gap - 0.4), 66),
                        (body.centre(hem) + side * gap, hem + 1.5)], steps=4)  # fmt: skip
        tip = body.shoulder + 1.4
        shoulder = np.array([(tip - 3, 38.6), (tip, 40.2), (tip + 0.2, 45.0), (half(53) - 0.2, 50.5)]) * (side, 1) + (
            x,
            0,
        )
        hem_line = np.stack([front[-1], (front[-1] + seam[-1]) / 2 + (0, 0.6), seam[-1]])
        outline = np.concatenate([front[::-1], shoulder, seam[:-1], hem_line[::-1]])
        inner, outside = (front, seam) if side > 0 else (seam, front)
        panels.append(Cut(outline, front[:3], hem_line if side > 0 else hem_line[::-1], inner, outside))
    return panels[0], panels[1]


def sleeve(body: Body, side: int, wear: Wear, fit: str, extra: float = 0.0) -> tuple[Points, Points, float]:
    """Returns a sleeve's outline, its cuff (two points across) and its angle from the vertical.

    Off-shoulder sleeves begin below the shoulder; `extra` widens sleeves of outer layers. `fit` is the garment's, or
    slim where another sleeve covers it.
    """
    bones = body.arms[(side + 1) // 2]
    share = SLEEVE_SHARE[wear.get("sleeve_length")]
    eases = tuple(e + extra for e in _SLEEVE_EASE[fit])
    if wear.get("neckline") == "off_shoulder":
        bones = np.concatenate([[bones[0] + (bones[1] - bones[0]) * 0.2], bones[1:]])
        share = max(share, 0.22)
    line = cut(bones, share)
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    total = float(np.hypot(*np.diff(bones, axis=0).T).sum())
    half = np.interp(lengths / total, (0, 0.55, 1.0), body.arm) + np.interp(lengths / total, (0, 0.55, 1.0), eases)
    half[0] = body.arm[0] + 0.5 * eases[0] + 0.3
    outline = limb(line, half.tolist())
    ahead = line[-1] - line[-2]
    ahead = ahead / np.hypot(*ahead)
    across = np.array([-ahead[1], ahead[0]]) * half[-1]
    angle = float(np.arctan2(line[1, 0] - line[0, 0], line[1, 1] - line[0, 1]))
    return outline, np.stack([line[-1] - across, line[-1] + across]), angle
