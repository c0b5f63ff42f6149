"""Two processes on the CPU train as one: rows are shared, gradients are of the joint batch, measures of all rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fashionkit.engine import threads
from fashionkit.train.cli import run
from tests.train.conftest import TINY
from tests.train.ddp_script import watch
from tests.train.running import table

# No BatchNorm and no dropout: both see a process's own rows, so they differ by design.
NETWORK = "{use_general: false, encoder: none, width: 16, dropout: 0.0}"
ROWS = 2  # of a batch in each process; the validation pictures make an odd number of batches


def start(root: Path, notes: Path, *words: str) -> str:
    """Runs the script to its end and returns what it printed."""
    notes.mkdir(exist_ok=True)
    command = [sys.executable, str(root / "tests/train/ddp_script.py"), str(notes), *words]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(command, cwd=notes, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def rows(file: Path) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, drawn: Path, root: Path) -> tuple[Path, Path, str]:
    """A run of two processes and one of one process with twice the batch, and what the former printed."""
    folder = tmp_path_factory.mktemp("ddp")
    recipe = folder / "tiny.yaml"
    text = TINY.format(catalog=drawn, network=NETWORK).replace("test_efficientnet", "test_vit")
    recipe.write_text(text.replace("    batch: 4", "    regions: bands\n    batch: 4"))
    common = ["fit", "--config", str(recipe), "--trainer.max_epochs", "2"]
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch", str(ROWS)]
    printed = start(root, folder / "two", *common, *two, "--out", str(folder / "two/run"))
    (folder / "one").mkdir()
    with pytest.MonkeyPatch.context() as patch, threads.one_thread():
        watch(folder / "one", lambda *what: patch.setattr(*what, raising=False))
        assert run([*common, "--data.batch", str(2 * ROWS), "--out", str(folder / "one/run")]) == 0
    return folder / "two", folder / "one", printed


def test_rows_are_shared_and_cover_the_epoch(both: tuple[Path, Path, str]) -> None:
    two, one, _ = both
    each = [rows(two / f"train-{rank}.txt") for rank in (0, 1)]
    together = rows(one / "train-0.txt")
    assert len(each[0]) == len(each[1]) == len(together) > 2
    for epoch in (0, 1):
        seen = [row for lines in each for number, *line in lines if number == epoch for row in line]
        assert len(seen) == len(set(seen)), "no row is seen twice"
        assert set(seen) == {row for number, *line in together if number == epoch for row in line}
    for first, second, joint in zip(each[0], each[1], together, strict=True):
        assert first[1:] + second[1:] == joint[1:]


def test_gradients_are_those_of_the_joint_batch(both: tuple[Path, Path, str]) -> None:
    two, one, _ = both
    first, second = (torch.load(two / f"gradients-{rank}.pt", weights_only=True) for rank in (0, 1))
    joint = torch.load(one / "gradients-0.pt", weights_only=True)
    assert first.keys() == second.keys() == joint.keys()
    for name, expected in joint.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(first[name], expected, rtol=1e-3, atol=1e-6), name
    assert max(value.abs().max() for value in joint.values()) > 1e-3, "something is learnt"


def test_measures_count_each_row_once(both: tuple[Path, Path, str], root: Path) -> None:
    """They equal those of one process with the same weights, though the last rows are seen by both."""
    two, _, _ = both
    seen = [row for rank in (0, 1) for line in rows(two / f"val-{rank}.txt") for row in line]
    number = max(seen) + 1
    assert len(seen) > 2 * number, "two epochs, and some rows twice to fill up: else this test shows nothing"
    assert run(["validate", "--out", str(two / "run"), "--trainer.devices", "1", "--trainer.strategy", "auto"]) == 0
    alone = json.loads((two / "run" / "validate.json").read_text())
    best = json.loads((two / "run" / "result.json").read_text())["best_epoch"] - 1
    row = [row for row in table(two / "run") if row["val/loss"]][best]
    for name in ("val/loss", "val/accuracy", "val/macro_f1"):
        assert float(row[name]) == pytest.approx(alone[name], abs=1e-5)


def test_one_process_speaks_for_both(both: tuple[Path, Path, str]) -> None:
    _, _, printed = both
    assert printed.count("begins") == printed.count("finished") == printed.count("epoch 1/2") == 1


@pytest.mark.slow
def test_two_processes_go_on_where_they_were(
    both: tuple[Path, Path, str], root: Path, tmp_path: Path, drawn: Path, tiny: Callable[..., Path]
) -> None:
    """BatchNorm's statistics are each process's own until validation; the run ends with one set of weights."""
    words = ["fit", "--config", str(tiny()), "--out", str(tmp_path / "run"), "--trainer.devices", "2"]
    words += ["--trainer.strategy", "ddp", "--data.batch", str(ROWS), "--trainer.max_epochs", "2"]
    start(root, tmp_path / "notes", *words)
    before, saved = table(tmp_path / "run"), torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    (tmp_path / "run" / "result.json").unlink()  # as if it had been killed at the very end
    assert "goes on" in start(root, tmp_path / "notes", *words)
    assert table(tmp_path / "run") == before
    assert (
        run(["validate", "--out", str(tmp_path / "run"), "--trainer.devices", "1", "--trainer.strategy", "auto"]) == 0
    )
    alone = json.loads((tmp_path / "run" / "validate.json").read_text())
    row = [row for row in before if row["val/loss"]][saved["epoch"]]
    assert float(row["val/loss"]) == pytest.approx(alone["val/loss"], abs=1e-5)
