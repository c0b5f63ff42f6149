"""Intervals over seeds that share their test examples."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fashionkit.eval.paired import by_seed, f1, gain, interval, right
from fashionkit.eval.runs import PREDICTIONS, Run


def run(seed: int, predicted: list[int], truth: list[int], arm: str = "a") -> Run:
    n = len(truth)
    names = [str(row) for row in range(n)]
    columns = {"id": names, "group": names, "truth": truth, "predicted": predicted, "confidence": [0.5] * n}
    return Run({"seed": seed, "arm": arm}, {}, pa.table(columns, PREDICTIONS))


TRUTH = [0, 1] * 20


def test_the_mean_over_seeds_is_the_value() -> None:
    runs = [run(1, [0] * 40, TRUTH), run(0, TRUTH, TRUTH), run(0, TRUTH, TRUTH, "b")]
    found = by_seed(runs, {"arm": "a"})
    assert list(found) == [0, 1]
    value, low, high = interval(right, [found], 200)
    assert value == pytest.approx(0.75) and low < 0.75 < high
    assert interval(f1, [found], 50)[0] == pytest.approx((1 + (2 / 3) / 2) / 2)


def test_a_difference_of_equal_runs_is_nothing_and_has_no_width() -> None:
    rng = np.random.default_rng(0)
    side = {0: run(0, rng.integers(2, size=40).tolist(), TRUTH)}
    assert interval(gain, [side, side], 50) == (0, 0, 0)
    other = {0: run(0, TRUTH, TRUTH)}
    value, low, _ = interval(gain, [other, side], 200)
    assert value == pytest.approx(1 - interval(right, [side], 50)[0]) and low > 0


def test_runs_of_other_examples_are_no_pair() -> None:
    with pytest.raises(AssertionError):
        interval(gain, [{0: run(0, [0] * 40, TRUTH)}, {0: run(0, [0] * 38, TRUTH[:38])}], 10)
