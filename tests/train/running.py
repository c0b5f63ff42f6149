"""Runs of training within the tests' process, stopped where a test wants it, and what they left behind."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from fashionkit.train.callbacks import Lines
from fashionkit.train.cli import run


class Stop(RuntimeError):
    """The run is over, as if the power had gone."""


@contextmanager
def stopping(step: int, monkeypatch: pytest.MonkeyPatch, hook: str = "on_train_batch_end") -> Iterator[None]:
    """Ends a run in a hook once it has made so many steps."""
    before = getattr(Lines, hook)

    def stop(self: Any, trainer: Any, *rest: Any) -> None:
        before(self, trainer, *rest)
        if trainer.global_step >= step:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Lines, hook, stop)
        yield


def fit(recipe: Path, out: Path, *words: str) -> int:
    """`fashionkit train fit`."""
    return run(["fit", "--config", str(recipe), "--out", str(out), *words])


def table(out: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without speeds, which no two runs share."""
    with (out / "metrics.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if not key.endswith("_per_s")} for row in csv.DictReader(file)
        ]


def checkpoint(out: Path, name: str = "last") -> dict[str, Any]:
    """One of a run's checkpoints."""
    found: dict[str, Any] = torch.load(out / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return found


def same(one: Any, two: Any) -> bool:
    """Whether two checkpoints hold the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return isinstance(two, dict) and one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)
