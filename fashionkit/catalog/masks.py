"""Masks of items: COCO polygons and run lengths in, a cropped 1-bit PNG with its box and area out.

    polygons ───────────────┐
    run lengths (list) ─────┼──► [height, width] bool ──► box, PNG of the box, share of the picture
    run lengths (packed) ───┘

Polygons fill the same pixels as the COCO API's masks (https://github.com/cocodataset/cocoapi, `maskApi.c`): edges are
walked on a grid five times as fine, and a pixel column turns inside or outside where an edge crosses its middle.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.bool_]

_FINE = 5  # sub-pixels a pixel side


class MaskError(ValueError):
    """A segmentation that describes no mask."""


def segmentation_mask(segmentation: Any, height: int, width: int) -> Mask:
    """The mask of a COCO `segmentation`: a list of polygons, or {"size", "counts"} with counts as list or text.

    Returns:
        `[height, width]` bool.

    Raises:
        MaskError: Not of these forms, or not of this size.
    """
    if isinstance(segmentation, list) and segmentation:
        mask = np.zeros((height, width), dtype=bool)
        for polygon in segmentation:
            mask |= polygon_mask(polygon, height, width)
        return mask
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width]:
            raise MaskError(f"the mask's size is {segmentation.get('size')}, and the picture's {[height, width]}")
        counts = segmentation.get("counts")
        return runs_mask(unpack_runs(counts) if isinstance(counts, str) else counts, height, width)
    raise MaskError("a segmentation is a list of polygons, or a dict with `size` and `counts`")


def unpack_runs(packed: str) -> list[int]:
    """COCO's text form of run lengths: 5 bits a letter, low bits first, from the third on as a difference."""
    counts: list[int] = []
    at = 0
    while at < len(packed):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(packed) or shift > 60:
                raise MaskError("the packed run lengths end in the middle of a number")
            letter = ord(packed[at]) - 48
            if not 0 <= letter < 64:
                raise MaskError(f"a packed run length cannot hold the letter {packed[at]!r}")
            value |= (letter & 31) << shift
            more, shift, at = bool(letter & 32), shift + 5, at + 1
        if letter & 16:  # the sign of the last five bits fills the rest
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def runs_mask(counts: Any, height: int, width: int) -> Mask:
    """The mask of run lengths, counted down the columns, outside first.

    Raises:
        MaskError: The runs are no whole numbers from 0, or do not fill the picture.
    """
    if not isinstance(counts, list) or not all(type(n) is int and 0 <= n <= height * width for n in counts):
        raise MaskError("run lengths must be whole numbers within the picture")
    if sum(counts) != height * width:
        raise MaskError(f"the run lengths cover {sum(counts):,} pixels of {height * width:,}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def polygon_mask(polygon: Any, height: int, width: int) -> Mask:
    """The mask of one polygon `[x0, y0, x1, y1, ...]` in pixels; its last point joins the first.

    Raises:
        MaskError: Fewer than three points, no numbers, or far outside the picture.
    """
    try:
        points = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MaskError("a polygon is a list of numbers") from error
    if points.ndim != 1 or len(points) < 6 or len(points) % 2:
        raise MaskError("a polygon needs x and y of three points or more")
    size = np.array([width, height])
    points = points.reshape(-1, 2)  # [n, 2]
    if not np.all(np.isfinite(points)) or np.any(points < -size) or np.any(points > 2 * size):
        raise MaskError("a polygon lies outside the picture")
    walk = _walk(np.trunc(_FINE * points + 0.5).astype(np.int64))  # [m, 2]
    return _fill(walk, height, width)


def _walk(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every fine grid point along the polygon's edges, in order: `[m, 2]`."""
    steps = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = start.tolist(), end.tolist()
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        wide = dx >= dy
        flip = x0 > x1 if wide else y0 > y1  # an edge is rounded the same way from either end
        if flip:
            x0, y0, x1, y1 = x1, y1, x0, y0
        along = np.arange(max(dx, dy) + 1)
        if flip:
            along = along[::-1]
        if wide:
            slope = (y1 - y0) / dx if dx else 0.0
            edge = np.stack([along + x0, np.trunc(y0 + slope * along + 0.5).astype(np.int64)], axis=1)
        else:
            slope = (x1 - x0) / dy
            edge = np.stack([np.trunc(x0 + slope * along + 0.5).astype(np.int64), along + y0], axis=1)
        steps.append(edge)
    return np.concatenate(steps)


def _fill(walk: NDArray[np.int64], height: int, width: int) -> Mask:
    """Turns the walk's crossings of pixel column middles into the pixels between them."""
    before, after = walk[:-1], walk[1:]
    turn = before[:, 0] != after[:, 0]
    fine_x = np.where(after[:, 0] < before[:, 0], after[:, 0], after[:, 0] - 1)[turn]
    fine_y = np.minimum(after[:, 1], before[:, 1])[turn]
    middle = fine_x % _FINE == _FINE // 2
    x = (fine_x[middle] - _FINE // 2) // _FINE
    y = np.ceil(np.clip((fine_y[middle] + 0.5) / _FINE - 0.5, 0, height)).astype(np.int64)
    inside = (x >= 0) & (x < width)
    turns = np.bincount(x[inside] * height + y[inside], minlength=height * width + 1)[: height * width]
    return (np.cumsum(turns) % 2 == 1).reshape(width, height).T


def cropped(mask: Mask) -> tuple[tuple[float, float, float, float], bytes, float]:
    """What a catalogue keeps of a mask.

    Args:
        mask: `[height, width]` bool with at least one pixel.

    Returns:
        Box (x, y, width, height in pixels), PNG of the box with 1 bit a pixel, share of the picture (0..1).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    inner = mask[top:bottom, left:right]
    box = (float(left), float(top), float(right - left), float(bottom - top))
    return box, mask_png(inner), float(inner.sum() / mask.size)


def mask_png(mask: Mask) -> bytes:
    """A mask as a PNG of 1 bit a pixel."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, format="PNG", compress_level=6)
    return out.getvalue()


def union(masks: Sequence[Mask]) -> Mask:
    """Pixels that lie in any of the masks."""
    return np.logical_or.reduce(masks)
