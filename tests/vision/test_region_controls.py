"""The controls: random masks keep their area, shuffled ones are those of another picture."""

from __future__ import annotations

import numpy as np
import pytest

from fashionkit.tables import InputError
from fashionkit.vision.regions import (
    BandRegions,
    Picture,
    RandomRegions,
    ShuffledRegions,
)
from tests.vision.made_up_regions import HEAD, blank


def test_random_masks_keep_area_and_forget_the_place() -> None:
    provider = RandomRegions(BandRegions(width=0.5), seed=3)
    plain = BandRegions(width=0.5).regions(blank(), "a")
    moved = {f"p{i}": provider.regions(blank(), f"p{i}") for i in range(40)}
    for masks in moved.values():
        np.testing.assert_array_equal(masks.sum((1, 2)), plain.sum((1, 2)))
    np.testing.assert_allclose(np.mean(list(moved.values()), axis=0).mean((1, 2)), plain.mean((1, 2)))
    assert np.mean([m[HEAD, 0].any() for m in moved.values()]) < 0.5  # the head's band was on top in all of them
    assert (moved["p0"] != moved["p1"]).any()
    for image_id in reversed(moved):  # the order of asking does not matter
        np.testing.assert_array_equal(provider.regions(blank(), image_id), moved[image_id])
    assert (RandomRegions(BandRegions(width=0.5), seed=4).regions(blank(), "p0") != moved["p0"]).any()


def test_shuffled_masks_are_those_of_another_picture() -> None:
    ids = [f"p{i}" for i in range(9)]
    sizes = {name: (20 + i, 30) for i, name in enumerate(ids)}
    provider = RandomRegions(BandRegions(), seed=0)  # every picture has masks of its own

    def image_of(name: str) -> Picture:
        return blank(*sizes[name])

    shuffled = ShuffledRegions(provider, ids, 5, image_of)
    others = {name: shuffled.other(name) for name in ids}
    assert sorted(others.values()) == ids and all(name != other for name, other in others.items())
    assert {name: ShuffledRegions(provider, ids[::-1], 5, image_of).other(name) for name in ids} == others
    assert {name: ShuffledRegions(provider, ids, 6, image_of).other(name) for name in ids} != others
    for name, other in others.items():
        masks = shuffled.regions(image_of(name), name)
        assert masks.shape == (4, *sizes[name])
        theirs = provider.regions(image_of(other), other)
        np.testing.assert_allclose(masks.mean((1, 2)), theirs.mean((1, 2)), atol=0.05)
    with pytest.raises(InputError, match="not among"):
        shuffled.regions(blank(), "q")
    for wrong in (["a"], ["a", "b", "a"]):
        with pytest.raises(InputError, match="each named once"):
            ShuffledRegions(provider, wrong, 5, image_of)
