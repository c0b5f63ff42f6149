"""Draws what is worn from the waist down: trousers, jeans, leggings, shorts, skirts, and the legs of jumpsuits."""

from __future__ import annotations

from typing import Final

import numpy as np

from fashionkit.catalog.draw import details as d
from fashionkit.catalog.draw.body import Body
from fashionkit.catalog.draw.curves import Points, ellipse, moved, smooth
from fashionkit.catalog.draw.fabrics import Fabric, edge, lighter, mix
from fashionkit.catalog.draw.figure import ITEM_NUMBER, Figure
from fashionkit.catalog.draw.tailor import Half, skirt_half, torso_half
from fashionkit.catalog.draw.tops import below
from fashionkit.catalog.draw.wear import Wear

WAIST: Final = 78.0
# Extra half width of a trouser leg at crotch, knee and ground; slim follows the leg.
_LEG_WIDTHS: Final = {"regular": (1.2, 9.4, 9.0), "loose": (2.6, 12.6, 15.0)}
_HIP_EASE: Final = {"slim": 0.9, "regular": 2.0, "loose": 3.6}


def _leg_half(body: Body, fit: str, y: float) -> float:
    if fit == "slim":
        return body.leg_half(y) + 0.9
    top, knee, end = _LEG_WIDTHS[fit]
    return float(np.interp(y, (106, 146, 195), (body.leg[0] + top, max(knee, body.leg[1] + 1.6), end)))


def leg_outline(body: Body, side: int, fit: str, hem: float) -> tuple[Points, Points, Points]:
    """Returns one half of a pair of trousers: its outline, its outer edge and its hem (left to right)."""
    heights = [y for y in (WAIST, 87.0, 98.0, 112.0, 128.0, 146.0, 164.0, 180.0) if y < hem - 4] + [hem]
    outside, inside = [], []
    for y in heights:
        hip = body.centre(y) + side * (body.half(y) + _HIP_EASE[fit] * min(1.0, (y - 74) / 18))
        leg = body.leg_at(side, max(y, 100)) + side * _leg_half(body, fit, max(y, 100))
        share = float(np.clip((y - 92) / 22, 0, 1))
        outside.append((hip * (1 - share) + leg * share, y))
        if y > 108:
            inside.append((body.leg_at(side, y) - side * _leg_half(body, fit, y), y))
    crotch, top = (body.centre(100) - side * 0.3, 107.0), (body.centre(WAIST) - side * 0.3, WAIST + 0.8)
    outer_edge = smooth(outside, steps=3)
    inner_edge = smooth([crotch, *inside], steps=3) if inside else np.array([crotch])
    hem_line = np.stack([outer_edge[-1], (outer_edge[-1] + inner_edge[-1]) / 2 + (0, 1.0), inner_edge[-1]])
    outline = np.concatenate([outer_edge, hem_line[1:-1], inner_edge[::-1], [top]])
    return outline, outer_edge, hem_line if side < 0 else hem_line[::-1]


def draw_trousers(fig: Figure, wear: Wear) -> None:
    """Draws trousers, jeans, leggings, shorts, or the legs of a jumpsuit."""
    fabric, canvas, body = fig.fabrics[wear.slot], fig.canvas, fig.body
    fit, hem = wear.get("fit"), wear.hem
    with canvas.item(ITEM_NUMBER[wear.slot]):
        for side in (-1, 1):
            outline, outer_edge, hem_line = leg_outline(body, side, fit, hem)
            knee = body.legs[(side + 1) // 2, 1]
            lean = float(np.arctan2(body.leg_at(side, 180) - body.leg_at(side, 110), 70.0))
            canvas.shape(outline, fabric, angle=lean, block=below(136 if hem > 150 else 108))
            if wear.category == "jeans":
                _denim(fig, fabric, side, hem, hem_line)
            _leg_folds(fig, wear, fabric, side, knee)
            _leg_details(fig, wear, fabric, side, outer_edge, hem_line)
        _waistband(fig, wear, fabric)


def _denim(fig: Figure, fabric: Fabric, side: int, hem: float, hem_line: Points) -> None:
    """Draws what makes denim: worn thighs and a turned-up hem."""
    body, canvas = fig.body, fig.canvas
    x = body.leg_at(side, 122)
    for rx, ry, share in ((4.6, 15, 0.04), (3.4, 12, 0.08), (2.2, 9, 0.12)) if fabric.base[1] < 200 else ():
        canvas.shape(ellipse(x, 122, rx, ry, 16), lighter(fabric.base, share), outline=False, round_shade=0)
    if hem < 190:
        turned = np.concatenate([hem_line - (0, 6.0), moved(hem_line[::-1], 0, 0.6)])
        canvas.shape(turned, lighter(fabric.base, 0.42) if fabric.base[1] < 200 else (196, 206, 220), round_shade=0)


def _leg_folds(fig: Figure, wear: Wear, fabric: Fabric, side: int, knee: Points) -> None:
    canvas, body = fig.canvas, fig.body
    hip = body.leg_at(side, 104)
    canvas.fold([(body.centre(100) + side * 1.5, 104), (hip, 101), (hip + side * 4, 97)], 1.4)
    if wear.hem > 150:
        canvas.fold([moved(knee, -side * 4, 1.5), moved(knee, 0, 3), moved(knee, side * 3, 1)], 1.6)
    if wear.category == "trousers" and wear.get("fit") != "slim":
        crease = [(body.leg_at(side, y), y) for y in (96.0, 120.0, 146.0, wear.hem - 2)]
        canvas.stroke(smooth(crease, steps=3), mix(fabric.base, edge(fabric.base), 0.55), 0.55)


def _leg_details(fig: Figure, wear: Wear, fabric: Fabric, side: int, outer_edge: Points, hem_line: Points) -> None:
    canvas, shown = fig.canvas, fig.shown(wear)
    if wear.category == "jumpsuit":
        shown = tuple(name for name in shown if name == "contrast_stitching")
    if "pockets" in shown:
        y = 118.0 if wear.hem > 150 else 101.0
        x = fig.body.leg_at(side, max(y, 100)) + side * (3.2 if wear.hem > 150 else 4.0)
        d.pockets(canvas, fabric, [(x, y)], 9.6, 10.6)
    if "logo" in shown and side > 0:
        d.logo(canvas, fabric, fig.body.leg_at(side, 116), 116, 4.0, fig.logo)
    if "contrast_stitching" in shown:
        up = 7.4 if wear.category == "jeans" and wear.hem < 190 else 2.2
        d.stitching(canvas, fabric, [outer_edge[1:] - (side * 2.0, 0), hem_line - (0, up)])
    if "fringe" in shown:
        d.fringe(canvas, fabric, hem_line - (0, 5.0 if wear.hem > 185 else 2.0), 6.5 if wear.hem < 185 else 5.0)
    if "lace_trim" in shown:
        d.lace(canvas, fabric, hem_line - (0, 1.5), 4.6)


def _waistband(fig: Figure, wear: Wear, fabric: Fabric) -> None:
    if wear.category == "jumpsuit":
        return
    body, canvas = fig.body, fig.canvas
    _band(fig, fabric, lambda y: body.half(y) + 1.0, wear.category == "jeans")
    x = body.centre(86)
    closure = fig.closure(wear)
    if closure == "buttons":
        d.buttons(canvas, fabric, [(x, 86.0), (x, 91.0), (x, 96.0)], 5.0)
    elif closure == "zip":
        d.zipper(canvas, fabric, [(x, 83.5), (x, 90.0), (x, 98.0)])
    elif wear.category in ("trousers", "jeans", "shorts"):
        canvas.stroke([(x, 83), (x, 106)], fabric.line, 0.6)


def _band(fig: Figure, fabric: Fabric, half: Half, loops: bool) -> None:
    """Draws a waistband, with belt loops on jeans."""
    body, canvas = fig.body, fig.canvas
    x = body.centre(WAIST)
    low = [(x - half(82.5), 82.5), (x, 83.4), (x + half(82.5), 82.5)]
    high = [(x + half(WAIST), WAIST), (x, WAIST + 0.9), (x - half(WAIST), WAIST)]
    canvas.shape(np.concatenate([smooth(low, steps=3), smooth(high, steps=3)]), d.plain(fabric, 0.05), round_shade=1.5)
    if loops:
        for dx in (-9.0, -4.5, 4.5, 9.0):
            canvas.stroke([(x + dx, WAIST + 0.4), (x + dx, 83.4)], fabric.line, 1.1)


def draw_skirt(fig: Figure, wear: Wear) -> None:
    """Draws a skirt."""
    fabric, canvas, body = fig.fabrics["bottom"], fig.canvas, fig.body
    hem, fit = wear.hem, wear.get("fit")
    free = skirt_half(body, fit, hem, torso_half(body, "slim"))
    half = free
    if fig.over is not None:
        over, end = fig.over
        half = lambda y: min(free(y), over(y) - 1.2) if y < end + 1 else free(y)  # noqa: E731
    heights = [y for y in (WAIST, 84.0, 96.0, 108.0, 122.0, 140.0, 158.0, 174.0) if y < hem - 3] + [hem]
    right = smooth([(body.centre(y) + half(y), y) for y in heights], steps=3)
    left = smooth([(body.centre(y) - half(y), y) for y in heights], steps=3)
    sag = {"slim": 0.8, "regular": 1.8, "loose": 3.4}[fit]
    middle = (left[-1] + right[-1]) / 2
    hem_line = smooth([left[-1], (left[-1] + middle) / 2 + (0, sag * 0.75), moved(middle, 0, sag),
                       (right[-1] + middle) / 2 + (0, sag * 0.75), right[-1]], steps=3)  # fmt: skip
    with canvas.item(ITEM_NUMBER["bottom"]):
        outline = np.concatenate([right[:-1], hem_line[::-1], left[:-1][::-1]])
        canvas.shape(outline, fabric, block=below(WAIST + (hem - WAIST) * 0.7))
        _skirt_folds(fig, half, hem, fit)
        _skirt_closure(fig, wear, fabric, half, hem)
        _band(fig, fabric, half, False)
        _skirt_details(fig, wear, fabric, half, hem, hem_line)


def _skirt_folds(fig: Figure, half: Half, hem: float, fit: str) -> None:
    body, canvas = fig.body, fig.canvas
    count = {"slim": 1, "regular": 2, "loose": 4}[fit]
    for k in range(-count, count + 1):
        share = k / (count + 0.7)
        top, end = body.centre(84) + share * half(84), body.centre(hem) + share * half(hem)
        start = 84 + (6 if k % 2 else 0) + (12 if fit == "slim" else 0)
        canvas.fold([(top, start), ((top * 1.1 + end) / 2.1, (start + hem) / 2), (end, hem)], 1.8, 34)


def _skirt_closure(fig: Figure, wear: Wear, fabric: Fabric, half: Half, hem: float) -> None:
    closure, x, canvas = fig.closure(wear), fig.body.centre(90), fig.canvas
    if closure == "buttons":
        d.buttons(canvas, fabric, [(x, 87.0), (x, hem - 4)], 8.0)
    elif closure == "wrap":
        side = x + half(86) * 0.6
        line = smooth([(side, 83), (side - 3, (83 + hem) / 2), (x + half(hem) * 0.05, hem + 0.5)])
        d.wrap(canvas, fabric, line, (side, 85.5))


def _skirt_details(fig: Figure, wear: Wear, fabric: Fabric, half: Half, hem: float, hem_line: Points) -> None:
    canvas, shown, x = fig.canvas, fig.shown(wear), fig.body.centre(95)
    if "pockets" in shown:
        reach = max(9.0, half(97) - 8.0)
        d.pockets(canvas, fabric, [(x - reach, 97), (x + reach, 97)], 9.6, 10.6)
    if "fringe" in shown:
        d.fringe(canvas, fabric, hem_line - (0, 2), 7.5)
    if "lace_trim" in shown:
        d.lace(canvas, fabric, hem_line - (0, 1.6), 5.0)
    if "bow" in shown:
        d.bow(canvas, fabric, x - half(88) * 0.45, 87.5, 0.95)
