"""Measures of answers against slow loops, and a temperature that is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fashionkit.models.answer_trie import FLOOR
from fashionkit.train.answer_measures import answer_temperature, measures


def test_measures_against_slow_loops() -> None:
    rng = np.random.default_rng(0)
    truth, chosen = rng.integers(-1, 5, 300), rng.integers(0, 5, 300)
    chosen[:150] = np.maximum(truth[:150], 0)
    loss, confidence = rng.random(300), rng.random(300)
    found = measures(truth, chosen, confidence, loss, nothing=2)
    right = [int(t == c) for t, c in zip(truth, chosen, strict=True)]
    assert found["accuracy"] == pytest.approx(sum(right) / 300) and found["loss"] == pytest.approx(loss.sum() / 300)
    of = {t: [r for r, other in zip(right, truth, strict=True) if other == t] for t in range(5)}
    assert found["macro_accuracy"] == pytest.approx(sum(sum(r) / len(r) for r in of.values()) / 5)
    both = sum(t == c == 2 for t, c in zip(truth, chosen, strict=True))
    said, there = int((chosen == 2).sum()), int((truth == 2).sum())
    assert found["not_present_f1"] == pytest.approx(2 * both / (said + there)) and 0 < found["ece"] < 1
    assert "not_present_f1" not in measures(truth, chosen, confidence, loss, nothing=-1)
    assert "not_present_f1" not in measures(np.ones(9, int), np.ones(9, int), loss[:9], loss[:9], nothing=2)
    lost = measures(np.full(9, -1), np.ones(9, int), loss[:9], loss[:9], nothing=2)
    assert lost["accuracy"] == 0.0 and "macro_accuracy" not in lost


def test_the_temperature_of_answers() -> None:
    """Scores that are too sure by a known factor; some answers were not looked at."""
    rng = np.random.default_rng(1)
    honest = torch.from_numpy(rng.normal(0, 1.5, (4000, 6))).log_softmax(1)
    truth = torch.from_numpy(np.array([rng.choice(6, p=row) for row in honest.exp().numpy()]))
    sure = (honest * 3).log_softmax(1)
    assert answer_temperature(sure, truth) == pytest.approx(3, rel=0.06)
    assert answer_temperature(honest, truth) == pytest.approx(1, rel=0.06)
    unseen = torch.cat([sure, torch.full((4000, 50), -torch.inf)], 1)
    assert answer_temperature(unseen, truth) == pytest.approx(answer_temperature(sure, truth))
    unknown = torch.where(torch.arange(4000) % 4 == 0, -1, truth)
    assert answer_temperature(sure, unknown) == pytest.approx(3, rel=0.08)
    missed = truth.clone()
    missed[:40] = 6  # right answers that were thought impossible make it less sure, not useless
    found = answer_temperature(unseen, missed)
    assert answer_temperature(sure, truth) < found < 20
    bounded = unseen.clone()
    bounded[:40, 6] = FLOOR  # they count as likely as they can have been
    assert found == pytest.approx(answer_temperature(bounded, missed))
    assert answer_temperature(unseen, torch.full((4000,), -1)) == 1.0
