"""The outline of a mask as an SVG path.

    mask [h, w] ──► blocks of s x s pixels ──► edges between in and out ──► closed walks ──► "M3 0h4v2h-4z"

Every edge of a block that has the mask on one side only is walked once, with the mask on its right; so the walks are
closed, and holes turn the other way round.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 160  # blocks along the longer side
MAX_LENGTH = 6000  # letters of a path; a mask that needs more is drawn coarser

Point = tuple[int, int]


def outline(mask: NDArray[np.bool_]) -> tuple[str, int]:
    """The path around a mask, and the pixels that one of its units stands for.

    Args:
        mask: `[h, w]` bool.

    Returns:
        The path's `d`, empty for an empty mask; x to the right and y down from the mask's corner.
    """
    step = max(1, -(-max(mask.shape, default=0) // MAX_SIDE))
    while True:
        path = "".join(map(_drawn, _walks(_blocks(mask, step))))
        if len(path) <= MAX_LENGTH:
            return path, step
        step *= 2


def _blocks(mask: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    """Whether any pixel of each block of `step` x `step` lies in the mask."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
    parts = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(parts.any(axis=(1, 3)))


def _walks(mask: NDArray[np.bool_]) -> list[list[Point]]:
    """Closed walks along the edges, as their points (x, y), the first not repeated."""
    inside = np.pad(mask, 1)
    middle = inside[1:-1, 1:-1]
    # Where the neighbour above, right, below, left is out: (start, end) of that side of the block, clockwise.
    sides = (
        (inside[:-2, 1:-1], (0, 0), (1, 0)),
        (inside[1:-1, 2:], (1, 0), (1, 1)),
        (inside[2:, 1:-1], (1, 1), (0, 1)),
        (inside[1:-1, :-2], (0, 1), (0, 0)),
    )
    follow: dict[Point, list[Point]] = {}
    for neighbour, (ax, ay), (bx, by) in sides:
        for y, x in np.argwhere(middle & ~neighbour).tolist():
            follow.setdefault((x + ax, y + ay), []).append((x + bx, y + by))
    walks = []
    while follow:
        start, _ = next(iter(follow.items()))
        walk, at = [], start
        while at in follow:
            walk.append(at)
            ends = follow[at]
            nearest = ends.pop()
            if not ends:
                del follow[at]
            at = nearest
        walks.append(walk)
    return walks


def _drawn(walk: list[Point]) -> str:
    """A walk as path commands; points on a straight line are left out."""
    turns = [
        here
        for before, here, after in zip([walk[-1], *walk[:-1]], walk, [*walk[1:], walk[0]], strict=True)
        if (before[0] == here[0]) != (here[0] == after[0])
    ]
    x, y = turns[0]
    parts = [f"M{x} {y}"]
    for nx, ny in turns[1:]:
        parts.append(f"h{nx - x}" if ny == y else f"v{ny - y}")
        x, y = nx, ny
    return "".join([*parts, "z"])
