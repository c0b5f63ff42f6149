"""Colour statistics on pictures whose colours are known: what they say, what they leave out, what they do not mind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fashionkit.vision.colour import BINS_AB, BINS_L, COLOUR_DIM, ZONES, colour_statistics
from fashionkit.vision.regions import lab_of

RGB = tuple[int, int, int]
WHITE, RED, NAVY, SKIN = (255, 255, 255), (200, 20, 30), (20, 30, 80), (224, 172, 140)
FLAT = 0.01  # the root's offset: bins are (share + 0.01^2)^0.5 - 0.01
BINS = len(BINS_L) * len(BINS_AB) ** 2
ALL, MIDDLE, UPPER, LOWER = range(1 + len(ZONES))


def square(colour: RGB, ground: RGB = WHITE, side: int = 112, low: float = 0.25, high: float = 0.75) -> Tensor:
    """(S, S, 3): a square in the middle of a plain ground."""
    pixels = torch.empty(side, side, 3, dtype=torch.uint8)
    pixels[:] = torch.tensor(ground)
    pixels[round(low * side) : round(high * side), round(low * side) : round(high * side)] = torch.tensor(colour)
    return pixels


def told(pixels: Tensor) -> dict[str, Tensor]:
    """Of one picture, by zone: histogram (Z, l, a, b) that adds up to 1, mean and deviation (Z, 3) in CIELAB, cells."""
    zones = colour_statistics(pixels[None]).view(1 + len(ZONES), -1)
    shape = (-1, len(BINS_L), len(BINS_AB), len(BINS_AB))
    bins, mean, deviation, weight = zones.split([BINS, 3, 3, 1], dim=1)
    return {
        "bins": ((bins + FLAT).square() - FLAT**2).view(shape),
        "mean": mean * 50,
        "deviation": deviation * 20,
        "cells": weight * 5,
    }


def in_lab(colour: RGB) -> Tensor:
    return torch.from_numpy(lab_of(np.array([[colour]], np.uint8))[0, 0]).float()


def noise(seed: int = 0, number: int = 3, side: int = 64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, side, side, 3), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("colour", [RED, NAVY, SKIN, (0, 0, 0), (128, 128, 128)])
def test_a_plain_square_has_its_own_colour(colour: RGB) -> None:
    found = told(square(colour))
    for zone in (ALL, MIDDLE):
        torch.testing.assert_close(found["mean"][zone], in_lab(colour), atol=0.1, rtol=0)
        assert found["deviation"][zone].max() < 1
        assert found["bins"][zone].sum() == pytest.approx(1, abs=1e-3)
        bins = found["bins"][zone]
        centres = [bins.sum(dims) @ torch.tensor(c) for dims, c in (((1, 2), BINS_L), ((0, 2), BINS_AB))]
        wanted = in_lab(colour)
        limits = (BINS_L[0], BINS_L[-1])
        assert centres[0].item() == pytest.approx(min(max(wanted[0].item(), limits[0]), limits[1]), abs=0.2)
        assert centres[1].item() == pytest.approx(min(wanted[1].item(), BINS_AB[-1]), abs=0.2)
    assert found["cells"][ALL].expm1().item() == pytest.approx(
        28**2, rel=0.01
    )  # 56 cells a side, half of them each way


@pytest.mark.parametrize("ground", [WHITE, (236, 240, 235), NAVY])
def test_the_ground_does_not_count(ground: RGB) -> None:
    on_white, other = told(square(RED)), told(square(RED, ground))
    torch.testing.assert_close(other["bins"], on_white["bins"], atol=1e-3, rtol=0)
    torch.testing.assert_close(other["mean"], on_white["mean"], atol=0.2, rtol=0)


def test_what_the_item_encloses_counts_although_it_looks_like_the_ground() -> None:
    pixels = square(RED)
    pixels[42:70, 42:70] = 255  # a white print
    mean = told(pixels)["mean"]
    assert mean[MIDDLE, 0] > in_lab(RED)[0] + 20
    open_ = square(RED)
    open_[42:70, 42:] = 255  # white that reaches the border
    assert told(open_)["mean"][ALL, 0].item() == pytest.approx(in_lab(RED)[0].item(), abs=0.2)


def test_zones_tell_a_shirt_from_a_face_and_trousers() -> None:
    pixels = square(RED, low=0.3, high=0.7)
    pixels[10:33, 40:72], pixels[79:, 40:72] = torch.tensor(SKIN), torch.tensor(NAVY)
    mean = told(pixels)["mean"]
    for zone, colour in ((MIDDLE, RED), (UPPER, SKIN), (LOWER, NAVY)):
        far = {name: (mean[zone] - in_lab(name)).norm().item() for name in (RED, SKIN, NAVY)}
        assert min(far, key=far.__getitem__) == colour


def test_two_colours_share_the_histogram() -> None:
    pixels = square(RED)
    pixels[28:84, 28:56] = torch.tensor(NAVY)
    both, red, navy = (told(p)["bins"][ALL] for p in (pixels, square(RED), square(NAVY)))
    torch.testing.assert_close(both, (red + navy) / 2, atol=1e-3, rtol=0)


def test_a_plain_picture_has_no_foreground() -> None:
    assert colour_statistics(torch.full((2, 32, 32, 3), 200, dtype=torch.uint8)).abs().max() == 0


@pytest.mark.parametrize("side", [8, 33, 64, 112])
def test_a_batch_equals_its_pictures(side: int) -> None:
    pixels = noise(side=side)
    found = colour_statistics(pixels)
    assert found.shape == (3, COLOUR_DIM) and found.dtype == torch.float32 and found.isfinite().all()
    torch.testing.assert_close(found, torch.cat([colour_statistics(p[None]) for p in pixels]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found, colour_statistics(pixels.flip(0)).flip(0), atol=1e-5, rtol=1e-4)
    assert colour_statistics(pixels[:0]).shape == (0, COLOUR_DIM)


def test_a_mirrored_picture_says_the_same() -> None:
    pixels = noise(side=112)
    torch.testing.assert_close(colour_statistics(pixels.flip(2)), colour_statistics(pixels), atol=1e-4, rtol=1e-3)
    upright = torch.stack([square(RED)])
    upright[:, :40] = torch.tensor(NAVY)
    assert (colour_statistics(upright.flip(1)) - colour_statistics(upright)).abs().max() > 0.1  # up and down differ


def test_the_size_of_the_picture_hardly_matters() -> None:
    small, large = (colour_statistics(square(RED, side=side)[None]) for side in (112, 224))
    torch.testing.assert_close(small, large, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(32, 32, 3, dtype=torch.uint8),
        torch.zeros(1, 32, 32, 3),
        torch.zeros(1, 4, 4, 3, dtype=torch.uint8),
    ],
)
def test_other_shapes_and_types_raise(pixels: Tensor) -> None:
    with pytest.raises(ValueError, match="pixels are"):
        colour_statistics(pixels)
