"""From a run of training to a folder that answers as the trained task did, without a line of code in it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashionkit import Embedder
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.splits import SplitOptions
from fashionkit.cli import main
from fashionkit.embed.catalog import EmbedOptions, embed_catalog
from fashionkit.embed.style_inputs import StyleInputs
from fashionkit.models.calibration import predict
from fashionkit.models.checkpoint import find_checkpoint, from_checkpoint
from fashionkit.tables import InputError
from fashionkit.train.cli import run
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.features import cache_features
from fashionkit.vision.pictures import as_picture, sized
from tests.tiny_models import ARCH, OTHER

SPLITS = SplitOptions(shares=(("train", 0.6), ("val", 0.2), ("test", 0.2)))
STYLE = """# A tiny run.
data:
  class_path: fashionkit.train.data.StyleData
  init_args: {{catalog: {catalog}, regions: bands, batch: 6{data}}}
model:
  class_path: fashionkit.train.style.StyleTask
  init_args:
    backbone: {arch}
    weights: random:7
    size: 32
    network: {{width: 16, heads: 2, use_general: {general}}}
    lr: 0.01{model}
trainer: {{max_epochs: 1, accelerator: cpu}}
run: {{ema: {ema}}}
"""
ATTRIBUTES = """# A tiny run.
data:
  class_path: fashionkit.train.data.AttributeData
  init_args: {{catalog: {catalog}, least: 2, batch: 6{data}}}
model:
  class_path: fashionkit.train.attributes.AttributeTask
  init_args: {{backbone: {arch}, weights: "random:7", size: 32, hidden: 8, lr: 0.01{model}}}
trainer: {{max_epochs: 1, accelerator: cpu}}
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 outfits of 64 px."""
    out = tmp_path_factory.mktemp("drawn") / "catalog"
    draw_catalog(out, DrawOptions(30, size=64, workers=1, splits=SPLITS))
    return out


@pytest.fixture(scope="module")
def fit(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains for an epoch; returns the run's folder."""

    def train(recipe: str, **values: str) -> Path:
        folder = tmp_path_factory.mktemp("run")
        given = {"catalog": drawn, "arch": ARCH, "data": "", "model": "", "general": "false", "ema": "null", **values}
        (folder / "tiny.yaml").write_text(recipe.format(**given), encoding="utf-8")
        out = folder / "out"
        assert run(["fit", "--config", str(folder / "tiny.yaml"), "--out", str(out)]) == 0
        return out

    return train


@pytest.fixture(scope="module")
def styled(fit: Callable[..., Path]) -> Path:
    """A run of a style network with averaged weights."""
    return fit(STYLE, ema="0.5")


@pytest.fixture(scope="module")
def attributed(fit: Callable[..., Path]) -> Path:
    """A run of attribute heads on a backbone that trains, too."""
    return fit(ATTRIBUTES, model=", freeze: none")


def pictures(drawn: Path, n: int = 3) -> list[bytes]:
    catalog = Catalog(drawn)
    ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()[:n]
    return [bytes(catalog.image_bytes(ids)[name]) for name in ids]  # type: ignore[arg-type]


def checkpoint(folder: Path, name: str = "best") -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return found


def test_style_says_what_the_task_says(styled: Path, drawn: Path, tmp_path: Path) -> None:
    from fashionkit.train.style import StyleTask

    task, shown = StyleTask.load(styled), pictures(drawn)
    folder = Embedder(from_checkpoint(find_checkpoint(styled))).save(tmp_path / "m")
    model = Embedder.load(folder)
    rows = StyleInputs(model.model, 3)([0, 1, 2], [as_picture(each) for each in shown])
    batch = {
        "image": torch.from_numpy(np.stack([row.pixels for row in rows])),
        "masks": torch.from_numpy(np.stack([row.masks for row in rows if row.masks is not None])),
    }
    with torch.no_grad():
        wanted = task(batch).logits.softmax(1).numpy()
    found = model.style(shown)
    assert np.abs(found.probabilities - wanted).max() < 1e-5
    assert list(found.classes) == task.classes and model.model.style is not None
    assert model.model.style.regions == "bands"
    config = json.loads((folder / "config.json").read_text())
    assert str(drawn) not in json.dumps(config), "no path of where it was trained"


def test_averaged_weights_are_shared(styled: Path) -> None:
    last = checkpoint(styled, "last")
    key = "network.head.weight"
    assert not torch.equal(last["state_dict"][key], last["current_model_state"][key])
    style = from_checkpoint(styled / "checkpoints" / "last.ckpt").style
    assert style is not None and torch.equal(style.irsn.head.weight, last["state_dict"][key])


def test_attributes_say_what_the_task_says(attributed: Path, drawn: Path, tmp_path: Path) -> None:
    from fashionkit.train.attributes import AttributeTask

    task, shown = AttributeTask.load(attributed), pictures(drawn)
    model = Embedder.load(Embedder(from_checkpoint(find_checkpoint(attributed))).save(tmp_path / "m"))
    image = torch.from_numpy(np.stack([sized(as_picture(each), model.preprocess) for each in shown]))
    with torch.no_grad():
        wanted = predict(task({"image": image}), task.model.specs, task.model.calibration)
    found = model.attributes(shown)
    assert found[0] is not None and found[0].keys() == wanted.keys()
    for row, answers in enumerate(found):
        assert answers is not None
        for name, answer in answers.items():
            assert list(answer.probabilities.values()) == pytest.approx(
                wanted[name].probability[row].tolist(), abs=1e-5
            )
            assert answer.state_probability == pytest.approx(float(wanted[name].state_probability[row].max()), abs=1e-5)


@pytest.fixture(scope="module")
def features(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cached features of the first weights."""
    catalog, out = Catalog(drawn), tmp_path_factory.mktemp("features") / "out"
    ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()
    encoded = catalog.image_bytes(ids)
    cache_features(out, build_backbone(ARCH, "random:7", 32), ids, lambda name: encoded[name])
    return out


def test_a_run_on_cached_features_gets_its_first_weights(
    fit: Callable[..., Path], features: Path, drawn: Path, tmp_path: Path
) -> None:
    out = fit(ATTRIBUTES, data=f", features: {features}")
    file = find_checkpoint(out)
    assert not any(key.startswith("backbone.") for key in checkpoint(out, file.stem)["state_dict"])
    model = from_checkpoint(file)
    assert model.fingerprint == Embedder.load(ARCH, "random:7", 32).fingerprint and model.attributes is not None
    with pytest.raises(InputError, match="features of other weights or another preparation"):
        from_checkpoint(file, weights="random:8")


@pytest.mark.parametrize("kind", ["vectors", "features"])
def test_the_general_backbone_is_the_one_of_training(
    fit: Callable[..., Path], drawn: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors, catalog = tmp_path / "general", Catalog(drawn)
    if kind == "vectors":
        embed_catalog(drawn, vectors, EmbedOptions(OTHER, "random:5", 64, "float32"))
    else:
        ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()
        encoded = catalog.image_bytes(ids)
        cache_features(vectors, build_backbone(OTHER, "random:5", 64), ids, lambda name: encoded[name], maps=False)
    out = fit(STYLE, data=f", general: {vectors}", general="true")
    words = ["share", str(out), "--out", str(tmp_path / "m")]
    capsys.readouterr()
    assert main(words) == 2
    assert OTHER in capsys.readouterr().err, "it says which backbone is needed"
    Embedder.load(OTHER, "random:6", 64).save(tmp_path / "wrong")
    assert main([*words, "--general", str(tmp_path / "wrong")]) == 2
    assert "other weights or another preparation" in capsys.readouterr().err
    right = Embedder.load(OTHER, "random:5", 64).save(tmp_path / "right")
    assert main([*words, "--general", str(right)]) == 0
    model = Embedder.load(tmp_path / "m")
    assert model.model.general is not None and model.model.general.unit == (kind == "vectors")
    shown = pictures(drawn, 1)
    wanted = Embedder.load(right).embed(shown)
    inputs = StyleInputs(model.model, 1)
    _, general = inputs.beside(inputs([0], [as_picture(shown[0])]), model.device)
    assert general is not None
    found = general.detach().numpy()
    assert np.abs(found / np.linalg.norm(found) - wanted).max() < 1e-6
    assert (abs(np.linalg.norm(found) - 1) < 1e-5) == (kind == "vectors")
    shutil.rmtree(vectors)
    with pytest.raises(InputError, match="is gone"):
        from_checkpoint(find_checkpoint(out))


def test_the_command(styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "measures.json").write_text('[{"split": "test", "accuracy": 0.25}]')
    out = tmp_path / "m"
    words = ["share", str(styled), "--out", str(out), "--about", "Drawn.", "--licence", "CC0-1.0"]
    capsys.readouterr()
    assert main([*words, "--metrics", str(tmp_path / "measures.json")]) == 0
    assert f"{ARCH} with style" in capsys.readouterr().out
    card = (out / "README.md").read_text()
    assert "Drawn." in card and "CC0-1.0" in card and "| test | 0.25 |" in card
    assert main(words) == 2
    assert "there is something already" in capsys.readouterr().err
    assert main(["share", str(styled), "--out", str(tmp_path / "measures.json")]) == 2
    assert "and it is a file" in capsys.readouterr().err
    (tmp_path / "measures.json").write_text("[1]")
    assert main(["share", str(styled), "--out", str(tmp_path / "n"), "--metrics", str(tmp_path / "measures.json")]) == 2
    assert "a mapping, or a list of rows" in capsys.readouterr().err
    assert main(["share", str(styled), "--out", str(tmp_path / "n"), "--general", OTHER]) == 2
    assert "needs weights" in capsys.readouterr().err
    assert (
        main(["share", str(styled), "--out", str(tmp_path / "n"), "--general", OTHER, "--general-weights", "random"])
        == 2
    )
    assert "takes no general vector" in capsys.readouterr().err


def test_the_card_has_the_measures_of_its_run(styled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder = Path(shutil.copytree(styled, tmp_path / "run"))
    test, each = run_folder / "test.json", run_folder / "attributes_test.json"
    test.write_text('{"checkpoint": "best.ckpt", "test/accuracy": 0.25, "test/macro_f1": 0.125, "test/ece": 0.5}')

    def card(name: str, *words: str, source: Path = run_folder) -> str:
        assert main(["share", str(source), "--out", str(tmp_path / name), *words]) == 0
        return (tmp_path / name / "README.md").read_text()

    capsys.readouterr()
    text, said = card("a"), capsys.readouterr().out
    assert "| split | accuracy | macro F1 | ECE |" in text and "| test | 0.25 | 0.125 | 0.5 |" in text
    assert "| val |" in text and "best.ckpt" not in text and "measures of test.json, result.json" in said
    text, said = card("b", source=run_folder / "checkpoints" / "last.ckpt"), capsys.readouterr().out
    assert "No measures came with this model" in text and "No test measures of this checkpoint" in said
    each.write_text(
        '[{"attribute": "colour", "n": 9, "accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75},'
        ' {"attribute": "detail", "n": 1, "accuracy": 0.5, "accuracy_low": null, "accuracy_high": null}]'
    )
    text = card("c")
    assert "| split | attribute | n | accuracy | accuracy 95 % | macro F1 | ECE |" in text
    assert "| test | colour | 9 | 0.5 | 0.25–0.75 |" in text and "| test | detail | 1 | 0.5 |  |" in text
    assert "| test | mean |  | 0.25 |" in text
    text = card("d", "--metrics", str(test))
    assert "| test | 0.25 | 0.125 | 0.5 |" in text and "best.ckpt" not in text and "| val |" not in text
    (tmp_path / "own.json").write_text('{"top_1": 0.5, "by": {"red": 0.25}, "names": ["a"]}')
    assert "| by | 0.25 |" in card("e", "--metrics", str(tmp_path / "own.json"))
    os.utime(test, (1, 1))
    assert "0.125" not in card("f"), "measured before the checkpoint was written"


def test_which_checkpoint_of_a_run(styled: Path, tmp_path: Path) -> None:
    assert find_checkpoint(styled) == styled / "checkpoints" / "best.ckpt"
    assert find_checkpoint(styled / "checkpoints") == styled / "checkpoints" / "best.ckpt"
    assert find_checkpoint(styled / "checkpoints" / "last.ckpt").name == "last.ckpt"
    file = styled / "checkpoints" / "best.ckpt"
    (tmp_path / "a").mkdir()
    shutil.copy(file, tmp_path / "a" / "epoch=0.ckpt")
    assert find_checkpoint(tmp_path).name == "epoch=0.ckpt"
    shutil.copy(file, tmp_path / "a" / "epoch=1.ckpt")
    with pytest.raises(InputError, match=r"(?s)several checkpoints.*epoch=0\.ckpt, a/epoch=1"):
        find_checkpoint(tmp_path)
    with pytest.raises(InputError, match="there is no checkpoint"):
        find_checkpoint(tmp_path / "none")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def test_hostile_checkpoints(styled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good, file = checkpoint(styled), tmp_path / "a.ckpt"

    def refused(what: Any, problem: str) -> None:
        torch.save(what, file)
        with pytest.raises(InputError, match=problem):
            from_checkpoint(file)

    refused({**good, "more": Evil()}, "damaged, or holds code")
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"damaged, or holds code|cannot be read"):
        from_checkpoint(file)
    assert not (tmp_path / "evil").exists(), "nothing was run"
    file.write_bytes((styled / "checkpoints" / "best.ckpt").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"damaged, or holds code|cannot be read"):
        from_checkpoint(file)
    with pytest.raises(InputError, match="there is no such checkpoint"):
        from_checkpoint(tmp_path / "none.ckpt")
    refused({"state_dict": {}}, "no checkpoint of a task")
    refused([1], "no checkpoint of a task")
    refused({**good, "hyper_parameters": {"facts": {"classes": ["a", "b"]}}}, "lacks what its task")
    state = dict(good["state_dict"])
    refused({**good, "state_dict": {k: v for k, v in state.items() if not k.startswith("network.")}}, "do not fit")
    refused({**good, "state_dict": {**state, "network.head.bias": torch.zeros(99)}}, "do not fit")
    hyper = good["hyper_parameters"]
    refused({**good, "hyper_parameters": {**hyper, "network": {"width": -1}}}, "cannot be built")
    refused({**good, "hyper_parameters": {**hyper, "backbone": "timm/none"}}, "no such backbone")
    refused({**good, "hyper_parameters": {**hyper, "mask_channels": True}}, "not shared")
    refused({**good, "preprocess": {"size": 32}}, "the preprocessing lacks")
