"""The benchmark of shared pictures runs at a tiny size and gives every figure; how fast it is says nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SIZES = ["--questions", "8", "--per-image", "4", "--cells", "2", "--width", "16", "--layers", "1", "--side", "32"]


@pytest.fixture(scope="module")
def benchmark(root: Path) -> ModuleType:
    """`benchmarks/vqa.py`, which is no package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("benchmark_of_vqa", root / "benchmarks" / "vqa.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found
    spec.loader.exec_module(found)
    return found


@pytest.mark.slow  # a process that imports torch and timm
def test_every_arm_has_a_figure(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(root / "benchmarks/vqa.py"), *SIZES, "--repeats", "1"]
    command += ["--backbone", "timm/mobilenetv3_small_050", "--json", str(tmp_path / "figures.json")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    maps, pixels = figures["tables"]
    assert [(row["what"], row["arm"]) for row in maps["rows"]] == [
        (what, arm) for what in ("learning", "answering") for arm in ("shared", "full", "plain")
    ]
    assert [row["arm"] for row in pixels["rows"]] == ["shared", "plain"] * 2
    for row in [*maps["rows"], *pixels["rows"]]:
        assert min(row["wall_rate"], row["cpu_rate"], row["wall_ratio"], row["cpu_ratio"]) > 0
        assert row["arm"] != "plain" or row["wall_ratio"] == row["cpu_ratio"] == 1
    assert maps["image_tokens"] == 4 and maps["pictures"] == 2 and figures["machine"]["threads"] == 1
    for words in ("2 pictures with 4 questions each", "maps, 4 image tokens", "mobilenetv3_small_050", "x plain"):
        assert words in found.stdout


def test_the_plain_loop_has_the_same_questions(benchmark: ModuleType) -> None:
    batch = benchmark.made_up(10, 4, (3, 2, 2))
    assert batch.shown.shape == (3, 3, 2, 2) and batch.image_of.tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert ((batch.answer == 2).sum(1) == 1).all() and (batch.question != 0).sum(1).unique().numel() > 1
    assert ((batch.answer != 0).sum(1) - 1 == (batch.answer == 2).long().argmax(1)).all()  # the end is last
    pairs = batch.pairs()
    assert pairs.image_of.tolist() == list(range(10)) and torch.equal(pairs.question, batch.question)
    for row, of in enumerate(batch.image_of.tolist()):
        assert torch.equal(pairs.shown[row], batch.shown[of])


def test_arms_that_differ_are_not_compared(benchmark: ModuleType) -> None:
    import argparse

    options = argparse.Namespace(width=16, layers=1)
    arms, shape = benchmark.of_maps(options, 2)
    batch = benchmark.made_up(8, 4, shape)
    benchmark.check(arms, batch)
    other = benchmark.network(options, benchmark.CHANNELS, (2, 2), "image")
    with torch.no_grad():
        other.image.position.add_(torch.randn_like(other.image.position))
    with pytest.raises(SystemExit, match="other losses"):
        benchmark.check([arms[0]._replace(network=other), *arms[1:]], batch)


def test_ratios_are_to_the_plain_loop(benchmark: ModuleType) -> None:
    taken, plain = [(1.0, 0.5), (2.0, 0.5), (9.0, 0.5)], [(6.0, 1.0), (6.0, 2.0), (6.0, 3.0)]
    found = benchmark.row(("learning", "shared"), taken, plain, 8)
    assert (found["wall_rate"], found["wall_ratio"], found["cpu_rate"], found["cpu_ratio"]) == (4.0, 3.0, 16.0, 4.0)
