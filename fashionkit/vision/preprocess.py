"""What a picture must go through before a network sees it. These are facts of the weights, not of the architecture.

    picture ─► shorter side to size / crop ─► centre size × size ─► values in 0..1 ─► (x - mean) / std ─► network
               (`squash`: both sides)

The same architecture is published with different means: EfficientNet-lite0 from TensorFlow wants 0.5 throughout, most
others ImageNet's. Whoever loads weights takes this record from them; no picture is touched here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

from fashionkit.tables import InputError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
RESIZES = ("shortest", "longest", "squash")  # which side becomes `size`; `squash` gives up the aspect ratio
LARGEST = 8192
CONFIGS = ("config.json", "open_clip_config.json")  # beside weights, as the Hugging Face hub keeps them
Triple = tuple[float, float, float]
# What open_clip assumes where a config is silent.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocess:
    """How pictures are prepared for some weights.

    Attributes:
        size: Height and width in pixels of what the network takes.
        mean: Of each channel (red, green, blue), for values in 0..1.
        std: Of each channel, above 0.
        interpolation: One of INTERPOLATIONS.
        crop: Share of the resized side that the centre crop keeps, above 0, at most 1.
        resize: One of RESIZES.

    Raises:
        InputError: A value is of the wrong type or out of range.
    """

    size: int
    mean: Triple
    std: Triple
    interpolation: str
    crop: float
    resize: str = "shortest"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 1 <= self.size <= LARGEST:
            _wrong("size", self.size, f"a whole number of pixels, 1 to {LARGEST}")
        object.__setattr__(self, "mean", _triple("mean", self.mean))
        object.__setattr__(self, "std", _triple("std", self.std))
        if min(self.std) <= 0:
            _wrong("std", self.std, "pictures are divided by it, so each value is above 0")
        for key, allowed in (("interpolation", INTERPOLATIONS), ("resize", RESIZES)):
            if getattr(self, key) not in allowed:
                raise InputError("cannot prepare pictures so", column=key, found=getattr(self, key), allowed=allowed)
        if not _is_number(self.crop) or not 0 < self.crop <= 1:
            _wrong("crop", self.crop, "a share above 0, at most 1")
        object.__setattr__(self, "crop", float(self.crop))

    def to_dict(self) -> dict[str, Any]:
        """The record in plain types, fit for JSON and YAML."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """The record that `to_dict` wrote.

        Raises:
            InputError: A key is unknown or missing, or its value is wrong.
        """
        if not isinstance(values, Mapping):
            raise InputError("the preprocessing is no mapping of keys to values", found=values)
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise InputError("unknown key of the preprocessing", found=key, allowed=known)
        missing = [key for key in known if key not in values and key != "resize"]
        if missing:
            raise InputError(f"the preprocessing lacks {', '.join(missing)}", allowed=known)
        return cls(**values)


def whole(preprocess: Preprocess, resize: str) -> Preprocess:
    """The same with another way to bring a picture to its size, and all of that kept.

    Raises:
        InputError: There is no such way.
    """
    return replace(preprocess, resize=resize, crop=1.0)


def from_timm(config: Mapping[str, Any]) -> Preprocess:
    """The record from timm's keys: `input_size` (3, h, w), `mean`, `std`, `interpolation`, `crop_pct`, `crop_mode`."""
    resize = {"squash": "squash", "border": "longest"}.get(config.get("crop_mode", "center"), "shortest")
    size, crop = int(config["input_size"][-1]), config.get("crop_pct") or 1.0
    return Preprocess(size, config["mean"], config["std"], config.get("interpolation") or "bilinear", crop, resize)


def from_open_clip(config: Mapping[str, Any], size: int | Sequence[int]) -> Preprocess:
    """The record from open_clip's keys: `mean`, `std`, `interpolation`, `resize_mode`; and the tower's `size`."""
    edge = size if isinstance(size, int) else int(size[-1])
    mean, std = config.get("mean", CLIP_MEAN), config.get("std", CLIP_STD)
    return Preprocess(
        edge, mean, std, config.get("interpolation", "bicubic"), 1.0, config.get("resize_mode", "shortest")
    )


def preprocess_beside(folder: Path) -> Preprocess | None:
    """What the config of a folder says about preparing pictures, in our words, timm's or open_clip's."""
    for name in CONFIGS:
        file = folder / name
        if not file.is_file():
            continue
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError("this is no JSON", file=file, found=str(error)) from error
        try:
            found = _preprocess_in(config) if isinstance(config, dict) else None
        except (InputError, TypeError, LookupError, AttributeError, ValueError) as error:
            raise InputError(f"its preprocessing cannot be used: {error}", file=file) from error
        if found is not None:
            return found
    return None


def _preprocess_in(config: dict[str, Any]) -> Preprocess | None:
    if "preprocess" in config:
        return Preprocess.from_dict(config["preprocess"])
    if "pretrained_cfg" in config:
        return from_timm(config["pretrained_cfg"])
    if "preprocess_cfg" in config:
        size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
        return from_open_clip(config["preprocess_cfg"], size)
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _triple(key: str, value: object) -> Triple:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3 or not all(map(_is_number, value)):
        _wrong(key, value, "three numbers: red, green, blue")
    return (float(value[0]), float(value[1]), float(value[2]))


def _wrong(key: str, found: object, hint: str) -> NoReturn:
    raise InputError("cannot prepare pictures so", column=key, found=found, hint=hint)
