"""Pictures changed at random for training: image, masks and boxes move together; all that knows albumentations.

    (H, W, 3) uint8, (K, H, W) masks, (n, 4) boxes ── preset, seeded by (seed, epoch, row) ──► `Augmented`

Random numbers belong to the row and not to the worker that happens to draw it, so a run gives the same pictures for any
number of workers and after a restart. albumentations is frozen at 2.0.8, the last release under a free licence; it asks
the network for newer versions when imported, which is switched off before.

Letters: H, W of the picture, K masks, n boxes before and m after, S side in pixels.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.tables import InputError

Array = npt.NDArray[Any]
VISIBLE = 0.2  # a box of which less is left in the picture is dropped


@dataclass(frozen=True)
class Augmented:
    """What came out.

    Attributes:
        image: (S, S, 3) uint8. masks: (K, S, S) bool.
        boxes: (m, 4) float64 left, top, right, bottom in pixels. kept: (m,) rows of the boxes that were given.
    """

    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float64]
    kept: npt.NDArray[np.int64]


class Augment:
    """A preset of random changes.

    Args:
        preset: One of PRESETS: `product` keeps the whole item, its colours and its upright; `street` crops, turns a
            little and changes the light; `none` only resizes.
        size: Side S of what comes out.
        seed: Of all random numbers.

    Raises:
        InputError: No such preset, or a size below 1.
    """

    def __init__(self, preset: str, size: int, seed: int = 0):
        if preset not in PRESETS:
            raise InputError("no such preset of training transforms", found=preset, allowed=sorted(PRESETS))
        if size < 1:
            raise InputError("pictures need a side of at least 1 pixel", found=size)
        self.preset, self.size, self.seed = preset, size, seed
        self._compose = _composed(PRESETS[preset], size)

    def __call__(
        self, image: Array, row: int, epoch: int = 0, masks: Array | None = None, boxes: Array | None = None
    ) -> Augmented:
        """Changes one picture; equal arguments give equal bytes.

        Args:
            image: (H, W, 3) uint8. row: Of the picture in its data set. epoch: Which time it is seen.
            masks: (K, H, W) bool. boxes: (n, 4) left, top, right, bottom in pixels, 0..W and 0..H.

        Raises:
            ValueError: Masks or boxes do not fit the picture.
        """
        height, width = image.shape[:2]
        masks = np.zeros((0, height, width), bool) if masks is None else masks
        boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes, np.float64)
        if masks.ndim != 3 or masks.shape[1:] != (height, width):
            raise ValueError(f"masks must be (K, {height}, {width}) as their picture, not {masks.shape}")
        if (
            boxes.ndim != 2
            or boxes.shape[1] != 4
            or (boxes < 0).any()
            or (boxes > [width, height, width, height]).any()
        ):
            raise ValueError(f"boxes must be (n, 4) within the picture of {width} x {height} pixels")
        self._compose.set_random_seed(_seed(self.seed, epoch, row))
        found = self._compose(
            image=image, masks=[m.astype(np.uint8) for m in masks], bboxes=boxes, which=np.arange(len(boxes))
        )
        return Augmented(
            np.ascontiguousarray(found["image"]),
            np.stack([*found["masks"]]).astype(bool) if len(masks) else np.zeros((0, self.size, self.size), bool),
            np.asarray(found["bboxes"], np.float64).reshape(-1, 4),
            np.asarray(found["which"], np.int64).reshape(-1),
        )


def _seed(*numbers: int) -> int:
    """32 bits that depend on all of the numbers."""
    return int(np.random.SeedSequence([n & 0xFFFFFFFF for n in numbers]).generate_state(1)[0])


def _composed(preset: Callable[[Any, int], list[Any]], size: int) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports warn about the future of other packages
        import albumentations as A

    boxes = A.BboxParams("pascal_voc", label_fields=["which"], min_visibility=VISIBLE)
    return A.Compose(preset(A, size), bbox_params=boxes)


def _none(A: Any, size: int) -> list[Any]:
    return [A.SmallestMaxSize(size, interpolation=3), A.CenterCrop(size, size)]  # 3: INTER_AREA, the one against moiré


def _product(A: Any, size: int) -> list[Any]:
    """The item stays whole, and its colour is what is to be learnt."""
    return [
        A.RandomResizedCrop((size, size), scale=(0.7, 1.0), ratio=(0.85, 1.18), interpolation=3),
        A.HorizontalFlip(p=0.5),
        A.Affine(rotate=(-8, 8), border_mode=1, p=0.3),  # 1: the edge goes on, white stays white
        A.RandomBrightnessContrast(0.1, 0.1, p=0.3),
    ]


def _street(A: Any, size: int) -> list[Any]:
    """People stand anywhere, in any light."""
    return [
        A.RandomResizedCrop((size, size), scale=(0.4, 1.0), ratio=(0.75, 1.33), interpolation=3),
        A.HorizontalFlip(p=0.5),
        A.Affine(rotate=(-12, 12), shear=(-4, 4), border_mode=1, p=0.3),
        A.ColorJitter(0.25, 0.25, 0.2, 0.02, p=0.6),
        A.GaussianBlur((3, 5), p=0.1),
    ]


PRESETS: dict[str, Callable[[Any, int], list[Any]]] = {"none": _none, "product": _product, "street": _street}
