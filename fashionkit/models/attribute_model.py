"""A network that names attributes: what it reads of a picture, how that is scaled, its heads, their calibration.

    backbone's vector (B, D) ─► unit norm ─┬─► (x - mean) / std ─► AttributeHeads ─► logits ─► Calibration ─► `predict`
    pixels (B, S, S, 3) ─► colour (B, Q) ──┘

Networks trained on ImageNet are made to overlook colour, so statistics of the pixels' colours stand beside the vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.attributes import AttributeHeads, AttributeOutput, AttributeSpec, Calibration
from fashionkit.tables.errors import InputError
from fashionkit.vision.colour import COLOURS, colour_statistics

# Legend: B pictures, D width of the backbone's vector, Q numbers of colour, S side in pixels


class AttributeModel(nn.Module):
    """Attribute heads with everything they need beside a backbone.

    Args:
        dim: D. specs: One for each attribute. colour: Colour statistics stand beside the vector.
        hidden, dropout: See `AttributeHeads`.

    Attributes:
        calibration: Of the heads; the identity until it is fitted.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, dim: int, specs: Sequence[AttributeSpec], colour: bool = True, hidden: int = 0, dropout: float = 0.1
    ):
        super().__init__()
        self.dim, self.colour, width = dim, colour, dim + COLOURS * colour
        self.heads = AttributeHeads(width, specs, hidden, dropout)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.calibration = Calibration()

    @property
    def specs(self) -> tuple[AttributeSpec, ...]:
        """One for each attribute."""
        return self.heads.specs

    def inputs(self, vector: Tensor, pixels: Tensor | None) -> Tensor:
        """(B, D + Q) of vectors (B, D) of any norm and pixels (B, S, S, 3) uint8, which may be None without colour."""
        parts = [F.normalize(vector.float(), dim=1)]
        if self.colour:
            assert pixels is not None, "colour statistics need pixels"
            parts.append(colour_statistics(pixels).to(parts[0]))
        return torch.cat(parts, dim=1)

    def fit_scale(self, inputs: Tensor) -> None:
        """Takes mean and deviation from the (n, D + Q) inputs of training pictures."""
        self.mean.copy_(inputs.mean(0))
        self.std.copy_(inputs.std(0, correction=0).clamp(min=1e-6))

    def forward(self, inputs: Tensor) -> AttributeOutput:
        """Logits of (B, D + Q) inputs."""
        return self.heads((inputs - self.mean) / self.std)

    def to_dict(self) -> dict[str, Any]:
        """What builds the same model, in plain types, without its tensors."""
        heads = self.heads.to_dict()
        kept = {"dim": self.dim, "colour": self.colour, "calibration": self.calibration.to_dict()}
        return {**kept, **{key: heads[key] for key in ("specs", "hidden", "dropout")}}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> AttributeModel:
        """The reverse of `to_dict`, with fresh tensors.

        Raises:
            InputError: An unknown or missing key, or a value out of range.
        """
        rest = {key: value for key, value in config.items() if key != "calibration"}
        try:
            model = cls(**{**rest, "specs": [AttributeSpec(**spec) for spec in rest["specs"]]})
        except (KeyError, TypeError) as why:
            raise InputError(f"no configuration of an attribute model: {why}", found=dict(config)) from why
        model.calibration = Calibration.from_dict(config.get("calibration", {}))
        return model
