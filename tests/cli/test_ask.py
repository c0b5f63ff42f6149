"""`fashionkit ask`, and `share` of a run that learned to answer: tiny runs on a drawn catalogue, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashionkit import VQAModel
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.splits import SplitOptions
from fashionkit.cli import main
from fashionkit.datagen.generate import generate
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.spec import load_spec
from fashionkit.embed.embedder import Embedder
from fashionkit.engine import threads
from fashionkit.models.answering_checkpoint import answering_from_checkpoint
from fashionkit.models.checkpoint import find_checkpoint, from_checkpoint
from fashionkit.tables import InputError
from fashionkit.train.cli import run
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.features import cache_features
from fashionkit.vision.pictures import as_picture, sized
from tests.tiny_models import ARCH, tiny_answering

SPLITS = SplitOptions(shares=(("train", 0.6), ("val", 0.2), ("test", 0.2)))
RECIPE = """# A tiny run.
data:
  class_path: fashionkit.train.questions.QuestionData
  init_args: {{catalog: {catalog}, questions: {questions}, images: 6, per_image: 2, words: 400{data}}}
model:
  class_path: fashionkit.train.vqa.VqaTask
  init_args:
    backbone: {arch}
    weights: "{weights}"
    size: 32
    kind: {kind}
    network: {{width: 16, layers: 1, decoder_layers: 1, heads: 2, feed: 32, embedding: 12{network}}}
trainer: {{max_epochs: 1, accelerator: cpu}}
"""
ASK = ["what colour is the coat?", "is there a hat?"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread of torch."""
    with threads.one_thread():
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 outfits of 64 px, and questions about them."""
    out = tmp_path_factory.mktemp("drawn")
    draw_catalog(out / "catalog", DrawOptions(30, size=64, workers=1, splits=SPLITS))
    spec = {"catalog": str(out / "catalog"), "out": str(out / "questions"), "samples": 300, "workers": 1}
    generate(load_spec("drawn", **spec, families={name: 0 for name in FAMILIES if name != "C2"}))
    return out


@pytest.fixture(scope="module")
def fit(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains for an epoch; returns the run's folder."""

    def train(**values: str) -> Path:
        folder = tmp_path_factory.mktemp("run")
        given = {
            "catalog": drawn / "catalog",
            "questions": drawn / "questions",
            "arch": ARCH,
            "data": "",
            "network": "",
        }
        text = RECIPE.format(**{**given, "kind": "vlm", "weights": "random:7", **values})
        (folder / "tiny.yaml").write_text(text, encoding="utf-8")
        assert run(["fit", "--config", str(folder / "tiny.yaml"), "--out", str(folder / "out")]) == 0
        return folder / "out"

    return train


@pytest.fixture(scope="module")
def trained(fit: Callable[..., Path]) -> Path:
    """A run from pixels."""
    return fit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights as a folder."""
    return tiny_answering().save(tmp_path_factory.mktemp("models") / "m", "Nothing: its weights are random.")


def pictures(drawn: Path, n: int = 3) -> list[bytes]:
    catalog = Catalog(drawn / "catalog")
    ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()[:n]
    return [bytes(catalog.image_bytes(ids)[name]) for name in ids]  # type: ignore[arg-type]


def checkpoint(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(find_checkpoint(folder), weights_only=True)
    return found


def features(drawn: Path, out: Path, weights: str = "random:7") -> Path:
    """Cached maps of the catalogue's pictures."""
    catalog = Catalog(drawn / "catalog")
    ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()
    encoded = catalog.image_bytes(ids)
    cache_features(out, build_backbone(ARCH, weights, 32), ids, lambda name: encoded[name])
    return out


def test_what_was_trained_is_what_answers(
    trained: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fashionkit.train.vqa import VqaTask

    task, shown = VqaTask.load(trained), pictures(drawn)
    assert main(["share", str(trained), "--out", str(tmp_path / "m"), "--about", "Drawn.", "--licence", "CC0-1.0"]) == 0
    out = capsys.readouterr().out
    assert f"{ARCH} with vlm, {len(task.answers)} known answers, from " in out
    model = VQAModel.load(tmp_path / "m")
    assert model.answers == task.answers and model.model.temperature == task.temperature
    image = torch.from_numpy(np.stack([sized(as_picture(each), task.preprocess) for each in shown]))
    asked, image_of = ASK * 3, torch.arange(3).repeat_interleave(2)
    batch = {"image": image, "image_of": image_of, "question": model.model.read(asked)}
    with torch.no_grad():
        wanted = (task._ranked(batch, task.cells(batch)) / task.temperature).softmax(1)
    found = model.ask(shown, [ASK] * 3, alternatives=len(task.answers), threshold=0)
    for row, answer in enumerate(answer for answers in found for answer in answers):
        said = dict([(answer.text, answer.probability), *answer.alternatives])
        assert [said[name] for name in task.answers] == pytest.approx(wanted[row].tolist(), abs=1e-4)
    assert VQAModel.load(trained).ask(shown, ASK[0], threshold=0) == model.ask(shown, ASK[0], threshold=0)
    config = (tmp_path / "m" / "config.json").read_text()
    assert str(drawn) not in config, "no path of where it was trained"
    card = (tmp_path / "m" / "README.md").read_text()
    assert "Drawn." in card and "CC0-1.0" in card and "| val |" in card


@pytest.mark.parametrize("kind", ["encoder_decoder", "mcan"])
def test_runs_on_cached_maps_get_the_weights_that_made_them(
    fit: Callable[..., Path], drawn: Path, tmp_path: Path, kind: str
) -> None:
    kept = features(drawn, tmp_path / "features")
    out = fit(kind=kind, data=f", features: {kept}")
    assert not any(key.startswith("backbone.") for key in checkpoint(out)["state_dict"])
    model = answering_from_checkpoint(find_checkpoint(out))
    assert model.fingerprint == Embedder.load(ARCH, "random:7", 32).fingerprint and model.config.kind == kind
    assert len(VQAModel(model).ask(pictures(drawn), ASK[0])) == 3
    with pytest.raises(InputError, match="features of other weights or another preparation"):
        answering_from_checkpoint(find_checkpoint(out), weights="random:8")


def test_the_weights_may_be_of_another_run(
    fit: Callable[..., Path], trained: Path, drawn: Path, tmp_path: Path
) -> None:
    first = answering_from_checkpoint(find_checkpoint(trained))
    assert first.backbone is not None
    catalog = Catalog(drawn / "catalog")
    ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()
    encoded = catalog.image_bytes(ids)
    cache_features(tmp_path / "features", first.backbone, ids, lambda name: encoded[name])
    out = fit(weights=str(trained), data=f", features: {tmp_path / 'features'}")
    assert answering_from_checkpoint(find_checkpoint(out)).fingerprint == first.fingerprint
    with pytest.raises(InputError, match="there is no backbone in this checkpoint"):
        answering_from_checkpoint(find_checkpoint(out), weights=out)


def test_blind_runs_and_runs_on_facts(fit: Callable[..., Path], drawn: Path, tmp_path: Path) -> None:
    blind = answering_from_checkpoint(find_checkpoint(fit(network=", blind: true")))
    assert blind.backbone is None and VQAModel.load(blind.save(tmp_path / "b")).ask(pictures(drawn), ASK[0])
    facts = fit(data=", truth: true")
    model = answering_from_checkpoint(find_checkpoint(facts))
    assert model.backbone is None and not model.config.blind
    assert main(["share", str(facts), "--out", str(tmp_path / "f")]) == 2
    assert not (tmp_path / "f").exists()


def test_each_kind_of_run_says_what_loads_it(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"(?s)this run answers questions.*VQAModel\.load"):
        from_checkpoint(find_checkpoint(trained))
    found = checkpoint(trained)
    found["hyper_parameters"]["facts"] = {"classes": ["a", "b"]}
    torch.save(found, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match=r"(?s)learned to answer no questions.*fashionkit share"):
        answering_from_checkpoint(tmp_path / "a.ckpt")
    assert main(["share", str(trained), "--out", str(tmp_path / "m"), "--general", "timm/test_vit"]) == 2
    assert "takes no general vector" in capsys.readouterr().err


def test_hostile_checkpoints(trained: Path, tmp_path: Path) -> None:
    good, file = checkpoint(trained), tmp_path / "a.ckpt"
    facts = good["hyper_parameters"]["facts"]

    def refused(what: dict[str, Any], problem: str) -> None:
        torch.save(what, file)
        with pytest.raises(InputError, match=problem):
            answering_from_checkpoint(file)

    def with_facts(**changed: Any) -> dict[str, Any]:
        return {**good, "hyper_parameters": {**good["hyper_parameters"], "facts": {**facts, **changed}}}

    def with_hyper(**changed: Any) -> dict[str, Any]:
        return {**good, "hyper_parameters": {**good["hyper_parameters"], **changed}}

    for key in ("temperature", "preprocess"):
        refused({name: value for name, value in good.items() if name != key}, "lacks what its task")
    refused({**good, "temperature": 0}, "a number above 0")
    refused({**good, "temperature": "1"}, "a number above 0")
    refused(with_hyper(network={"width": -1}), "a whole number from 1")
    refused(with_hyper(network={"code": "x"}), "no such setting")
    refused(with_hyper(network=[1]), "lacks what its task")
    refused(with_hyper(kind="oracle"), "no such choice")
    refused(with_hyper(backbone="timm/none"), "no such backbone")
    refused(with_facts(tokenizer="{}"), "tokenizer")
    refused(with_facts(tokenizer=7), "lacks what its task")
    refused(with_facts(answers=[*facts["answers"], "no"]), "two answers are the same")
    refused(with_facts(answers=None), "lacks what its task")
    state = good["state_dict"]
    refused({**good, "state_dict": {k: v for k, v in state.items() if not k.startswith("network.")}}, "do not fit")
    refused({**good, "preprocess": {"size": 32}}, "the preprocessing lacks")


def test_the_command(folder: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = pictures(drawn, 1)
    (tmp_path / "a.png").write_bytes(shown)
    words = ["ask", str(tmp_path / "a.png"), *ASK, "", "\x1b[2J what is it?", "--model", str(folder)]
    assert main([*words, "--threshold", "0", "--alternatives", "2", "--json", str(tmp_path / "f.json")]) == 0
    out = capsys.readouterr().out
    wanted = VQAModel.load(folder).ask(shown, ASK, alternatives=2, threshold=0)
    for question, answer in zip(ASK, wanted, strict=True):
        others = ", ".join(f"{text} {p:.1%}" for text, p in answer.alternatives)
        assert f"{question}\n  {answer.text}  {answer.probability:.1%}\n  else: {others}\n" in out
    assert "\n  cannot tell\n  note: there is no word in the question\n" in out and "\x1b" not in out
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["image"].endswith("a.png") and [each["question"] for each in found["answers"]][:2] == ASK
    first = found["answers"][0]
    assert (first["text"], first["state"]) == (wanted[0].text, wanted[0].state)
    assert first["probability"] == pytest.approx(wanted[0].probability) and len(first["alternatives"]) == 2
    assert main([*words, "--threshold", "1"]) == 0
    assert "\n  cannot tell\n  perhaps: " in capsys.readouterr().out
    assert main(["ask", words[1], words[1], *ASK, "--model", str(folder)]) == 2
    assert "one picture is asked at a time" in capsys.readouterr().err


def test_the_command_takes_pictures_of_a_catalogue(
    folder: Path, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = drawn / "catalog"
    name = Catalog(catalog).table("images", ["image_id"])["image_id"][0].as_py()
    words = [ASK[0], "--model", str(folder), "--threshold", "0", "--catalog", str(catalog)]
    assert main(["ask", name, *words]) == 0
    answer = VQAModel.load(folder).ask(pictures(drawn, 1), ASK[0], threshold=0)[0]
    assert f"  {answer.text}  {answer.probability:.1%}\n" in capsys.readouterr().out
    assert main(["ask", "nobody", *words]) == 2
    assert "no picture under this id" in capsys.readouterr().err


def test_the_command_refuses_what_it_cannot_ask(
    folder: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(pictures(drawn, 1)[0])
    (tmp_path / "broken.png").write_bytes(b"broken")
    for words, problem in (
        ([str(tmp_path / "broken.png"), "what?", "--model", str(folder)], "broken.png: this is no picture"),
        ([str(tmp_path / "b.png"), "what?", "--model", str(folder)], "no such file"),
        (["https://shop.example/a.jpg", "what?", "--model", str(folder)], "nothing is fetched from a URL"),
        ([str(tmp_path), "what?", "--model", str(folder)], "this is a folder"),
        ([str(tmp_path / "a.png"), "what?", "--model", str(tmp_path / "none")], "no such folder"),
        ([str(tmp_path / "a.png"), "--model", str(folder)], "still needed: QUESTIONS"),
        ([str(tmp_path / "a.png"), "what?"], "still needed: --model"),
        ([str(tmp_path / "a.png"), "what?", "--model", str(folder), "--threshold", "2"], "within 0 to 1"),
    ):
        assert main(["ask", *words]) == 2
        err = capsys.readouterr().err
        assert problem in err and "Traceback" not in err and "on_error" not in err
