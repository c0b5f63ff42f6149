"""A network that names attributes: what it reads of a picture, how that is scaled, its heads, their calibration.

    backbone's vector (B, D) ─► unit norm ─┬─► (x - mean) / std, at most CLIP ─┬─► heads of shape, cut, use, …
    colour statistics (B, Q) ──────────────┘                                   └─► heads of colour, a net of their own
                                           logits ─► Calibration ─► `predict`

A backbone trained on ImageNet keeps little of colour in its vector, so statistics of the pixels' colours stand beside
it for those attributes that are about colour. The others do without: they would learn that boots are black.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.attributes import AttributeHeads, AttributeOutput, AttributeSpec
from fashionkit.models.calibration import Calibration
from fashionkit.tables.errors import InputError
from fashionkit.vision.colour import COLOUR_DIM, colour_statistics

# Legend: B pictures, D width of the backbone's vector, Q numbers of colour, S side in pixels
MOST = 1_000_000  # numbers of a vector: what a configuration may ask for before its tensors are seen
CLIP = 5.0  # deviations
LEAST = 0.1  # least deviation, in means of those beside it: a colour that training never shows must not count for most


class AttributeModel(nn.Module):
    """Attribute heads with everything they need beside a backbone.

    Args:
        dim: D. specs: One for each attribute.
        colour: Which of them read colour statistics: all, none, or those of these names, which then have a net of their
            own. A name holds for every region: `colour` is `top.colour`, too.
        hidden, dropout: See `AttributeHeads`.

    Attributes:
        calibration: Of the heads; the identity until it is fitted.
        mean, std: (D + Q) of the inputs; until they are fitted, the vector is brought to a mean square of 1.

    Raises:
        InputError: A width out of range, or see `AttributeHeads`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        dim: int,
        specs: Sequence[AttributeSpec],
        colour: bool | Sequence[str] = True,
        hidden: int = 0,
        dropout: float = 0.1,
    ):
        super().__init__()
        if not 1 <= dim <= MOST or not 0 <= hidden <= MOST:
            raise InputError("a width of the attribute model is out of range", found=f"dim {dim}, hidden {hidden}")
        if isinstance(colour, str):
            raise InputError("what reads colour is yes, no, or a list of names", column="colour", found=colour)
        self.dim, self.specs, self.hidden, self.dropout = dim, tuple(specs), hidden, dropout
        self.colour: bool | list[str] = colour if isinstance(colour, bool) else list(colour)
        reads = [spec for spec in specs if self._reads(spec)]
        rest = [spec for spec in specs if not self._reads(spec)]
        self.reads_colour, wide = bool(reads), dim + COLOUR_DIM
        self.heads = AttributeHeads(dim if rest else wide, rest or reads, hidden, dropout)
        self.colour_heads = AttributeHeads(wide, reads, hidden, dropout) if rest and reads else None
        width = wide if reads else dim
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.std[:dim] = 1 / sqrt(dim)
        self.calibration = Calibration()

    def _reads(self, spec: AttributeSpec) -> bool:
        return self.colour if isinstance(self.colour, bool) else spec.name.rpartition(".")[2] in self.colour

    def inputs(self, vector: Tensor, pixels: Tensor | None = None, colour: Tensor | None = None) -> Tensor:
        """(B, D + Q) float32.

        Args:
            vector: (B, D) of any norm. pixels: (B, S, S, 3) uint8, as `vision.pictures.sized` makes them.
            colour: (B, Q) of them, where it is known already. Neither is needed where the model reads no colour.

        Raises:
            ValueError: The model reads colour and gets neither.
        """
        parts = [F.normalize(vector.float(), dim=1)]
        if self.reads_colour:
            if colour is None:
                if pixels is None:
                    raise ValueError("this model reads colour: it needs pixels, or statistics of them")
                colour = colour_statistics(pixels)
            parts.append(colour.to(parts[0]))
        return torch.cat(parts, dim=1)

    def fit_scale(self, inputs: Tensor, whole: bool = True) -> None:
        """Takes mean and deviation from the (n, D + Q) inputs of training pictures.

        Args:
            inputs: Of them. whole: Also those of the vector; a backbone that trains moves them.
        """
        blocks = [slice(0, self.dim)] * whole + [slice(self.dim, None)] * self.reads_colour
        for block in blocks:
            values = inputs[:, block].double()
            std = values.std(0, correction=0)
            self.mean[block] = values.mean(0).to(self.mean)
            self.std[block] = std.clamp(min=LEAST * max(float(std.mean()), 1e-6)).to(self.std)

    def forward(self, inputs: Tensor) -> AttributeOutput:
        """Logits of (B, D + Q) inputs, by attribute in the order of `specs`."""
        x = ((inputs - self.mean) / self.std).clamp(-CLIP, CLIP)
        if self.colour_heads is None:
            return self.heads(x)
        one, two = self.heads(x[:, : self.dim]), self.colour_heads(x)
        values, state = one.values | two.values, one.state | two.state
        names = [spec.name for spec in self.specs]
        return AttributeOutput({name: values[name] for name in names}, {name: state[name] for name in names})

    def to_dict(self) -> dict[str, Any]:
        """What builds the same model, in plain types, without its tensors."""
        specs = [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in self.specs]
        kept = {"dim": self.dim, "specs": specs, "colour": self.colour, "hidden": self.hidden, "dropout": self.dropout}
        return {**kept, "calibration": self.calibration.to_dict()}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> AttributeModel:
        """The reverse of `to_dict`, with fresh tensors.

        Raises:
            InputError: An unknown or missing key, or a value out of range.
        """
        rest = {key: value for key, value in config.items() if key != "calibration"}
        try:
            model = cls(**{**rest, "specs": [AttributeSpec(**spec) for spec in rest["specs"]]})
            model.calibration = Calibration.from_dict(config.get("calibration", {}))
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as why:
            raise InputError(f"no configuration of an attribute model: {why}", found=dict(config)) from why
        return model
