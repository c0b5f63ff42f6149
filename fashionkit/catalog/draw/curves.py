"""Plane curves as arrays of points, shape (n, 2), in figure units: x to the right, y downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
PointsLike = Points | Sequence[Sequence[float] | Points]


@lru_cache(maxsize=256)
def _weights(n: int, steps: int, closed: bool) -> Points:
    """Returns the matrix that turns n control points into points of their Catmull-Rom spline."""
    spans = n if closed else n - 1
    t = np.arange(steps) / steps
    basis = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3], axis=1
    )
    matrix = np.zeros((spans * steps + (0 if closed else 1), n))
    for span in range(spans):
        for k in range(4):
            column = span - 1 + k
            column = column % n if closed else min(max(column, 0), n - 1)
            matrix[span * steps : (span + 1) * steps, column] += basis[:, k]
    if not closed:
        matrix[-1, -1] = 1.0
    return matrix


def smooth(points: PointsLike, *, closed: bool = False, steps: int = 5) -> Points:
    """Returns points on the spline through `points`, `steps` for each span."""
    control = np.asarray(points, dtype=np.float64)
    return _weights(len(control), steps, closed) @ control


def mirror(points: PointsLike) -> Points:
    """Returns the points flipped about x = 0, in reverse order, so that an outline goes on."""
    return np.asarray(points, dtype=np.float64)[::-1] * (-1.0, 1.0)


def moved(points: PointsLike | Sequence[float], x: float, y: float) -> Points:
    """Returns a point or points shifted by (x, y)."""
    return np.asarray(points, dtype=np.float64) + np.array((x, y))


def normals(line: Points) -> Points:
    """Returns unit normals of a line, to the left of its direction on screen (y points down)."""
    tangent = np.empty_like(line)
    tangent[1:-1] = line[2:] - line[:-2]
    tangent[0], tangent[-1] = line[1] - line[0], line[-1] - line[-2]
    tangent /= np.maximum(np.hypot(tangent[:, 0], tangent[:, 1])[:, None], 1e-9)
    return np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)


def _turns(line: Points) -> Points:
    """Returns how far a line turns at each of its points, radians, positive to the right on screen."""
    a, b = line[1:-1] - line[:-2], line[2:] - line[1:-1]
    turn = np.zeros(len(line))
    turn[1:-1] = np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], (a * b).sum(axis=1))
    return turn


def _bend_radius(line: Points, turn: Points) -> Points:
    """Returns the radius of the bend at each point: on its inner side a tube can be no wider."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    radius = np.full(len(line), np.inf)
    radius[1:-1] = (steps[:-1] + steps[1:]) / 2 / np.maximum(np.abs(turn[1:-1]), 1e-6)
    return radius


def limb(bones: PointsLike, widths: Sequence[float], *, cap: bool = True, steps: int = 4) -> Points:
    """Returns the outline of a bent tube.

    Args:
        bones: (k, 2) joints.
        widths: k half widths at the joints.
        cap: round the first end off.
        steps: points for each bone.
    """
    control = np.asarray(bones, dtype=np.float64)
    matrix = _weights(len(control), steps, False)
    line, half = matrix @ control, matrix @ np.asarray(widths, dtype=np.float64)
    across, turn = normals(line), _turns(line)
    inner = np.minimum(half, _bend_radius(line, turn))
    left = line + across * np.where(turn < 0, inner, half)[:, None]
    right = line - across * np.where(turn > 0, inner, half)[:, None]
    if not cap:
        return np.concatenate([left, right[::-1]])
    back = line[0] - line[1]
    back *= half[0] / max(math.hypot(back[0], back[1]), 1e-9)
    rounded = [line[0] + back * a + (right[0] - line[0]) * b for a, b in ((0.7, 0.7), (1.0, 0.0), (0.7, -0.7))]
    return np.concatenate([left, right[::-1], rounded])


def cut(bones: PointsLike, share: float) -> Points:
    """Returns the first `share` (0..1) of a polyline's length."""
    line = np.asarray(bones, dtype=np.float64)
    spans = np.hypot(*np.diff(line, axis=0).T)
    left = share * spans.sum()
    kept = [line[0]]
    for start, end, length in zip(line[:-1], line[1:], spans, strict=True):
        if left <= length:
            kept.append(start + (end - start) * (left / length))
            break
        kept.append(end)
        left -= length
    return np.stack(kept)


@lru_cache(maxsize=32)
def _circle(n: int) -> Points:
    angle = np.arange(n) * (2 * math.pi / n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, n: int = 20) -> Points:
    """Returns an ellipse's outline."""
    return _circle(n) * (rx, ry) + (x, y)
