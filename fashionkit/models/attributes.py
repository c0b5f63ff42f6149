"""Attribute heads: from one vector of a picture or item to the values of many attributes, and whether each applies.

    vector (B, D) ─► (hidden layer) ─┬─► values of each attribute (B, V)   softmax: one of them; sigmoid: any of them
                                     └─► state of each attribute (B, 3)    applies, not visible, does not apply

The value output answers "which, given that it applies"; the state output says whether it does. What teaches them is in
`fashionkit.models.targets` and `attribute_loss`, what makes probabilities of their logits in `calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from fashionkit.catalog.schema import ABSENT, NOT_VISIBLE, PRESENT
from fashionkit.tables.errors import InputError

# Legend: B rows, D width of the vector, E width of the hidden layer, V values of one attribute
STATE_NAMES = (PRESENT, NOT_VISIBLE, ABSENT)  # the classes of the state output: applies, not visible, does not apply


@dataclass(frozen=True)
class AttributeSpec:
    """What one head says: the attribute, its values in the order of the logits, and whether one excludes the others."""

    name: str
    values: tuple[str, ...]
    exclusive: bool = True

    def __post_init__(self) -> None:
        given: Any = self.values  # what YAML or JSON holds may be anything
        if isinstance(given, str) or not all(isinstance(value, str) for value in given):
            raise InputError("values are a list of texts; YAML reads a bare no as false", column=self.name, found=given)
        object.__setattr__(self, "values", tuple(given))
        if not self.name or len(set(self.values)) < len(self.values) or len(self.values) < 1 + self.exclusive:
            least = "two values or more" if self.exclusive else "a value or more"
            raise InputError(f"an attribute has a name and {least}, each once", column=self.name, found=self.values)


class AttributeOutput(NamedTuple):
    """Logits by attribute: values (B, V) each, state (B, 3) each, in the order of `STATE_NAMES`."""

    values: dict[str, Tensor]
    state: dict[str, Tensor]


class AttributeHeads(nn.Module):
    """Linear heads, with one hidden layer below all of them if asked for.

    Args:
        dim: D. specs: One for each attribute. hidden: E; 0: the heads read the vector itself.
        dropout: Before the heads, 0 to below 1.

    Raises:
        InputError: A size or share out of range, no attribute, or two of one name.
    """

    def __init__(self, dim: int, specs: Sequence[AttributeSpec], hidden: int = 0, dropout: float = 0.1):
        super().__init__()
        self.dim, self.specs, self.hidden, self.dropout = dim, tuple(specs), hidden, dropout
        if dim < 1 or hidden < 0 or not 0 <= dropout < 1:
            raise InputError(f"dim, hidden or dropout is out of range: {dim}, {hidden}, {dropout}")
        if not specs or len({spec.name for spec in specs}) < len(specs):
            raise InputError("heads need an attribute, and each name once", found=[spec.name for spec in specs])
        layers = [nn.Linear(dim, hidden), nn.GELU()] if hidden else []
        self.trunk, width = nn.Sequential(*layers, nn.Dropout(dropout)), hidden or dim
        # Lists, not dicts: a module cannot have a child named "type" or "sleeve.length", an attribute can.
        self.value_heads = nn.ModuleList(nn.Linear(width, len(spec.values)) for spec in specs)
        self.state_heads = nn.ModuleList(nn.Linear(width, len(STATE_NAMES)) for _ in specs)

    def forward(self, x: Tensor) -> AttributeOutput:
        """Logits of (B, D) floats.

        Raises:
            ValueError: Another shape or type.
        """
        if x.ndim != 2 or x.shape[1] != self.dim or not x.is_floating_point():
            raise ValueError(f"vectors are (B, {self.dim}) floats; got {tuple(x.shape)} {x.dtype}")
        x, names = self.trunk(x), [spec.name for spec in self.specs]  # (B, E)
        values, state = ([head(x) for head in heads] for heads in (self.value_heads, self.state_heads))
        return AttributeOutput(dict(zip(names, values, strict=True)), dict(zip(names, state, strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """What builds the same heads, in plain types."""
        specs = [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in self.specs]
        return {"dim": self.dim, "specs": specs, "hidden": self.hidden, "dropout": self.dropout}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> AttributeHeads:
        """Heads with fresh weights; raises InputError for an unknown or missing key."""
        try:
            return cls(**{**config, "specs": [AttributeSpec(**spec) for spec in config["specs"]]})
        except (KeyError, TypeError) as why:
            raise InputError(f"no configuration of attribute heads: {why}", found=dict(config)) from why
