"""Runs the README's commands on a tiny shop, so that the README cannot rot. Its `make` targets are run by .ci/run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fashionkit.cli import main
from tests.documents import ROOT, blocks, quick, steps
from tests.made_up_shop import make_shop

README = ROOT / "README.md"
TINY = {
    "datagen run": ["--samples", "3000"],
    "embed out/shop": ["--weights", "random", "--size", "64", "--workers", "1"],
    "features out/shop": ["--weights", "random", "--size", "64"],
    "train fit --config attributes_products": [
        "--model.weights", "random", "--model.size", "64", "--data.least", "2", "--trainer.max_epochs", "1",
        "--trainer.enable_progress_bar", "false",
    ],
    "train fit --config vqa_products": [
        "--model.weights", "random", "--model.size", "64", "--trainer.max_epochs", "1", "--data.val_questions", "64",
        "--trainer.enable_progress_bar", "false", "--trainer.limit_train_batches", "2",
    ],
    "eval vqa": ["--limit", "64", "--weights", "random"],
}  # fmt: skip


def commands() -> list[tuple[str, ...]]:
    """All command lines of the README, in order."""
    return [step.words for block in blocks(README) for step in steps(block)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a shop, as a reader would have it."""
    made = tmp_path_factory.mktemp("readme")
    make_shop(made / "shop")
    return made


def test_the_commands_run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    quick(monkeypatch)
    monkeypatch.chdir(folder)
    ours = [words for words in commands() if words[0] == "fashionkit"]
    assert [" ".join(words[1:3]) for words in ours] == [
        "catalog suggest",
        "catalog import",
        "datagen run",
        "datagen show",
        "datagen export",
        "datagen audit",
        "datagen report",
        "embed out/shop",
        "features out/shop",
        "train fit",
        "train test",
        "share runs/shop",
        "features out/shop",
        "train fit",
        "eval vqa",
        "ask photo.jpg",
    ]
    shutil.copy(next((folder / "shop" / "photos").glob("*.jpg")), folder / "photo.jpg")
    for words in ours:
        tiny = next((more for begin, more in TINY.items() if " ".join(words[1:]).startswith(begin)), [])
        assert main([*words[1:], *tiny]) == 0, capsys.readouterr().err
    assert (folder / "out" / "questions.html").read_text(encoding="utf-8").count('class="card"') == 40
    assert list((folder / "out" / "text" / "train").glob("*.json"))
    assert (folder / "out" / "questions" / "audit.json").is_file() and (folder / "out" / "report.html").is_file()
    assert list((folder / "out" / "vectors" / "vectors").glob("*.parquet"))


def test_the_python_runs(folder: Path) -> None:
    ours = [block for block in blocks(README) if block.language == "python"]
    for block, said in zip(ours, ("answer_text", "colour"), strict=True):
        command = [sys.executable, "-c", block.text]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def test_make_has_the_targets_and_ci_runs_them() -> None:
    named = {words[1] for words in commands() if words[0] == "make"}
    assert named == {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.M), f"make {target}"
        assert re.search(rf"^step make {target}$", ci, re.M), f".ci/run does not run `make {target}`"


def test_the_picture_is_there_and_small() -> None:
    picture = ROOT / "docs" / "assets" / "questions.png"
    assert f"({picture.relative_to(ROOT).as_posix()})" in README.read_text(encoding="utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 400_000
