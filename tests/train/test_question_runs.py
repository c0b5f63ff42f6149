"""Runs on questions: stopped anywhere they end as if nobody had, and two processes train as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fashionkit.models.vqa import build_vqa, count_parameters
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.recipes import find
from fashionkit.tables.yamls import load_yaml
from fashionkit.train.cli import run
from tests.train.running import checkpoint, fit, same, stopping, table

Recipe = Callable[..., Path]
TENSORS = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "temperature")
RECIPES = ("vqa_small", "vqa_vlm", "vqa_encoder_decoder", "vqa_mcan")


def assert_same_run(one: Path, two: Path) -> None:
    assert table(one) == table(two)
    for name in ("last", "best"):
        first, second = checkpoint(one, name), checkpoint(two, name)
        kept = [key for key in TENSORS if key in first]
        assert {"state_dict", "temperature"} <= set(kept)
        assert [key for key in kept if not same(first[key], second[key])] == []
    assert (one / "result.json").read_text() == (two / "result.json").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody stopped, by name."""
    return {"folder": tmp_path_factory.mktemp("whole")}


def uninterrupted(whole: dict[str, Path], name: str, recipe: Path, *words: str) -> Path:
    if name not in whole:
        whole[name] = whole["folder"] / name
        assert fit(recipe, whole[name], *words) == 0
    return whole[name]


@pytest.mark.parametrize(("kind", "step", "workers"), [("vlm", 2, 0), ("vlm", 5, 2), ("mcan", 6, 0)])
def test_stopped_in_an_epoch(
    kind: str, step: int, workers: int, asking: Recipe, tmp_path: Path, whole: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Dropout, slips, empty pictures and averaged weights are on; a checkpoint stands after every step."""
    recipe = asking(kind=kind)
    words = ["--run.save_every", "1", "--data.workers", str(workers)]
    reference = uninterrupted(whole, kind, recipe, "--run.save_every", "1")
    assert checkpoint(reference)["global_step"] == 8, "an epoch has four steps"
    with stopping(step + 1, monkeypatch):
        fit(recipe, tmp_path / "run", *words)
    assert checkpoint(tmp_path / "run")["global_step"] == step
    assert fit(recipe, tmp_path / "run", *words) == 0
    assert_same_run(reference, tmp_path / "run")


def test_stopped_as_an_epoch_ends(
    asking: Recipe, tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = uninterrupted(whole, "vlm", asking(), "--run.save_every", "1")
    for hook in ("on_train_epoch_end", "on_train_epoch_start"):
        out = tmp_path / hook
        with stopping(4, monkeypatch, hook):
            fit(asking(), out, "--run.save_every", "1")
        assert fit(asking(), out, "--run.save_every", "1") == 0
        assert_same_run(reference, out)


def test_steps_may_end_a_run(asking: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the middle of an epoch; what it ends with is judged."""
    recipe = asking(("max_epochs: 2", "max_steps: 6\n  max_epochs: -1\n  check_val_every_n_epoch: 50"))
    assert fit(recipe, tmp_path / "run") == 0
    assert checkpoint(tmp_path / "run")["global_step"] == 6 == checkpoint(tmp_path / "run", "best")["global_step"]
    (row,) = [row for row in table(tmp_path / "run") if row["val/accuracy"]]
    assert (row["step"], row["epoch"]) == ("5", "2")
    said = capsys.readouterr().out
    assert "epoch 1, step 4" in said and "epoch 2, step 6" in said and "in epoch 2 of" in said


def test_two_processes_train_as_one(asking: Recipe, tmp_path: Path, root: Path) -> None:
    """Each has its own pictures; the measures are those of all questions, each once."""
    recipe, out = asking(), tmp_path / "run"
    words = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.images", "2", "--run.ema", "null"]
    command = [sys.executable, "-m", "fashionkit", "train", "fit", "--config", str(recipe), "--out", str(out), *words]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("begins") == done.stdout.count("finished") == 1
    assert checkpoint(out)["global_step"] == 8, "18 pictures, 4 at a time"
    assert run(["validate", "--out", str(out), "--trainer.devices", "1", "--trainer.strategy", "auto"]) == 0
    alone = json.loads((out / "validate.json").read_text())
    best = json.loads((out / "result.json").read_text())["best_epoch"] - 1
    row = [row for row in table(out) if row["val/loss"]][best]
    for name in ("val/loss", "val/accuracy", "val/macro_accuracy", "val/ece"):
        assert float(row[name]) == pytest.approx(alone[name], abs=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_in_small(name: str, tmp_path: Path, drawn: Path, question_set: Path, maps: Path) -> None:
    """Its own settings, but for sizes and places."""
    file = find("train", name)
    text = file.read_text(encoding="utf-8")
    assert "Expect" in text and f"fashionkit train fit --config {name}" in text
    recipe = load_yaml(file)[0]
    features = recipe["data"]["init_args"].get("features")
    network = {"width": 16, "layers": 1, "decoder_layers": 1, "heads": 2, "feed": 32, "embedding": 12}
    network = {**recipe["model"]["init_args"]["network"], **network, "fold": 1}
    words = ["--data.catalog", str(drawn), "--data.questions", str(question_set), "--data.images", "4"]
    words += ["--data.workers", "0", "--data.val_questions", "20", "--model.backbone", "timm/test_vit"]
    words += ["--model.weights", "random:1", "--model.size", "32", "--model.resize", "null", "--trainer.max_steps", "2"]
    words += ["--trainer.accelerator", "cpu", "--trainer.precision", "32-true", "--trainer.max_epochs", "1"]
    words += ["--trainer.check_val_every_n_epoch", "1", "--trainer.limit_train_batches", "2", "--run.ema", "null"]
    words += ["--model.network", json.dumps(network)] + (["--data.features", str(maps)] if features else [])
    assert fit(file, tmp_path / "run", *words) == 0
    saved = checkpoint(tmp_path / "run")
    assert saved["global_step"] == 2 and saved["hyper_parameters"]["kind"] in name.replace("small", "vlm")
    assert [row for row in table(tmp_path / "run") if row["val/accuracy"]]


def test_recipes_to_compare_have_equally_many_parameters() -> None:
    """At 14 x 14 cells of 768 channels, all else as the recipes say."""
    count, others = {}, []
    for name in RECIPES[1:]:
        recipe = load_yaml(find("train", name))[0]
        words, model = recipe["data"]["init_args"]["words"], recipe["model"]["init_args"]
        sizes = {"channels": 768, "cells": (14, 14), "words": words, "answers": 150}
        count[name] = count_parameters(build_vqa(VqaConfig(kind=model["kind"], **sizes, **model["network"])))
        others.append(json.dumps([recipe["data"], recipe["trainer"], {**model, "kind": "", "network": {}}]))
    assert len(set(others)) == 1, "data, steps and backbone are the same"
    assert max(count.values()) < 1.05 * min(count.values()), count
