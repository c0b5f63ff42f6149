"""Items by words: CLIPSeg (arXiv 2112.10003), as IRSN finds its regions.

    prompts ──► text tower, once ──► (P, D) ─────────────────────┐
    (B, 3, S, S) ──► image tower, once a picture ──► activations ┴──► decoder ──► (B, P, S, S) ──► sigmoid
         ──► largest of an item's prompts (B, 4, S, S) ──► size of the picture ──► above a threshold

Prompts, threshold and the largest of several prompts are our own: the paper's are not published in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fashionkit.tables import InputError
from fashionkit.vision.region_base import ITEMS, Masks, Picture
from fashionkit.vision.segment import TOKENIZER, ModelFolder, SegmentRegions

if TYPE_CHECKING:
    from torch import Tensor

CLIPSEG: Final = "CIDAS/clipseg-rd64-refined"  # Apache-2.0, 603 MB
PROMPTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "hat, cap, hair accessory, glasses": ("head",),
        "shirt, jacket, coat, sweater": ("top",),
        "pants, skirt": ("bottom",),
        "dress": ("top", "bottom"),
        "shoes, boots": ("shoes",),
    }
)


class ClipSegRegions(SegmentRegions):
    """What CLIPSeg finds for prompts.

    Args:
        source: A folder with the model's files, or its name on the hub. prompts: The items that each prompt counts for.
        threshold: A pixel belongs to an item above this probability, above 0 and below 1.
        revision, download: Of the hub; without `download` only its cache is looked at.
        device: Where it runs. size: Pictures of one pass.

    Raises:
        InputError: The model is not there or no CLIPSeg, a setting is out of range, or a prompt is too long. Whether
            transformers is installed shows when it is first asked.
    """

    kind = "clipseg"
    network_class = "CLIPSegForImageSegmentation"

    def __init__(
        self,
        source: str | Path = CLIPSEG,
        prompts: Mapping[str, Sequence[str]] = PROMPTS,
        threshold: float = 0.4,
        revision: str | None = None,
        download: bool = False,
        device: str = "cpu",
        size: int = 8,
    ):
        if not 0 < threshold < 1:
            raise InputError("a threshold of probabilities lies between 0 and 1", found=threshold)
        files = ModelFolder(source, "clipseg", revision, download, TOKENIZER)
        super().__init__(files, prompts, [float(threshold)], device, size)
        self.threshold = float(threshold)
        self._words: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_words": None}

    def soft(self, images: Sequence[Picture]) -> list[NDArray[np.float32]]:
        """(4, H, W) probabilities for each picture: what `regions` holds against the threshold."""
        import torch

        with torch.inference_mode():
            return [soft.cpu().numpy() for x, sizes in self._prepared(images) for soft in self._soft(x, sizes)]

    def _masks(self, x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Masks]:
        return [(soft > self.threshold).cpu().numpy() for soft in self._soft(x, sizes)]

    def _soft(self, x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """(4, H, W) probabilities for each of (B, 3, S, S)."""
        import torch
        from torch.nn import functional as F

        chances = self._logits(x).sigmoid()  # B P s s
        if not bool(chances.isfinite().all()):
            raise InputError("the network gives no numbers; are its weights damaged?", file=self.files.folder)
        items = torch.zeros(len(x), len(ITEMS), *chances.shape[2:], device=x.device)
        for number, counted in enumerate(self.places.values()):
            for row in map(ITEMS.index, counted):
                items[:, row] = torch.maximum(items[:, row], chances[:, number])
        pairs = zip(items, sizes, strict=True)
        return [F.interpolate(soft[None], size, mode="bilinear", antialias=True)[0].clamp(0, 1) for soft, size in pairs]

    def _logits(self, x: Tensor) -> Tensor:
        """(B, P, s, s). The network's own `forward` would run the image tower again for each prompt."""
        network, words = self.network, self._embedded()  # P D
        seen = network.clip.vision_model(x, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
        layers = [seen[layer + 1].repeat_interleave(len(words), 0) for layer in network.extract_layers]  # B*P N W
        logits = network.decoder(layers, words.repeat(len(x), 1)).logits
        return logits.view(len(x), len(words), *logits.shape[-2:])

    def _embedded(self) -> Tensor:
        """(P, D) of the prompts, worked out once."""
        if self._words is None:
            tokens = self.files.tokenizer()(list(self.places), padding=True, return_tensors="pt")
            most = self.network.config.text_config.max_position_embeddings
            if tokens["input_ids"].shape[1] > most:
                raise InputError(
                    f"a prompt has more than the {most} tokens that this model takes", found=max(self.places)
                )
            ids, seen = (tokens[name].to(self.device) for name in ("input_ids", "attention_mask"))
            self._words = self.network.get_conditional_embeddings(len(ids), ids, seen)
        return self._words
