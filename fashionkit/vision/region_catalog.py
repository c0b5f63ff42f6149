"""Regions that a catalogue knows: the masks of its items, or their boxes.

image id ──► items of the picture ──► region of each ──► PLACES ──► (K, H, W) bool
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_mask
from fashionkit.tables import InputError
from fashionkit.vision.region_base import ITEMS, Masks, Picture, check_places, digest, pixels_of, resized_masks

# The items that a region of the ontology counts for. Bags and what is worn on hands and wrists belong to none.
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "head": ("head",), "eyes": ("head",), "ears": ("head",),
    "top": ("top",), "outer": ("top",), "neck": ("top",),
    "bottom": ("bottom",), "legs": ("bottom",), "waist": ("bottom",),
    "full_body": ("top", "bottom"),
    "feet": ("shoes",),
}  # fmt: skip


class CatalogRegions:
    """Masks of a catalogue's items, or their boxes where there is no mask; a dress counts for top and bottom.

    An item's region is the one in its row, else its category's in the ontology. Items that are nowhere (no box) or
    whose region counts for none of `items` leave no trace.

    Args:
        catalog: Where the items are: a catalogue, or its folder. places: The items that each region counts for.
        items: K names, in the order of the masks.

    Raises:
        InputError: No catalogue; or `places` names something that is no item.
    """

    def __init__(
        self,
        catalog: Catalog | str | Path,
        places: Mapping[str, tuple[str, ...]] = PLACES,
        items: Sequence[str] = ITEMS,
    ):
        check_places(places, "region", items)
        catalog = Catalog(catalog) if isinstance(catalog, str | Path) else catalog
        self.catalog, self.places, self.items = catalog, dict(places), tuple(items)
        settings = [sorted(self.places.items()), *([self.items] if self.items != ITEMS else [])]
        self.key = f"catalog/{catalog.manifest.content_hash()[:16]}/{digest(*settings)}"
        images = catalog.table("images", ["image_id", "width", "height"]).to_pydict()
        sizes = zip(images["height"], images["width"], strict=True)
        self._sizes: dict[str, tuple[int | None, int | None]] = dict(zip(images["image_id"], sizes, strict=True))
        self._items = catalog.table("items", ["item_id", "image_id", "category", "region", "box", "mask"])
        self._rows: dict[str, list[int]] = {}
        for row, image_id in enumerate(self._items["image_id"].to_pylist()):
            self._rows.setdefault(image_id, []).append(row)

    def regions(self, image: Picture, image_id: str) -> Masks:
        """As `RegionProvider`; a picture that was resized as a whole gets its masks resized alike.

        Raises:
            InputError: An unknown id, a picture of another shape than the catalogue's, or a mask that is broken.
        """
        height, width = pixels_of(image).shape[:2]
        tall, wide = self._size(image_id, (height, width))
        if abs(tall * width - wide * height) > max(tall, wide, height, width):  # more than rounding the sides explains
            raise InputError(
                f"the picture {image_id!r} has {width} x {height} pixels and in the catalogue {wide} x {tall}",
                file=self.catalog.path,
                hint="masks fit whole pictures; crop both of them together, after this",
            )
        masks = np.zeros((len(self.items), tall, wide), bool)
        rows = np.array(self._rows.get(image_id, []), np.int64)
        for item in self._items.take(rows).to_pylist():
            region = item["region"] or self.catalog.ontology.region_of(item["category"])
            for name in self.places.get(region or "", ()):
                self._paint(masks[self.items.index(name)], item)
        return resized_masks(masks, height, width)

    def canvas(self, image_id: str) -> NDArray[np.uint8]:
        """A black (H, W, 3) that takes no memory: stands in for the picture where only its size matters."""
        height, width = self._size(image_id, (None, None))
        return np.broadcast_to(np.uint8(0), (height, width, 3))

    def _size(self, image_id: str, otherwise: tuple[int | None, int | None]) -> tuple[int, int]:
        if image_id not in self._sizes:
            hint = "pictures are found by their ids in the catalogue; in Python, ids= names one for each picture"
            raise InputError("no such picture in the catalogue", file=self.catalog.path, found=image_id, hint=hint)
        known = self._sizes[image_id]
        height, width = otherwise if None in known else known
        if height is None or width is None:
            raise InputError("the catalogue does not know how large this is", file=self.catalog.path, found=image_id)
        return height, width

    def _paint(self, mask: Masks, item: dict[str, Any]) -> None:
        """Sets an item's pixels in a (H, W) mask."""
        box, height, width = item["box"], *mask.shape
        if box is None or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
            return
        left, top = math.floor(box[0]), math.floor(box[1])
        right, bottom = math.ceil(box[0] + box[2]), math.ceil(box[1] + box[3])
        size = (bottom - top, right - left)
        shape = np.broadcast_to(True, size) if item["mask"] is None else self._decoded(item, size)
        rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
        if rows.start < rows.stop and columns.start < columns.stop:  # a box may reach over the picture's edge
            mask[rows, columns] |= shape[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def _decoded(self, item: dict[str, Any], size: tuple[int, int]) -> Masks:
        try:
            mask = open_mask(item["mask"]) > 0
        except PictureError as error:
            raise InputError(
                f"the mask of item {item['item_id']!r} is broken: {error}", file=self.catalog.path, column="mask"
            ) from error
        if mask.shape != size:
            problem = f"the mask of item {item['item_id']!r} has another size than its box"
            raise InputError(problem, file=self.catalog.path, column="mask", found=mask.shape, allowed=[str(size)])
        return mask
