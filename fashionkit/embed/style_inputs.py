"""What a style network is given of a picture: pixels, masks of items, and pixels for the general backbone.

    pictures ──┬─► `sized` ─────────────────────────► pixels (n, S, S, 3)
               ├─► provider ─► `sized_masks` ───────► masks (n, K, S, S)
               └─► `sized` for the general backbone ─► general backbone ─► (n, G)

Letters: n pictures, S side in pixels, K items, G width of the general vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from fashionkit.models.style_model import StyleModel
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError
from fashionkit.vision.pictures import as_tensor, sized, sized_masks
from fashionkit.vision.region_base import RegionProvider, regions_of
from fashionkit.vision.regions import build_regions


class StyleInput(NamedTuple):
    """A picture made ready.

    Attributes:
        pixels: (S, S, 3) uint8. masks: (K, S, S) bool, or None. general: Pixels for the general backbone, or None.
    """

    pixels: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_] | None
    general: npt.NDArray[np.uint8] | None


class StyleInputs:
    """Makes pictures ready for a model's style network.

    Args:
        model: It. count: Pictures there are. ids: Theirs, for providers that look them up; None: their numbers.
        provider: Finds the items, see `as_provider`; None: the one that the model was trained with.

    Raises:
        InputError: The model has no style network, ids of another number, or no such provider can be built here.
    """

    def __init__(
        self,
        model: VisionModel,
        count: int,
        ids: Sequence[str] | None = None,
        provider: RegionProvider | str | None = None,
    ):
        style = style_network(model)
        self.model, self.ids = model, [str(number) for number in range(count)] if ids is None else list(ids)
        if len(self.ids) != count:
            raise InputError("one id is needed for each picture", found=f"{len(self.ids)} ids, {count} pictures")
        given = None if provider is None else as_provider(provider)
        self.provider = (given or style.provider()) if style.needs_masks else None

    def __call__(self, rows: list[int], pictures: list[Image.Image]) -> list[StyleInput]:
        """Some pictures, whose rows among all are given."""
        how, general = self.model.preprocess, self.model.general
        masks: list[Any] = [None] * len(pictures)
        if self.provider is not None:
            whole = regions_of(self.provider, pictures, [self.ids[row] for row in rows])
            masks = [sized_masks(each, how) for each in whole]
        others = [None if general is None else sized(each, general.backbone.preprocess) for each in pictures]
        pixels = (sized(each, how) for each in pictures)
        return [StyleInput(*each) for each in zip(pixels, masks, others, strict=True)]

    def beside(self, prepared: Sequence[StyleInput], device: torch.device) -> tuple[Tensor | None, Tensor | None]:
        """(n, K, S, S) masks and (n, G) general vectors; None where the network takes none."""
        masks = [each.masks for each in prepared if each.masks is not None]
        others = [each.general for each in prepared if each.general is not None]
        general = None
        if self.model.general is not None:
            x = as_tensor(others, self.model.general.backbone.preprocess)
            general = self.model.general.vectors(x.to(device))
        return torch.from_numpy(np.stack(masks)).to(device) if masks else None, general


def as_provider(provider: RegionProvider | str) -> RegionProvider:
    """A provider of regions: itself, or by its name in `build_regions`.

    Raises:
        InputError: No such name, one that needs more than a name, or something else.
    """
    if not isinstance(provider, str):
        if isinstance(provider, type) or not callable(getattr(provider, "regions", None)):
            hint = 'e.g. provider="foreground", or an object of fashionkit.vision.regions'
            raise InputError("this is no provider of regions", column="provider", found=provider, hint=hint)
        return provider
    if "catalog" in provider.split(":"):
        hint = 'say provider=CatalogRegions("FOLDER") with ids=, the ids of the pictures in that catalogue'
        raise InputError("these regions come from a catalogue", column="provider", found=provider, hint=hint)
    return build_regions(provider)


def style_network(model: VisionModel) -> StyleModel:
    """The model's style network.

    Raises:
        InputError: It has none.
    """
    if model.style is None:
        hint = "load a folder of a model that was trained on styles (`fashionkit share` writes one)"
        raise InputError(f"this model names no styles: it is {model.backbone.name} without a style network", hint=hint)
    return model.style
