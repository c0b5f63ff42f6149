"""Attribute heads: from one vector of a picture or item to the values of many attributes, and whether each applies.

    vector (B, D) ─► (hidden layer) ─┬─► values of each attribute (B, V)   softmax: one of them; sigmoid: any of them
                                     └─► state of each attribute (B, 3)    applies, not visible, does not apply

    logits ─► minus log of the class weights ─► / temperature ─► probabilities ─► values, state

The value output answers "which, given that it applies", so only rows that apply teach it; the state output learns from
every row whose state is known. Unknown and not visible are never a "no": the loss does not see values there. Weights of
classes: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", arXiv 1901.05555. Temperatures: Guo et
al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.catalog.schema import ABSENT, NOT_VISIBLE, PRESENT, STATES, UNKNOWN
from fashionkit.tables.errors import InputError

# Legend: B rows, D width of the vector, E width of the hidden layer, V values of one attribute, C classes of one choice
STATE_NAMES = (PRESENT, NOT_VISIBLE, ABSENT)  # the classes of the state output: applies, not visible, does not apply
MASKED = -1  # a target nobody knows
COLDEST, HOTTEST = 0.2, 20.0  # bounds of a temperature; held-out rows without an error would ask for 0
FEWEST = 10  # fewer held-out rows tell no temperature


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


class Statement(NamedTuple):
    """What the catalogue says of one attribute of an item.

    Attributes:
        state: One of `STATES`.
        values: That hold; none unless present. None although present: it applies, and the value is unknown.
        complete: For several values: those not listed do not hold. Otherwise they are unknown.
        excluded: For several values: those known not to hold.
    """

    state: str
    values: Sequence[str] = ()
    complete: bool = False
    excluded: Sequence[str] = ()


@dataclass(frozen=True)
class Targets:
    """What the heads should say of B rows, by attribute; `MASKED` where nobody knows.

    Attributes:
        values: Exclusive: (B,) int64, 0..V-1. Several: (B, V) int64, 0 or 1. Masked unless the attribute is present.
        state: (B,) int64, places in `STATE_NAMES`.
    """

    values: dict[str, Tensor]
    state: dict[str, Tensor]

    @classmethod
    def encode(cls, specs: Sequence[AttributeSpec], rows: Sequence[Mapping[str, Statement]]) -> Targets:
        """Targets of items, of which each states something of some attributes; the others are unknown.

        Attributes that are not in `specs` are not looked at. A value that implies another one of the same exclusive
        attribute (navy blue, blue) is stated alone.

        Raises:
            InputError: No such state or value, values where none can be, or several where one excludes the others.
        """
        values, state = {}, {}
        for spec in specs:
            found = [(i, row[spec.name]) for i, row in enumerate(rows) if spec.name in row]
            shape = (len(rows),) if spec.exclusive else (len(rows), len(spec.values))
            values[spec.name], state[spec.name] = torch.full(shape, MASKED), torch.full((len(rows),), MASKED)
            for i, statement in found:
                _check_statement(spec, statement, i)
                if statement.state == UNKNOWN:
                    continue
                state[spec.name][i] = STATE_NAMES.index(statement.state)
                if spec.exclusive and statement.values:
                    values[spec.name][i] = spec.values.index(statement.values[0])
                elif not spec.exclusive and statement.state == PRESENT:
                    values[spec.name][i] = torch.tensor([_holds(value, statement) for value in spec.values])
        return cls(values, state)

    def __getitem__(self, rows: Any) -> Targets:
        """Those of some rows: a slice, or an index or mask tensor."""
        return Targets(*({k: v[rows] for k, v in part.items()} for part in (self.values, self.state)))

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return Targets(*({k: v.to(device) for k, v in part.items()} for part in (self.values, self.state)))


def _holds(value: str, statement: Statement) -> int:
    if value in statement.values:
        return 1
    return 0 if statement.complete or value in statement.excluded else MASKED


def _check_statement(spec: AttributeSpec, statement: Statement, row: int) -> None:
    if statement.state not in STATES:
        raise InputError("no such state", row=row + 1, column=spec.name, found=statement.state, allowed=STATES)
    for value in (*statement.values, *statement.excluded):
        if value not in spec.values:
            hint = "state no value where the head does not know it: it counts as unknown"
            raise InputError(
                "no such value", row=row + 1, column=spec.name, found=value, allowed=spec.values, hint=hint
            )
    if statement.state != PRESENT and (statement.values or statement.excluded):
        problem = f"an attribute that is {statement.state} has no values"
    elif spec.exclusive and (len(statement.values) > 1 or statement.excluded):
        problem = "an exclusive attribute has one value, and what that excludes goes without saying"
    elif set(statement.values) & set(statement.excluded):
        problem = "a value cannot both hold and not hold"
    else:
        return
    raise InputError(problem, row=row + 1, column=spec.name, found=tuple(statement))


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
    _check_targets(logits, target, exclusive, name)
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


def _check_targets(logits: Tensor, target: Tensor, exclusive: bool, name: str) -> None:
    shape, most = (logits.shape[:1], logits.shape[1]) if exclusive else (logits.shape, 2)
    if target.shape != shape or target.dtype != torch.int64:
        raise ValueError(f"targets of {name} are {tuple(shape)} int64; got {tuple(target.shape)} {target.dtype}")
    if not ((target >= MASKED) & (target < most)).all():
        raise ValueError(f"targets of {name} lie within 0..{most - 1}, or are {MASKED}")


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
                _check_targets(logits, target, exclusive, key)
                if balance is not None:
                    w = getattr(balance, kind)[spec.name].to(logits).log()
                    shift[key] = (w if exclusive else w[:, 1] - w[:, 0]).tolist()
                    logits = logits - logits.new_tensor(shift[key])
                temperature[key] = _temperature(*_as_choices(logits, target, exclusive), key)
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


def _temperature(logits: Tensor, target: Tensor, key: str) -> float:
    """By bisection: the likelihood is concave in a = 1 / temperature, so its slope changes sign once."""
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
