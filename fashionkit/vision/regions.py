"""Where the items of a picture are: one mask each for head, top, bottom and shoes, from any source.

    picture, image id ──► provider ──► (4, H, W) bool ──► MaskCache: compressed bits on disk
                             │
          BandRegions, ForegroundBands     need no model
          CatalogRegions                   what a catalogue knows
          RandomRegions, ShuffledRegions   controls: do gains come from the regions at all?

The four items are IRSN's (Choi, Kwon, Kim, Applied Intelligence 2024). Bands, the estimate of a plain background and
the controls are our own. A provider's `key` names it with its settings, so that a cache never mixes two.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_mask
from fashionkit.tables import InputError, write_atomic

ITEMS: Final = ("head", "top", "bottom", "shoes")
# The items that a region of the ontology counts for. Bags and what is worn on hands and wrists belong to none.
PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "head": ("head",), "eyes": ("head",), "ears": ("head",),
    "top": ("top",), "outer": ("top",), "neck": ("top",),
    "bottom": ("bottom",), "legs": ("bottom",), "waist": ("bottom",),
    "full_body": ("top", "bottom"),
    "feet": ("shoes",),
}  # fmt: skip
BANDS: Final = ((0.0, 0.16), (0.16, 0.52), (0.45, 0.92), (0.92, 1.0))  # of a standing figure, from the top down

Array = NDArray[Any]
Masks = NDArray[np.bool_]
Picture = Image.Image | NDArray[np.uint8]
Bands = Sequence[tuple[float, float]]


class RegionProvider(Protocol):
    """Finds the items of a picture."""

    @property
    def key(self) -> str:
        """The provider and every setting that changes a mask."""

    def regions(self, image: Picture, image_id: str) -> Masks:
        """(4, H, W) bool of the picture's size, in the order of `ITEMS`; nothing is set for an item not seen.

        Args:
            image: A PIL picture or (H, W, 3) uint8. image_id: Its id, for providers that look things up.

        Raises:
            ValueError: No such picture; `InputError` for an id the provider does not know.
        """


class Foreground(Protocol):
    """Finds what a picture shows in front of its background, by whatever means."""

    @property
    def key(self) -> str:
        """The means and every setting that changes a mask."""

    def __call__(self, pixels: NDArray[np.uint8]) -> Masks:
        """(H, W) bool of (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class BandRegions:
    """Fixed bands across the picture: what is left where nothing better is known.

    Args:
        bands: Upper and lower end for each of `ITEMS`, as shares of the height. width: Share kept around the middle.
    """

    bands: Bands = BANDS
    width: float = 1.0

    def __post_init__(self) -> None:
        _check_bands(self.bands)
        if not 0 < self.width <= 1:
            raise ValueError(f"the width is a share above 0 and up to 1; got {self.width}")

    @property
    def key(self) -> str:
        return f"bands/{_digest(_plain(self.bands), self.width)}"

    def regions(self, image: Picture, image_id: str) -> Masks:
        height, width = pixels_of(image).shape[:2]
        masks = _bands(self.bands, height, width, 0, height)
        margin = round(width * (1 - self.width) / 2)
        masks[:, :, :margin], masks[:, :, width - margin :] = False, False
        return masks


@dataclass(frozen=True)
class BorderForeground:
    """Foreground of a photo on a plain background, without a model: all that differs from the colour of the border.

    The background is what looks like the border's median colour and touches the border, so that a white shirt's print
    does not turn its white into background. Meant for product photos; a street has no plain background.

    Args:
        tolerance: Least and largest distance in CIELAB (CIE 1976) up to which a colour is the border's. In between it
            is three times the border's own median distance, so that white shoes stand out from pure white, and a wall
            may have its shadows.
        border: Its width, a share of the shorter side. side: Larger pictures are worked on at this size.
    """

    tolerance: tuple[float, float] = (4.0, 12.0)
    border: float = 0.03
    side: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.tolerance[0] <= self.tolerance[1] or not 0 < self.border < 0.5 or self.side < 1:
            raise ValueError(f"a tolerance (least, largest), a border below 0.5 and a side are needed; got {self}")

    @property
    def key(self) -> str:
        return f"border/{_digest(_plain([self.tolerance]), self.border, self.side)}"

    def __call__(self, pixels: NDArray[np.uint8]) -> Masks:
        import cv2

        height, width = pixels.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        lab = lab_of(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX)))  # (h, w, 3)
        edge = np.ones(lab.shape[:2], bool)
        thick = max(1, round(self.border * min(size)))
        edge[thick:-thick, thick:-thick] = False
        far = np.linalg.norm(lab - np.median(lab[edge], axis=0), axis=2)  # (h, w)
        alike = far <= np.clip(3 * np.median(far[edge]), *self.tolerance)  # (h, w)
        _, part = cv2.connectedComponents(alike.astype(np.uint8), connectivity=4)
        touching = np.unique(part[edge & alike])
        found = ~(alike & np.isin(part, touching))  # (h, w)
        return _resized(found[None], height, width)[0]


@dataclass(frozen=True)
class ForegroundBands:
    """Bands inside the foreground, between its highest and its lowest pixel; plain bands where there is none.

    Args:
        foreground: Finds the foreground. bands: As in `BandRegions`, but of the foreground's height.
        least: Share of the picture below which there is no foreground.
    """

    foreground: Foreground = field(default_factory=BorderForeground)
    bands: Bands = BANDS
    least: float = 0.01

    def __post_init__(self) -> None:
        _check_bands(self.bands)

    @property
    def key(self) -> str:
        return f"foreground/{self.foreground.key}/{_digest(_plain(self.bands), self.least)}"

    def regions(self, image: Picture, image_id: str) -> Masks:
        pixels = pixels_of(image)
        height, width = pixels.shape[:2]
        found = self.foreground(pixels)
        if found.shape != (height, width) or found.dtype != np.bool_:
            raise ValueError(f"a foreground is a bool mask of {(height, width)}; got {found.dtype} {found.shape}")
        if found.mean() < max(self.least, 1 / found.size):
            return _bands(self.bands, height, width, 0, height)
        rows = np.flatnonzero(found.any(axis=1))
        return _bands(self.bands, height, width, int(rows[0]), int(rows[-1]) + 1) & found


class CatalogRegions:
    """Masks of a catalogue's items, or their boxes where there is no mask; a dress counts for top and bottom.

    An item's region is the one in its row, else its category's in the ontology. Items that are nowhere (no box) or
    whose region counts for none of `ITEMS` leave no trace.

    Args:
        catalog: Where the items are. places: The items that each region counts for.

    Raises:
        InputError: `places` names something that is no item.
    """

    def __init__(self, catalog: Catalog, places: Mapping[str, tuple[str, ...]] = PLACES):
        for region, names in places.items():
            for name in set(names) - set(ITEMS):
                raise InputError(f"the region {region!r} counts for no such item", found=name, allowed=ITEMS)
        self.catalog, self.places = catalog, dict(places)
        self.key = f"catalog/{catalog.manifest.content_hash()[:16]}/{_digest(sorted(self.places.items()))}"
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
        masks = np.zeros((len(ITEMS), tall, wide), bool)
        rows = np.array(self._rows.get(image_id, []), np.int64)
        for item in self._items.take(rows).to_pylist():
            region = item["region"] or self.catalog.ontology.region_of(item["category"])
            for name in self.places.get(region or "", ()):
                self._paint(masks[ITEMS.index(name)], item)
        return _resized(masks, height, width)

    def canvas(self, image_id: str) -> NDArray[np.uint8]:
        """A black (H, W, 3) that takes no memory: stands in for the picture where only its size matters."""
        height, width = self._size(image_id, (None, None))
        return np.broadcast_to(np.uint8(0), (height, width, 3))

    def _size(self, image_id: str, otherwise: tuple[int | None, int | None]) -> tuple[int, int]:
        if image_id not in self._sizes:
            raise InputError("no such picture in the catalogue", file=self.catalog.path, found=image_id)
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


@dataclass(frozen=True)
class RandomRegions:
    """A control: each mask of another provider, moved to a random place. Shape and area stay, to the pixel.

    What leaves the picture on one side comes in on the other, so that large items move as freely as small ones. The
    place depends on seed, image id and item alone.
    """

    provider: RegionProvider
    seed: int = 0

    @property
    def key(self) -> str:
        return f"random/{self.seed}/{self.provider.key}"

    def regions(self, image: Picture, image_id: str) -> Masks:
        masks = self.provider.regions(image, image_id)
        moved = np.empty_like(masks)
        for number, name in enumerate(ITEMS):
            down, right = (_drawn(self.seed, image_id, name, axis) % masks.shape[axis] for axis in (1, 2))
            moved[number] = np.roll(masks[number], (down, right), axis=(0, 1))
        return moved


class ShuffledRegions:
    """A control: the masks of another picture, stretched to this one.

    The pictures stand in one circle in an order that depends on the seed and the set of ids alone; each gets its
    neighbour's masks. So every picture's masks are used once, and never on itself.

    Args:
        provider: Whose masks. ids: All pictures to be shuffled among each other, two or more. seed: Of the order.
        image_of: A picture by its id, since the provider may have to look at it; `CatalogRegions.canvas` where it does
            not.

    Raises:
        InputError: Fewer than two ids, or one twice.
    """

    def __init__(self, provider: RegionProvider, ids: Sequence[str], seed: int, image_of: Callable[[str], Picture]):
        if len(ids) < 2 or len(set(ids)) < len(ids):
            raise InputError("masks are shuffled among two pictures or more, each named once", found=list(ids)[:9])
        self.provider, self.image_of = provider, image_of
        circle = sorted(ids, key=lambda name: (_drawn(seed, name, "order", 0), name))
        self._other = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
        self.key = f"shuffled/{seed}/{_digest(sorted(ids))}/{provider.key}"

    def other(self, image_id: str) -> str:
        """Whose masks a picture gets."""
        if image_id not in self._other:
            raise InputError("this picture is not among the shuffled ones", found=image_id)
        return self._other[image_id]

    def regions(self, image: Picture, image_id: str) -> Masks:
        other = self.other(image_id)
        return _resized(self.provider.regions(self.image_of(other), other), *pixels_of(image).shape[:2])


class MaskCache:
    """Masks on disk, one small file a picture and provider: bits, compressed, with a checksum.

    Files are whole or absent, and several processes may share the folder. What is damaged is made again.

    Args:
        folder: Where the files are; made when needed.
    """

    MAGIC: Final = b"fkmask1\n"

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def regions(self, provider: RegionProvider, image: Picture, image_id: str, sha256: str | None = None) -> Masks:
        """`provider.regions`, worked out once.

        Args:
            provider: Whose masks. image: The picture. image_id: Its id.
            sha256: Of its encoded bytes, where known; otherwise its pixels are hashed.

        Returns:
            (4, H, W) bool.
        """
        size = pixels_of(image).shape[:2]
        path = self.path(provider, sha256 or hashlib.sha256(pixels_of(image).tobytes()).hexdigest(), image_id, size)
        masks = self._read(path, (len(ITEMS), *size))
        if masks is None:
            masks = provider.regions(image, image_id)
            assert masks.shape == (len(ITEMS), *size) and masks.dtype == np.bool_, f"{provider.key} broke its promise"
            packed = zlib.compress(np.packbits(masks).tobytes(), 6)
            data = self.MAGIC + hashlib.sha256(packed).digest() + packed
            write_atomic(path, lambda temporary: temporary.write_bytes(data), sync=False)
        return masks

    def path(self, provider: RegionProvider, sha256: str, image_id: str, size: tuple[int, ...]) -> Path:
        """The file of a picture. The id counts, as some providers go by it and equal pictures may have two."""
        name = _digest(provider.key, sha256, image_id, size)
        return self.folder / name[:2] / f"{name}.masks"

    def _read(self, path: Path, shape: tuple[int, ...]) -> Masks | None:
        """None where there is no file, or none that is whole."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        begin = len(self.MAGIC) + 32
        digest, packed = data[len(self.MAGIC) : begin], data[begin:]
        if not data.startswith(self.MAGIC) or hashlib.sha256(packed).digest() != digest:
            return None
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)


def pixels_of(image: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a picture.

    Raises:
        ValueError: An array of another shape or type, or without a pixel.
    """
    pixels = np.asarray(image if isinstance(image, np.ndarray) or image.mode == "RGB" else image.convert("RGB"))
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"a picture is (H, W, 3) uint8 RGB; got {pixels.dtype} {pixels.shape}")
    return pixels


def lab_of(pixels: NDArray[np.uint8]) -> Array:
    """(H, W, 3) CIELAB (D65) of sRGB uint8: L 0..100, a and b about -100..100; after IEC 61966-2-1 and CIE 1976."""
    linear = pixels / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T  # white is (1, 1, 1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, 2, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=2)


def _bands(bands: Bands, height: int, width: int, top: int, bottom: int) -> Masks:
    """Bands between two rows of a picture."""
    masks = np.zeros((len(ITEMS), height, width), bool)
    for mask, (begin, end) in zip(masks, bands, strict=True):
        mask[top + round(begin * (bottom - top)) : top + round(end * (bottom - top))] = True
    return masks


def _check_bands(bands: Bands) -> None:
    if len(bands) != len(ITEMS) or not all(0 <= begin < end <= 1 for begin, end in bands):
        raise ValueError(f"each of {', '.join(ITEMS)} has a band (begin, end) within 0..1; got {bands}")


def _plain(bands: Bands) -> list[tuple[float, float]]:
    """Bands as they go into a key: the same for lists and tuples, 0 and 0.0."""
    return [(float(begin), float(end)) for begin, end in bands]


def _resized(masks: Masks, height: int, width: int) -> Masks:
    """(K, h, w) masks at another size, each pixel the one nearest to its middle."""
    rows = ((np.arange(height) + 0.5) * masks.shape[1] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * masks.shape[2] / width).astype(np.int64)
    return masks if masks.shape[1:] == (height, width) else masks[:, rows[:, None], columns]


def _digest(*settings: object) -> str:
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:24]


def _drawn(seed: int, image_id: str, what: str, axis: int) -> int:
    """64 random bits that depend on their name alone, never on what was drawn before."""
    name = repr((seed, image_id, what, axis)).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
