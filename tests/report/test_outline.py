"""Outlines: filled again they give the mask, whatever its holes and corners."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fashionkit.report.outline import MAX_LENGTH, MAX_SIDE, outline


def filled(path: str, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels inside a path by the winding rule: each upward or downward edge counts for all pixels to its right."""
    wound = np.zeros((height, width), np.int64)
    for walk in path.split("M")[1:]:
        x, y = map(int, re.match(r"(\d+) (\d+)", walk).groups())  # type: ignore[union-attr]
        points = [(x, y)]
        for letter, step in re.findall(r"([hv])(-?\d+)", walk):
            x, y = (x + int(step), y) if letter == "h" else (x, y + int(step))
            points.append((x, y))
        assert walk.endswith("z")
        for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
            assert ax == bx or ay == by
            if by > ay:
                wound[ay:by, ax:] += 1
            elif ay > by:
                wound[by:ay, ax:] -= 1
    return wound != 0


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_filled_outline_is_the_mask(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    path, step = outline(mask)
    assert step == 1 and np.array_equal(filled(path, height, width), mask)


def test_a_rectangle_is_four_corners() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    path, _ = outline(mask)
    assert len(re.findall(r"[hv]-?\d+", path)) == 3 and path.count("M") == path.count("z") == 1
    assert np.array_equal(filled(path, 6, 8), mask)


def test_a_large_mask_is_drawn_in_blocks() -> None:
    mask = np.zeros((1000, 3 * MAX_SIDE + 5), bool)
    mask[7, 11] = mask[990:, 400:] = True
    path, step = outline(mask)
    assert step == -(-1000 // MAX_SIDE)
    grown = np.kron(filled(path, -(-1000 // step), -(-mask.shape[1] // step)), np.ones((step, step), bool))
    assert (grown[:1000, : mask.shape[1]] >= mask).all(), "nothing of the mask is lost"
    assert grown.sum() <= mask.sum() + 4 * step * (10 + 100)


@pytest.mark.parametrize("side", [60, 150, 900])
def test_a_mask_of_noise_does_not_swell_the_page(side: int) -> None:
    path, _ = outline(np.random.default_rng(1).random((side, side)) < 0.5)
    assert 0 < len(path) <= MAX_LENGTH


def test_an_empty_mask_has_no_outline() -> None:
    assert outline(np.zeros((5, 5), bool)) == ("", 1) and outline(np.zeros((0, 0), bool)) == ("", 1)
