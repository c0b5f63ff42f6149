"""The benchmark of a second round runs at a tiny size; its intervals are checked where the answer is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # it loads torch and trains


@pytest.fixture(scope="module")
def bench(root: Path) -> ModuleType:
    """`benchmarks/reweight.py`, which is no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "benchmarks"))
        import reweight

    return reweight


def test_benchmark_runs_and_gives_every_figure(root: Path, tmp_path: Path) -> None:
    sizes = {"--images": "150", "--samples": "1500", "--epochs": "1", "--seeds": "2", "--models": "blind"}
    sizes |= {"--arms": "1/0/0.5", "--json": str(tmp_path / "figures.json"), "--markdown": str(tmp_path / "table.md")}
    command = [sys.executable, str(root / "benchmarks/reweight.py"), *(word for pair in sizes.items() for word in pair)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["rows"]) == 5 * 2 and {row["arm"] for row in figures["rows"]} == {"plain", "loss 1, alpha 0.5"}
    for row in figures["rows"]:
        assert 0 <= row["accuracy"] <= 1 and row["n"] > 0
        if row["arm"] != "plain":
            assert len(row["by seed"]) == 2 and row["low"] <= row["gain"] <= row["high"]
    assert [row["set"] for row in figures["gate"]] == ["plain-0", "blind-0-1-0-0.5"]
    assert (tmp_path / "table.md").read_text().strip() == found.stdout.strip()


def test_equal_arguments_give_equal_weights(bench: ModuleType) -> None:
    import torch
    from thumbnails import Questions, begin, train

    rng = np.random.default_rng(0)
    image, code = rng.integers(0, 9, 200), rng.integers(0, 5, (200, 5))
    questions = Questions(np.arange(200), image, code, code[:, 1] % 2 + 1, np.zeros(200))
    pictures = torch.zeros(9, 3, 32, 32)
    start = begin(questions, (5, 5), 3, True)
    one, two = (train(start, questions, pictures, 3, 150, 3e-3) for _ in range(2))
    assert (one.judge(questions, pictures)[0] == two.judge(questions, pictures)[0]).all()
    assert (one.judge(questions, pictures)[1] == questions.answer).mean() > 0.95, "it learns what can be learnt"
    rows = np.concatenate([rows[rows >= 0] for _, rows in bench.train.__globals__["_batches"](image, rng)])
    assert sorted(rows.tolist()) == list(range(200)), "every question is seen once an epoch"


def test_interval_covers_the_truth_as_often_as_it_says(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RESAMPLES", 400)
    rng, covered = np.random.default_rng(1), 0
    for _ in range(60):
        group = np.repeat(np.arange(80), 6)
        shift = 0.03 + rng.normal(0, 0.01, 12)[:, None] + np.repeat(rng.normal(0, 0.1, 80), 6)
        difference = (rng.random((12, 480)) < 0.3 + shift).astype(int) - (rng.random((12, 480)) < 0.3)
        low, high = bench.interval(difference, group, rng)
        covered += low <= 0.03 <= high
    assert 51 <= covered <= 60


def test_the_hardest_quarter(bench: ModuleType) -> None:
    assert np.flatnonzero(bench.hardest(np.array([1.0, 9, 3, 4, 9, 0, 2, 5]))).tolist() == [1, 4]
