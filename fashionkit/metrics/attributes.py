"""How well each attribute of items is told: one row of numbers an attribute, for a table, a log or a JSON file.

    truth, probabilities of values (n, V) ──► accuracy, macro-F1, ECE, with intervals by group ──┐
    truth, probabilities of states (n, S) ──► F1 of "it applies", macro-F1 of states ────────────┴─► a plain dict

Values are judged where they are known, as if it were known that the attribute applies; whether it applies is judged
apart. Where several values can hold, each pair of row and value is a question of its own. A number that does not exist
(no row knows it, one state alone occurs) is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.metrics.classification import accuracy, calibration_error, f1, grouped_bootstrap, macro_f1

# Legend: n rows, V values of an attribute, S states
Array = npt.NDArray[Any]
Row = dict[str, Any]
UNKNOWN = -1
APPLIES = 0  # the first state
MEANS = ("accuracy", "macro_f1", "ece", "applies_f1", "state_macro_f1")


def attribute_measures(
    name: str,
    truth: Array,
    probability: Array,
    state: Array,
    state_probability: Array,
    groups: Array | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Row:
    """The measures of one attribute.

    Args:
        name: Of the attribute.
        truth: Of values that exclude each other (n,) whole numbers 0..V-1; otherwise (n, V) of 0 or 1; -1 is unknown.
        probability: (n, V), given that it applies. state: (n,) 0..S-1, of which 0 is "applies"; -1 is unknown.
        state_probability: (n, S).
        groups: (n,) labels of what belongs together, for 95 % intervals; None: no intervals.
        resamples, seed: Of the intervals.

    Returns:
        `attribute`, `n` (rows of which a value is known), `accuracy`, `macro_f1`, `ece`, `majority` (accuracy of always
        saying the most frequent value), `n_state`, `applies_f1` and `state_macro_f1`; with groups `accuracy_low`,
        `accuracy_high`, `macro_f1_low`, `macro_f1_high`.

    Raises:
        ValueError: Shapes do not fit.
    """
    if len(truth) != len(probability) or len(state) != len(truth) or truth.ndim not in (1, 2):
        shapes = [part.shape for part in (truth, probability, state)]
        raise ValueError(f"truth, probabilities and states of {name} are of shapes {shapes}")
    return {
        "attribute": name,
        **_of_values(truth, probability, groups, resamples, seed),
        **_of_states(state, state_probability),
    }


def mean_measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over attributes of the measures of MEANS where they exist; one that no row has is left out."""
    found = {key: [row[key] for row in rows if row[key] is not None] for key in MEANS}
    return {key: float(np.mean(values)) for key, values in found.items() if values}


def _of_values(truth: Array, probability: Array, groups: Array | None, resamples: int, seed: int) -> Row:
    known = (truth != UNKNOWN).reshape(len(truth), -1).any(1)
    true, given = truth[known], probability[known]
    row: Row = dict.fromkeys(("accuracy", "macro_f1", "ece", "majority"))
    if groups is not None:
        row |= dict.fromkeys(f"{key}_{end}" for key in ("accuracy", "macro_f1") for end in ("low", "high"))
    row = {"n": len(true), **row}
    if not len(true):
        return row
    said = given.argmax(1) if true.ndim == 1 else (given >= 0.5).astype(np.int64)
    statistics = {"accuracy": _accuracy, "macro_f1": _macro_f1}
    for key, statistic in statistics.items():
        row[key] = statistic(true, said)
        if groups is not None and len(np.unique(groups[known])) > 1:
            _, low, high = grouped_bootstrap(statistic, (true, said), groups[known], resamples, seed)
            row |= {f"{key}_low": max(0.0, low), f"{key}_high": min(1.0, high)}
    row["ece"] = _ece(true, given, said)
    row["majority"] = _majority(true)
    return row


def _accuracy(true: Array, said: Array) -> float:
    """Of rows, or of known pairs of row and value."""
    if true.ndim == 1:
        return accuracy(true, said)
    known = true != UNKNOWN
    return float((true == said)[known].mean()) if known.any() else float("nan")


def _macro_f1(true: Array, said: Array) -> float:
    """Over the values; where several can hold, the mean F1 of "it holds" over values that do, or are said to."""
    if true.ndim == 1:
        return macro_f1(true, said)
    known = true != UNKNOWN
    right = (true == 1) & (said == 1)
    named = ((true == 1) & known).sum(0) + ((said == 1) & known).sum(0)
    there = named > 0
    return float((2 * right.sum(0)[there] / named[there]).mean()) if there.any() else float("nan")


def _ece(true: Array, given: Array, said: Array) -> float:
    if true.ndim == 1:
        return calibration_error(given.max(1), said == true)
    known = true != UNKNOWN
    return calibration_error(given[known], true[known] == 1)


def _majority(true: Array) -> float:
    if true.ndim == 1:
        return float(np.unique(true, return_counts=True)[1].max() / len(true))
    yes, known = (true == 1).sum(0), (true != UNKNOWN).sum(0)
    return float(np.maximum(yes, known - yes).sum() / known.sum())


def _of_states(state: Array, probability: Array) -> Row:
    known = state != UNKNOWN
    true, said = state[known], probability[known].argmax(1)
    row: Row = {"n_state": len(true), "applies_f1": None, "state_macro_f1": None}
    if len(np.unique(true)) > 1:
        row["state_macro_f1"] = macro_f1(true, said)
        if 0 < (true == APPLIES).sum() < len(true):
            row["applies_f1"] = f1(true == APPLIES, said == APPLIES)
    return row
