"""The loss of attribute heads, and class weights that let rare values count for more.

    logits, targets ─► cross-entropy where the target is known ─► x weight of its class ─► mean by attribute ─► loss

Only rows that apply teach the values; every row whose state is known teaches the state. Weights of classes: Cui et al.,
"Class-Balanced Loss Based on Effective Number of Samples", arXiv 1901.05555.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fashionkit.models.attributes import STATE_NAMES, AttributeOutput, AttributeSpec
from fashionkit.models.targets import MASKED, Targets, check_targets
from fashionkit.tables.errors import InputError

# Legend: B rows, V values of one attribute, C classes of one choice


def class_weights(counts: Tensor, beta: float = 0.999, cap: float = 10.0) -> Tensor:
    """Weights that let rare classes count for more.

        E_c = (1 - beta^n_c) / (1 - beta)          effective number of the n_c rows of class c, arXiv 1901.05555
        r_c = min(cap, max E / E_c)                weight against the class with most rows
        w_c = r_c * sum n / sum(r n)               so that the mean weight of the training rows is 1

    Args:
        counts: (..., C) rows of each class, 0 or more. beta: 0 (all alike) to below 1 (towards 1 / n_c).
        cap: How much more a row may weigh than one of the most frequent class, 1 or more.

    Returns:
        (..., C) float32; ones where nothing was counted.

    Raises:
        InputError: beta or cap is out of range.
    """
    if not 0 <= beta < 1 or not 1 <= cap < torch.inf:
        raise InputError(f"beta lies within 0 to below 1 and cap is 1 or more; got {beta}, {cap}")
    n = counts.double()
    effective = 1 - beta**n  # the factor 1 / (1 - beta) cancels out
    ratio = (effective.amax(-1, keepdim=True) / effective).nan_to_num(nan=1.0, posinf=cap).clamp(max=cap)
    weight = ratio * n.sum(-1, keepdim=True) / (ratio * n).sum(-1, keepdim=True)
    return weight.nan_to_num(nan=1.0).float()


@dataclass(frozen=True)
class Balance:
    """Class weights by attribute.

    Attributes:
        values: Exclusive: (V,). Several: (V, 2), of "does not hold" and "holds". state: (3,).
    """

    values: dict[str, Tensor]
    state: dict[str, Tensor]

    @classmethod
    def of(cls, specs: Sequence[AttributeSpec], train: Targets, beta: float = 0.999, cap: float = 10.0) -> Balance:
        """The weights that follow from the known targets of the training rows; see `class_weights`."""
        values, state = {}, {}
        for spec in specs:
            target, states = train.values[spec.name], train.state[spec.name]
            if spec.exclusive:
                counts = torch.bincount(target[target != MASKED], minlength=len(spec.values))  # (V,)
            else:
                counts = torch.stack([(target == 0).sum(0), (target == 1).sum(0)], dim=1)  # (V, 2)
            values[spec.name] = class_weights(counts, beta, cap)
            known = states[states != MASKED]
            state[spec.name] = class_weights(torch.bincount(known, minlength=len(STATE_NAMES)), beta, cap)
        return cls(values, state)


def attribute_loss(
    output: AttributeOutput,
    targets: Targets,
    specs: Sequence[AttributeSpec],
    balance: Balance | None = None,
    state_weight: float = 1.0,
) -> dict[str, Tensor]:
    """Cross-entropy of values and states where they are known, each row times the weight of its class.

    Args:
        output: Of B rows. targets: Of the same rows. specs: Those of the heads.
        balance: Class weights; None: all are 1. state_weight: Of the states' losses, 0 or more.

    Returns:
        Scalars by name: `values/NAME` and `state/NAME`, the means over known targets (0 where there are none), and
        `loss`, the mean over attributes of values plus `state_weight` times state.

    Raises:
        ValueError: Targets of another shape, type or range, or a weight out of range.
    """
    if not 0 <= state_weight < torch.inf:
        raise ValueError(f"the weight of states is 0 or more; got {state_weight}")
    parts, total = {}, []
    for spec in specs:
        name, weights = spec.name, (None, None) if balance is None else (balance.values, balance.state)
        of_values, of_state = (None if part is None else part[spec.name] for part in weights)
        one = _known_loss(output.values[name], targets.values[name], of_values, spec.exclusive, name)
        two = _known_loss(output.state[name], targets.state[name], of_state, True, name)
        parts[f"values/{name}"], parts[f"state/{name}"] = one, two
        total.append(one + state_weight * two)
    return {"loss": torch.stack(total).mean(), **parts}


def _known_loss(logits: Tensor, target: Tensor, weights: Tensor | None, exclusive: bool, name: str) -> Tensor:
    """Mean over known targets; where none is known it stays a part of the graph, so that DDP finds its gradient."""
    check_targets(logits, target, exclusive, name)
    logits, known = logits.float(), target != MASKED  # (B, V); (B,) or (B, V)
    if exclusive:
        each = F.cross_entropy(logits, target, reduction="none", ignore_index=MASKED)  # (B,)
    else:
        each = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0).float(), reduction="none")  # (B, V)
        each = torch.where(known, each, 0)
    if weights is not None:
        at = target.clamp(min=0)
        of_class = weights.to(logits.device)
        each = each * (of_class[at] if exclusive else torch.where(at == 1, of_class[:, 1], of_class[:, 0]))
    return each.sum() / known.sum().clamp(min=1)
