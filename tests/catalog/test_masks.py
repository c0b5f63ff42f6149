"""Segmentations: polygons and run lengths against known masks, a second implementation, and damage."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fashionkit.catalog.masks import (
    MaskError,
    cropped,
    polygon_mask,
    runs_mask,
    segmentation_mask,
    unpack_runs,
)


def test_a_rectangle_fills_its_pixels() -> None:
    mask = polygon_mask([2, 1, 6, 1, 6, 4, 2, 4], 8, 10)
    expected = np.zeros((8, 10), dtype=bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(mask, expected)


def test_run_lengths_go_down_the_columns() -> None:
    mask = runs_mask([4, 2, 3], 3, 3)
    assert np.array_equal(mask, np.array([[0, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool))


def test_packed_run_lengths() -> None:
    # 5 bits a letter; from the third on the difference to the second before, which may be negative
    assert unpack_runs("4") == [4]
    assert unpack_runs("P1") == [32]
    assert unpack_runs("52N") == [5, 2, -2]  # -2 here: no run, but the sign is read
    assert segmentation_mask({"size": [3, 3], "counts": "423"}, 3, 3).sum() == 2


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        None,
        "polygon",
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, 5, "x"]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[0, 0, 1e9, 0, 0, 1e9]],
        [3, 4, 5, 6],
        {"size": [3, 3], "counts": [4, 2]},
        {"size": [3, 3], "counts": [4, -2, 7]},
        {"size": [3, 3], "counts": [4.0, 5.0]},
        {"size": [3, 4], "counts": [12]},
        {"size": [3, 3], "counts": None},
        {"size": [3, 3], "counts": "P"},
        {"size": [3, 3], "counts": "\x00é"},
        {"size": [3, 3], "counts": "P" * 100},
        {"counts": [9]},
    ],
)
def test_what_is_no_mask_is_refused(segmentation: object) -> None:
    with pytest.raises(MaskError):
        segmentation_mask(segmentation, 3, 3)


def test_cropping_keeps_the_box_the_pixels_and_the_share() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[5:9, 7:18] = np.random.default_rng(0).random((4, 11)) < 0.5
    mask[5, 7] = mask[8, 17] = True
    box, png, area = cropped(mask)
    assert box == (7, 5, 11, 4) and area == pytest.approx(mask.sum() / 600)
    image = Image.open(io.BytesIO(png))
    assert image.mode == "1" and np.array_equal(np.asarray(image), mask[5:9, 7:18])


coordinates = st.floats(-3, 45, allow_nan=False).map(lambda x: round(x, 2))
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12)


@settings(max_examples=150, deadline=None)
@given(polygons, st.integers(20, 40), st.integers(20, 40))
def test_polygons_fill_the_pixels_of_the_reference(points: list[tuple[float, float]], height: int, width: int) -> None:
    reference = pytest.importorskip("pycocotools.mask")
    flat = [value for point in points for value in point]
    packed = reference.frPyObjects([flat], height, width)[0]["counts"].decode()
    expected = segmentation_mask({"size": [height, width], "counts": packed}, height, width)
    if np.any(np.array(points) > (2 * width, 2 * height)):
        return  # refused: far outside the picture
    assert np.array_equal(polygon_mask(flat, height, width), expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.floats(0, 1))
def test_packed_runs_are_those_of_the_reference(seed: int, height: int, width: int, share: float) -> None:
    reference = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((height, width)) < share
    packed = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    found = segmentation_mask({"size": [height, width], "counts": packed["counts"].decode()}, height, width)
    assert np.array_equal(found, mask)
