"""The canvas of one figure: colour, shading and who owns which pixel, drawn together shape by shape.

Everything is drawn at twice the size and reduced at the end, which smooths the edges. Beside the colours the canvas
keeps
    ids    which item is on top, pixel by pixel: the visible masks, which therefore never overlap;
    alone  for each item, all pixels it would have if nothing covered it;
    shade  darkening (folds, the side away from the light), cleared wherever a new shape comes on top, blurred at the
           end;
    marks  on request, where the parts of an item (a pocket, a row of buttons) can be seen: for tests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from fashionkit.catalog.draw.curves import Points, PointsLike, smooth
from fashionkit.catalog.draw.fabrics import Fabric, edge, pattern_masks
from fashionkit.catalog.draw.vocab import RGB

OVERSAMPLE = 2
_LIT = 240  # shade value of a fully lit pixel; above it are highlights
Ints = tuple[int, int, int, int]


class Canvas:
    """Draws shapes given in figure units; see the module docstring for what it keeps.

    Args:
        size: side of the finished picture in pixels.
        zoom: pixels of one figure unit on a 224 pixel picture.
        middle: x of the figure's axis, as a share of the picture's width.
        ground: y of the ground (figure y = 200), as a share of the picture's height.
        tilt: turn of the whole figure in radians.
        flip: mirror the figure.
        light: 1 if the light comes from the left of the picture, -1 from the right.
        marks: keep `marks`.
    """

    def __init__(
        self, size: int, *, zoom: float, middle: float, ground: float, tilt: float, flip: bool, light: int, marks: bool
    ) -> None:
        self.size = size
        self.side = size * OVERSAMPLE
        self.unit = zoom * self.side / 224
        self.light = light
        c, s = math.cos(tilt) * self.unit, math.sin(tilt) * self.unit
        turn = np.array([[c, s], [-s, c]])
        if flip:
            turn[0] *= -1
        self._turn = turn
        self._flip = -1 if flip else 1
        self._origin = np.array([middle * self.side, ground * self.side]) - np.array([0.0, 200.0]) @ turn
        self.image = Image.new("RGB", (self.side, self.side))
        self.shade = Image.new("L", (self.side, self.side), _LIT)
        self.ids = Image.new("L", (self.side, self.side))
        self.alone: dict[int, Image.Image] = {}
        self.marks = Image.new("L", (self.side, self.side)) if marks else None
        self.mark_names: list[tuple[int, str]] = [(0, "")]
        self._pens = ImageDraw.Draw(self.image), ImageDraw.Draw(self.shade), ImageDraw.Draw(self.ids)
        self._mark_pen = ImageDraw.Draw(self.marks) if self.marks is not None else None
        self._item = 0
        self._mark = 0

    @contextmanager
    def item(self, number: int) -> Iterator[None]:
        """Shapes drawn inside belong to item `number` (1..255); 0 is the body and the backdrop."""
        before, self._item = self._item, number
        if number and number not in self.alone:
            self.alone[number] = Image.new("L", (self.side, self.side))
        yield
        self._item = before

    @contextmanager
    def mark(self, name: str) -> Iterator[None]:
        """Shapes drawn inside are remembered as part `name` of the current item."""
        if self.marks is None:
            yield
            return
        self.mark_names.append((self._item, name))
        before, self._mark = self._mark, len(self.mark_names) - 1
        yield
        self._mark = before

    def to_pixels(self, points: PointsLike) -> Points:
        """Returns figure points as (oversampled) pixels."""
        return np.asarray(points, dtype=np.float64) @ self._turn + self._origin

    def _mask(self, points: PointsLike) -> tuple[Image.Image, Ints] | None:
        xy = self.to_pixels(points)
        low, high = np.floor(xy.min(axis=0)).astype(int), np.ceil(xy.max(axis=0)).astype(int) + 1
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]), self.side), min(int(high[1]), self.side)
        if x1 <= x0 or y1 <= y0:
            return None
        mask = Image.new("L", (x1 - x0, y1 - y0))
        ImageDraw.Draw(mask).polygon((xy - (x0, y0)).ravel().tolist(), fill=255)
        return mask, (x0, y0, x1, y1)

    def _fill(self, fabric: Fabric, box: Ints, angle: float, block: PointsLike | None) -> RGB | Image.Image:
        if fabric.pattern == "plain" or (fabric.pattern == "colour_block" and block is None):
            return fabric.base
        width, height = box[2] - box[0], box[3] - box[1]
        fill = Image.new("RGB", (width, height), fabric.base)
        if fabric.pattern == "colour_block":
            assert block is not None
            ImageDraw.Draw(fill).polygon((self.to_pixels(block) - box[:2]).ravel().tolist(), fill=fabric.second)
            return fill
        side = int(self.side * 1.4)
        masks = pattern_masks(fabric.pattern, side, self.side / 224)
        turn = math.radians(fabric.turn) - angle * self._flip
        # One set of masks serves every zoom and scale: the turn carries the rest.
        shrink = self.side / 224 / (self.unit * fabric.scale)
        c, s = math.cos(turn) * shrink, math.sin(turn) * shrink
        # Pattern coordinates of the box's centre stay near the middle of the mask, whatever the turn.
        mx, my = side / 2 + fabric.offset[0], side / 2 + fabric.offset[1]
        frame = (c, s, mx - c * width / 2 - s * height / 2, -s, c, my + s * width / 2 - c * height / 2)
        for mask, colour in zip(masks, (fabric.second, fabric.third), strict=False):
            fill.paste(colour, mask=mask.transform((width, height), Image.Transform.AFFINE, frame))
        return fill

    def shape(
        self,
        points: PointsLike,
        fabric: Fabric | RGB,
        *,
        angle: float = 0.0,
        block: PointsLike | None = None,
        outline: bool = True,
        round_shade: float = 2.4,
        dim: int = 0,
    ) -> None:
        """Draws a filled outline on top of everything so far.

        Args:
            points: (n, 2) outline.
            fabric: what it is filled with.
            angle: turn of the pattern in radians, to follow a limb.
            block: outline of the second colour of a colour-blocked garment.
            outline: draw a thin line around it.
            round_shade: width of the darker band on the side away from the light, figure units; 0 for none.
            dim: darkening of the whole shape, 0..200: an inside or a far side.
        """
        made = self._mask(points)
        if made is None:
            return
        mask, box = made
        if isinstance(fabric, Fabric):
            fill, line = self._fill(fabric, box, angle, block), fabric.line
        else:
            fill, line = fabric, edge(fabric)
        self.image.paste(fill, box, mask)
        self._own(mask, box)
        self._shade_shape(mask, box, round_shade, dim)
        if outline:
            xy = self.to_pixels(points)
            self._pens[0].line(
                [*xy.ravel().tolist(), *xy[0].tolist()], fill=line, width=max(1, round(self.unit * 0.45))
            )

    def ghost(self, points: PointsLike) -> None:
        """Counts a shape to what the item has alone, without drawing it: other items cover all of it."""
        made = self._mask(points)
        if made is not None:
            self.alone[self._item].paste(255, made[1], made[0])

    def _own(self, mask: Image.Image, box: Ints) -> None:
        self.ids.paste(self._item, box, mask)
        if self._item:
            self.alone[self._item].paste(255, box, mask)
        if self.marks is not None:
            self.marks.paste(self._mark, box, mask)

    def _shade_shape(self, mask: Image.Image, box: Ints, band: float, dim: int) -> None:
        lit = _LIT - dim
        if not band:
            self.shade.paste(lit, box, mask)
            return
        self.shade.paste(max(0, lit - 38), box, mask)
        shift = max(1, round(band * self.unit))
        self.shade.paste(lit, box, ImageChops.darker(mask, ImageChops.offset(mask, -shift * self.light, -shift // 3)))

    def stroke(self, points: PointsLike, colour: RGB, width: float = 0.6) -> None:
        """Draws a line on top, owned by whatever is below it."""
        xy = self.to_pixels(points).ravel().tolist()
        thick = max(1, round(width * self.unit))
        self._pens[0].line(xy, fill=colour, width=thick, joint="curve")
        if self._mark_pen is not None and self._mark:
            self._mark_pen.line(xy, fill=self._mark, width=thick)

    def dashes(self, points: PointsLike, colour: RGB, width: float = 0.7, dash: float = 2.2) -> None:
        """Draws a dashed line: stitches."""
        line = np.asarray(points, dtype=np.float64)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        starts = np.arange(0.3, max(along[-1] - dash, 0.31), dash * 1.6)
        ends = starts + dash
        first = np.stack([np.interp(starts, along, line[:, 0]), np.interp(starts, along, line[:, 1])], axis=1)
        last = np.stack([np.interp(ends, along, line[:, 0]), np.interp(ends, along, line[:, 1])], axis=1)
        thick = max(1, round(width * self.unit))
        for xy in np.concatenate([self.to_pixels(first), self.to_pixels(last)], axis=1).tolist():
            self._pens[0].line(xy, fill=colour, width=thick)
            if self._mark_pen is not None and self._mark:
                self._mark_pen.line(xy, fill=self._mark, width=thick)

    def dot(self, x: float, y: float, radius: float, colour: RGB) -> None:
        """Draws a small disc on top, owned by whatever is below it."""
        cx, cy = self.to_pixels([[x, y]])[0]
        r = radius * self.unit
        self._pens[0].ellipse((cx - r, cy - r, cx + r, cy + r), fill=colour)
        if self._mark_pen is not None and self._mark:
            self._mark_pen.ellipse((cx - r, cy - r, cx + r, cy + r), fill=self._mark)

    def fold(self, points: PointsLike, width: float = 1.6, strength: int = 34) -> None:
        """Draws a soft fold: a darker line that the final blur melts into the cloth."""
        xy = self.to_pixels(smooth(points, steps=4)).ravel().tolist()
        self._pens[1].line(xy, fill=_LIT - strength, width=max(1, round(width * self.unit)))

    def finish(self, gains: Sequence[float]) -> Image.Image:
        """Returns the finished picture, shaded and in the light of `gains` (red, green, blue factors about 1)."""
        shade = self.shade.reduce(OVERSAMPLE).filter(ImageFilter.BoxBlur(1.1 * self.size / 224))
        picture = ImageChops.multiply(self.image.reduce(OVERSAMPLE), Image.merge("RGB", (shade, shade, shade)))
        table = [min(255, round(v * gain * 255 / _LIT)) for gain in gains for v in range(256)]
        return picture.point(table)

    def owners(self) -> np.ndarray:
        """Returns the number of the item on top of each pixel: uint8, (size, size).

        Specks go to what surrounds them: along an edge, single half covered pixels would stretch boxes. In small
        pictures an item of which only a speck is left keeps it.
        """
        fine = np.asarray(self.ids)
        owners = fine[1::OVERSAMPLE, 1::OVERSAMPLE].copy()
        rows, columns = np.flatnonzero(owners.any(axis=1)), np.flatnonzero(owners.any(axis=0))
        worn = owners[max(rows[0] - 1, 0) : rows[-1] + 2, max(columns[0] - 1, 0) : columns[-1] + 2]
        for _ in range(2):
            _without_specks(worn)
        seen = np.bincount(owners.ravel(), minlength=256)
        for number in self.alone:
            if not seen[number]:
                for y, x in np.argwhere(fine == number) // OVERSAMPLE:
                    owners[y, x] = number
        return owners

    def mark_pixels(self) -> Counter[tuple[int, str]]:
        """Returns (item, part) -> its visible pixels, if marks were kept."""
        assert self.marks is not None and len(self.mark_names) < 256
        counts: Counter[tuple[int, str]] = Counter()
        for number, pixels in enumerate(np.bincount(np.asarray(self.marks)[1::OVERSAMPLE, 1::OVERSAMPLE].ravel())):
            counts[self.mark_names[number]] += int(pixels)
        return counts

    def area_alone(self, number: int) -> int:
        """Returns how many pixels item `number` would have if nothing covered it."""
        return int(np.count_nonzero(np.asarray(self.alone[number])[1::OVERSAMPLE, 1::OVERSAMPLE]))


def _without_specks(owners: np.ndarray) -> None:
    """Gives pixels with at most one neighbour of their own item to the most frequent of their neighbours, in place."""
    padded = np.pad(owners, 1, mode="edge")
    height, width = owners.shape
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3) if (x, y) != (1, 1)]
    alike = np.zeros(owners.shape, dtype=np.uint8)
    for neighbour in around:
        alike += neighbour == owners
    for y, x in np.argwhere((alike < 2) & (owners > 0)):
        owners[y, x] = np.bincount([neighbour[y, x] for neighbour in around]).argmax()
