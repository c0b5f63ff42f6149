"""The one way in which a picture is made ready for a network that is not being trained.

    path, bytes, Pillow, array, tensor ──► `as_picture` ──► RGB, upright ──► `sized` ──► (S, S, 3) uint8
                                                           masks ──► `sized_masks`, the same geometry
                                         (S, S, 3) uint8 of B pictures ──► `as_tensor` ──► (B, 3, S, S)

Training's validation, embedding and export all call this, so a picture gives the same numbers in each. Pillow resizes,
since the weights of timm and open_clip were judged with it; OpenCV's resize of the same name gives other numbers. The
geometry is torchvision's (shorter side, then centre crop), which a test holds it to.

Letters: B pictures, K masks, H, W of the picture, S side in pixels that the network takes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fashionkit.catalog.images import MAX_BYTES, PictureError, as_shown, open_picture
from fashionkit.vision.preprocess import Preprocess

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
_FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "bilinear", "bicubic", "lanczos")}


def as_picture(image: object) -> Image.Image:
    """Any sort of picture as Pillow's RGB, upright, on white.

    Args:
        image: A path; encoded bytes, or an open file of them; a Pillow picture; an array `(H, W)`, `(H, W, 3)` or
            `(H, W, 4)` uint8; a tensor `(3, H, W)`, uint8 or floats in 0..1.

    Raises:
        PictureError: A URL, no picture, too large, truncated, or an array of another shape, type or range.
    """
    if isinstance(image, Image.Image):
        return as_shown(image)
    if hasattr(image, "read"):
        image = image.read()
    if isinstance(image, bytes | bytearray | memoryview):
        return open_picture(bytes(image))
    if isinstance(image, str | Path):
        return open_picture(_read(image))
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if type(image).__module__.split(".")[0] == "torch" and hasattr(image, "detach"):
        return _of_array(_channels_last(image))
    problem = f"a picture is a path, bytes, a Pillow picture, an array or a tensor, not {type(image).__name__}"
    raise PictureError("image_type", problem)


def _read(path: str | Path) -> bytes:
    if "://" in str(path):
        raise PictureError("image_type", f"{path}: nothing is fetched from a URL; download the picture first")
    path = Path(path)
    try:
        if not path.is_file():
            raise PictureError("image_missing", f"{path}: no such file")
        if path.stat().st_size > MAX_BYTES:
            raise PictureError("image_too_large", f"{path}: over {MAX_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise PictureError("image_unreadable", f"the file cannot be read: {error}") from error


def _channels_last(tensor: Any) -> Array:
    """(H, W, 3) of a tensor (3, H, W)."""
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel():
        raise PictureError("image_shape", f"a tensor must be (3, height, width), not {tuple(tensor.shape)}")
    try:  # numpy knows neither bfloat16 nor sparse tensors nor those without data
        plain = tensor.detach().cpu()
        array: Array = (plain.double() if plain.is_floating_point() else plain).numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise PictureError("image_type", f"this tensor cannot be read: {error}") from error
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PictureError("image_range", "a tensor of floats must hold values in 0..1; is it normalised already?")
        array = np.rint(array * 255).astype(np.uint8)
    return array.transpose(1, 2, 0)


def _of_array(array: Array) -> Image.Image:
    shown = array.shape[2:] in ((), (3,), (4,)) and array.ndim in (2, 3) and array.size > 0
    if not shown or array.dtype != np.uint8:
        problem = f"an array must be uint8 (height, width, 3), not {array.dtype} {array.shape}"
        raise PictureError("image_shape", problem)
    return as_shown(Image.fromarray(np.ascontiguousarray(array)))


def sized(picture: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """(S, S, 3) uint8: the picture resized and cropped as the weights want it.

    Args:
        picture: RGB.
    """
    scaled, box = _geometry(picture.size, preprocess)
    filter_ = _FILTERS[preprocess.interpolation]
    picture = picture if picture.size == scaled else picture.resize(scaled, filter_)
    if box == (0, 0, *picture.size):
        return np.asarray(picture)
    if box[0] >= 0 and box[1] >= 0 and box[2] <= scaled[0] and box[3] <= scaled[1]:
        return np.asarray(picture.crop(box))
    around = tuple(round(255 * value) for value in preprocess.mean)  # what the network sees as 0
    canvas = Image.new("RGB", (preprocess.size, preprocess.size), around)
    canvas.paste(picture, (-box[0], -box[1]))
    return np.asarray(canvas)


def sized_masks(masks: Array, preprocess: Preprocess) -> npt.NDArray[np.bool_]:
    """(K, S, S) bool: masks brought to where `sized` brings their picture.

    Args:
        masks: (K, H, W) bool, of the upright picture.
    """
    found = np.zeros((len(masks), preprocess.size, preprocess.size), bool)
    scaled, box = _geometry((masks.shape[2], masks.shape[1]), preprocess)
    for number, mask in enumerate(masks):
        image = Image.fromarray(mask.astype(np.uint8) * 255).resize(scaled, Image.Resampling.BILINEAR)
        found[number] = np.asarray(image.crop(box)) >= 128  # beyond the edge `crop` gives 0
    return found


def _geometry(size: tuple[int, int], preprocess: Preprocess) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Width and height after resizing, and the box (left, top, right, bottom) of it that is kept."""
    side, (width, height) = math.floor(preprocess.size / preprocess.crop), size
    if preprocess.resize == "squash":
        scaled = (side, side)
    else:
        short, long = min(width, height), max(width, height)
        # A shop's banner of 1 x 5000 pixels must not become one of 224 x 1,120,000.
        if preprocess.resize == "longest":
            ends = (max(1, int(side * short / long)), side)
        else:
            ends = (side, min(int(side * long / short), 64 * side))
        scaled = ends if width <= height else (ends[1], ends[0])
    left, top = (round((part - preprocess.size) / 2) for part in scaled)
    return scaled, (left, top, left + preprocess.size, top + preprocess.size)


def as_tensor(pixels: Sequence[Array] | Array, preprocess: Preprocess) -> Tensor:
    """(B, 3, S, S) float32, normalised by the mean and deviation of the weights.

    Args:
        pixels: (B, S, S, 3) uint8, or a list of (S, S, 3).
    """
    import torch

    stacked = torch.from_numpy(np.stack(list(pixels)) if not isinstance(pixels, np.ndarray) else pixels)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocess.mean, preprocess.std))
    # (x / 255 - mean) / std as one product and one sum
    return stacked.permute(0, 3, 1, 2).float().mul_(1 / (255 * std)).sub_(mean / std).contiguous()


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    """The picture as bytes of an image file."""
    out = io.BytesIO()
    picture.save(out, form)
    return out.getvalue()
