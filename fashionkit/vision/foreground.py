"""What stands in front of a plain background, without a model; and bands inside whatever was found so.

    pixels ──► colour of the border ──► what differs from it ──► (H, W) bool ──► bands from its top to its bottom

Both are our own. Masks by networks, for photos with any background, are in `foreground_models`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionkit.vision.region_base import (
    BANDS,
    Array,
    Bands,
    Foreground,
    Masks,
    Picture,
    bands_between,
    check_bands,
    digest,
    pixels_of,
    plain_bands,
    resized_masks,
)


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
        return f"border/{digest(plain_bands([self.tolerance]), self.border, self.side)}"

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
        return resized_masks(found[None], height, width)[0]


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
        check_bands(self.bands)

    @property
    def key(self) -> str:
        return f"foreground/{self.foreground.key}/{digest(plain_bands(self.bands), self.least)}"

    def regions(self, image: Picture, image_id: str) -> Masks:
        pixels = pixels_of(image)
        height, width = pixels.shape[:2]
        found = self.foreground(pixels)
        if found.shape != (height, width) or found.dtype != np.bool_:
            raise ValueError(f"a foreground is a bool mask of {(height, width)}; got {found.dtype} {found.shape}")
        if found.mean() < max(self.least, 1 / found.size):
            return bands_between(self.bands, height, width, 0, height)
        rows = np.flatnonzero(found.any(axis=1))
        return bands_between(self.bands, height, width, int(rows[0]), int(rows[-1]) + 1) & found


def lab_of(pixels: NDArray[np.uint8]) -> Array:
    """(H, W, 3) CIELAB (D65) of sRGB uint8: L 0..100, a and b about -100..100; after IEC 61966-2-1 and CIE 1976."""
    linear = pixels / 255.0
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T  # white is (1, 1, 1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, 2, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=2)
