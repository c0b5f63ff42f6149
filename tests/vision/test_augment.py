"""Training transforms: what belongs together moves together, and random numbers belong to the row."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fashionkit.tables import InputError
from fashionkit.vision.augment import PRESETS, Augment


def drawn(height: int = 90, width: int = 70) -> tuple[Any, Any, Any]:
    """A picture with two rectangles of pure colour, their masks and boxes."""
    image = np.full((height, width, 3), 255, np.uint8)
    boxes = np.array([[10, 20, 30, 60], [40, 30, 60, 80]])
    masks = np.zeros((2, height, width), bool)
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        masks[number, y0:y1, x0:x1] = True
        image[y0:y1, x0:x1] = [(255, 0, 0), (0, 0, 255)][number]
    return image, masks, boxes


@pytest.mark.parametrize("preset", ["none", "product", "street"])
def test_masks_and_boxes_move_with_the_picture(preset: str) -> None:
    image, masks, boxes = drawn()
    augment = Augment(preset, 64, seed=3)
    for row in range(30):
        found = augment(image, row, masks=masks, boxes=boxes)
        assert found.image.shape == (64, 64, 3) and found.masks.shape == (2, 64, 64)
        red = (found.image[..., 0].astype(int) - found.image[..., 2]) > 120
        blue = (found.image[..., 2].astype(int) - found.image[..., 0]) > 120
        for seen, mask in zip((red, blue), found.masks, strict=True):
            assert (seen & mask).sum() >= 0.8 * (seen | mask).sum()
        for box, which in zip(found.boxes, found.kept.tolist(), strict=True):
            ys, xs = np.nonzero(found.masks[which])
            assert np.abs(box - [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).max() <= 7  # a turned box is wider


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_row_decides_and_not_the_order(preset: str) -> None:
    image, masks, boxes = drawn()
    one, two = Augment(preset, 48, seed=1), Augment(preset, 48, seed=1)
    forward = [one(image, row, masks=masks, boxes=boxes) for row in range(8)]
    backward = [two(image, row, masks=masks, boxes=boxes) for row in reversed(range(8))][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert (a.image == b.image).all() and (a.masks == b.masks).all() and a.boxes.tolist() == b.boxes.tolist()
    if preset != "none":
        assert len({a.image.tobytes() for a in forward}) > 5
        assert one(image, 0, epoch=1).image.tobytes() != forward[0].image.tobytes()
        assert Augment(preset, 48, seed=2)(image, 0).image.tobytes() != forward[0].image.tobytes()


def test_without_masks_and_boxes() -> None:
    found = Augment("street", 32)(np.zeros((40, 50, 3), np.uint8), 0)
    assert found.image.shape == (32, 32, 3) and found.masks.shape == (0, 32, 32) and found.boxes.shape == (0, 4)


def test_misuse_is_named() -> None:
    with pytest.raises(InputError, match=r"(?s)no such preset.*studio"):
        Augment("studio", 32)
    with pytest.raises(InputError, match="at least 1 pixel"):
        Augment("none", 0)
    image, masks, boxes = drawn()
    with pytest.raises(ValueError, match=r"masks must be \(K, 90, 70\)"):
        Augment("none", 32)(image, 0, masks=masks[:, :50])
    with pytest.raises(ValueError, match="boxes must be"):
        Augment("none", 32)(image, 0, boxes=boxes + 100)


def test_the_import_asks_no_network() -> None:
    script = (
        "import socket\ndef refuse(*a, **k): raise SystemExit('it asked the network')\nsocket.socket.connect = refuse\n"
    )
    script += "from fashionkit.vision.augment import Augment\nAugment('product', 32)\nprint('quiet')"
    env = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
    assert found.stdout == "quiet\n" and not found.stderr, found.stderr
