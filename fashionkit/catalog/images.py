"""Reads pictures from outside safely, and measures what a catalogue keeps of them.

    encoded bytes ──► header: format, size ──► limits ──► decode ──► upright RGB ──┬──► width, height
          │                                                                        ├──► thumb 32 x 32 RGB ──► pHash
          └──► SHA-256                                                             └──► (what models see)

A picture is what a viewer shows: its EXIF orientation is applied, transparency lies on white, and of an animation the
first frame counts. `open_picture` is that rule for every stage, so that boxes and masks fit what models are given.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000
MAX_BYTES = 200_000_000
THUMB = 32  # side of the thumb that near-duplicate checks compare
_DRAFT = 8 * THUMB  # large JPEGs are decoded at the smallest size that is still this large
_ORIENTATION = 0x0112


class PictureError(ValueError):
    """A picture that cannot be used; `reason` is the short code that the rejects table counts by."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True)
class Measured:
    """What a catalogue keeps of a picture: size upright in pixels, hex SHA-256 of the bytes, `[32, 32, 3]` uint8."""

    width: int
    height: int
    sha256: str
    thumb: NDArray[np.uint8]


def measure(data: bytes, max_pixels: int = MAX_PIXELS) -> Measured:
    """Decodes a picture and measures it.

    Raises:
        PictureError: No picture, a format that is not read, over the limit, truncated or broken.
    """
    with _decoding():
        image = _open(data, max_pixels)
        width, height = image.size
        if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
        image.draft("RGB", (_DRAFT, _DRAFT))
        small = _upright(image).resize((THUMB, THUMB), Image.Resampling.BILINEAR)
    return Measured(width, height, hashlib.sha256(data).hexdigest(), np.asarray(small))


def open_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decodes a picture as a viewer shows it: first frame, upright, RGB on white.

    Raises:
        PictureError: As `measure`.
    """
    with _decoding():
        return _upright(_open(data, max_pixels))


def as_shown(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """As `open_picture`, of a picture that Pillow has opened already.

    Raises:
        PictureError: As `measure`; or a picture without a pixel.
    """
    with _decoding():
        return _upright(_within(image, max_pixels))


def open_mask(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes a label mask: `[height, width]` uint8 ids, of a grey or palette PNG (or BMP, GIF).

    Raises:
        PictureError: As `measure`; or colours where ids are needed.
    """
    with _decoding():
        image = _open(data, max_pixels)
        if image.mode not in ("L", "P", "1") or image.format == "JPEG":
            problem = f"a mask must be an 8-bit grey or palette picture, not {image.format} with mode {image.mode}"
            raise PictureError("mask_format", problem)
        image.load()
        return np.array(image, dtype=np.uint8)


class _decoding:
    """Turns whatever a decoder raises on hostile bytes into `PictureError`."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")  # broken EXIF and large pictures warn; the limits below decide instead

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._warnings.__exit__(None, None, None)
        if isinstance(error, Image.DecompressionBombError):
            raise PictureError("image_too_large", f"the picture is far over the pixel limit: {error}") from error
        if isinstance(error, Image.UnidentifiedImageError):
            problem = f"this is no picture of a format that is read here ({', '.join(FORMATS)})"
            raise PictureError("image_format", problem) from error
        if isinstance(error, Exception) and not isinstance(error, PictureError):
            # Pillow's decoders raise almost any type on damaged files (OSError, SyntaxError, struct.error, ...)
            reason = "image_truncated" if "truncated" in str(error).lower() else "image_broken"
            raise PictureError(reason, f"the picture cannot be decoded: {error or type(error).__name__}") from error


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header only and applies the limits."""
    if not data:
        raise PictureError("image_empty", "the picture has no bytes")
    if len(data) > MAX_BYTES:
        raise PictureError("image_too_large", f"the picture has {len(data):,} bytes, at most {MAX_BYTES:,} are read")
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    return _within(image, max_pixels)


def _within(image: Image.Image, max_pixels: int) -> Image.Image:
    if not image.width * image.height:
        raise PictureError("image_empty", "the picture has no pixel")
    if image.width * image.height > max_pixels:
        problem = f"the picture has {image.width} x {image.height} pixels, at most {max_pixels:,} are decoded"
        raise PictureError("image_too_large", problem)
    return image


def _upright(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise PictureError("image_format", f"pictures of mode {image.mode} are not read; save it with 8 bits a channel")
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return image.convert("RGB")


def read_file(root: Path, relative: str) -> bytes:
    """Reads a picture's file below `root`.

    Raises:
        PictureError: The path is absolute, or it (or a link in it) leads outside `root`; no such file; too large.
    """
    if not relative or "\0" in relative or os.path.isabs(relative) or ".." in Path(relative).parts:
        raise PictureError("path_outside", f"the path must lead from the image folder downwards: {relative!r}")
    base = root.resolve()
    path = (base / relative).resolve()
    if not path.is_relative_to(base):
        raise PictureError("path_outside", f"{relative!r} leads outside the image folder {root}")
    try:
        if not path.is_file():
            raise PictureError("image_missing", f"no such file in {root}: {relative}")
        if path.stat().st_size > MAX_BYTES:
            raise PictureError("image_too_large", f"{relative} has over {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise PictureError("image_unreadable", f"{relative} cannot be read: {error.strerror}") from error


def perceptual_hashes(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """64-bit perceptual hashes: signs of the 8 x 8 lowest DCT-II frequencies of the grey thumb against their median.

    Args:
        thumbs: `[n, 32, 32, 3]` uint8.

    Returns:
        `[n]` uint64; near duplicates differ in few bits. The mean (first coefficient) takes no part in the median.
    """
    grey = thumbs.astype(np.float64) @ np.array([0.299, 0.587, 0.114])  # [n, 32, 32]
    basis = _dct_basis()
    low = (basis @ grey @ basis.T).reshape(len(thumbs), 64)  # [n, 64]
    low = np.round(low, 6)  # a flat picture has noise of either sign in its zeros
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)  # [n, 64]
    weights = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))
    return (bits * weights).sum(axis=1, dtype=np.uint64)


@cache
def _dct_basis() -> NDArray[np.float64]:
    """The first 8 rows of the orthonormal DCT-II matrix of size 32: `[8, 32]`."""
    k, x = np.arange(8)[:, None], np.arange(THUMB)[None, :]
    basis = np.cos(np.pi * (2 * x + 1) * k / (2 * THUMB)) * np.sqrt(2 / THUMB)
    basis[0] /= np.sqrt(2)
    return basis
