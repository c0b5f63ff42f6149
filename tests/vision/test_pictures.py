"""One preparation of pictures: the same numbers whatever a picture came as, and those that timm gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fashionkit.catalog.images import PictureError
from fashionkit.vision.pictures import as_picture, as_tensor, encoded, sized, sized_masks
from fashionkit.vision.preprocess import Preprocess

PREPARED = Preprocess(64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bicubic", 0.9)


def picture(width: int = 110, height: int = 150) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_picture_is_the_same_in_any_form(tmp_path: Path) -> None:
    shown = picture()
    pixels = np.array(shown)
    (tmp_path / "a.png").write_bytes(encoded(shown))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), encoded(shown), shown, pixels, tensor, tensor.float() / 255]
    for form in forms:
        assert (np.asarray(as_picture(form)) == pixels).all(), type(form)


def test_half_precision_and_damaged_exif() -> None:
    assert as_picture(torch.ones(3, 4, 5).bfloat16()).size == (5, 4)
    odd = picture()
    odd.info["exif"] = b"Exif\0\0garbage"
    with pytest.raises(PictureError, match="cannot be decoded"):
        as_picture(odd)


def test_alpha_lies_on_white_and_grey_is_read() -> None:
    clear = np.zeros((5, 4, 4), np.uint8)
    assert (np.asarray(as_picture(clear)) == 255).all()
    assert np.asarray(as_picture(np.full((5, 4), 7, np.uint8))).tolist() == np.full((5, 4, 3), 7).tolist()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("https://shop.example/a.jpg", "nothing is fetched from a URL"),
        ("nowhere.jpg", "no such file"),
        (b"no picture", "not a picture|cannot|no picture"),
        (3, "not int"),
        (None, "not NoneType"),
        (np.zeros((3, 4, 5), np.uint8), r"uint8 \(height, width, 3\)"),
        (np.zeros((4, 5, 3)), "float64"),
        (np.zeros((0, 5, 3), np.uint8), "uint8"),
        (torch.zeros(4, 5, 3), r"\(3, height, width\)"),
        (torch.full((3, 4, 4), 2.0), "0..1"),
        (torch.full((3, 4, 4), float("nan")), "0..1"),
        (Image.new("1", (50_000, 2_000)), "at most"),
        ("a" * 5000, "cannot be read"),
        (Image.new("RGB", (0, 5)), "no pixel"),
        (torch.zeros(3, 0, 0), r"\(3, height, width\)"),
        (torch.rand(3, 4, 4).to_sparse(), "this tensor cannot be read"),
        (torch.rand(3, 4, 4, device="meta"), "this tensor cannot be read"),
        (encoded(picture())[:2000], "truncated|broken|damaged|decode"),
    ],
)
def test_what_is_no_picture_is_named(image: object, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        as_picture(image)


@pytest.mark.parametrize("size", [(110, 150), (150, 110), (64, 64), (40, 30), (33, 200)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop", [0.875, 1.0])
def test_numbers_are_those_of_timm(size: tuple[int, int], interpolation: str, crop: float) -> None:
    from timm.data import create_transform

    theirs = create_transform(
        (3, 64, 64), interpolation=interpolation, crop_pct=crop, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )
    mine = Preprocess(64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), interpolation, crop)
    found = as_tensor([sized(picture(*size), mine)], mine)[0]
    assert found.shape == (3, 64, 64) and found.dtype == torch.float32
    assert torch.allclose(found, theirs(picture(*size)), atol=1e-5)


def test_the_longest_side_is_padded_and_squashed_pictures_are_not_cropped() -> None:
    red = Image.new("RGB", (20, 80), (255, 0, 0))
    longest = Preprocess(64, (0.5, 0.5, 0.5), (1, 1, 1), "bilinear", 1.0, "longest")
    pixels = sized(red, longest)
    assert (pixels[:, 24:40] == (255, 0, 0)).all() and (pixels[:, :24] == 128).all() and (pixels[:, 40:] == 128).all()
    squash = Preprocess(64, (0.5, 0.5, 0.5), (1, 1, 1), "bilinear", 1.0, "squash")
    assert (sized(red, squash) == (255, 0, 0)).all()


@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_masks_go_where_their_pixels_go(resize: str) -> None:
    mask = np.zeros((1, 150, 110), bool)
    mask[0, 40:100, 30:90] = True
    shown = Image.fromarray(np.repeat((mask[0] * 255).astype(np.uint8)[:, :, None], 3, 2))
    how = Preprocess(64, (0, 0, 0), (1, 1, 1), "bilinear", 0.9, resize)
    assert (sized_masks(mask, how)[0] != (sized(shown, how)[..., 0] > 127)).mean() < 0.02


def test_a_strip_does_not_fill_the_memory() -> None:
    assert sized(Image.new("RGB", (1, 5000)), PREPARED).shape == (64, 64, 3)
