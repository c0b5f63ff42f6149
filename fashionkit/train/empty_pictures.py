"""Pictures that show nothing, so that a model learns to say so: one colour, a gradient, stripes, or noise.

    number ─► `empty_picture` ─► (S, S, 3) uint8
    (seed, epoch, picture) ─► `Empties` ─► which pictures of a batch one of these stands in for

Whoever has seen clothes in every picture sees some in a blank one, too. Any number gives a picture, so training from
pixels never sees one twice; with cached features the first few are encoded once. All of it is ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.counter import again, mix, stream
from fashionkit.tables import InputError

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
KINDS = ("plain", "gradient", "stripes", "noise")
GROUNDS = (255, 245, 0)  # of plain ones, three in eight: white, paper, black
_STREAM = stream(0, "empty pictures")


class Empties:
    """Which pictures are empty.

    Args:
        share: Of the pictures of a batch, 0 to 1. seed: Of the choice.

    Raises:
        InputError: No such share.
    """

    def __init__(self, share: float, seed: int):
        if not 0 <= share <= 1:
            raise InputError("a share lies within 0 to 1", column="empties", found=share)
        self.share, self.seed = share, seed

    def numbers(self, epoch: int, image: Array) -> Array:
        """(g,) int64: the number of the empty picture that stands in for a picture in an epoch; -1 for none.

        Args:
            image: (g,) whole numbers that name the pictures.
        """
        bits = mix(stream(self.seed, f"empties/{epoch}"), image)
        drawn = (again(bits, 1) >> np.uint64(2)).astype(np.int64)
        return np.where((bits >> np.uint64(11)) * 2.0**-53 < self.share, drawn, -1)


def empty_picture(number: int, size: int) -> Pixels:
    """(S, S, 3) uint8: a picture without anything on it; the same for the same number.

    Args:
        number: 0 or more. size: S.
    """
    bits = mix(_STREAM, np.array([number], np.uint64))
    draw = np.array([int(again(bits, n)[0]) for n in range(12)], np.uint64)
    one, two = (draw[1:7] >> np.uint64(56)).astype(np.uint8).reshape(2, 3)
    kind = KINDS[int(draw[0] % 4)]
    if kind == "plain":
        ground = int(draw[7] % 8)
        return np.full((size, size, 3), GROUNDS[ground] if ground < len(GROUNDS) else one, np.uint8)
    if kind == "noise":
        cells = int((1, 8, 32, size)[int(draw[7] % 4)])
        cells = min(cells + 1, size)
        values = (mix(int(draw[8]), np.arange(cells * cells * 3)) >> np.uint64(56)).astype(np.uint8)
        place = np.arange(size) * cells // size
        return values.reshape(cells, cells, 3)[place[:, None], place[None]]
    angle = float(draw[7] % 360) / 180 * np.pi
    x = np.linspace(-0.5, 0.5, size)
    along = np.cos(angle) * x[None] + np.sin(angle) * x[:, None]  # (S, S), -0.71 to 0.71
    if kind == "gradient":
        share = (along - along.min()) / max(float(np.ptp(along)), 1e-9)
    else:
        share = (np.floor(along * (4 + int(draw[8] % 28))) % 2).astype(np.float64)
    return np.rint(one + share[..., None] * (two.astype(np.float64) - one)).astype(np.uint8)
