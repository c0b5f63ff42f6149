"""Pictures in whatever form they come, a batch at a time: listed, opened and prepared while the network has the last.

images ─► `listed` ─► `batches` ─┬─► rows, prepared pictures ─► network
                                 └─► broken ones: an error that names its index, or left out
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from fashionkit.catalog.images import PictureError
from fashionkit.engine.ahead import ahead
from fashionkit.tables import InputError
from fashionkit.vision.pictures import as_picture

P = TypeVar("P")
ON_ERROR = ("raise", "skip")


def is_one(images: object) -> bool:
    """Whether this is one picture, and not several."""
    if isinstance(images, np.ndarray | Tensor):  # a batch of pictures or a column of paths is several
        return images.ndim not in (1, 4)
    one = isinstance(images, str | bytes | bytearray | memoryview) or hasattr(images, "read")
    return one or not isinstance(images, Iterable)


def listed(images: Sequence[object] | object, on_error: str) -> list[object]:
    """All pictures as a list.

    Args:
        images: One or several. on_error: Of ON_ERROR.

    Raises:
        InputError: Broken pictures cannot be treated so.
    """
    if on_error not in ON_ERROR:
        raise InputError("cannot treat broken pictures so", found=on_error, allowed=ON_ERROR)
    return list(images) if isinstance(images, Iterable) and not is_one(images) else [images]


def batches(
    images: Sequence[object],
    size: int,
    prepare: Callable[[list[int], list[Image.Image]], list[P]],
    on_error: str,
    broken: dict[int, PictureError],
) -> Iterator[tuple[list[int], list[P]]]:
    """Rows of pictures that could be read, and what `prepare` made of them, so many at a time.

    Args:
        images: As `listed`. size: Of a batch. prepare: Of rows and opened pictures; it runs in a thread.
        on_error: With `skip`, pictures that cannot be read are left out. broken: Gets them: row → why.

    Raises:
        InputError: A picture cannot be read; the error names its index.
    """

    def load(rows: range) -> tuple[dict[int, PictureError], list[int], list[P]]:
        wrong, pictures = {}, {}
        for row in rows:
            try:
                pictures[row] = read_picture(images[row])
            except PictureError as error:
                wrong[row] = error
        good = list(pictures)
        return wrong, good, prepare(good, list(pictures.values())) if good else []

    parts = (range(lo, min(lo + size, len(images))) for lo in range(0, len(images), size))
    for wrong, rows, prepared in ahead(load, parts):
        for row, error in wrong.items():
            check_broken(row, error, on_error)
        broken |= wrong
        if rows:
            yield rows, prepared


def check_broken(number: int, error: PictureError, on_error: str) -> None:
    """Raises an InputError of a broken picture unless it is to be left out."""
    if on_error == "raise":
        hint = 'on_error="skip" leaves broken pictures out'
        raise InputError(f"picture {number}: {error}", hint=hint) from error


def read_picture(image: object) -> Image.Image:
    """As `as_picture`; a folder is told from a file that is not there.

    Raises:
        PictureError: It cannot be read.
    """
    if isinstance(image, str | Path) and os.path.isdir(image):
        raise PictureError("image_missing", f"{image}: this is a folder; name its pictures")
    return as_picture(image)


def mask_of(broken: dict[int, PictureError], count: int) -> npt.NDArray[np.bool_]:
    """(count,) bool, true where a picture was broken."""
    found = np.zeros(count, bool)
    found[list(broken)] = True
    return found
