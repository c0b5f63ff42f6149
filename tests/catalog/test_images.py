"""Pictures from outside: what is read, what is refused and why, and what is measured."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fashionkit.catalog.images import (
    PictureError,
    measure,
    open_mask,
    open_picture,
    perceptual_hashes,
    read_file,
)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


def noise(seed: int, width: int = 48, height: int = 64) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def reason(data: bytes, **options: int) -> str:
    with pytest.raises(PictureError) as caught:
        measure(data, **options)
    return caught.value.reason


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose header promises far more than the file holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_formats_that_are_read(kind: str) -> None:
    found = measure(encode(noise(1), kind))
    assert (found.width, found.height, found.thumb.shape) == (48, 64, (32, 32, 3))


def test_formats_that_are_refused() -> None:
    assert reason(encode(noise(1), "TIFF")) == "image_format"
    assert reason(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == "image_format"
    assert reason(b"") == "image_empty"
    assert reason(encode(Image.fromarray(np.zeros((4, 4), np.uint16)), "PNG")) == "image_format"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_truncated_picture_is_refused_not_filled_up(kind: str) -> None:
    data = encode(noise(2, 200, 200), kind)
    assert reason(data[: len(data) // 2]) in ("image_truncated", "image_broken")


def test_the_pixel_limit_is_applied_before_decoding() -> None:
    assert reason(huge_png(60_000, 60_000)) == "image_too_large"
    assert reason(huge_png(9_000, 9_000)) == "image_too_large"  # above the limit, below what Pillow calls a bomb
    assert reason(encode(noise(1), "JPEG"), max_pixels=48 * 64 - 1) == "image_too_large"
    assert measure(encode(noise(1), "JPEG"), max_pixels=48 * 64).width == 48


def test_the_orientation_is_applied_to_size_thumb_and_picture() -> None:
    upright = noise(3)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown rotated by 90 degrees clockwise
    turned = encode(upright.rotate(90, expand=True), "PNG", exif=exif)
    found, plain = measure(turned), measure(encode(upright, "PNG"))
    assert (found.width, found.height) == (plain.width, plain.height) == (48, 64)
    assert np.array_equal(found.thumb, plain.thumb)
    assert np.array_equal(np.asarray(open_picture(turned)), np.asarray(upright))


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (10, 10), (255, 0, 0, 0))
    assert np.asarray(open_picture(encode(clear, "PNG"))).min() == 255
    palette = Image.new("P", (10, 10), 0)
    assert np.asarray(open_picture(encode(palette, "GIF", transparency=0))).min() == 255


def test_a_large_jpeg_gives_the_thumb_of_its_small_copy() -> None:
    large = noise(4, 1200, 1600)
    fast = measure(encode(large, "JPEG", quality=95)).thumb.astype(int)
    exact = measure(encode(large, "PNG")).thumb.astype(int)
    assert np.abs(fast - exact).mean() < 1


def test_hashes_are_near_for_copies_and_far_for_others() -> None:
    pictures = [noise(i) for i in range(20)]
    thumbs = [measure(encode(p, "JPEG", quality=q)).thumb for q in (95, 60) for p in pictures]
    hashes = perceptual_hashes(np.stack(thumbs))
    bits = np.array([[(int(a) ^ int(b)).bit_count() for b in hashes] for a in hashes])
    assert max(bits[i, i + 20] for i in range(20)) <= 6
    others = bits[:20, :20][~np.eye(20, dtype=bool)]
    assert others.min() > 6 and 25 < others.mean() < 39


def test_hashes_do_not_depend_on_the_batch() -> None:
    thumbs = np.stack([measure(encode(noise(i), "PNG")).thumb for i in range(7)])
    alone = np.concatenate([perceptual_hashes(thumbs[i : i + 1]) for i in range(7)])
    assert np.array_equal(perceptual_hashes(thumbs), alone)
    assert perceptual_hashes(np.zeros((1, 32, 32, 3), np.uint8)).dtype == np.uint64


def test_masks_keep_their_ids() -> None:
    ids = np.random.default_rng(0).integers(0, 59, (20, 30), dtype=np.uint8)
    assert np.array_equal(open_mask(encode(Image.fromarray(ids), "PNG")), ids)
    coloured = Image.fromarray(ids).convert("P")
    coloured.putdata(ids.ravel().tolist())
    assert np.array_equal(open_mask(encode(coloured, "PNG")), ids)
    with pytest.raises(PictureError) as caught:
        open_mask(encode(noise(1), "PNG"))
    assert caught.value.reason == "mask_format"


@pytest.mark.parametrize("path", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "link.jpg", "", "a\0b"])
def test_paths_stay_in_their_folder(tmp_path: Path, path: str) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "secret.jpg").write_bytes(encode(noise(1), "JPEG"))
    (photos / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(PictureError) as caught:
        read_file(photos, path)
    assert caught.value.reason == "path_outside"


def test_missing_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    for path in ("a.jpg", "b.jpg", "x" * 400):
        with pytest.raises(PictureError) as caught:
            read_file(tmp_path, path)
        assert caught.value.reason in ("image_missing", "image_unreadable")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(encode(noise(5), data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for read in (measure, open_mask):
        try:
            read(cut, 1_000_000)
        except PictureError as error:
            assert error.reason and str(error)
