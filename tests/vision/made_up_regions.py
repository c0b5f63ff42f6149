"""Pictures for tests of regions, and the numbers of the items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEAD, TOP, BOTTOM, SHOES = range(4)


def photo(height: int = 100, width: int = 60, ground: tuple[int, int, int] = (244, 245, 243)) -> NDArray[np.uint8]:
    """A dark figure with a light print, rows 20..80 and columns 20..40, on a nearly plain ground."""
    noise = np.random.default_rng(0).integers(-2, 3, (height, width, 3))
    pixels = np.clip(np.array(ground) + noise, 0, 255).astype(np.uint8)
    pixels[20:80, 20:40] = (30, 40, 90)
    pixels[40:50, 25:35] = ground
    return pixels


def blank(height: int = 50, width: int = 30) -> NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)
