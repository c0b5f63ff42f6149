"""Region pooling against slow loops, and where the numbers get tight: tiny, absent and soft items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from fashionkit.vision.pooling import present, region_pool, shrink_masks

SIZES = [((12, 12), (3, 3)), ((13, 10), (4, 3)), ((9, 7), (7, 5)), ((5, 6), (5, 6)), ((3, 4), (7, 6)), ((8, 8), (1, 1))]


def slow_shrink(mask: NDArray[np.float64], h: int, w: int) -> NDArray[np.float64]:
    """One mask: every pixel gives each cell the area that both share."""
    height, width = mask.shape
    tall, wide = height / h, width / w
    out = np.zeros((h, w))
    for i, j, y, x in np.ndindex(h, w, height, width):
        dy = min((i + 1) * tall, y + 1) - max(i * tall, y)
        dx = min((j + 1) * wide, x + 1) - max(j * wide, x)
        out[i, j] += mask[y, x] * max(dy, 0) * max(dx, 0) / (tall * wide)
    return out


def slow_pool(feature_map: NDArray[np.float64], mask: NDArray[np.float64], denominator: str) -> NDArray[np.float64]:
    """One picture, one item."""
    channels, h, w = feature_map.shape
    out, area = np.zeros(channels), 0.0
    for i, j in np.ndindex(h, w):
        out += feature_map[:, i, j] * mask[i, j]
        area += mask[i, j]
    if denominator == "map":
        return out / (h * w)
    return out / area if area else out


def some_masks(size: tuple[int, int], soft: bool, seed: int = 0) -> Tensor:
    drawn = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))
    drawn[1, 2] = 0
    return drawn * (drawn > 0.5) if soft else drawn > 0.6


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("size", "cells"), SIZES)
def test_shrinking_equals_the_slow_loop(size: tuple[int, int], cells: tuple[int, int], soft: bool) -> None:
    masks = some_masks(size, soft)
    shares, hard = shrink_masks(masks, cells, None), shrink_masks(masks, cells)
    assert shares.shape == hard.shape == (2, 3, *cells)
    for b, k in np.ndindex(2, 3):
        wanted = slow_shrink(masks[b, k].double().numpy(), *cells)
        np.testing.assert_allclose(shares[b, k], wanted, atol=1e-6)
        kept = wanted >= 0.25 - 1e-5
        if wanted.any():
            kept.reshape(-1)[wanted.argmax()] = True
        np.testing.assert_array_equal(hard[b, k].numpy(), kept)
    torch.testing.assert_close(shares.mean((2, 3)), masks.float().mean((2, 3)))  # the share of the picture is kept


@pytest.mark.parametrize("denominator", ["mask", "map"])
@pytest.mark.parametrize("soft", [False, True])
def test_pooling_equals_the_slow_loop(soft: bool, denominator: str) -> None:
    feature_map, masks = torch.randn(2, 5, 4, 3), some_masks((4, 3), soft)
    pooled = region_pool(feature_map, masks, denominator)
    assert pooled.shape == (2, 3, 5)
    for b, k in np.ndindex(2, 3):
        wanted = slow_pool(feature_map[b].double().numpy(), masks[b, k].double().numpy(), denominator)
        np.testing.assert_allclose(pooled[b, k], wanted, atol=1e-5)


def test_a_shoe_of_one_pixel_keeps_its_fullest_cell() -> None:
    masks = torch.zeros(1, 2, 64, 64, dtype=torch.bool)
    masks[0, 0, 63, 40] = True
    small = shrink_masks(masks, (4, 4))
    assert small[0, 0].nonzero().tolist() == [[3, 2]]
    assert not small[0, 1].any()
    feature_map = torch.randn(1, 6, 4, 4, requires_grad=True)
    pooled = region_pool(feature_map, small)
    torch.testing.assert_close(pooled[0, 0], feature_map[0, :, 3, 2])
    assert not pooled[0, 1].any()
    pooled.sum().backward()
    assert feature_map.grad is not None and feature_map.grad.isfinite().all()


def test_a_soft_tiny_item_is_a_weighted_mean_too() -> None:
    masks = torch.zeros(1, 1, 64, 64)
    masks[0, 0, 63, 40] = 0.5
    pooled = region_pool(torch.full((1, 2, 4, 4), 3.0), shrink_masks(masks, (4, 4), None))
    torch.testing.assert_close(pooled, torch.full((1, 1, 2), 3.0))


def test_a_quarter_of_a_cell_belongs_to_the_item() -> None:
    for side in (6, 14, 22):  # cells of 2 x 2 pixels, one of which is set
        masks = torch.zeros(1, 1, side, side)
        masks[..., ::2, ::2] = 1
        assert shrink_masks(masks, (side // 2, side // 2)).all()


def test_present_counts_pixels() -> None:
    masks = torch.zeros(1, 4, 50, 40, dtype=torch.bool)  # 0.2 % are four pixels
    masks[0, 1, 0, :3], masks[0, 2, 0, :4], masks[0, 3] = True, True, True
    assert present(masks).tolist() == [[False, False, True, True]]
    assert present(masks, 0).tolist() == [[False, True, True, True]]
    assert torch.equal(present(masks.float()), present(masks))


def test_half_precision_decides_as_float32_does() -> None:
    masks, feature_map = some_masks((32, 32), soft=False), torch.randn(2, 4, 5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        small = shrink_masks(masks, (5, 5))
        assert region_pool(feature_map, small).isfinite().all()
    assert torch.equal(small, shrink_masks(masks, (5, 5)))
    assert torch.equal(small, shrink_masks(masks.bfloat16(), (5, 5)).float())
    assert present(masks.bfloat16()).tolist() == present(masks).tolist()


def test_an_empty_batch_stays_empty() -> None:
    masks = torch.zeros(0, 4, 8, 8)
    assert region_pool(torch.zeros(0, 3, 2, 2), shrink_masks(masks, (2, 2))).shape == (0, 4, 3)
    assert present(masks).shape == (0, 4)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (torch.ones(2, 3, 4), "masks are"),
        (torch.ones(1, 1, 0, 4), "masks are"),
        (torch.ones(1, 1, 4, 4, dtype=torch.int64), "bool, or floats"),
        (torch.full((1, 1, 4, 4), 1.5), "within 0..1"),
        (torch.full((1, 1, 4, 4), -0.1), "within 0..1"),
        (torch.full((1, 1, 4, 4), torch.nan), "within 0..1"),
    ],
)
def test_what_are_no_masks_is_refused(masks: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        shrink_masks(masks, (2, 2))
    with pytest.raises(ValueError, match=words):
        present(masks)
    with pytest.raises(ValueError, match=words):
        region_pool(torch.ones(1, 2, 4, 4), masks)


def test_wrong_settings_are_refused() -> None:
    masks = torch.ones(2, 3, 4, 4)
    for threshold in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            shrink_masks(masks, (2, 2), threshold)
    with pytest.raises(ValueError, match="1 x 1"):
        shrink_masks(masks, (0, 2))
    with pytest.raises(ValueError, match="share"):
        present(masks, 2)
    with pytest.raises(ValueError, match="denominator"):
        region_pool(torch.ones(2, 5, 4, 4), masks, "area")  # type: ignore[arg-type]
    for shape in ((2, 5, 4), (3, 5, 4, 4), (2, 5, 4, 3)):
        with pytest.raises(ValueError, match="of its size"):
            region_pool(torch.ones(shape), masks)
