"""What every source of item regions shares: the items, the contracts, and bands, which need nothing else.

    picture, image id ──► RegionProvider ──► (4, H, W) bool, in the order of ITEMS
    pixels ──► Foreground ──► (H, W) bool

The four items are IRSN's (Choi, Kwon, Kim, Applied Intelligence 2024); the bands are our own. What users import is in
`fashionkit.vision.regions`.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionkit.tables import InputError

ITEMS: Final = ("head", "top", "bottom", "shoes")
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
        check_bands(self.bands)
        if not 0 < self.width <= 1:
            raise ValueError(f"the width is a share above 0 and up to 1; got {self.width}")

    @property
    def key(self) -> str:
        return f"bands/{digest(plain_bands(self.bands), self.width)}"

    def regions(self, image: Picture, image_id: str) -> Masks:
        height, width = pixels_of(image).shape[:2]
        masks = bands_between(self.bands, height, width, 0, height)
        margin = round(width * (1 - self.width) / 2)
        masks[:, :, :margin], masks[:, :, width - margin :] = False, False
        return masks


def regions_of(provider: RegionProvider, images: Sequence[Picture], image_ids: Sequence[str]) -> list[Masks]:
    """The masks of several pictures, in one pass where the provider has a method `batch`, else one by one."""
    if len(images) != len(image_ids):
        raise ValueError(f"one id is needed for each picture; got {len(image_ids)} ids, {len(images)} pictures")
    batch = getattr(provider, "batch", None)
    if batch is None:
        return [provider.regions(image, image_id) for image, image_id in zip(images, image_ids, strict=True)]
    return list(batch(images, image_ids))


def pixels_of(image: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a picture.

    Raises:
        ValueError: An array of another shape or type, or without a pixel.
    """
    pixels = np.asarray(image if isinstance(image, np.ndarray) or image.mode == "RGB" else image.convert("RGB"))
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"a picture is (H, W, 3) uint8 RGB; got {pixels.dtype} {pixels.shape}")
    return pixels


def bands_between(bands: Bands, height: int, width: int, top: int, bottom: int) -> Masks:
    """Bands between two rows of a picture."""
    masks = np.zeros((len(ITEMS), height, width), bool)
    for mask, (begin, end) in zip(masks, bands, strict=True):
        mask[top + round(begin * (bottom - top)) : top + round(end * (bottom - top))] = True
    return masks


def check_places(places: Mapping[str, Sequence[str]], what: str, allowed: Sequence[str] = ITEMS) -> None:
    """A table of names (regions, prompts, labels) and the items that each counts for has items in it only.

    Raises:
        InputError: It names something that is no item, or a text stands where a list of items must.
    """
    for name, items in places.items():
        for item in [items] if isinstance(items, str) else items:
            if isinstance(items, str) or item not in allowed:
                problem = f"the {what} {name!r} counts for no such item"
                raise InputError(problem, found=item, allowed=allowed, hint="a list of items stands beside each name")


def check_bands(bands: Bands) -> None:
    """Raises ValueError where a band is missing, empty or outside 0..1."""
    if len(bands) != len(ITEMS) or not all(0 <= begin < end <= 1 for begin, end in bands):
        raise ValueError(f"each of {', '.join(ITEMS)} has a band (begin, end) within 0..1; got {bands}")


def plain_bands(bands: Bands) -> list[tuple[float, float]]:
    """Bands as they go into a key: the same for lists and tuples, 0 and 0.0."""
    return [(float(begin), float(end)) for begin, end in bands]


def resized_masks(masks: Masks, height: int, width: int) -> Masks:
    """(K, h, w) masks at another size, each pixel the one nearest to its middle."""
    rows = ((np.arange(height) + 0.5) * masks.shape[1] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * masks.shape[2] / width).astype(np.int64)
    return masks if masks.shape[1:] == (height, width) else masks[:, rows[:, None], columns]


def digest(*settings: object) -> str:
    """24 hex digits that stand for settings in a key."""
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:24]


def needed(module: str, extra: str) -> ModuleType:
    """A module that only some users have.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        hint = f'pip install "fashionkit[{extra}]"'
        raise InputError(f"{module} is needed for this and cannot be imported", found=error, hint=hint) from error


def said_by(error: Exception) -> str:
    """The kind and the first line of an error of someone else's."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
