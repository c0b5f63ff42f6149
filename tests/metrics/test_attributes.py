"""Measures of attributes against plain loops, and what they say where nothing can be said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fashionkit.metrics.attributes import MEANS, attribute_measures, mean_measures
from fashionkit.metrics.classification import accuracy, calibration_error, f1, macro_f1

N, V = 240, 4
RNG = np.random.default_rng(0)
GROUPS = np.arange(N) // 2
STATE = np.where(RNG.random(N) < 0.1, -1, RNG.integers(0, 3, N))
STATES = RNG.dirichlet((1, 1, 1), N)


def one_of() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Truth that mostly follows its probabilities; a fifth is unknown."""
    given = RNG.dirichlet([0.4] * V, N)
    truth = np.where(RNG.random(N) < 0.3, RNG.integers(0, V, N), given.argmax(1))
    return np.where(RNG.random(N) < 0.2, -1, truth), given


def any_of() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    given = RNG.random((N, V))
    truth = (RNG.random((N, V)) < given).astype(np.int64)
    truth[RNG.random((N, V)) < 0.3] = -1
    truth[:5] = -1
    return truth, given


def test_values_that_exclude_each_other() -> None:
    truth, given = one_of()
    row, known = attribute_measures("colour", truth, given, STATE, STATES, GROUPS, 100), truth >= 0
    true, said = truth[known], given[known].argmax(1)
    assert row["attribute"] == "colour" and row["n"] == known.sum()
    assert row["accuracy"] == accuracy(true, said) and row["macro_f1"] == macro_f1(true, said)
    assert row["ece"] == calibration_error(given[known].max(1), said == true)
    assert row["majority"] == max((true == v).mean() for v in range(V))
    for name in ("accuracy", "macro_f1"):
        assert 0 <= row[f"{name}_low"] < row[name] < row[f"{name}_high"] <= 1
    assert json.loads(json.dumps(row)) == row, "plain types"


def test_several_values() -> None:
    truth, given = any_of()
    row = attribute_measures("details", truth, given, STATE, STATES)
    pairs = [(t, p) for ts, ps in zip(truth, given, strict=True) for t, p in zip(ts, ps, strict=True) if t >= 0]
    assert row["n"] == sum((ts >= 0).any() for ts in truth) < N
    assert row["accuracy"] == pytest.approx(np.mean([(p >= 0.5) == t for t, p in pairs]))
    assert row["ece"] == calibration_error([p for _, p in pairs], [t == 1 for t, _ in pairs])
    by_value = []
    for v in range(V):
        known = truth[:, v] >= 0
        by_value.append(f1(truth[known, v] == 1, given[known, v] >= 0.5))
    assert row["macro_f1"] == pytest.approx(np.mean(by_value))
    most = [max((truth[:, v] == 1).sum(), (truth[:, v] == 0).sum()) for v in range(V)]
    assert row["majority"] == pytest.approx(sum(most) / len(pairs))
    assert "accuracy_low" not in row


def test_states() -> None:
    truth, given = one_of()
    row, known = attribute_measures("colour", truth, given, STATE, STATES), STATE >= 0
    true, said = STATE[known], STATES[known].argmax(1)
    assert row["n_state"] == known.sum() and row["state_macro_f1"] == macro_f1(true, said)
    assert row["applies_f1"] == f1(true == 0, said == 0)


def test_what_nobody_knows_is_none_and_never_zero() -> None:
    truth, given = one_of()
    nothing, always = np.full(N, -1), np.zeros(N, np.int64)
    row = attribute_measures("colour", nothing, given, nothing, STATES, GROUPS, 50)
    assert (row["n"], row["n_state"]) == (0, 0)
    assert all(value is None for key, value in row.items() if key not in ("attribute", "n", "n_state"))
    assert attribute_measures("colour", truth, given, always, STATES)["applies_f1"] is None, "it always applies"
    few = np.where(np.arange(N) < 2, 1, -1)  # one group alone
    assert attribute_measures("colour", few, given, always, STATES, GROUPS, 50)["accuracy_low"] is None
    unseen = attribute_measures("details", np.full((N, V), -1), given, nothing, STATES)
    assert unseen["accuracy"] is None and unseen["macro_f1"] is None


def test_means_are_over_what_exists() -> None:
    rows = [dict.fromkeys(MEANS), {**dict.fromkeys(MEANS), "accuracy": 0.5, "ece": 0.1}]
    rows.append({**dict.fromkeys(MEANS), "accuracy": 0.7})
    assert mean_measures(rows) == pytest.approx({"accuracy": 0.6, "ece": 0.1})


def test_shapes_that_do_not_fit_raise() -> None:
    truth, given = one_of()
    for wrong in ((truth[:-1], given), (truth, given[:-1]), (truth[:, None, None], given)):
        with pytest.raises(ValueError, match="are of shapes"):
            attribute_measures("colour", *wrong, STATE, STATES)
