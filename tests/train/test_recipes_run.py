"""Every recipe of `train/` fits the real signatures, and each style recipe trains a step or two in small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.recipes import find, names
from fashionkit.tables.yamls import load_yaml
from fashionkit.train.cli import TrainCLI, run
from fashionkit.vectors.schema import finish_vectors, write_part
from tests.train.running import checkpoint, fit, table

# Small networks of the same kinds; timm has no small Swin, so another network of tokens stands for it.
SMALL = {
    "resnet50": "timm/test_resnet",
    "convnext": "timm/test_convnext",
    "efficientnet_b3": "timm/test_efficientnet",
    "mobilenetv2": "timm/mobilenetv2_050",
    "mobilenetv3": "timm/mobilenetv3_small_050",
    "swin": "timm/test_vit",
    "open_clip": "timm/test_vit",
}
SHRUNK = ["--model.weights", "random", "--model.size", "32", "--data.workers", "0", "--data.limit", "4"]
SHRUNK += ["--data.batch", "2", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
SHRUNK += ["--trainer.limit_train_batches", "2"]


class Parsed(Exception):
    """All was read."""


class OnlyParsed(TrainCLI):
    """Reads and checks, and builds nothing."""

    def before_instantiate_classes(self) -> None:
        raise Parsed


def content(name: str) -> dict[str, Any]:
    data: dict[str, Any] = load_yaml(find("train", name))[0]
    return data


STYLES = [name for name in names("train") if content(name).get("model", {}).get("class_path", "").endswith("StyleTask")]


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """Made-up general vectors of all pictures."""
    folder = tmp_path_factory.mktemp("general") / "clip"
    ids = Catalog(drawn).table("images", ["image_id"])["image_id"].to_pylist()
    found = np.random.default_rng(0).normal(size=(len(ids), 8))
    write_part(folder, 0, ids, found / np.linalg.norm(found, axis=1, keepdims=True))
    finish_vectors(folder, {"model": "made up", "fingerprint": "f"})
    return folder


@pytest.mark.parametrize("name", names("train"))
def test_every_recipe_fits_the_signatures(name: str) -> None:
    with pytest.raises(Parsed):
        OnlyParsed(["fit", "--config", str(find("train", name))])


@pytest.mark.parametrize("name", names("train"))
def test_every_recipe_begins_with_what_it_is_and_its_command(name: str) -> None:
    lines = find("train", name).read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert lines[: len(head)] == head and len(head[0]) > 20
    assert any(f"fashionkit train fit --config {name}" in line for line in head)
    if name in STYLES:
        assert any("Expect" in line for line in head), "what it should reach, or that this is not known yet"


def test_the_recipes_are_there() -> None:
    paper = ("resnet50", "convnext_tiny", "convnext_base", "efficientnet_b3", "mobilenetv2", "swin_base")
    expected = {"style_backbone", "style_backbone_small", "irsn_small", *(f"irsn_{name}" for name in paper)}
    assert expected <= set(STYLES)


@pytest.mark.parametrize("name", STYLES)
def test_every_style_recipe_trains(name: str, tmp_path: Path, drawn: Path, general: Path) -> None:
    backbone = content(name)["model"]["init_args"]["backbone"]
    small = next(arch for key, arch in SMALL.items() if key in backbone)
    words = [*SHRUNK, "--data.catalog", str(drawn), "--model.backbone", small]
    if content(name)["data"]["init_args"].get("general"):
        words += ["--data.general", str(general)]
    assert fit(find("train", name), tmp_path / "run", *words) == 0
    assert checkpoint(tmp_path / "run")["global_step"] == 2
    assert [row for row in table(tmp_path / "run") if row["val/macro_f1"]]


def test_the_small_recipes_follow_each_other(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As their headers say: the second starts from the folder where the first one ends, and both are judged."""
    monkeypatch.chdir(tmp_path)
    words = ["--data.catalog", str(drawn), "--trainer.max_epochs", "1", "--model.size", "32", "--data.limit", "4"]
    words += ["--model.backbone", "timm/mobilenetv3_small_050"]
    for name in ("style_backbone_small", "irsn_small"):
        assert run(["fit", "--config", name, *words]) == 0
        assert run(["test", "--out", f"runs/{name}"]) == 0
    assert (tmp_path / "runs/irsn_small/test.json").exists()
    first, second = (
        checkpoint(tmp_path / "runs" / name)["preprocess"] for name in ("style_backbone_small", "irsn_small")
    )
    assert first == second and (first["resize"], first["crop"]) == ("squash", 1.0)


@pytest.mark.parametrize("name", STYLES)
def test_style_recipes_show_the_whole_picture(name: str) -> None:
    """Stages that follow each other must see the same, and a crop would cut off heads and shoes."""
    assert content(name)["model"]["init_args"]["resize"] == "squash"
