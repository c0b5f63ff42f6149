"""Backbones under one contract, whatever library and layout they come from.

                        ┌─► spatial (B, C, h, w)   always channels first, class and register tokens dropped
    pictures (B, 3, H, W)
                        └─► pooled  (B, D)         what the network itself makes of the whole picture

`build_backbone` makes them: `timm/<arch>` (any image model of timm with a map or tokens, without its classifier) and
`open_clip/<arch>` (any visual tower, with the text tower beside it). How to add one: docs/adding_a_backbone.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fashionkit.tables import InputError
from fashionkit.vision.preprocess import LARGEST, Preprocess
from fashionkit.vision.tensors import fingerprint
from fashionkit.vision.weights import parse_source

# Legend: B pictures, C channels of the map, h × w its cells, D width of the vector, N texts
LEVELS = ("none", "stem", "all")


class Backbone(nn.Module):
    """What all backbones can do; one network of a library stands inside.

    Attributes:
        name: As given to `build_backbone`. preprocess: How its weights want pictures prepared.
        channels: C. dim: D. stride: Pixels for each cell of the map.
        stages: How many stages `freeze` counts, stem first: blocks of a ViT, resolutions of a ResNet.
        has_text: Whether `text` works.
    """

    has_text = False
    channels: int
    dim: int
    stride: int

    def __init__(self, name: str, network: nn.Module, preprocess: Preprocess):
        super().__init__()
        self.name, self.preprocess = name, preprocess
        self.network: Any = network
        # Some networks have fixed tables among their parameters; thawing must leave them fixed.
        self._trainable = frozenset(key for key, value in network.named_parameters() if value.requires_grad)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) map and (B, D) vector of (B, 3, H, W) prepared pictures, in one pass."""
        raise NotImplementedError

    def spatial(self, x: Tensor) -> Tensor:
        """(B, C, h, w) map of (B, 3, H, W) prepared pictures."""
        return self.both(x)[0]

    def pooled(self, x: Tensor) -> Tensor:
        """(B, D) vectors of (B, 3, H, W) prepared pictures, not normed."""
        return self.both(x)[1]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same as `both`, for wrappers that call the module."""
        return self.both(x)

    def text(self, texts: Sequence[str]) -> Tensor:
        """(N, D) vectors of texts in the space of `pooled`, not normed.

        Raises:
            InputError: There is no text tower, or its tokenizer is not at hand.
        """
        hint = "only open_clip/<arch> has one, e.g. open_clip/ViT-B-32"
        raise InputError("this backbone has no text tower", found=self.name, hint=hint)

    def fingerprint(self) -> str:
        """SHA-256 of the vision tower's tensors: with `preprocess`, the key under which its features may be cached."""
        return fingerprint(self._tower())

    @property
    def stages(self) -> int:
        """How many stages `freeze` can leave trainable."""
        return len(self._stages())

    def freeze(self, level: str | int) -> None:
        """Says which parameters train; a text tower trains at `none` alone.

        Frozen parts stay in evaluation mode after `train()`: their BatchNorm keeps its statistics, nothing is dropped.

        Args:
            level: `none`: all train. `stem`: all but the first stage. A number: only so many last stages, with the
                norms and heads after them. `all`: none trains.

        Raises:
            InputError: There is no such level, or fewer stages.
        """
        stages = self._stages()
        if isinstance(level, bool) or not isinstance(level, str | int):
            raise InputError("no such level of freezing", found=level, allowed=(*LEVELS, "a number of last stages"))
        if isinstance(level, str) and level not in LEVELS:
            raise InputError("no such level of freezing", found=level, allowed=(*LEVELS, "a number of last stages"))
        if isinstance(level, int) and not 0 <= level <= len(stages):
            raise InputError(f"{self.name} has {len(stages)} stages to leave trainable", found=level)
        last = {"none": len(stages), "stem": len(stages) - 1, "all": 0}[level] if isinstance(level, str) else level
        free = set(self._trainable) if level == "none" else {key for s in stages[len(stages) - last :] for key in s}
        for key, value in self.network.named_parameters():
            value.requires_grad_(key in free and key in self._trainable)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Training mode for what trains; frozen parts stay in evaluation mode."""
        super().train(mode)
        if mode:
            _settle(self.network)
        return self

    def _tower(self) -> nn.Module:
        """The part that pictures go through."""
        network: nn.Module = self.network
        return network

    def _stages(self) -> list[list[str]]:
        """Names of the network's parameters that pictures go through, stage by stage from the stem."""
        raise NotImplementedError

    def _measure(self) -> None:
        """Takes C, D and the stride from a black picture: what a network says of itself is not always what it gives."""
        size = self.preprocess.size
        was = self.training
        self.eval()
        with torch.no_grad(), taking(self.name, size):
            cells, vector = self.both(torch.zeros(1, 3, size, size))
        self.train(was)
        if cells.ndim != 4 or vector.ndim != 2:
            found = f"map {tuple(cells.shape)}, vector {tuple(vector.shape)}"
            raise InputError(f"{self.name} gives no map and vector", found=found)
        self.channels, self.dim = cells.shape[1], vector.shape[1]
        if cells.shape[2] not in (size // self.stride, -(-size // self.stride)):
            self.stride = round(size / cells.shape[2])


def build_backbone(name: str, weights: str | Path | None = None, size: int | None = None) -> Backbone:
    """A backbone in evaluation mode, all of it trainable.

    Args:
        name: `timm/<arch>` or `open_clip/<arch>`; `timm/<arch>@16` dilates the last stages of a convolutional network,
            so that its map has a cell for every 16 pixels; `+stages` puts statistics of the last two stages beside the
            vector, which tell finer differences. weights: See `fashionkit.vision.weights`; None is random.
        size: Height and width of its input, where not the weights' own; tables of positions are resampled.

    Raises:
        InputError: The name is unknown, the weights cannot be had or do not fit, or the size cannot be taken.
    """
    library, _, arch = str(name).partition("/")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST):
        raise InputError(f"the size is a whole number of pixels, 1 to {LARGEST}", found=size)
    source = parse_source(weights)
    backbone: Backbone
    # Each library takes seconds to import, so only the one that is asked for is.
    if library == "timm":
        from fashionkit.vision.timm_backbone import build_timm

        backbone = build_timm(arch, source, size)
    elif library == "open_clip":
        from fashionkit.vision.clip_backbone import build_clip

        backbone = build_clip(arch, source, size)
    else:
        hint = "timm/<arch> or open_clip/<arch>, e.g. timm/resnet18"
        raise InputError("no such backbone", found=name, allowed=_names(), hint=hint)
    backbone._measure()
    return backbone.eval()


@contextmanager
def taking(name: str, size: int) -> Iterator[None]:
    """Turns what a library raises about an input size into an InputError."""
    try:
        yield
    except InputError:
        raise
    # The libraries refuse a size by assertion, by shape or by index.
    except (RuntimeError, AssertionError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        hint = f"the network says: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise InputError(f"{name} cannot take pictures of {size} px", hint=hint) from error


def sized(preprocess: Preprocess, size: int | None) -> Preprocess:
    """The preprocessing at another input size."""
    return preprocess if size is None else replace(preprocess, size=size)


def map_of(network: Any, features: Tensor, picture: Sequence[int]) -> Tensor:
    """(B, C, h, w) of what a timm model's `forward_features` gives.

    Args:
        network: The model. picture: H and W of the pictures.
        features: (B, C, h, w), (B, h, w, C) or (B, prefix + h * w, C).
    """
    if not isinstance(features, Tensor):
        raise ValueError(f"it gives {type(features).__name__}, not one map")
    if features.ndim == 4:
        last = str(getattr(network, "output_fmt", "NCHW")) in ("NHWC", "Format.NHWC")
        channels = getattr(network, "num_features", None)
        last = last or (features.shape[-1] == channels and features.shape[1] != channels)
        return features.permute(0, 3, 1, 2).contiguous() if last else features
    if features.ndim != 3:
        raise ValueError(f"it gives features of shape {tuple(features.shape)}, which is no map")
    prefix = getattr(network, "num_prefix_tokens", None)
    if prefix is None:  # not all say so: CoaT and VOLO have a class token where one is too many for a grid
        prefix = int(picture[0] == picture[1] and isqrt(features.shape[1] - 1) ** 2 == features.shape[1] - 1)
    cells = features[:, prefix:]  # (B, h * w, C)
    b, n, c = cells.shape
    h = round((n * picture[0] / picture[1]) ** 0.5)
    if h == 0 or n % h:
        raise ValueError(f"{n} tokens are no grid")
    return cells.transpose(1, 2).reshape(b, c, h, n // h)


def _settle(module: nn.Module) -> None:
    """Puts every part whose parameters are all frozen in evaluation mode."""
    own = list(module.parameters())
    if own and not any(value.requires_grad for value in own):
        module.eval()
        return
    for child in module.children():
        _settle(child)


def _names() -> list[str]:
    import open_clip  # type: ignore[import-untyped]
    import timm

    return [f"timm/{arch}" for arch in timm.list_models()] + [f"open_clip/{arch}" for arch in open_clip.list_models()]
