"""Importing stays cheap: what a fresh interpreter has loaded after importing fashionkit or one of its rooms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_floors import FOR_TORCH

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "torchvision", "timm", "open_clip", "lightning", "albumentations", "pandas"}
SLOW_TO_START = HEAVY | {"numpy", "pyarrow", "PIL", "yaml", "jsonargparse", "tqdm"}


def loaded_after(*modules: str) -> set[str]:
    """Top-level modules of a fresh interpreter after importing these."""
    script = f"import sys, {', '.join(modules)}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", script]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split())


def modules_in(*rooms: str) -> list[str]:
    """The dotted names of all modules of these rooms."""
    paths = [path for room in rooms for path in sorted((ROOT / "fashionkit" / room).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def test_the_package_loads_nothing() -> None:
    assert not loaded_after("fashionkit") & (SLOW_TO_START | {"dataclasses", "re"})


def test_the_command_line_loads_nothing_slow_before_it_knows_the_verb() -> None:
    modules = [name for name in modules_in("cli") if name != "fashionkit.cli.parsing"]
    assert "fashionkit.cli.shell" in modules
    assert not loaded_after(*modules) & SLOW_TO_START


@pytest.mark.parametrize("room", ["tables", "engine", "catalog", "datagen"])
def test_no_module_of_these_rooms_loads_the_heavy_ones(room: str) -> None:
    loaded = loaded_after(*(name for name in modules_in(room) if name not in FOR_TORCH))
    assert "fashionkit" in loaded
    assert not loaded & HEAVY


def test_a_whole_command_runs_without_the_heavy_ones(tmp_path: Path) -> None:
    script = (
        "import sys; from fashionkit.cli import main; assert main(['inspect', sys.argv[1]]) == 2\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split())
    assert {"jsonargparse", "pyarrow"} <= loaded
    assert not loaded & HEAVY
