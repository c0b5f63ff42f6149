"""The cache of masks asks once, keeps providers apart, and makes damaged files again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionkit.vision.regions import (
    MaskCache,
    Masks,
    Picture,
    pixels_of,
)
from tests.vision.made_up_regions import blank


class Counted:
    """Random masks by id, and how often they were asked for."""

    def __init__(self, key: str = "counted"):
        self.key, self.asked = key, 0

    def regions(self, image: Picture, image_id: str) -> Masks:
        self.asked += 1
        return np.random.default_rng(len(image_id)).random((4, *pixels_of(image).shape[:2])) > 0.5


def test_the_cache_asks_once_for_each_provider_picture_and_size(tmp_path: Path) -> None:
    provider, cache = Counted(), MaskCache(tmp_path / "masks")
    first = cache.regions(provider, blank(33, 21), "a")
    again = MaskCache(tmp_path / "masks").regions(provider, Image.fromarray(blank(33, 21)), "a")
    assert again.dtype == np.bool_ and provider.asked == 1
    np.testing.assert_array_equal(first, again)
    bright = blank(33, 21) + np.uint8(1)
    for args in ((blank(33, 21), "bb"), (blank(21, 33), "a"), (bright, "a"), (blank(33, 21), "a", "another sha")):
        before = provider.asked
        np.testing.assert_array_equal(cache.regions(provider, *args), cache.regions(provider, *args))
        assert provider.asked == before + 1
    other = Counted("other")
    cache.regions(other, blank(33, 21), "a")
    assert other.asked == 1
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("harm", ["empty", "cut", "flipped", "text", "longer"])
def test_damaged_files_of_the_cache_are_made_again(tmp_path: Path, harm: str) -> None:
    provider, cache = Counted(), MaskCache(tmp_path)
    wanted = cache.regions(provider, blank(), "a", "sha")
    path = cache.path(provider, "sha", "a", (50, 30))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    path.write_bytes(
        {"empty": b"", "cut": whole[:-9], "flipped": bytes(flipped), "text": b"x" * 99, "longer": whole + b"!"}[harm]
    )
    np.testing.assert_array_equal(cache.regions(provider, blank(), "a", "sha"), wanted)
    assert provider.asked == 2 and path.read_bytes() == whole
