"""Recipes by name and by path, and every shipped one readable."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit import recipes
from fashionkit.tables import InputError
from fashionkit.tables.yamls import load_yaml

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted(path for folder in ("datagen", "train", "eval") for path in (ROOT / folder).rglob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up recipe folder, and a working folder beside it."""
    for name in ("datagen/shop.yaml", "datagen/street.yaml", "datagen/packs/core.yaml", "secret.yaml"):
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a: 1\n")
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(recipes, "root", lambda: tmp_path / "root")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "root"


def test_shipped_recipes_are_found() -> None:
    assert SHIPPED, "the recipe folders hold at least the ontology"
    assert recipes.root() == ROOT


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_shipped_recipe_is_read_and_found_by_its_name(path: Path) -> None:
    data, lines = load_yaml(path)
    assert isinstance(data, dict) and lines.of(next(iter(data))) is not None
    kind = path.parent.relative_to(ROOT).as_posix()
    assert recipes.find(kind, path.stem) == path
    assert path.stem in recipes.names(kind)


def test_names_are_those_of_the_kind_alone(folder: Path) -> None:
    assert recipes.names("datagen") == ["shop", "street"]
    assert recipes.names("datagen/packs") == ["core"]
    assert recipes.names("train") == []


def test_a_name_is_a_recipe_before_it_is_a_file_here(folder: Path) -> None:
    Path("shop").write_text("mine")
    Path("own").write_text("mine")
    assert recipes.find("datagen", "shop") == folder / "datagen" / "shop.yaml"
    assert recipes.find("datagen", "own") == Path("own")


def test_a_path_is_looked_for_beside_the_yaml_that_names_it_then_here(folder: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    Path("mine.yaml").write_text("here")
    assert recipes.find("datagen", "mine.yaml", relative_to=beside) == Path("mine.yaml")
    (beside / "mine.yaml").write_text("beside")
    assert recipes.find("datagen", "mine.yaml", relative_to=beside) == beside / "mine.yaml"
    assert recipes.find("datagen", "./mine.yaml") == Path("mine.yaml")
    assert recipes.find("datagen", str(beside / "mine.yaml")) == beside / "mine.yaml"


def test_unknown_names_list_what_there_is_and_the_nearest(folder: Path) -> None:
    with pytest.raises(InputError, match=r"nearest allowed: 'street'(.|\n)*allowed: shop, street"):
        recipes.find("datagen", "stret")
    with pytest.raises(InputError, match=r"no such file(.|\n)*shop, street"):
        recipes.find("datagen", "nowhere/stret.yaml")


@pytest.mark.parametrize("name", ["../secret", "..", "../secret.yaml", "packs/../../secret", "", "a\0b", "packs/core"])
def test_names_never_leave_the_recipe_folder(folder: Path, name: str) -> None:
    with pytest.raises(InputError):
        recipes.find("datagen", name)
