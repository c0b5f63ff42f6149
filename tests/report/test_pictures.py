"""Small pictures with regions: their size, where regions lie, what the colours are called."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from PIL import Image

from fashionkit.report.pictures import Region, keys, no_picture, picture, small_jpeg

EVIL = '"><script>alert(1)</script>'


def jpeg(width: int = 300, height: int = 200) -> bytes:
    return small_jpeg(Image.new("RGB", (width, height), (200, 30, 40)), 400)


def test_small_pictures_keep_their_shape_and_are_never_enlarged() -> None:
    image = Image.new("RGB", (1000, 500), (10, 200, 30))
    for side, size in ((400, (400, 200)), (4000, (1000, 500))):
        found = Image.open(io.BytesIO(small_jpeg(image, side)))
        assert found.size == size and found.format == "JPEG"
    assert image.size == (1000, 500), "the picture itself is left as it is"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    assert len(small_jpeg(noise, 400, 50)) < len(small_jpeg(noise, 400, 90))


def test_regions_are_drawn_in_pixels_of_the_whole_picture() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:, :] = True
    regions = [Region("hat", 0, (10, 20, 300, 150.5)), Region("bag", 5, (40.7, 50.2, 30, 20), mask, near=True)]
    made = picture(jpeg(), 3000, 2000, "a picture", regions)
    assert 'viewBox="0 0 3000 2000"' in made and 'width="300" height="200"' in made
    assert '<rect class="mark m0" x="10" y="20" width="300" height="150.5"/>' in made
    (path,) = re.findall(r'<path class="mark m1 near" transform="translate\(40 50\) scale\(1\)" d="([^"]+)"/>', made)
    assert sorted(re.findall(r"[hv](-?\d+)", path), key=abs_of)[-1].lstrip("-") == "30"
    body = re.search(r'src="data:image/jpeg;base64,([^"]+)"', made)
    assert body and Image.open(io.BytesIO(base64.b64decode(body[1]))).size == (300, 200)


def abs_of(text: str) -> int:
    return abs(int(text))


def test_a_picture_without_regions_has_no_drawing() -> None:
    assert "<svg" not in picture(jpeg(), 300, 200, "x") and "<svg" not in picture(
        jpeg(), 300, 200, "x", [Region("a", 0)]
    )


def test_equal_regions_are_named_once() -> None:
    regions = [Region("shoe", 0), Region("shoe", 0), Region("hat", 1, near=True)]
    made = keys(regions)
    assert re.sub(r"<svg.*?</svg>", "", made) == '<p class="marks"><span>shoe × 2</span><span>hat</span></p>'
    assert 'class="key m1 near"' in made and keys([]) == ""


def test_texts_are_escaped() -> None:
    parts = [picture(jpeg(), 3, 2, EVIL), no_picture(EVIL), keys([Region(EVIL, 0)])]
    assert all("<script" not in part and "&lt;script&gt;" in part for part in parts)
