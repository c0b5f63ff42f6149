"""Draws what is worn on the torso: tops, bodices of dresses and jumpsuits, outer layers, and their sleeves."""

from __future__ import annotations

from typing import Final

import numpy as np

from fashionkit.catalog.draw import details as d
from fashionkit.catalog.draw.curves import Points, moved, smooth
from fashionkit.catalog.draw.fabrics import Fabric, contrast, darker
from fashionkit.catalog.draw.figure import ITEM_NUMBER, Figure
from fashionkit.catalog.draw.tailor import Cut, Half, open_panels, skirt_half, sleeve, torso_cut, torso_half
from fashionkit.catalog.draw.wear import Wear

_TUCKED_HEM: Final = 84.0
OUTER_EXTRA: Final = 1.6


def below(y: float) -> Points:
    """Returns an outline of everything below height `y`."""
    return np.array([(-99.0, y), (99.0, y), (99.0, 230.0), (-99.0, 230.0)])


def bodice_half(fig: Figure, wear: Wear) -> Half:
    """Returns the half width of a top, dress or jumpsuit bodice by height."""
    half = torso_half(fig.body, wear.get("fit"))
    if wear.category == "dress":
        skirt = skirt_half(fig.body, wear.get("fit"), wear.hem, half)
        return _below_outer(fig, lambda y: half(y) if y <= 77 else skirt(y))
    if wear.tucked or wear.category == "jumpsuit":
        waist = fig.body.half(80) + 1.2
        return _below_outer(fig, lambda y: half(y) if y < 70 else float(np.interp(y, (70, 82), (half(70), waist))))
    return _below_outer(fig, half)


def _below_outer(fig: Figure, half: Half) -> Half:
    """Keeps a garment from sticking out beside the outer layer over it."""
    if fig.over is None:
        return half
    over, end = fig.over
    return lambda y: min(half(y), over(y) - 1.2) if y < end + 1 else half(y)


def draw_upper(fig: Figure, wear: Wear) -> None:
    """Draws the front of a top, a dress or a jumpsuit's bodice, without sleeves."""
    fabric, body, canvas = fig.fabrics[wear.slot], fig.body, fig.canvas
    bodice = wear.category == "jumpsuit"
    hem = _TUCKED_HEM if (wear.slot == "top" and wear.tucked) or bodice else wear.hem
    half = bodice_half(fig, wear)
    neckline = wear.get("neckline")
    sleeved = wear.get("sleeve_length") != "sleeveless"
    piece = torso_cut(
        body, half, hem, "crew" if neckline == "round" and "outer" in fig.plan else neckline, sleeved=sleeved
    )
    with canvas.item(ITEM_NUMBER[wear.slot]):
        canvas.shape(piece.outline, fabric, block=below(40 + (0.7 if wear.slot == "full" else 0.62) * (wear.hem - 40)))
        _folds(fig, half, hem, wear.get("fit"))
        if wear.category == "dress" and wear.get("fit") != "loose":
            waist = [(body.centre(77) - half(77), 77), (body.centre(77), 78.5), (body.centre(77) + half(77), 77)]
            canvas.stroke(smooth(waist), fabric.line, 0.7)
        _close(fig, wear, fabric, half, hem, 45.0)
        _finish_neck(fig, wear, fabric, piece)
        _upper_details(fig, wear, fabric, piece, half, hem)


def _folds(fig: Figure, half: Half, hem: float, fit: str) -> None:
    body, canvas = fig.body, fig.canvas
    bottom = min(hem, 92.0)
    for side in (-1, 1):
        x, w = body.centre(60), half(60)
        canvas.fold([(x + side * w * 0.95, 55), (x + side * w * 0.6, 59), (x + side * w * 0.35, 60)], 1.4)
        if fit != "slim":
            canvas.fold([(x + side * w * 0.8, bottom - 18), (x + side * w * 0.62, bottom - 4)], 1.8)
    if hem > 110:
        count = {"slim": 1, "regular": 2, "loose": 3}[fit]
        for k in range(-count, count + 1):
            share = k / (count + 0.6)
            top, end = body.centre(84) + share * half(84) * 0.8, body.centre(hem) + share * half(hem) * 0.95
            canvas.fold([(top, 88 + abs(k) * 4), ((top + end) / 2, (88 + hem) / 2), (end, hem - 1)], 2.0, 30)


def _close(fig: Figure, wear: Wear, fabric: Fabric, half: Half, hem: float, top: float) -> None:
    """Draws the closure down the front, from height `top`."""
    closure, body, canvas = fig.closure(wear), fig.body, fig.canvas
    if closure in ("", "open_front"):
        return
    if wear.get("neckline") == "v_neck" and closure != "wrap":
        top = 58.0
    elif wear.get("neckline") in ("square", "off_shoulder"):
        top = 52.0
    end = hem - 3 if wear.category != "dress" else min(hem - 4, 140.0)
    middle = np.array([(body.centre(y), y) for y in np.linspace(top, end, 6)])
    if closure == "buttons" and wear.category == "blazer":
        d.big_buttons(
            canvas, fabric, [(body.centre(y), y) for y in ((top + 2, top + 10) if hem > 90 else (top + 3, top + 12))]
        )
    elif closure == "buttons":
        d.buttons(canvas, fabric, middle, 7.0 if hem < 100 else 8.0)
    elif closure == "zip":
        d.zipper(canvas, fabric, middle)
    else:
        knot_y = 77.0 if hem > 80 else hem - 6
        side = body.centre(knot_y) + half(knot_y) * 0.55
        line = [(body.centre(42) - 6.8, 38), (body.centre(55) - 1, 53), (side - 4, knot_y - 7), (side, knot_y)]
        if hem > 100:
            line += [(side - 5, (knot_y + hem) / 2), (body.centre(hem) + half(hem) * 0.15, hem)]
        d.wrap(canvas, fabric, smooth(line), (side, knot_y))


def _finish_neck(fig: Figure, wear: Wear, fabric: Fabric, piece: Cut) -> None:
    """Draws what makes the neckline: collar, hood, rolled neck or a band along the edge."""
    neckline, x = wear.get("neckline"), fig.body.centre(40)
    if neckline == "collared":
        draw_collar(fig, fabric, x)
    elif neckline == "hooded":
        draw_hood(fig, fabric, x)
    elif neckline == "turtleneck":
        fig.canvas.stroke(smooth([(x - 5.4, 31), (x, 32.6), (x + 5.4, 31)]), fabric.line, 0.8)
    else:
        inner = piece.neck[1:-1] if len(piece.neck) > 4 else piece.neck
        fig.canvas.stroke(moved(inner, 0, 1.3), fabric.line, 0.7)


def draw_collar(fig: Figure, fabric: Fabric, x: float) -> None:
    """Draws the two points of a shirt collar."""
    with fig.canvas.mark("neckline"):
        for side in (-1, 1):
            flap = np.array([(4.6, 30.6), (8.6, 34.8), (7.4, 43.0), (0.6, 40.2)]) * (side, 1) + (x, 0)
            fig.canvas.shape(flap, d.plain(fabric, 0.05), round_shade=1.0)


def draw_hood(fig: Figure, fabric: Fabric, x: float) -> None:
    """Draws a hood lying on the shoulders, with its drawstrings."""
    right = [(0, 48.6), (5.5, 47), (11.6, 42.4), (15.4, 36.4), (13, 30.4), (7, 27)]
    inner = [(4.6, 31.5), (5.6, 36), (3.8, 40.5), (0, 43)]
    half = smooth(right, steps=3)
    ring = np.concatenate([half, smooth(inner, steps=3)])
    with fig.canvas.mark("neckline"):
        fig.canvas.shape(moved(np.concatenate([ring, ring[::-1] * (-1, 1)]), x, 0), fabric, round_shade=2.0)
        for side in (-1, 1):
            seam = np.array([(5.2, 31), (8.4, 36.5), (5, 43), (1, 45.6)]) * (side, 1) + (x, 0)
            fig.canvas.stroke(smooth(seam, steps=3), fabric.line, 0.8)
            string = np.array([(3.4, 46.4), (3.8, 52), (3.5, 57.5)]) * (side, 1) + (x, 0)
            fig.canvas.stroke(string, contrast(fabric.base), 0.9)


def _upper_details(fig: Figure, wear: Wear, fabric: Fabric, piece: Cut, half: Half, hem: float) -> None:
    canvas, body, shown = fig.canvas, fig.body, fig.shown(wear)
    x = body.centre(55)
    tucked = wear.slot == "top" and wear.tucked
    if "pockets" in shown:
        _pockets(fig, wear, fabric, half, hem)
    if "logo" in shown:
        offset = 0.0 if wear.category in ("t_shirt", "sweater", "tank_top") and "pockets" not in shown else 7.4
        offset = 7.4 if fig.closure(wear) or "scarf" in fig.plan else offset
        small = offset > 0
        low = 60.0 if wear.get("neckline") in ("v_neck", "square", "hooded") and not small else 55.5
        d.logo(canvas, fabric, x + offset, low, 4.2 if small else 5.2, fig.logo)
    if "ribbing" in shown and not tucked:
        d.ribbing(canvas, fabric, piece.hem, piece.hem - (0, 5.5))
    elif "ribbing" in shown:
        d.ribbing(canvas, fabric, moved(piece.neck[2:-2], 0, 3.0), piece.neck[2:-2])
    if "fringe" in shown:
        d.fringe(canvas, fabric, piece.hem - (0, 5.0 if hem > 185 else 1.0), 7.5 if hem < 185 else 5.0)
    if "lace_trim" in shown:
        line = moved(piece.neck[1:-1], 0, 0.6) if tucked else piece.hem - (0, 4.4 if hem > 185 else 2.0)
        d.lace(canvas, fabric, line, 4.6)
    if "contrast_stitching" in shown:
        inset = [moved(piece.left[2:], 1.9, 0), piece.right[2:] - (1.9, 0)]
        lines = inset if tucked or wear.category == "jumpsuit" else [*inset, piece.hem - (0, 2.4)]
        if wear.category == "tank_top":
            lines.append(moved(piece.neck[1:-1], 0, 2.2))  # arms may hide its sides
        d.stitching(canvas, fabric, lines)
    if "bow" in shown:
        low = {"v_neck": 57.0, "square": 50.5, "off_shoulder": 50.0, "turtleneck": 40.0}.get(wear.get("neckline"), 45.0)
        d.bow(canvas, fabric, body.centre(40), low)


def _pockets(fig: Figure, wear: Wear, fabric: Fabric, half: Half, hem: float) -> None:
    canvas, body = fig.canvas, fig.body
    x = body.centre(58)
    if wear.category == "hoodie":
        y = min(hem - 13.5, 80.0)
        d.pouch(canvas, fabric, body.centre(y), y, bool(fig.closure(wear)))
    elif wear.category == "t_shirt":
        d.pockets(canvas, fabric, [(x - 7.6, 59)], 8.6, 9.4)
    elif wear.category == "shirt":
        d.pockets(canvas, fabric, [(x - 8.0, 59), (x + 8.0, 59)], 7.6, 9.0)
    elif wear.category == "jumpsuit":
        d.pockets(canvas, fabric, [(x - 8.2, 62), (x + 8.2, 62)], 8.0, 9.0)
    else:
        y = 92.0 if hem > 110 else hem - 10.0
        mid, reach = body.centre(y), max(8.6, min(half(y) - 6.2, 12.5))
        d.pockets(canvas, fabric, [(mid - reach, y), (mid + reach, y)], 9.2, 10.0)


def draw_sleeves(fig: Figure, wear: Wear) -> None:
    """Draws both sleeves of a garment, with what its details put on the cuffs."""
    if wear.get("sleeve_length") in ("", "sleeveless"):
        return
    fabric, canvas = fig.fabrics[wear.slot], fig.canvas
    extra = OUTER_EXTRA if wear.slot == "outer" else 0.0
    shown = fig.shown(wear)
    fit = wear.get("fit") if wear.slot == "outer" or "outer" not in fig.plan else "slim"
    with canvas.item(ITEM_NUMBER[wear.slot]):
        for side in (-1, 1):
            outline, cuff, angle = sleeve(fig.body, side, wear, fit, extra)
            if wear.slot != "outer" and "outer" in fig.plan:
                canvas.ghost(outline)  # the sleeve of the outer layer is at least as long
                continue
            canvas.shape(outline, fabric, angle=angle)
            elbow = fig.body.arms[(side + 1) // 2, 1]
            if wear.get("sleeve_length") == "long":
                canvas.fold([moved(elbow, -4, -1.5), moved(elbow, 0, 0.5), moved(elbow, 3, -0.5)], 1.3)
            bones = fig.body.arms[(side + 1) // 2]
            last = bones[1] - bones[0] if wear.get("sleeve_length") in ("short", "elbow") else bones[2] - bones[1]
            up = -last / np.hypot(*last)
            if "ribbing" in shown:
                d.ribbing(canvas, fabric, cuff, cuff + up * 5.0)
            elif "contrast_stitching" in shown:
                d.stitching(canvas, fabric, [cuff + up * 2.2])
            else:
                canvas.stroke(cuff + up * 2.0, fabric.line, 0.6)


def outer_half(fig: Figure, wear: Wear) -> Half:
    """Returns the half width of the outer layer by height."""
    half = torso_half(fig.body, wear.get("fit"), OUTER_EXTRA)
    hem = wear.hem + 3
    if hem < 105:
        return half
    ease = {"slim": 2.6, "regular": 5.0, "loose": 9.0}[wear.get("fit")]
    legs = max(fig.body.legs_reach(y) for y in (min(hem, 118.0), min(hem, 146.0), hem))
    end = max(fig.body.half(96) + ease + (hem - 96) * 0.06, legs + 2.6)
    return lambda y: (
        half(y) if y <= 77 else float(np.interp(y, (77, 96, hem), (half(77), max(half(96), half(77)), end)))
    )


def draw_outer_back(fig: Figure, wear: Wear) -> None:
    """Draws the inside of the back of a long coat that is worn open."""
    if wear.closed or wear.hem < 110:
        return
    piece = torso_cut(fig.body, outer_half(fig, wear), wear.hem + 1, "round", sleeved=True, outer=True)
    with fig.canvas.item(ITEM_NUMBER["outer"]):
        fig.canvas.shape(piece.outline, darker(fig.fabrics["outer"].base, 0.35), round_shade=0, dim=40)


def draw_outer(fig: Figure, wear: Wear) -> None:
    """Draws the front of the outer layer, closed or open, without sleeves."""
    fabric, canvas, body = fig.fabrics["outer"], fig.canvas, fig.body
    half, hem = outer_half(fig, wear), wear.hem + 3
    block = below(40 + 0.68 * (hem - 40))
    with canvas.item(ITEM_NUMBER["outer"]):
        if wear.closed:
            style = _opening(fig, wear)
            piece = torso_cut(body, half, hem, style, sleeved=True, outer=True)
            canvas.shape(piece.outline, fabric, block=block)
            _folds(fig, half, hem, wear.get("fit"))
            _close(fig, wear, fabric, half, hem, {"lapel": 64.0, "v_neck": 58.0}.get(style, 54.5))
            pieces: tuple[Cut, ...] = (piece,)
        else:
            gap = {"slim": 9.8, "regular": 10.8, "loose": 12.0}[wear.get("fit")]
            gap += 2.8 if "scarf" in fig.plan or "tie" in fig.plan else 0.0  # they cover part of what shows between
            pieces = open_panels(body, half, hem, wear.get("neckline"), gap)
            for piece in pieces:
                canvas.shape(piece.outline, fabric, block=block)
            _folds(fig, half, hem, "slim")
        _outer_details(fig, wear, fabric, pieces, half, hem)
        _outer_neck(fig, wear, fabric)


def _opening(fig: Figure, wear: Wear) -> str:
    """Returns how a closed outer layer opens at the neck: wide enough for what is worn under it to show."""
    under = fig.plan.get("top")
    if under is not None and not under.listed:
        return "crew"
    if wear.category == "blazer":
        return "lapel"
    return "v_neck" if _lapelled(wear) or wear.get("neckline") == "v_neck" else "deep"


def _lapelled(wear: Wear) -> bool:
    return wear.category in ("blazer", "coat") and wear.get("neckline") == "collared"


def _outer_neck(fig: Figure, wear: Wear, fabric: Fabric) -> None:
    x, neckline = fig.body.centre(40), wear.get("neckline")
    if neckline == "hooded":
        draw_hood_open(fig, fabric, x)
    elif _lapelled(wear):
        draw_lapels(fig, wear, fabric, x)
    elif neckline == "collared":
        with fig.canvas.mark("neckline"):
            for side in (-1, 1):
                flap = np.array([(5.0, 29.6), (10.4, 34.6), (11.2, 43.5), (4.8, 46.0), (6.6, 37)]) * (side, 1) + (x, 0)
                fig.canvas.shape(flap, d.plain(fabric, 0.07), round_shade=1.0)


def draw_lapels(fig: Figure, wear: Wear, fabric: Fabric, x: float) -> None:
    """Draws the notched lapels of a blazer or coat."""
    low = 63.0 if wear.category == "blazer" else 57.0
    shift = 0.4 if wear.closed else 6.4
    tone = d.plain(fabric, 0.08)
    with fig.canvas.mark("neckline"):
        for side in (-1, 1):
            collar = np.array([(5.0, 29.6), (9.6, 33.6), (12.4, 40.2), (7.6, 42.2), (6.2, 36)]) * (side, 1) + (x, 0)
            notch = np.array([(7.4, 40.0), (10.0, 42.8), (14.6, 42.0), (13.0, 50.0), (shift, low), (6.6, 44)])
            fig.canvas.shape(notch * (side, 1) + (x, 0), tone, round_shade=1.2)
            fig.canvas.shape(collar, tone, round_shade=1.0)


def draw_hood_open(fig: Figure, fabric: Fabric, x: float) -> None:
    """Draws the hood of a coat: it lies beside the neck and leaves the front open."""
    with fig.canvas.mark("neckline"):
        for side in (-1, 1):
            lobe = [(5.0, 28), (11.5, 28.6), (16.2, 34.6), (14.6, 41), (9, 46), (6.2, 43), (6.4, 36)]
            fig.canvas.shape(smooth(np.array(lobe) * (side, 1) + (x, 0), closed=True, steps=4), fabric, round_shade=2.0)
            seam = np.array([(6.8, 31), (10.6, 36), (8.6, 43)]) * (side, 1) + (x, 0)
            fig.canvas.stroke(smooth(seam, steps=3), fabric.line, 0.8)


def _outer_details(fig: Figure, wear: Wear, fabric: Fabric, pieces: tuple[Cut, ...], half: Half, hem: float) -> None:
    canvas, body, shown = fig.canvas, fig.body, fig.shown(wear)
    if "ribbing" in shown:
        for piece in pieces:
            d.ribbing(canvas, fabric, piece.hem, piece.hem - (0, 5.5))
    if "contrast_stitching" in shown:
        for piece, sides in zip(pieces, ((1, -1),) if len(pieces) == 1 else ((1, -1), (1, -1)), strict=True):
            lines = [
                moved(piece.left[2:], 1.9 * sides[0], 0),
                moved(piece.right[2:], 1.9 * sides[1], 0),
                piece.hem - (0, 2.6),
            ]
            d.stitching(canvas, fabric, lines)
    if "pockets" in shown:
        y = 94.0 if hem > 110 else hem - 12.5
        reach = max(10.2, half(y) - 9.4) if wear.closed else (half(y) + 8.4) / 2 + 0.6
        size = 9.4 if wear.closed else min(9.4, half(y) - 11.0)
        d.pockets(canvas, fabric, [(body.centre(y) - reach, y), (body.centre(y) + reach, y)], size, 9.6)
    if "logo" in shown:
        d.logo(canvas, fabric, body.centre(56) + 7.4, 56.0, 4.2, fig.logo)
    if "fringe" in shown:
        for piece in pieces:
            d.fringe(canvas, fabric, piece.hem - (0, 1), 7.5)
    if "metal_buckle" in shown:
        y = 80.5 if hem > 90 else hem - 5.0
        x, w = body.centre(y), half(y)
        d.buckle(canvas, fabric, x, y, [(x - w, y - 0.5), (x, y), (x + w, y - 0.5)])
    if "bow" in shown:
        d.bow(canvas, fabric, body.centre(40), 56.0, 0.95)
