"""The built wheel: one top-level package, the recipes inside, and all of it working outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("datagen", "train", "eval")
RECIPES = {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.yaml")}
TABLES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "eval").rglob("*.csv")}  # questions of people


def _build(target: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without a network."""
    return _build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the installed wheel; its dependencies are this interpreter's."""
    target = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
    ]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def _run(installed: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60)


def test_one_top_level_package_and_no_stray_code(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fashionkit"}
    assert "fashionkit/py.typed" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fashionkit").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_recipes_travel_and_nothing_else_does(wheel: Path) -> None:
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if "/_recipes/" in name}
    assert carried == {f"fashionkit/_recipes/{name}" for name in RECIPES | TABLES}
    assert RECIPES and TABLES


def test_the_source_archive_holds_what_the_wheel_is_made_of(tmp_path: Path) -> None:
    with tarfile.open(_build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= RECIPES | TABLES | {"pyproject.toml", "LICENSE", "README.md", "Makefile", "fashionkit/cli/shell.py"}
    assert not any(name.startswith((".venv/", ".git/")) for name in names)


def test_commands_run_from_the_wheel_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    script = str(installed / "bin" / "fashionkit")
    done = _run(installed, tmp_path, sys.executable, script, "--help")
    assert done.returncode == 0, done.stderr
    assert "inspect" in done.stdout
    done = _run(installed, tmp_path, sys.executable, "-m", "fashionkit", "inspect", ".")
    assert done.returncode == 2
    assert "not made by fashionkit" in done.stderr


def test_every_recipe_is_found_by_its_name_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    script = (
        "import sys, fashionkit; from fashionkit import recipes\n"
        "print(fashionkit.__file__)\n"
        "for name in sys.argv[1:]:\n"
        "    print(recipes.find(*name.rsplit('/', 1)))"
    )
    names = sorted(RECIPES)
    done = _run(installed, tmp_path, sys.executable, "-c", script, *(name.removesuffix(".yaml") for name in names))
    assert done.returncode == 0, done.stderr
    package, *found = map(Path, done.stdout.splitlines())
    assert package == installed / "fashionkit" / "__init__.py"
    assert found == [installed / "fashionkit" / "_recipes" / name for name in names]
    assert [path.read_bytes() for path in found] == [(ROOT / name).read_bytes() for name in names]
