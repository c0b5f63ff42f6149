"""Intervals over runs that differ in their seed and share their test examples.

runs of one arm by seed ─► (n, seeds) predictions ─► a measure, mean over seeds
test groups drawn again, the same draws for both sides of a difference; seeds are kept
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.eval.runs import Run
from fashionkit.metrics.classification import grouped_bootstrap, macro_f1

Array = npt.NDArray[Any]


def by_seed(runs: Sequence[Run], settings: Mapping[str, Any]) -> dict[int, Run]:
    """The runs that have these settings, by their seed, in order."""
    found = {run.settings["seed"]: run for run in runs if settings.items() <= run.settings.items()}
    return dict(sorted(found.items()))


def interval(
    statistic: Callable[..., float], sides: Sequence[Mapping[int, Run]], resamples: int
) -> tuple[float, float, float]:
    """Value, low and high of `statistic(truth (n,), predicted (n, seeds), …)`, one array for each side."""
    first = next(iter(sides[0].values())).predictions
    for run in (run for side in sides for run in side.values()):
        assert run.predictions["id"].equals(first["id"]), "runs of one comparison share their test examples"
    said = [np.stack([side[seed].predictions["predicted"].to_numpy() for seed in sorted(side)], 1) for side in sides]
    groups = np.asarray(first["group"].to_pylist())
    return grouped_bootstrap(statistic, (first["truth"].to_numpy(), *said), groups, resamples)


def right(truth: Array, said: Array) -> float:
    """Accuracy."""
    return float((said == truth[:, None]).mean())


def gain(truth: Array, one: Array, two: Array) -> float:
    """How much higher the accuracy of one is."""
    return right(truth, one) - right(truth, two)


def f1(truth: Array, said: Array) -> float:
    """Macro-F1, mean over seeds."""
    return float(np.mean([macro_f1(truth, column) for column in said.T]))
