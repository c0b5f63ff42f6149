"""What a model says of pictures, in plain types.

Prediction of the heads (B rows) ──► a mapping of attribute → AttributeAnswer for each picture
StyleOutput (B rows) ──► rows of a StyleAnswer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fashionkit.models.attributes import STATE_NAMES, AttributeSpec
from fashionkit.models.calibration import Prediction

Floats = npt.NDArray[np.float32]

# Letters: N pictures, C classes, S streams


class AttributeAnswer(NamedTuple):
    """What is said of one attribute of one picture.

    Attributes:
        state: `present`, `not_visible` or `absent`. state_probability: Of that state, calibrated.
        values: Those that hold → their calibrated probability, given that the attribute applies; the likeliest first.
            Empty unless the state is present.
        probabilities: The same of every value, whatever the state.
    """

    state: str
    state_probability: float
    values: dict[str, float]
    probabilities: dict[str, float]


Answers = dict[str, AttributeAnswer]


@dataclass(frozen=True)
class StyleAnswer:
    """What is said of the style of N pictures.

    Attributes:
        classes: C names. probabilities: (N, C) float32, calibrated where the model is; a row adds up to 1.
        streams: S names: `map`, `general`, and the items. gates: (N, S) float32, how much each of them counts; the mean
            over channels where a network weighs each channel. Of a network that weighs nothing, 1 where one is there.
        held: (N, S) bool, which of them are there: an item not seen is not.
    """

    classes: tuple[str, ...]
    probabilities: Floats
    streams: tuple[str, ...]
    gates: Floats
    held: npt.NDArray[np.bool_]

    @property
    def best(self) -> list[str | None]:
        """The likeliest class of each picture; None where the picture could not be read."""
        gone = np.ma.getmaskarray(self.probabilities)
        places = np.asarray(self.probabilities).argmax(1).tolist()
        return [None if gone[row].any() else self.classes[at] for row, at in enumerate(places)]


def answers_of(found: Mapping[str, Prediction], specs: Sequence[AttributeSpec]) -> list[Answers]:
    """One mapping for each row."""
    plain: dict[str, tuple[Any, ...]] = {name: tuple(part.tolist() for part in each) for name, each in found.items()}
    count = len(plain[specs[0].name][0])
    return [
        {spec.name: _answer(spec, *(part[row] for part in plain[spec.name])) for spec in specs} for row in range(count)
    ]


def _answer(
    spec: AttributeSpec, holds: list[bool], probability: list[float], state: int, of_states: list[float]
) -> AttributeAnswer:
    every = dict(zip(spec.values, probability, strict=True))
    held = [value for value, yes in zip(spec.values, holds, strict=True) if yes]
    values = {value: every[value] for value in sorted(held, key=lambda value: -every[value])}
    return AttributeAnswer(STATE_NAMES[state], of_states[state], values, every)
