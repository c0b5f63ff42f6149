"""The near-duplicate search against a comparison of all pairs, and on pictures that would blow a naive search up."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fashionkit.catalog.neardup import THUMB_BYTES, components, near_duplicates, pixel_sums


def families(seed: int, count: int = 400, size: int = 6) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Families of pictures whose hashes and bytes lie at all distances around the thresholds."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (count, 1, THUMB_BYTES))
    noise = rng.integers(0, 6, (count, size, 1))  # a member's mean distance from its base: about half of it
    thumbs = np.clip(base + rng.integers(-1, 2, (count, size, THUMB_BYTES)) * noise, 0, 255).astype(np.uint8)
    flips = (rng.random((count, size, 64)) < rng.uniform(0, 0.12, (count, size, 1))).astype(np.uint64)
    bits = rng.integers(0, 2, (count, 1, 64), dtype=np.uint64) ^ flips
    phash = (bits << np.arange(64, dtype=np.uint64)).sum(-1, dtype=np.uint64)
    order = rng.permutation(count * size)
    return phash.reshape(-1)[order], thumbs.reshape(-1, THUMB_BYTES)[order]


def all_pairs(
    phash: NDArray[np.uint64], thumbs: NDArray[np.uint8], radius: int, difference: float
) -> NDArray[np.int64]:
    """The slow reference."""
    apart = np.bitwise_count(phash[:, None] ^ phash[None, :])
    pairs = np.argwhere(np.triu(apart <= radius, 1))
    mean = np.array([np.abs(thumbs[a].astype(int) - thumbs[b].astype(int)).mean() for a, b in pairs])
    return pairs[mean < difference] if len(pairs) else pairs


@pytest.mark.parametrize(("radius", "difference"), [(0, 2.0), (3, 1.0), (6, 2.0), (6, 3.0), (9, 2.5)])
def test_agrees_with_a_comparison_of_all_pairs(radius: int, difference: float) -> None:
    phash, thumbs = families(seed=radius)
    wanted = all_pairs(phash, thumbs, radius, difference)
    found = near_duplicates(phash, thumbs, radius, difference)
    assert len(wanted) > 20
    assert set(map(tuple, found)) <= set(map(tuple, wanted))
    assert np.array_equal(components(len(phash), found), components(len(phash), wanted))
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found[:, 0] < found[:, 1]).all()


def test_pixels_alone_or_hash_alone_join_nothing() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, THUMB_BYTES).astype(np.uint8)
    other = rng.integers(0, 256, THUMB_BYTES).astype(np.uint8)
    close = np.clip(one.astype(int) + 1, 0, 255).astype(np.uint8)
    low, far = np.uint64(0), np.uint64(0b1111111)  # 7 bits apart
    assert near_duplicates(np.array([low, low]), np.stack([one, other])).shape == (0, 2)
    assert near_duplicates(np.array([low, far]), np.stack([one, close])).shape == (0, 2)
    assert near_duplicates(np.array([low, far]), np.stack([one, close]), radius=7).tolist() == [[0, 1]]


def test_the_difference_is_a_strict_bound() -> None:
    thumbs = np.zeros((2, THUMB_BYTES), np.uint8)
    thumbs[1] = 2
    same = np.zeros(2, np.uint64)
    assert len(near_duplicates(same, thumbs, difference=2.0)) == 0
    assert len(near_duplicates(same, thumbs, difference=2.001)) == 1
    assert len(near_duplicates(same, thumbs, difference=300.0)) == 1
    assert len(near_duplicates(same, thumbs[:1].repeat(2, 0), difference=0.0)) == 0


def test_many_copies_of_one_picture_give_a_star() -> None:
    thumbs = np.full((20_000, THUMB_BYTES), 255, np.uint8)
    pairs = near_duplicates(np.zeros(len(thumbs), np.uint64), thumbs)
    assert len(pairs) == len(thumbs) - 1
    assert (components(len(thumbs), pairs) == 0).all()


@pytest.mark.parametrize("spread", [0, 200])
def test_a_crowd_with_one_hash_is_not_compared_pair_by_pair(spread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,500 slightly unlike pictures of one hash, near-white or of any brightness; each tenth has a close copy."""
    rng = np.random.default_rng(0)
    base = 252 - rng.random((2500, 1)) * spread
    thumbs = np.clip(base + rng.integers(-1, 2, (2500, THUMB_BYTES)) * (1 + spread // 40), 0, 255).astype(np.uint8)
    thumbs[1::10] = thumbs[::10] - (thumbs[::10] > 100)
    compared: list[int] = []

    def counting(pictures: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        compared.append(len(pairs))
        return pixel_sums(pictures, pairs)

    monkeypatch.setattr("fashionkit.catalog.neardup.pixel_sums", counting)
    label = components(2500, near_duplicates(np.full(2500, 7, np.uint64), thumbs, window=100))
    assert 0 < sum(compared) <= 2500 * 100  # of 3.1 million pairs
    assert (label[1::10] == label[::10]).all()
    assert (len(np.unique(label)) == 1) == (spread == 0)


def test_components_of_a_long_shuffled_chain() -> None:
    rng = np.random.default_rng(0)
    nodes = rng.permutation(5000)
    chain = np.stack([nodes[:-1], nodes[1:]], 1)[rng.permutation(4999)]
    assert (components(5000, chain) == 0).all()
    assert components(4, np.array([[3, 2]])).tolist() == [0, 1, 2, 2]
    assert components(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_pixel_sums_over_several_blocks() -> None:
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 256, (50, THUMB_BYTES)).astype(np.uint8)
    pairs = rng.integers(0, 50, (5000, 2))
    wanted = np.abs(thumbs.astype(int)[pairs[:, 0]] - thumbs.astype(int)[pairs[:, 1]]).sum(1)
    assert np.array_equal(pixel_sums(thumbs, pairs), wanted)


@pytest.mark.parametrize(
    ("phash", "thumbs", "radius"),
    [
        (np.zeros(2, np.uint64), np.zeros((3, THUMB_BYTES), np.uint8), 6),
        (np.zeros(2, np.int64), np.zeros((2, THUMB_BYTES), np.uint8), 6),
        (np.zeros(2, np.uint64), np.zeros((2, 12), np.uint8), 6),
        (np.zeros(2, np.uint64), np.zeros((2, THUMB_BYTES), np.uint8), 40),
        (np.zeros(2, np.uint64), np.zeros((2, THUMB_BYTES), np.uint8), -1),
    ],
)
def test_what_does_not_fit_is_refused(phash: NDArray[np.uint64], thumbs: NDArray[np.uint8], radius: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        near_duplicates(phash, thumbs, radius)


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count: int) -> None:
    assert near_duplicates(np.zeros(count, np.uint64), np.zeros((count, THUMB_BYTES), np.uint8)).shape == (0, 2)
