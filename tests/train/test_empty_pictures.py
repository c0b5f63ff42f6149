"""Empty pictures: the same for the same number, of several kinds, and in as many places as was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from fashionkit.tables import InputError
from fashionkit.train.empty_pictures import Empties, empty_picture

PICTURES = [empty_picture(number, 24) for number in range(64)]


def kind(pixels: np.ndarray) -> str:
    """What a picture looks like, by its colours."""
    colours = np.unique(pixels.reshape(-1, 3), axis=0)
    steps = np.abs(np.diff(pixels.astype(int), axis=1)).max()
    return "plain" if len(colours) == 1 else "stripes" if len(colours) == 2 else "smooth" if steps < 25 else "noise"


def test_numbers_name_pictures() -> None:
    assert all(one.shape == (24, 24, 3) and one.dtype == np.uint8 for one in PICTURES)
    assert all(np.array_equal(one, empty_picture(number, 24)) for number, one in enumerate(PICTURES))
    distinct = {one.tobytes() for one in PICTURES}
    assert len(distinct) > 55, "white, paper and black come several times"
    assert {kind(one) for one in PICTURES} == {"plain", "stripes", "smooth", "noise"}
    whites = [one for one in PICTURES if one.min() == 255]
    assert whites, "a blank page is among them"


@pytest.mark.parametrize("size", [1, 2, 7, 33])
def test_any_side_and_number(size: int) -> None:
    for number in (*range(40), 2**62 - 1):
        assert empty_picture(number, size).shape == (size, size, 3)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_the_share_is_that_asked_for(share: float) -> None:
    image = np.arange(20_000)
    found = Empties(share, 0).numbers(3, image)
    there = found >= 0
    assert there.mean() == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / len(image)))
    assert len(np.unique(found[there])) == there.sum(), "each is another picture"


def test_which_are_empty_depends_on_seed_epoch_and_picture_alone() -> None:
    image = np.arange(500)
    whole = Empties(0.3, 7).numbers(1, image)
    assert np.array_equal(Empties(0.3, 7).numbers(1, image[200:300]), whole[200:300])
    for other in (Empties(0.3, 7).numbers(2, image), Empties(0.3, 8).numbers(1, image)):
        assert not np.array_equal(other >= 0, whole >= 0)


@pytest.mark.parametrize("share", [-0.01, 2.0, float("nan")])
def test_no_such_share(share: float) -> None:
    with pytest.raises(InputError, match="share"):
        Empties(share, 0)
