"""A network that names the style of a picture: IRSN with what it needs beside its tensors.

map (B, C, h, w), masks (B, K, H, W), general vector (B, G) ─► Irsn ─► logits / temperature ─► softmax
                                                                └─► gates: how much each stream counts
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from fashionkit.models.irsn import Irsn, IrsnConfig
from fashionkit.tables import InputError
from fashionkit.vision.region_base import ITEMS, RegionProvider

if TYPE_CHECKING:
    from fashionkit.catalog.catalog import Catalog

# Legend: B pictures, C channels of the map, G width of the general vector, K items, S streams, N styles
KEYS = ("classes", "network", "regions", "temperature")
OTHERWISE = 'say provider="foreground" (any picture), or provider=CatalogRegions("FOLDER") with ids='
MOST = 100_000  # classes, and numbers of a layer: what a configuration may ask for before its tensors are seen


class StyleOutput(NamedTuple):
    """What the network says of B pictures.

    Attributes:
        probability: (B, N). gates: (B, S), the mean over channels where a gate weighs each channel.
        held: (B, S) bool, which streams are there.
    """

    probability: Tensor
    gates: Tensor
    held: Tensor


class StyleModel(nn.Module):
    """IRSN with the names of its classes and the temperature of its probabilities.

    Args:
        irsn: The network. classes: N names in the order of its logits.
        regions: The provider whose masks it was trained with, a name of `fashionkit.vision.regions.build_regions`;
            None where it looks at no regions, or they have no name.
        temperature: What logits are divided by, above 0.

    Raises:
        InputError: Classes of another number or not each once, or a temperature or provider that cannot be.
    """

    def __init__(self, irsn: Irsn, classes: Sequence[str], regions: str | None = None, temperature: float = 1.0):
        super().__init__()
        config = irsn.config
        if not all(isinstance(name, str) for name in classes) or len(set(classes)) != config.classes:
            problem = f"the network tells {config.classes} styles apart, and each has a name of its own"
            raise InputError(problem, column="classes", found=list(classes))
        if config.use_regions and config.items != len(ITEMS):
            raise InputError(f"a network for other items than {', '.join(ITEMS)}", column="items", found=config.items)
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 < temperature < torch.inf:
            raise InputError("a temperature is a number above 0", column="temperature", found=temperature)
        if regions is not None and not isinstance(regions, str):
            raise InputError("a provider of regions is named by a text", column="regions", found=regions)
        self.irsn, self.classes, self.regions, self.temperature = irsn, tuple(classes), regions, float(temperature)

    @property
    def needs_masks(self) -> bool:
        """Whether it looks at items."""
        return self.irsn.config.use_regions

    @property
    def general(self) -> int:
        """G; 0 where it takes no general vector."""
        return self.irsn.config.general if "general" in self.irsn.config.streams else 0

    @property
    def weighs(self) -> bool:
        """Whether gates are weights: an MLP over all streams weighs none."""
        return self.irsn.config.gate != "concat"

    @property
    def streams(self) -> tuple[str, ...]:
        """S names in the order of the gates: `map`, `general`, and the items by their own."""
        items = iter(ITEMS)
        return tuple(next(items) if name.startswith("item_") else name for name in self.irsn.config.streams)

    def provider(
        self, catalog: Catalog | None = None, download: bool = False, otherwise: str = OTHERWISE
    ) -> RegionProvider:
        """The provider that it was trained with, built anew.

        Args:
            catalog: Where its masks are, for one that takes those of a catalogue. download: The hub may be asked.
            otherwise: What the error advises.

        Raises:
            InputError: It has no name, needs a catalogue or files of its own.
        """
        from fashionkit.vision.regions import build_regions

        if self.regions is None:
            raise InputError("the model does not say which provider of regions it was trained with", hint=otherwise)
        if any(letter in self.regions for letter in "/\\"):  # of another machine, or of somebody who means harm
            problem = "the model's regions come from files of where it was trained"
            raise InputError(problem, found=self.regions, hint=otherwise)
        try:
            return build_regions(self.regions, catalog, download=download)
        except InputError as error:
            problem = f"the model was trained with regions of {self.regions!r}: {error.problem}"
            hint = otherwise if error.hint is None else f"{error.hint}; or {otherwise}"
            raise InputError(problem, found=error.found, hint=hint) from error

    def forward(self, feature_map: Tensor, masks: Tensor | None = None, general: Tensor | None = None) -> StyleOutput:
        """Probabilities of (B, C, h, w) maps; what the network does not look at may be left out; see `Irsn`."""
        output = self.irsn(feature_map, masks, general)
        probability = (output.logits.float() / self.temperature).softmax(1)  # (B, N)
        return StyleOutput(probability, output.gates.float().mean(2), output.held)

    def to_dict(self) -> dict[str, Any]:
        """What builds the same model, in plain types, without its tensors."""
        kept = {"classes": list(self.classes), "regions": self.regions, "temperature": self.temperature}
        return {**kept, "network": asdict(self.irsn.config)}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> StyleModel:
        """The reverse of `to_dict`, with fresh tensors.

        Raises:
            InputError: An unknown or missing key, or a value out of range.
        """
        if not isinstance(config, Mapping) or set(config) != set(KEYS) or not isinstance(config["network"], Mapping):
            raise InputError("no configuration of a style model", column="style", found=config, allowed=KEYS)
        try:
            _check_types(config["network"])
            network = Irsn(IrsnConfig(**config["network"]))
            return cls(network, config["classes"], config["regions"], config["temperature"])
        except InputError:
            raise
        except (TypeError, ValueError, AssertionError, RuntimeError) as why:
            problem = f"the style network cannot be built: {why}"
            raise InputError(problem, column="style", found=dict(config["network"])) from why


def _check_types(network: Mapping[str, Any]) -> None:
    """Raises ValueError where a value of a network's configuration has another type than its field, or is too large."""
    for field in fields(IrsnConfig):
        value, kind = network.get(field.name, field.default), int if field.default is MISSING else type(field.default)
        right = isinstance(value, kind | int) if kind is float else isinstance(value, kind)
        if value is not MISSING and (not right or isinstance(value, bool) != (kind is bool)):
            raise ValueError(f"{field.name} is of type {kind.__name__}; got {value!r}")
        if isinstance(value, int) and value > MOST:
            raise ValueError(f"{field.name} is above {MOST:,}")
