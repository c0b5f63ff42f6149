"""What attribute heads should say of a row: statements of a catalogue as numbers, which know what is unknown.

    Statement of each attribute ─► `Targets.encode` ─► values (B,) or (B, V), state (B,)   `MASKED` where nobody knows

Unknown and not visible are never a "no": values are masked there, so that no loss sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fashionkit.catalog.schema import PRESENT, STATES, UNKNOWN
from fashionkit.models.attributes import STATE_NAMES, AttributeSpec
from fashionkit.tables.errors import InputError

# Legend: B rows, V values of one attribute
MASKED = -1  # a target nobody knows


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


def check_targets(logits: Tensor, target: Tensor, exclusive: bool, name: str) -> None:
    """Raises ValueError for targets of another shape, type or range than the head `name` with these logits has."""
    shape, most = (logits.shape[:1], logits.shape[1]) if exclusive else (logits.shape, 2)
    if target.shape != shape or target.dtype != torch.int64:
        raise ValueError(f"targets of {name} are {tuple(shape)} int64; got {tuple(target.shape)} {target.dtype}")
    if not ((target >= MASKED) & (target < most)).all():
        raise ValueError(f"targets of {name} lie within 0..{most - 1}, or are {MASKED}")


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
