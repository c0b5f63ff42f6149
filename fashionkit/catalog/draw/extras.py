"""Draws hats, bags and the small things: glasses, scarf, tie, belt."""

from __future__ import annotations

import numpy as np

from fashionkit.catalog.draw import details as d
from fashionkit.catalog.draw.body import hand_at
from fashionkit.catalog.draw.curves import Points, ellipse, limb, moved, smooth
from fashionkit.catalog.draw.fabrics import GOLD, SILVER, brightness, darker, lighter
from fashionkit.catalog.draw.figure import ITEM_NUMBER, Figure
from fashionkit.catalog.draw.tops import below
from fashionkit.catalog.draw.wear import Wear


def draw_hat(fig: Figure, wear: Wear) -> None:
    """Draws a cap, a beanie or a sun hat."""
    canvas, fabric, x = fig.canvas, fig.fabrics["hat"], fig.body.head
    crown = [(-11.4, 9), (-11.2, 2), (-7.6, -5), (0, -7.6), (7.6, -5), (11.2, 2), (11.4, 9)]
    with canvas.item(ITEM_NUMBER["hat"]):
        if wear.category == "cap":
            canvas.shape(moved(np.concatenate([smooth(crown), [(0, 7.4)]]), x, 0), fabric)
            peak = [(-11.2, 8.6), (-6, 6.6), (2, 6.4), (11.4, 8.2), (17.4, 12.0), (15.8, 13.4), (8, 11.2), (-2, 10.4)]
            solid = fabric.second if fabric.pattern == "colour_block" else d.plain(fabric, 0.06)
            canvas.shape(smooth(moved(np.array(peak), x, 0), closed=True, steps=3), solid, round_shade=1.4)
            canvas.stroke(smooth([(x, -7.4), (x + 3.4, 0), (x + 4, 6.4)], steps=3), fabric.line, 0.6)
            canvas.dot(x, -7.4, 1.2, fabric.line)
        elif wear.category == "beanie":
            tall = np.array(crown) * (1.04, 1.0) - (0, 1.0)
            canvas.shape(moved(smooth(tall), x, 0), fabric)
            cuff = moved(np.array([(-12, 3.4), (0, 2.0), (12, 3.4), (12.1, 9.6), (0, 8.4), (-12.1, 9.6)]), x, 0)
            canvas.shape(cuff, d.plain(fabric, 0.10), round_shade=1.4)
            for dx in np.arange(-9.6, 10, 3.2):
                canvas.stroke([(x + dx, 3.0), (x + dx, 8.8)], fabric.line, 0.6)
            canvas.shape(ellipse(x, -10.2, 3.8, 3.6, 14), d.plain(fabric, 0.16))
        else:
            brim = ellipse(x, 6.4, 23.5, 5.0, 28)
            canvas.shape(brim, fabric, round_shade=1.6)
            dome = [(-11.4, 6.4), (-10.6, -2), (-7, -8), (0, -9.6), (7, -8), (10.6, -2), (11.4, 6.4), (0, 8.4)]
            canvas.shape(smooth(moved(np.array(dome), x, 0), closed=True, steps=4), fabric)
            band = moved(np.array([(-11.5, 2.2), (0, 4.4), (11.5, 2.2), (11.6, 6.0), (0, 8.2), (-11.6, 6.0)]), x, 0)
            canvas.shape(band, darker(fabric.base, 0.42) if brightness(fabric.base) > 70 else lighter(fabric.base, 0.4))


def draw_glasses(fig: Figure) -> None:
    """Draws sunglasses: lenses and frame in one colour."""
    canvas, fabric, x = fig.canvas, fig.fabrics["glasses"], fig.body.head
    with canvas.item(ITEM_NUMBER["glasses"]):
        canvas.shape(
            [(x - 10.2, 14.0), (x + 10.2, 14.0), (x + 10.2, 15.4), (x - 10.2, 15.4)], fabric.base, round_shade=0
        )
        for side in (-1, 1):
            lens = np.array([(0.9, 13.0), (8.6, 12.8), (8.8, 16.6), (6.6, 19.6), (3.0, 19.6), (1.0, 17)]) * (
                side,
                1,
            ) + (x, 0)
            canvas.shape(smooth(lens, closed=True, steps=3), fabric.base, round_shade=0)
            shine = np.array([(3.0, 15.2), (4.8, 14.2)]) * (1, 1) + (x + (side - 1) * 4.6 + 0.4, 0)
            canvas.stroke(shine, lighter(fabric.base, 0.55), 0.9)


def draw_scarf(fig: Figure) -> None:
    """Draws a scarf wound about the neck, one end hanging down in front."""
    canvas, fabric, x = fig.canvas, fig.fabrics["scarf"], fig.body.centre(40)
    with canvas.item(ITEM_NUMBER["scarf"]):
        outer = fig.plan.get("outer")
        if outer is None or outer.closed:  # under an open coat the end would hide most of the top
            tail = [(-2.6, 42), (-11.0, 42), (-12.8, 72), (-3.4, 73)]
            canvas.shape(moved(np.array(tail), x, 0), fabric, angle=0.05)
            for dx in np.arange(-11.8, -3.6, 2.0):
                canvas.stroke([(x + dx, 72), (x + dx - 0.2, 75)], fabric.line, 0.7)
        loop = [
            (-6.4, 27.4),
            (-11.6, 31.5),
            (-12.2, 39.4),
            (-5, 45.4),
            (4.6, 46.0),
            (12, 40),
            (11.6, 31.5),
            (6.4, 27.4),
            (0, 31),
        ]
        canvas.shape(smooth(moved(np.array(loop), x, 0), closed=True, steps=4), fabric, round_shade=2.2)
        canvas.fold([(x - 10, 33), (x, 38.5), (x + 10, 33)], 1.8, 50)
        canvas.fold([(x - 9, 38.5), (x - 1, 43), (x + 8, 40)], 1.4, 44)


def draw_tie(fig: Figure) -> None:
    """Draws a tie from the collar to the waist."""
    canvas, fabric, x = fig.canvas, fig.fabrics["tie"], fig.body.centre(50)
    with canvas.item(ITEM_NUMBER["tie"]):
        blade = [(-1.5, 43.5), (1.5, 43.5), (4.0, 71), (0, 77), (-4.0, 71)]
        canvas.shape(moved(np.array(blade), x, 0), fabric, angle=0.7, round_shade=1.0)
        knot = [(-3.1, 38.6), (3.1, 38.6), (1.8, 44.6), (-1.8, 44.6)]
        canvas.shape(moved(np.array(knot), fig.body.centre(40), 0), fabric.base, round_shade=0.8)


def draw_belt(fig: Figure) -> None:
    """Draws a belt over waistband or dress."""
    canvas, fabric, body = fig.canvas, fig.fabrics["belt"], fig.body
    below_belt = fig.plan.get("full") or fig.plan["bottom"]
    x, half = body.centre(79), body.half(79) + 1.4
    if below_belt.category == "dress":
        half = body.half(79) + {"slim": 1.2, "regular": 3.2, "loose": 9.0}[below_belt.get("fit")]
    line = smooth([(x - half, 78.6), (x, 80.2), (x + half, 78.6)], steps=3)
    with canvas.item(ITEM_NUMBER["belt"]):
        canvas.shape(limb(line, [2.6] * len(line), cap=False, steps=1), fabric, round_shade=1.2)
        metal = GOLD if brightness(fabric.base) < 150 else SILVER
        canvas.shape([(x - 3.2, 77), (x + 3.2, 77), (x + 3.2, 83.4), (x - 3.2, 83.4)], metal, round_shade=0)
        canvas.shape([(x - 1.6, 78.5), (x + 1.6, 78.5), (x + 1.6, 81.9), (x - 1.6, 81.9)], fabric.base, round_shade=0)


def draw_backpack_back(fig: Figure) -> None:
    """Draws the part of a backpack that shows beside the trunk."""
    canvas, fabric, body = fig.canvas, fig.fabrics["bag"], fig.body
    x, w = body.centre(60), body.shoulder + 6.5
    outline = [(-w + 2, 40), (-w + 8, 35), (w - 8, 35), (w - 2, 40), (w, 66), (w - 1, 92), (w - 6, 95), (-w + 6, 95),
               (-w + 1, 92),
               (-w, 66)]  # fmt: skip
    with canvas.item(ITEM_NUMBER["bag"]):
        canvas.shape(smooth(moved(np.array(outline), x, 0), closed=True, steps=3), fabric, dim=26)


def draw_backpack_straps(fig: Figure) -> None:
    """Draws the two straps in front of the shoulders."""
    canvas, fabric, body = fig.canvas, fig.fabrics["bag"], fig.body
    x = body.centre(45)
    with canvas.item(ITEM_NUMBER["bag"]):
        for side in (-1, 1):
            out = body.shoulder - 7.6
            line = smooth([(x + side * (out - 1.2), 35.6), (x + side * out, 46), (x + side * (out + 0.8), 58),
                           (x + side * (out + 3.6), 70)], steps=3)  # fmt: skip
            canvas.shape(limb(line, [2.3] * len(line), cap=False, steps=1), fabric, round_shade=1.0)
            canvas.stroke([(x + side * (out - 2), 57.5), (x + side * (out + 3.4), 57.5)], SILVER, 1.2)


def _hang(fig: Figure) -> tuple[float, float]:
    """Returns where the bag's handle is held: in the hand, or in the crook of a raised forearm."""
    bones = fig.body.arms[(fig.bag_side + 1) // 2]
    rise = bones[2, 1] - bones[1, 1]
    if rise < 14:
        spot = bones[1] + (bones[2] - bones[1]) * 0.45
        return float(spot[0]), float(spot[1]) + 1.0
    return hand_at(fig.body, fig.bag_side)


def draw_bag(fig: Figure, wear: Wear) -> None:
    """Draws a handbag or a tote bag hanging from hand or forearm."""
    canvas, fabric = fig.canvas, fig.fabrics["bag"]
    x, y = _hang(fig)
    handbag = wear.category == "handbag"
    w, h, drop = (14.0, 20.0, 10.0) if handbag else (13.4, 29.0, 13.0)
    top = y + drop
    with canvas.item(ITEM_NUMBER["bag"]):
        if handbag:
            arch = smooth(
                [(x - 8, top + 2), (x - 6.4, y + 2.6), (x, y - 0.6), (x + 6.4, y + 2.6), (x + 8, top + 2)], steps=4
            )
            canvas.shape(limb(arch, [1.25] * len(arch), cap=False, steps=1), darker(fabric.base, 0.12), round_shade=0)
            body = [(-w + 2.5, 0), (w - 2.5, 0), (w, h * 0.86), (w - 2, h), (-w + 2, h), (-w, h * 0.86)]
        else:
            for dx in (-5.6, 5.6):
                strap = [(x + dx, top + 1), (x + dx * 0.3, y - 0.4)]
                canvas.shape(limb(strap, [1.2, 1.2], cap=False, steps=1), darker(fabric.base, 0.12), round_shade=0)
            body = [(-w, 0), (w, 0), (w - 1.2, h), (-w + 1.2, h)]
        outline = moved(np.array(body), x, top)
        canvas.shape(outline, fabric, block=below(top + h * 0.58), round_shade=2.6)
        _bag_details(fig, wear, x, top, w, h, outline)


def _bag_details(fig: Figure, wear: Wear, x: float, top: float, w: float, h: float, outline: Points) -> None:
    canvas, fabric, shown = fig.canvas, fig.fabrics["bag"], fig.shown(wear)
    if wear.category == "handbag":
        flap = np.array([(-w + 2.4, 0), (w - 2.4, 0), (w - 3.6, h * 0.38), (0, h * 0.52), (-w + 3.6, h * 0.38)])
        canvas.shape(moved(flap, x, top), d.plain(fabric, 0.08), round_shade=1.4)
        if "bow" in shown:
            d.bow(canvas, fabric, x, top + h * 0.42, 0.95)
        elif "metal_buckle" not in shown:
            canvas.stroke([(x - 1.2, top + h * 0.5), (x + 1.2, top + h * 0.5)], fabric.line, 1.4)
    if "metal_buckle" in shown:
        low = top + h * (0.76 if "bow" in shown else 0.5)
        d.buckle(canvas, fabric, x, low, [(x, top + 1), (x, low + 4)], 0.9)
    if "pockets" in shown:
        d.pockets(canvas, fabric, [(x, top + h * 0.68)], 14.0, 11.0)
    if "logo" in shown:
        d.logo(canvas, fabric, x, top + h * 0.3, 5.0, fig.logo)
    if "contrast_stitching" in shown:
        inner = (outline - (x, top + h / 2)) * 0.84 + (x, top + h / 2)
        d.stitching(canvas, fabric, [np.concatenate([inner, inner[:1]])])
    if "fringe" in shown:
        d.fringe(canvas, fabric, np.array([(x - w + 1.4, top + h - 1), (x + w - 1.4, top + h - 1)]), 8.0)
