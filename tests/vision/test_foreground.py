"""The foreground of pictures whose figure is known, and bands inside it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fashionkit.vision.regions import (
    BandRegions,
    BorderForeground,
    ForegroundBands,
    Masks,
    lab_of,
)
from tests.vision.made_up_regions import HEAD, SHOES, blank, photo


@pytest.mark.parametrize("ground", [(244, 245, 243), (120, 60, 60)])
def test_foreground_is_what_differs_from_the_border(ground: tuple[int, int, int]) -> None:
    pixels = photo(ground=ground)
    wanted = np.zeros(pixels.shape[:2], bool)
    wanted[20:80, 20:40] = True  # with the print, which has the ground's colour but does not touch it
    np.testing.assert_array_equal(BorderForeground()(pixels), wanted)
    masks = ForegroundBands().regions(pixels, "a")
    np.testing.assert_array_equal(masks.any(axis=0), wanted)
    assert np.flatnonzero(masks[HEAD].any(1)).tolist() == list(range(20, 30))
    assert np.flatnonzero(masks[SHOES].any(1)).tolist() == list(range(75, 80))


def test_white_stands_out_from_pure_white_and_a_wall_may_have_shadows() -> None:
    pixels = np.full((60, 60, 3), 255, np.uint8)
    pixels[20:40, 20:40] = 240  # 5.3 in lightness
    assert BorderForeground()(pixels).sum() == 400
    wall = (200 + np.linspace(-12, 12, 60)[:, None, None] + np.zeros((60, 60, 3))).astype(np.uint8)
    wall[20:40, 20:40] = (30, 40, 90)
    assert BorderForeground()(wall).sum() == 400
    for wrong in ((5.0, 4.0), (0.0, 4.0)):
        with pytest.raises(ValueError, match="tolerance"):
            BorderForeground(wrong)


def test_large_pictures_are_worked_on_small() -> None:
    big = np.repeat(np.repeat(photo(), 8, axis=0), 8, axis=1)  # 800 x 480
    found = BorderForeground()(big)
    wanted = np.repeat(np.repeat(BorderForeground()(photo()), 8, axis=0), 8, axis=1)
    assert found.shape == (800, 480) and (found != wanted).mean() < 0.02


def test_without_a_foreground_there_are_plain_bands() -> None:
    np.testing.assert_array_equal(ForegroundBands().regions(blank(), "a"), BandRegions().regions(blank(), "a"))


def test_a_foreground_can_be_plugged_in() -> None:
    class Left:
        key = "left"

        def __call__(self, pixels: NDArray[np.uint8]) -> Masks:
            return np.broadcast_to(np.arange(pixels.shape[1]) < 5, pixels.shape[:2])

    class Wrong(Left):
        def __call__(self, pixels: NDArray[np.uint8]) -> Masks:
            return super().__call__(pixels)[:-1]

    masks = ForegroundBands(Left()).regions(blank(), "a")
    assert masks[:, :, :5].any() and not masks[:, :, 5:].any()
    assert "left" in ForegroundBands(Left()).key
    with pytest.raises(ValueError, match="bool mask of"):
        ForegroundBands(Wrong()).regions(blank(), "a")


def test_lab_of_known_colours() -> None:
    """Values of a colour calculator for sRGB and D65."""
    colours = np.array([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    wanted = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab_of(colours)[0], wanted, atol=0.1)
