"""The one-way flow: each room imports what is below it, never above, and never its neighbours but for named pairs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "fashionkit"

# DESIGN's floors, from the ground up. `recipes` finds files by name, `__main__` is the command line's other door.
FLOORS = {
    "tables": 0, "engine": 0, "report": 0, "metrics": 0, "recipes": 0,
    "catalog": 1, "vectors": 1,
    "datagen": 2, "vision": 2,
    "models": 3, "recommend": 3,
    "train": 4, "eval": 4,
    "embed": 5,
    "cli": 6, "__main__": 6,
}  # fmt: skip

# Neighbours that may meet: (who imports, whom) → why.
PAIRS = {
    ("recipes", "tables"): "an unknown recipe is an InputError",
    ("engine", "tables"): "a cluster that does not answer is an InputError",
    ("__main__", "cli"): "it is the door to it",
    ("eval", "train"): "a comparison trains what it compares, through what users train with",
}

# What the rooms that make data never import, so that their commands start at once and need no GPU stack.
LIGHT = ("tables", "engine", "report", "recipes", "catalog", "datagen", "cli")
HEAVY = ("torch", "torchvision", "timm", "open_clip", "lightning", "albumentations", "pandas")

# Modules of those rooms that may import torch → why; nothing in those rooms imports them at module level.
FOR_TORCH = {
    "fashionkit.datagen.dataset": "it feeds torch's data loaders",
    "fashionkit.datagen.audit.blind_linear": "the gate trains question-only models",
    "fashionkit.datagen.audit.blind_transformer": "another of them",
    "fashionkit.engine.threads": "how many cores it uses",
}


def modules_of(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, at any depth of its code, relative imports resolved."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            first = node.args[0] if node.args else None
            yield node.lineno, first.value if isinstance(first, ast.Constant) else "a name worked out at run time"


def room_of(module: str) -> str:
    """The room a module of fashionkit lies in; an empty text for the package itself."""
    return module.split(".")[1] if "." in module else ""


def breaches(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module imports against the floors."""
    room, found = room_of(module), []
    for line, name in modules_of(source, module, is_package):
        if name == "fashionkit" or name.split(".")[0] != "fashionkit":
            continue
        other = room_of(name)
        if other in (room, "__version__") or (room, other) in PAIRS:
            continue
        if other not in FLOORS or FLOORS[other] >= FLOORS[room]:
            found.append(f"{module}, line {line}: {room} may not import {name}")
    return found


def files() -> list[tuple[Path, str]]:
    """Every module with its name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found.append((path, ".".join(parts[:-1] if parts[-1] == "__init__" else parts)))
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module) for _, module in files()} - {""}
    assert rooms <= set(FLOORS), "a new room gets its floor in DESIGN and here"
    assert {"tables", "engine", "catalog", "datagen", "cli"} <= rooms


def test_imports_follow_the_floors() -> None:
    found = [
        breach
        for path, module in files()
        if room_of(module)
        for breach in breaches(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
    ]
    assert found == []


def test_the_package_itself_imports_no_room() -> None:
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    at_once = "\n".join(ast.unparse(node) for node in ast.parse(source).body if not isinstance(node, ast.FunctionDef))
    assert [name for _, name in modules_of(at_once, "fashionkit", True)] == []
    # What `from fashionkit import ...` loads when it is asked for.
    lazy = ["fashionkit.embed.embedder.Embedder", "fashionkit.embed.asking.VQAModel"]
    assert [name for _, name in modules_of(source, "fashionkit", True)] == lazy


def test_every_named_pair_is_in_use() -> None:
    used = {
        (room_of(module), room_of(name))
        for path, module in files()
        for _, name in modules_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        if name.startswith("fashionkit.")
    }
    assert set(PAIRS) <= used


def test_rooms_that_make_data_import_nothing_heavy() -> None:
    found = [
        f"{module}, line {line}: {name}"
        for path, module in files()
        if room_of(module) in LIGHT and module not in FOR_TORCH
        for line, name in modules_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")
        if name.split(".")[0] in HEAVY
    ]
    assert found == []


def test_modules_for_torch_are_there_and_use_it() -> None:
    sources = {module: path.read_text(encoding="utf-8") for path, module in files()}
    for module in FOR_TORCH:
        assert "torch" in {name.split(".")[0] for _, name in modules_of(sources[module], module, False)}


@pytest.mark.parametrize(
    ("source", "module", "wrong"),
    [
        ("from fashionkit.catalog import schema", "fashionkit.tables.files", True),
        ("from fashionkit import catalog", "fashionkit.tables.files", True),
        ("import fashionkit.datagen.store", "fashionkit.catalog.images", True),
        ("def f():\n    from fashionkit.cli import main", "fashionkit.datagen.store", True),
        ("from ..datagen import store", "fashionkit.catalog.images", True),
        ("from ...datagen import store", "fashionkit.catalog.draw.plan", True),
        ("from fashionkit.engine import progress", "fashionkit.tables.files", True),
        ("from fashionkit.tables import InputError", "fashionkit.engine.ray_cluster", False),
        ("import importlib\nimportlib.import_module('fashionkit.train')", "fashionkit.datagen.store", True),
        ("from fashionkit.unheard_of import x", "fashionkit.cli.shell", True),
        ("from . import schema", "fashionkit.catalog.images", False),
        ("from ..tables import files", "fashionkit.catalog.images", False),
        ("import fashionkit\nfrom fashionkit import __version__", "fashionkit.tables.files", False),
        ("from fashionkit.catalog import schema", "fashionkit.datagen.store", False),
        ("import numpy", "fashionkit.tables.files", False),
    ],
)
def test_the_guard_sees_what_it_should(source: str, module: str, wrong: bool) -> None:
    assert bool(breaches(source, module)) is wrong


def test_the_guard_resolves_relative_imports_in_packages() -> None:
    assert breaches("from ..datagen import store", "fashionkit.catalog", is_package=True)
    assert not breaches("from .schema import KIND", "fashionkit.catalog", is_package=True)
