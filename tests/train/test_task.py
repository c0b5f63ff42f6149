"""What tasks share: normalisation, schedule, groups of parameters, gathering rows of several processes."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fashionkit.train.callbacks import Ema
from fashionkit.train.task import Task, as_saved, normalised, rate, step_seed
from fashionkit.vision.pictures import as_tensor
from fashionkit.vision.preprocess import Preprocess


class Small(Task):
    """A stub with a part called backbone."""

    def __init__(self) -> None:
        super().__init__(lr=0.1, backbone_lr=0.5, weight_decay=0.2, warmup=0.1, seed=0)
        self.backbone = nn.Linear(2, 3)  # type: ignore[assignment]
        self.head = nn.Linear(3, 1)


def attached(task: Task, **trainer: Any) -> Task:
    task._trainer = SimpleNamespace(world_size=1, **trainer)  # type: ignore[assignment]
    return task


def test_pixels_are_normalised_as_everywhere() -> None:
    preprocess = Preprocess(4, (0.1, 0.5, 0.9), (0.2, 0.3, 0.4), "bilinear", 1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    found = normalised(torch.from_numpy(pixels), preprocess)
    assert torch.allclose(found, as_tensor(pixels, preprocess), atol=1e-6)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [rate(step, 100, 0.1) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5) and rates[100] == pytest.approx(0.0)
    assert all(a <= b for a, b in pairwise(rates[:11]))
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rate(0, 1, 0.0) == 1.0 and rate(5, 1, 0.05) == 0.0


def test_seeds_differ_by_every_number() -> None:
    seeds = {step_seed(a, b, c, d) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)}
    assert len(seeds) == 16 and all(0 <= seed < 2**63 for seed in seeds)


def test_groups_of_parameters() -> None:
    task = attached(Small(), estimated_stepping_batches=10)
    task.head.bias.requires_grad_(False)
    groups = task.configure_optimizers()["optimizer"].param_groups
    found = {(group["initial_lr"], group["weight_decay"], len(group["params"])) for group in groups}
    assert found == {(0.05, 0.2, 1), (0.05, 0.0, 1), (0.1, 0.2, 1)}


def test_a_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an end"):
        attached(Small(), estimated_stepping_batches=float("inf")).configure_optimizers()


def test_rows_come_once_and_in_order() -> None:
    task = attached(Small())
    task.keep_rows(torch.tensor([2, 0]), x=torch.tensor([20, 0]))
    task.keep_rows(torch.tensor([1, 2]), x=torch.tensor([10, 20]))
    found = task.all_rows()
    assert found["row"].tolist() == [0, 1, 2] and found["x"].tolist() == [0, 10, 20]
    assert task._kept == []


def test_rows_of_processes_with_different_numbers_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process 0 has 3 rows, process 1 has 1, which process 0 has too."""
    task = attached(Small())
    task._trainer.world_size = 2  # type: ignore[union-attr]
    other = iter([torch.tensor(1), torch.tensor([1, 0, 0]), torch.tensor(1), torch.tensor([[0.5], [0.0], [0.0]])])
    monkeypatch.setattr(Small, "all_gather", lambda self, part: _stacked(part, next(other)))
    task.keep_rows(torch.tensor([4, 1, 0]), x=torch.tensor([[4.0], [0.5], [0.0]]))
    found = task.all_rows()
    assert found["row"].tolist() == [0, 1, 4] and found["x"].tolist() == [[0.0], [0.5], [4.0]]


def _stacked(own: Tensor, other: Tensor) -> Tensor:
    assert own.shape == other.shape, "all processes must send the same shape, or they wait for ever"
    return torch.stack([own, other])


def test_the_average_of_weights_against_a_slow_reference() -> None:
    torch.manual_seed(0)
    task = Small()
    task.register_buffer("counter", torch.tensor(0))
    callback: Any = Ema(0.5)
    trainer = SimpleNamespace(global_step=0)
    callback.setup(trainer, task, "fit")
    expected = None
    for step in range(1, 8):
        with torch.no_grad():
            task.head.weight.add_(torch.randn_like(task.head.weight))
            task.counter.add_(1)  # type: ignore[operator]
        trainer.global_step = step
        callback.on_train_batch_end(trainer, task, None, None, 0)
        now = task.head.weight.detach().double().numpy().copy()
        decay = min(0.5, step / (9 + step))  # of the steps before this one
        expected = now if expected is None else decay * expected + (1 - decay) * now
    averaged = callback._average_model.module
    assert np.allclose(averaged.head.weight.detach().numpy(), expected, atol=1e-6)
    assert averaged.counter == task.counter == 7
    with pytest.raises(ValueError, match="a decay lies"):
        Ema(1.0)


def test_where_the_weights_of_cached_features_came_from_is_not_forgotten() -> None:
    saved = {"state_dict": {"model.mean": torch.zeros(1)}, "preprocess": {"size": 64}}
    options = {"weights": "offline", "size": None, "lr": 1.0}
    assert as_saved(options, saved) == {}
    saved["state_dict"] = {"backbone.network.x": torch.zeros(1)}
    assert as_saved(options, saved) == {"weights": "random", "size": 64}


def test_dropout_differs_between_steps_epochs_and_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", said.append)
    small = Small()
    for epoch, step, rank in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1), (0, 0, 0)):
        trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
        monkeypatch.setattr(type(small), "trainer", trainer, raising=False)
        monkeypatch.setattr(type(small), "current_epoch", epoch, raising=False)
        monkeypatch.setattr(type(small), "global_rank", rank, raising=False)
        small.on_train_batch_start({}, step)
    assert len(set(said)) == 4 and said[0] == said[4]
