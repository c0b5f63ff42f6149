"""Probabilities of attribute heads' logits that fit how often they are right, and what the heads then say.

    logits ─► minus log of the class weights ─► / temperature ─► probabilities ─► values, state

Temperatures: Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599. Taking the class weights out
again is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fashionkit.catalog.schema import PRESENT
from fashionkit.models.attribute_loss import Balance
from fashionkit.models.attributes import STATE_NAMES, AttributeOutput, AttributeSpec
from fashionkit.models.targets import MASKED, Targets, check_targets
from fashionkit.tables.errors import InputError

# Legend: B rows, V values of one attribute, C classes of one choice
COLDEST, HOTTEST = 0.2, 20.0  # bounds of a temperature; held-out rows without an error would ask for 0
FEWEST = 10  # fewer held-out rows tell no temperature


@dataclass(frozen=True)
class Calibration:
    """Makes probabilities of logits that fit how often they are right: (logits - shift) / temperature.

    A head trained with class weights w is surer of rare classes than they are frequent: it learns w_c p_c / sum(w p).
    Its shift, log w_c, takes that out exactly; for several values it is log(w of "holds" / w of "does not hold").

    Attributes:
        temperature: By `values/NAME` and `state/NAME`; 1 where missing.
        shift: (V,) or (3,) numbers by the same names; 0 where missing.
    """

    temperature: dict[str, float] = field(default_factory=dict)
    shift: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        output: AttributeOutput,
        targets: Targets,
        specs: Sequence[AttributeSpec],
        balance: Balance | None = None,
    ) -> Calibration:
        """The temperature of each head that gives known held-out targets the highest likelihood.

        Args:
            output, targets: Of held-out rows. specs: Those of the heads. balance: What they were trained with.

        Returns:
            Temperatures within `COLDEST` to `HOTTEST`; 1 where fewer than `FEWEST` targets are known.

        Raises:
            ValueError: Targets of another shape, type or range, or known rows whose logits are no finite numbers.
        """
        temperature, shift = {}, {}
        for spec in specs:
            for kind, exclusive in (("values", spec.exclusive), ("state", True)):
                key, logits = f"{kind}/{spec.name}", getattr(output, kind)[spec.name].detach().double()  # (B, V)
                target = getattr(targets, kind)[spec.name]
                check_targets(logits, target, exclusive, key)
                if balance is not None:
                    w = getattr(balance, kind)[spec.name].to(logits).log()
                    shift[key] = (w if exclusive else w[:, 1] - w[:, 0]).tolist()
                    logits = logits - logits.new_tensor(shift[key])
                temperature[key] = fit_temperature(*_as_choices(logits, target, exclusive), key)
        return cls(temperature, shift)

    def apply(self, key: str, logits: Tensor) -> Tensor:
        """Calibrated logits (B, V) of the head `values/NAME` or `state/NAME`."""
        if key in self.shift:
            logits = logits - logits.new_tensor(self.shift[key])
        return logits / self.temperature.get(key, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Its numbers in plain types."""
        return {"temperature": dict(self.temperature), "shift": {k: list(v) for k, v in self.shift.items()}}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Calibration:
        """The reverse of `to_dict`; raises InputError for unknown keys or temperatures that are not above 0."""
        if set(config) - {"temperature", "shift"}:
            raise InputError("no calibration", found=dict(config), allowed=("temperature", "shift"))
        shift = {k: [float(x) for x in v] for k, v in config.get("shift", {}).items()}
        made = cls({k: float(v) for k, v in config.get("temperature", {}).items()}, shift)
        if not all(0 < t < torch.inf for t in made.temperature.values()):
            raise InputError("temperatures are above 0", found=made.temperature)
        return made


def _as_choices(logits: Tensor, target: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """(n, C) logits and (n,) classes of what is known; yes or no is the choice between logits z and 0."""
    known = target != MASKED
    if exclusive:
        return logits[known], target[known]
    z = logits[known]  # (n,)
    return torch.stack([torch.zeros_like(z), z], dim=1), target[known]


def fit_temperature(logits: Tensor, target: Tensor, key: str) -> float:
    """The temperature that gives held-out targets the highest likelihood, `COLDEST` to `HOTTEST`.

    By bisection: the likelihood is concave in a = 1 / temperature, so its slope changes sign once.

    Args:
        logits: (n, C). target: (n,) int64. key: What errors call them.

    Returns:
        1 where fewer than `FEWEST` targets are known, or all logits are alike.

    Raises:
        ValueError: Logits that are no finite numbers.
    """
    if not logits.isfinite().all():
        raise ValueError(f"logits of {key} hold values that are no finite numbers")
    if len(target) < FEWEST or bool((logits.amax(1) - logits.amin(1) < 1e-9).all()):
        return 1.0
    of_truth = logits.gather(1, target[:, None])[:, 0].mean()
    low, high = log(1 / HOTTEST), log(1 / COLDEST)
    for _ in range(60):
        middle = (low + high) / 2
        expected = ((logits * exp(middle)).softmax(1) * logits).sum(1).mean()
        low, high = (low, middle) if expected > of_truth else (middle, high)
    return exp(-(low + high) / 2)


class Prediction(NamedTuple):
    """What the heads say of one attribute of B rows.

    Attributes:
        values: (B, V) bool, which values hold; none where the attribute does not apply or is not visible.
        probability: (B, V) of each value, given that the attribute applies; adds up to 1 where values exclude.
        state: (B,) int64, places in `STATE_NAMES`. state_probability: (B, 3).
    """

    values: Tensor
    probability: Tensor
    state: Tensor
    state_probability: Tensor


@torch.no_grad()
def predict(
    output: AttributeOutput,
    specs: Sequence[AttributeSpec],
    calibration: Calibration | None = None,
    threshold: float = 0.5,
) -> dict[str, Prediction]:
    """The most probable state and value of each attribute; where several can hold, all from `threshold` (0 to 1) on."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"a threshold lies within 0 to 1; got {threshold}")
    calibration, found = calibration or Calibration(), {}
    for spec in specs:
        logits = calibration.apply(f"values/{spec.name}", output.values[spec.name].float())  # (B, V)
        states = calibration.apply(f"state/{spec.name}", output.state[spec.name].float()).softmax(1)  # (B, 3)
        state = states.argmax(1)  # (B,)
        if spec.exclusive:
            probability = logits.softmax(1)
            values = F.one_hot(probability.argmax(1), len(spec.values)).bool()
        else:
            probability = logits.sigmoid()
            values = probability >= threshold
        applies = state == STATE_NAMES.index(PRESENT)
        found[spec.name] = Prediction(values & applies[:, None], probability, state, states)
    return found
