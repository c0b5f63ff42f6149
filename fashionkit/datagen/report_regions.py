"""The pictures of samples, with the regions that their questions speak of.

    sample ─► its program, run on the scene ─► item rows that each clause set selects ─► boxes and masks ─┐
    catalogue ─► bytes ─► decoded, upright ─► small JPEG ────────────────────────────────────────────────┴─► Seen

What is marked follows the program: the item that a `unique` singles out, the items that `exist` and `count` find. Where
no item satisfies all clauses, those that satisfy the first of them are marked with a broken line: for "is there a red
skirt?" with the answer no, the skirt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_mask, open_picture
from fashionkit.datagen.expression import Call, Slot
from fashionkit.datagen.program import Batch, Items, Runner
from fashionkit.datagen.scene import Scenes, load_scenes
from fashionkit.datagen.store import VQAStore
from fashionkit.report.pictures import Region, small_jpeg
from fashionkit.tables import InputError

SIZES = ((400, 82), (400, 72), (340, 70), (280, 66), (220, 60))  # side and quality, tried until all fit
_BUDGET = 9_500_000  # bytes of all JPEGs together: with the rest of the page below 15 MB as base64


@dataclass(frozen=True)
class Seen:
    """A sample's picture.

    Attributes:
        jpeg: Small; None where there is no picture, and `why` says so. width, height: Of the whole picture, in pixels.
        regions: What to draw, in pixels of the whole picture.
    """

    jpeg: bytes | None
    why: str
    width: int
    height: int
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Mark:
    """Items that a part of a program speaks of: their rows in the scenes; `near` where they satisfy it only in part."""

    rows: tuple[int, ...]
    near: bool


class Pointer(Runner):
    """Runs a program on one picture and says which items it speaks of."""

    def marks(self, program: Call) -> list[Mark]:
        """A mark for each different clause set that the program asks about, in the order of its parts."""
        found: dict[Call, Mark] = {}
        for call in program.calls():
            if call.function in ("unique", "exist", "count"):
                clauses = call.arguments[0]
                assert isinstance(clauses, Call)
                found[clauses] = self._mark(clauses)
        return [mark for mark in found.values() if mark.rows]

    def _mark(self, clauses: Call) -> Mark:
        rows, whole = self._rows(clauses), clauses
        while not rows and clauses.function == "filter":
            inner = clauses.arguments[0]
            assert isinstance(inner, Call)
            if inner.function == "scene":
                break
            clauses = inner
            rows = self._rows(clauses)
        return Mark(rows, clauses is not whole)

    def _rows(self, clauses: Call) -> tuple[int, ...]:
        """Item rows that satisfy the clauses for sure."""
        items = self._run(clauses)
        assert isinstance(items, Items)
        sure = int(self._halves(items.mask)[0][0])
        start = int(self.s.start[self.b.image[0]])
        return tuple(start + bit for bit in range(sure.bit_length()) if sure >> bit & 1)


class Album:
    """The pictures and regions of one catalogue.

    Args:
        store: The question set. path: The catalogue it was made from.

    Raises:
        InputError: Another catalogue, or one that the set's ids do not fit.
    """

    def __init__(self, store: VQAStore, path: str | Path):
        self.store, self.catalog = store, store.catalog(path)
        self.scenes: Scenes = load_scenes(path)
        if self.scenes.vocab.key != store.vocab.key or self.scenes.image_ids != store.image_ids:
            hint = "make the question set again"
            raise InputError(
                "this version numbers the catalogue's words or pictures in another way", file=path, hint=hint
            )

    def see(self, samples: Sequence[dict[str, Any]]) -> dict[int, Seen]:
        """`qid` → what to show, for samples as `report.gather` describes them."""
        ids = sorted({s["image_id"] for s in samples})
        pictures = {i: _opened(data) for i, data in self.catalog.image_bytes(ids).items()}
        marks = {s["qid"]: self.marks(s) for s in samples}
        shapes = _shapes(self.catalog, ids)
        uses = [s["image_id"] for s in samples]
        jpegs = _fitting({i: p for i, (p, _, _) in pictures.items() if p is not None}, uses)
        found = {}
        for s in samples:
            opened = pictures.get(s["image_id"], (None, "no picture in the catalogue", (0, 0)))
            regions = self._regions(marks[s["qid"]], shapes)
            found[s["qid"]] = Seen(jpegs.get(s["image_id"]), opened[1], *opened[2], regions)
        return found

    def marks(self, sample: dict[str, Any]) -> list[Mark]:
        """The items that a sample speaks of."""
        slots = {name: np.array([number], np.uint16) for name, number in sample["ids"].items()}
        template = self.store.pack.templates[sample["template_row"]]
        calls = (c for c in template.program.calls() if c.function == "filter")
        for slot in (a for c in calls for a in c.arguments if isinstance(a, Slot)):
            number = slots[slot.name][0]
            if number >= len(self.scenes.clause) or self.scenes.clause[number] < 0:
                problem = f"the sample with qid {sample['qid']} names something that no picture has"
                raise InputError(problem, file=self.store.path, column=slot.name, found=int(number))
        return Pointer(self.scenes, Batch(np.array([sample["image"]], np.int32), slots)).marks(template.program)

    def _regions(self, marks: list[Mark], shapes: dict[str, tuple[Any, Any]]) -> tuple[Region, ...]:
        s = self.scenes
        found = []
        for colour, mark in enumerate(marks):
            for row in mark.rows:
                box, mask = shapes.get(s.item_ids[row], (None, None))
                found.append(Region(s.vocab.text[s.leaf[row]], colour, box, mask, mark.near))
        return tuple(found)


def _opened(data: bytes | None) -> tuple[Image.Image | None, str, tuple[int, int]]:
    """The picture at most as large as it is shown, why there is none, and its whole size."""
    if data is None:
        return None, "no picture in the catalogue", (0, 0)
    try:
        image = open_picture(data)
    except PictureError as error:
        return None, f"damaged picture: {error}", (0, 0)
    size = image.size
    image.thumbnail((SIZES[0][0], SIZES[0][0]))
    return image, "", size


def _fitting(pictures: dict[str, Image.Image], uses: Sequence[str]) -> dict[str, bytes]:
    """JPEGs of all pictures, as large as the budget of a page allows; each counts as often as it is used."""
    jpegs: dict[str, bytes] = {}
    for side, quality in SIZES:
        jpegs = {i: small_jpeg(picture, side, quality) for i, picture in pictures.items()}
        if sum(len(jpegs[i]) for i in uses if i in jpegs) <= _BUDGET:
            break
    return jpegs


def _shapes(catalog: Catalog, image_ids: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """item_id → box (or None) and mask (or None) of the items of some pictures."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = catalog.table("items", ["item_id", "image_id", "box", "mask"])
    table = table.filter(pc.is_in(table["image_id"], pa.array(list(image_ids), pa.string())))
    return {row["item_id"]: _shape(row["box"], row["mask"]) for row in table.to_pylist()}


def _shape(box: list[float] | None, png: bytes | None) -> tuple[Any, NDArray[np.bool_] | None]:
    """A box of finite numbers, and the mask where it can be read and has the box's size."""
    if box is None or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        return None, None
    x, y, width, height = box
    if png is None:
        return (x, y, width, height), None
    size = (math.ceil(y + height) - math.floor(y), math.ceil(x + width) - math.floor(x))
    try:
        mask = open_mask(png) > 0
    except PictureError:
        return (x, y, width, height), None
    return (x, y, width, height), mask if mask.shape == size and mask.any() else None
