"""Items by labels: SegFormer (arXiv 2105.15203) trained to parse clothes.

    (B, 3, S, S) ──► network ──► (B, L, s, s) ──► (B, L, S, S) ──► best label of each pixel ──► size of the picture
         ──► items that the label counts for

The table of labels and items is our own: a dress counts for top and bottom, hair and skin for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fashionkit.tables import InputError
from fashionkit.vision.region_base import ITEMS, Masks, resized_masks
from fashionkit.vision.segment import CONFIG, ModelFolder, SegmentRegions

if TYPE_CHECKING:
    from torch import Tensor

SEGFORMER: Final = "mattmdjaga/segformer_b2_clothes"
LABELS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(  # those of the ATR data set
    {
        "hat": ("head",), "sunglasses": ("head",),
        "upper-clothes": ("top",), "scarf": ("top",),
        "dress": ("top", "bottom"),
        "skirt": ("bottom",), "pants": ("bottom",), "belt": ("bottom",),
        "left-shoe": ("shoes",), "right-shoe": ("shoes",),
    }
)  # fmt: skip


class SegFormerRegions(SegmentRegions):
    """What a SegFormer for clothes finds.

    Args:
        source: A folder with the model's files, or its name on the hub.
        labels: The items that each label counts for, as the model's config spells it; capitals do not matter.
        revision, download: Of the hub; without `download` only its cache is looked at.
        device: Where it runs. size: Pictures of one pass.

    Raises:
        InputError: The model is not there or no SegFormer, or it has no such label. Whether transformers is installed
            shows when it is first asked.
    """

    kind = "segformer"
    network_class = "SegformerForSemanticSegmentation"

    def __init__(
        self,
        source: str | Path = SEGFORMER,
        labels: Mapping[str, Sequence[str]] = LABELS,
        revision: str | None = None,
        download: bool = False,
        device: str = "cpu",
        size: int = 8,
    ):
        files = ModelFolder(source, "segformer", revision, download)
        super().__init__(files, {str(name).casefold(): items for name, items in labels.items()}, [], device, size)
        said: Any = files.config.get("id2label")
        try:
            known = {str(name).casefold(): int(number) for number, name in said.items()}
        except (AttributeError, ValueError) as error:
            problem = "the config has no table `id2label` of numbers and labels"
            raise InputError(problem, file=files.folder / CONFIG, found=said) from error
        for name in self.places:
            if name not in known:
                raise InputError("the model has no such label", file=files.folder / CONFIG, found=name, allowed=known)
        self._numbers = [[known[n] for n, items in self.places.items() if item in items] for item in ITEMS]

    def _masks(self, x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Masks]:
        from torch.nn import functional as F

        logits = self.network(pixel_values=x).logits  # B L s s
        if not bool(logits.isfinite().all()):
            raise InputError("the network gives no numbers; are its weights damaged?", file=self.files.folder)
        best = F.interpolate(logits, x.shape[2:], mode="bilinear").argmax(1).cpu().numpy()  # B S S
        return [
            resized_masks(np.stack([np.isin(labels, numbers) for numbers in self._numbers]), *size)
            for labels, size in zip(best, sizes, strict=True)
        ]
