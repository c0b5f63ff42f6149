"""A run that was stopped anywhere and started again gives what it would have given, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fashionkit.train.callbacks import Checkpoints
from tests.train.running import Stop, checkpoint, fit, same, stopping, table

Tiny = Callable[..., Path]
TENSORS = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "loops")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nobody stopped, by recipe."""
    return {"folder": tmp_path_factory.mktemp("whole")}


def uninterrupted(whole: dict[str, Path], name: str, recipe: Path, *words: str) -> Path:
    """The folder of such a run, made once."""
    if name not in whole:
        whole[name] = whole["folder"] / name
        assert fit(recipe, whole[name], *words) == 0
    return whole[name]


def assert_same_run(one: Path, two: Path) -> None:
    assert table(one) == table(two)
    for name in ("last", "best"):
        first, second = checkpoint(one, name), checkpoint(two, name)
        kept = [key for key in TENSORS if key in first]
        assert kept, "nothing would be compared"
        assert [key for key in kept if not same(first[key], second[key])] == []
    assert (one / "result.json").read_text() == (two / "result.json").read_text()


@pytest.mark.parametrize(("step", "workers"), [(2, 0), (6, 2)])
def test_stopped_in_an_epoch(
    step: int, workers: int, tiny: Tiny, tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, augmentation and averaged weights are on; a checkpoint stands after every step."""
    words = ["--run.save_every", "1", "--data.workers", str(workers)]
    recipe = tiny()
    reference = uninterrupted(whole, "plain", recipe, "--run.save_every", "1")
    assert len(table(reference)) > 2 * 4, "an epoch has several steps"
    with stopping(step + 1, monkeypatch):
        fit(recipe, tmp_path / "run", *words)
    assert checkpoint(tmp_path / "run")["global_step"] == step
    assert fit(recipe, tmp_path / "run", *words) == 0
    assert_same_run(reference, tmp_path / "run")


def test_stopped_before_the_first_checkpoint(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = uninterrupted(whole, "plain", tiny(), "--run.save_every", "1")
    with stopping(2, monkeypatch):
        fit(tiny(), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert fit(tiny(), tmp_path / "run") == 0
    assert_same_run(reference, tmp_path / "run")


def test_stopped_between_checkpoints_and_twice(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = uninterrupted(whole, "plain", tiny(), "--run.save_every", "1")
    for step in (4, 7):
        with stopping(step, monkeypatch):
            fit(tiny(), tmp_path / "run", "--run.save_every", "2")
    assert fit(tiny(), tmp_path / "run", "--run.save_every", "3") == 0, "how often is saved may change"
    assert_same_run(reference, tmp_path / "run")


def test_stopped_as_an_epoch_ends(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once before the end of the epoch is saved, with validation already done, and once right after it is."""
    reference = uninterrupted(whole, "plain", tiny(), "--run.save_every", "1")
    steps = checkpoint(reference)["global_step"] // 2
    with stopping(steps, monkeypatch, "on_train_epoch_end"):
        fit(tiny(), tmp_path / "before", "--run.save_every", "1")
    assert (tmp_path / "before" / "checkpoints" / "best.ckpt").exists()
    assert fit(tiny(), tmp_path / "before", "--run.save_every", "1") == 0
    assert_same_run(reference, tmp_path / "before")
    with stopping(steps, monkeypatch, "on_train_epoch_start"):
        fit(tiny(), tmp_path / "after")
    assert checkpoint(tmp_path / "after")["global_step"] == steps
    assert fit(tiny(), tmp_path / "after") == 0
    assert_same_run(reference, tmp_path / "after")


def test_accumulated_gradients_are_saved_only_when_they_are_used(
    tiny: Tiny, tmp_path: Path, whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--run.save_every", "1", "--trainer.accumulate_grad_batches", "2"]
    reference = uninterrupted(whole, "accumulated", tiny(), *words)
    with stopping(2, monkeypatch):
        fit(tiny(), tmp_path / "run", *words)
    assert fit(tiny(), tmp_path / "run", *words) == 0
    assert_same_run(reference, tmp_path / "run")


def test_a_run_that_stopped_early_does_not_go_on(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed after its last checkpoint and before it could say that it is finished."""
    words = ["--run.patience", "1", "--trainer.max_epochs", "9", "--model.lr", "0.0"]
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr("fashionkit.train.runs.RunFolder.finish", _stop)
        fit(tiny(), tmp_path / "run", *words)
    before = table(tmp_path / "run")
    steps = checkpoint(tmp_path / "run")["global_step"]
    assert fit(tiny(), tmp_path / "run", *words) == 0
    assert table(tmp_path / "run") == before
    assert f'"steps": {steps}' in (tmp_path / "run" / "result.json").read_text()


def _stop(*_: object) -> None:
    raise Stop


def test_a_killed_process_goes_on(tiny: Tiny, tmp_path: Path, root: Path, whole: dict[str, Path]) -> None:
    """SIGKILL while it trains, somewhere; nothing of the process is left to tidy up."""
    recipe, out = tiny(), tmp_path / "run"
    reference = uninterrupted(whole, "plain", recipe, "--run.save_every", "1")
    words = ["train", "fit", "--config", str(recipe), "--out", str(out), "--run.save_every", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fashionkit", *words]
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (out / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert checkpoint(out)["global_step"] < checkpoint(reference)["global_step"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert "goes on from its last checkpoint" in done.stdout and done.stderr == ""
    assert_same_run(reference, out)


def test_checkpoints_are_whole_or_absent(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies while a checkpoint is written: the one before it is still there."""
    import torch

    write = torch.save

    def half(content: dict[str, object], path: Path) -> None:
        write(content, path)
        if content["global_step"] == 3:
            path.write_bytes(path.read_bytes()[:100])
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(torch, "save", half)
        fit(tiny(), tmp_path / "run", "--run.save_every", "1")
    assert checkpoint(tmp_path / "run")["global_step"] == 2
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["last.ckpt"]


def test_where_checkpoints_fall(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[int, str]] = []
    keep = Checkpoints._save

    def note(self: Checkpoints, trainer: object, name: str, storage: str | None = None) -> None:
        saved.append((trainer.global_step, name))  # type: ignore[attr-defined]
        keep(self, trainer, name, storage)

    monkeypatch.setattr(Checkpoints, "_save", note)
    fit(tiny(), tmp_path / "run", "--run.save_every", "2")
    steps = checkpoint(tmp_path / "run")["global_step"] // 2
    last = [step for step, name in saved if name == "last.ckpt"]
    within = [step for step in range(2, 2 * steps, 2) if step != steps]
    assert last == sorted([*within, steps, 2 * steps])
