"""Details and closures: the small parts that can be asked about, each drawn large enough to be recognised.

All of them draw on the garment whose `canvas.item` is open, and name themselves with `canvas.mark`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from fashionkit.catalog.draw.canvas import Canvas
from fashionkit.catalog.draw.curves import Points, PointsLike, ellipse, limb, moved, smooth
from fashionkit.catalog.draw.fabrics import (
    CREAM,
    GOLD,
    SILVER,
    Fabric,
    brightness,
    contrast,
    darker,
    edge,
    lighter,
    mix,
)
from fashionkit.catalog.draw.vocab import RGB


def plain(fabric: Fabric, share: float = 0.0) -> RGB:
    """Returns the main colour, `share` of the way towards its contrast."""
    return mix(fabric.base, contrast(fabric.base), share)


def trim_colour(fabric: Fabric) -> RGB:
    """Returns a colour for bows and emblems that is clearly not the garment's."""
    if fabric.pattern in ("plain", "colour_block"):
        return fabric.second
    return contrast(fabric.base) if brightness(fabric.second) > 120 else CREAM


def thread_colour(fabric: Fabric) -> RGB:
    """Returns the colour of contrast stitching."""
    return (248, 206, 120) if brightness(fabric.base) < 135 else (120, 62, 30)


def pockets(canvas: Canvas, fabric: Fabric, spots: Iterable[tuple[float, float]], width: float, height: float) -> None:
    """Draws patch pockets with a flap line, centred on `spots`."""
    tone = plain(fabric, 0.10)
    line = mix(fabric.line, (10, 8, 14), 0.25) if brightness(fabric.base) >= 62 else fabric.line
    with canvas.mark("pockets"):
        for x, y in spots:
            w, h = width / 2, height / 2
            patch = [(x - w, y - h), (x + w, y - h), (x + w, y + h * 0.6), (x, y + h), (x - w, y + h * 0.6)]
            canvas.shape(patch, tone, round_shade=1.2)
            canvas.stroke([*patch, patch[0]], line, 0.7)
            canvas.stroke([(x - w, y - h * 0.45), (x + w, y - h * 0.45)], line, 0.8)


def pouch(canvas: Canvas, fabric: Fabric, x: float, y: float, split: bool) -> None:
    """Draws the kangaroo pocket of a hoodie, in two halves beside a zip."""
    half = np.array([(0.0, -6.5), (6.5, -6.5), (11.5, 1.5), (11.5, 6.5), (0.0, 6.5)])
    line = mix(fabric.line, (10, 8, 14), 0.2) if brightness(fabric.base) >= 62 else fabric.line
    with canvas.mark("pockets"):
        if not split:
            whole = moved(np.concatenate([half, half[1:][::-1] * (-1, 1)])[1:], x, y)
            canvas.shape(whole, plain(fabric, 0.08), round_shade=1.2)
        for side in (-1, 1):
            part = half * (side, 1) + (x + (side * 1.6 if split else 0), y)
            if split:
                canvas.shape(part, plain(fabric, 0.08), round_shade=1.2)
            canvas.stroke(part[1:3], line, 1.0)


def logo(canvas: Canvas, fabric: Fabric, x: float, y: float, radius: float, kind: int) -> None:
    """Draws an emblem: a ringed dot, a star or a bolt."""
    colour = trim_colour(fabric)
    inner = contrast(colour)
    with canvas.mark("logo"):
        if kind == 0:
            canvas.shape(ellipse(x, y, radius, radius), colour, round_shade=0)
            canvas.shape(ellipse(x, y, radius * 0.5, radius * 0.5, 12), inner, round_shade=0, outline=False)
        elif kind == 1:
            turn = np.arange(10) * np.pi / 5 - np.pi / 2
            reach = np.where(np.arange(10) % 2 == 0, radius * 1.2, radius * 0.52)
            canvas.shape(np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], axis=1), colour, round_shade=0)
        else:
            r = radius
            bolt = [(0.3, -1.2), (-0.8, 0.2), (-0.1, 0.2), (-0.4, 1.2), (0.9, -0.35), (0.15, -0.35), (0.7, -1.2)]
            canvas.shape(ellipse(x, y, r * 1.1, r * 1.1), colour, round_shade=0)
            canvas.shape(np.array(bolt) * r * 0.75 + (x, y), inner, round_shade=0, outline=False)


def _along(line: PointsLike, spacing: float) -> Points:
    """Returns evenly spaced points on a polyline, ends included."""
    points = np.asarray(line, dtype=np.float64)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, along[-1], max(3, round(along[-1] / spacing) + 1))
    return np.stack([np.interp(at, along, points[:, 0]), np.interp(at, along, points[:, 1])], axis=1)


def fringe(canvas: Canvas, fabric: Fabric, line: Points, length: float = 8.0) -> None:
    """Hangs strands from a line that runs left to right."""
    top = _along(line, 1.45)
    drop = np.where(np.arange(len(top)) % 2 == 0, length, 1.0)
    drop[[0, -1]] = length * 0.8
    strands = np.stack([top[:, 0], top[:, 1] + drop], axis=1)
    colour = mix(fabric.base, contrast(fabric.base), 0.14)
    with canvas.mark("fringe"):
        canvas.shape(np.concatenate([top - (0, 0.8), strands[::-1]]), colour, round_shade=0)
        canvas.stroke(top, edge(fabric.base), 0.9)


def lace(canvas: Canvas, fabric: Fabric, line: Points, depth: float = 5.0) -> None:
    """Draws a scalloped white border below a line that runs left to right."""
    pale = brightness(fabric.base) > 215 or (fabric.pattern != "plain" and brightness(fabric.second) > 225)
    colour = (206, 186, 200) if pale else (255, 252, 246)
    top = _along(line, 5.0)
    bows = []
    for a, b in pairwise(top):
        across = b - a
        bows += [moved(a, 0, depth * 0.55), a + across * 0.25 + (0, depth), a + across * 0.75 + (0, depth)]
    outline = np.concatenate([top - (0, 1.0), np.array([*bows, top[-1] + (0, depth * 0.55)])[::-1]])
    hole = darker(colour, 0.45)
    with canvas.mark("lace_trim"):
        canvas.shape(outline, colour, round_shade=0)
        for a, b in pairwise(top):
            x, y = (a + b) / 2
            canvas.dot(x, y + depth * 0.5, 0.75, hole)


def ribbing(canvas: Canvas, fabric: Fabric, low: Points, high: Points) -> None:
    """Draws a ribbed band between two edges given left to right."""
    bottom, top = _along(low, 2.3), _along(high, 2.3)
    if len(top) != len(bottom):
        index = np.linspace(0, 1, len(bottom))
        old = np.linspace(0, 1, len(top))
        top = np.stack([np.interp(index, old, top[:, 0]), np.interp(index, old, top[:, 1])], axis=1)
    line = mix(fabric.base, edge(fabric.base), 0.85)
    with canvas.mark("ribbing"):
        canvas.shape(np.concatenate([top, bottom[::-1]]), plain(fabric, 0.08), round_shade=0)
        for a, b in zip(top, bottom, strict=True):
            canvas.stroke([a, b], line, 0.75)
        canvas.stroke(top, fabric.line, 0.8)


def stitching(canvas: Canvas, fabric: Fabric, lines: Iterable[PointsLike]) -> None:
    """Draws dashed seams in a thread of another colour."""
    with canvas.mark("contrast_stitching"):
        for line in lines:
            canvas.dashes(line, thread_colour(fabric), 0.95, 2.4)


def bow(canvas: Canvas, fabric: Fabric, x: float, y: float, size: float = 1.0) -> None:
    """Draws a ribbon bow with two loops and two tails."""
    colour = trim_colour(fabric)
    with canvas.mark("bow"):
        for side in (-1, 1):
            tail = np.array([(0, 0), (4.6, 8.2), (2.2, 8.6), (-0.8, 2)]) * (side * size, size) + (x, y)
            canvas.shape(tail, darker(colour, 0.14), round_shade=0)
        for side in (-1, 1):
            loop = np.array([(0, 0), (4.2, -3.9), (8.2, -3.4), (8.0, 2.8), (4.2, 3.2)]) * (side * size, size) + (x, y)
            canvas.shape(smooth(loop, closed=True, steps=3), colour, round_shade=1.0)
        canvas.shape(ellipse(x, y, 1.9 * size, 2.2 * size, 10), lighter(colour, 0.2), round_shade=0)


def buckle(canvas: Canvas, fabric: Fabric, x: float, y: float, strap: PointsLike | None, size: float = 1.0) -> None:
    """Draws a strap (if given, a line) and a square metal buckle on it."""
    metal = SILVER if brightness(fabric.base) < 140 else GOLD
    with canvas.mark("metal_buckle"):
        if strap is not None:
            canvas.shape(limb(strap, [2.5 * size] * len(strap), cap=False), plain(fabric, 0.22), round_shade=0)
        w, h = 4.6 * size, 4.0 * size
        frame = np.array([(-w, -h), (w, -h), (w, h), (-w, h)])
        canvas.shape(moved(frame, x, y), metal, round_shade=0)
        canvas.stroke([*(moved(frame, x, y)), (x - w, y - h)], darker(metal, 0.55), 0.6)
        canvas.shape(frame * 0.52 + (x, y), plain(fabric, 0.22), round_shade=0)
        canvas.stroke([(x - w * 0.5, y), (x + w * 0.9, y)], lighter(metal, 0.3), 1.0)


def buttons(canvas: Canvas, fabric: Fabric, line: PointsLike, spacing: float = 6.6, *, placket: bool = True) -> None:
    """Draws a row of buttons, on a plain strip where the fabric is patterned."""
    path = np.asarray(line, dtype=np.float64)
    colour = contrast(fabric.base)
    with canvas.mark("closure"):
        if placket:
            canvas.shape(limb(path, [2.1] * len(path), cap=False), plain(fabric, 0.06), round_shade=0, outline=False)
            for side in (-2.1, 2.1):
                canvas.stroke(moved(path, side, 0), fabric.line, 0.5)
        for x, y in _along(path, spacing):
            canvas.dot(x, y, 1.55, edge(fabric.base))
            canvas.dot(x, y, 1.2, colour)


def big_buttons(canvas: Canvas, fabric: Fabric, spots: Iterable[tuple[float, float]]) -> None:
    """Draws the few large buttons of a blazer and the edge they close."""
    path = np.asarray(list(spots), dtype=np.float64)
    colour = contrast(fabric.base)
    with canvas.mark("closure"):
        (x0, y0), (x1, y1) = path[0], path[-1]
        canvas.stroke(smooth([(x0, y0 - 3), (x1 + 1.2, y1 + 2), (x1 + 4.5, y1 + 11)], steps=3), fabric.line, 0.8)
        for x, y in path:
            canvas.dot(x, y, 2.1, edge(fabric.base))
            canvas.dot(x, y, 1.7, colour)
            canvas.dot(x, y, 0.5, edge(fabric.base))


def zipper(canvas: Canvas, fabric: Fabric, line: PointsLike) -> None:
    """Draws a metal zip with its pull at the first point."""
    path = np.asarray(line, dtype=np.float64)
    with canvas.mark("closure"):
        canvas.stroke(path, darker(fabric.base, 0.55), 2.5)
        canvas.stroke(path, SILVER, 1.2)
        canvas.dashes(path, (120, 124, 132), 1.2, 0.8)
        x, y = path[0]
        canvas.shape(
            [(x - 1.3, y + 0.4), (x + 1.3, y + 0.4), (x + 0.9, y + 5), (x - 0.9, y + 5)], SILVER, round_shade=0
        )


def wrap(canvas: Canvas, fabric: Fabric, edge_line: PointsLike, knot: tuple[float, float]) -> None:
    """Draws the overlapping edge of a wrapped garment and the knot of its tie."""
    x, y = knot
    with canvas.mark("closure"):
        canvas.stroke(edge_line, fabric.line, 1.3)
        canvas.fold(moved(np.asarray(edge_line), 1.2, 0.4), 2.2, 60)
        for dx, dy in ((2.6, 11.5), (-1.2, 12.5)):
            tail = [(x - 1, y), (x + 1.2, y), (x + dx + 1.4, y + dy), (x + dx - 1.4, y + dy)]
            canvas.shape(tail, plain(fabric, 0.16), round_shade=0)
        canvas.shape(ellipse(x, y, 2.3, 2.1, 10), plain(fabric, 0.2), round_shade=0)
