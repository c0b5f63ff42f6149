"""Training to answer: losses and measures, what a checkpoint holds, what is refused, and a run that learns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.datagen.generate import generate
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.spec import RunSpec
from fashionkit.tables import InputError
from fashionkit.train.caching import cache_catalog
from fashionkit.train.callbacks import read_metrics
from fashionkit.train.cli import run
from fashionkit.train.questions import QuestionData
from fashionkit.train.vqa import VqaTask
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.feature_store import FeatureStore
from fashionkit.vision.preprocess import Preprocess
from tests.train.conftest import SEEING, SIDE, SPLITS
from tests.train.running import checkpoint, fit, same, table

Recipe = Callable[..., Path]
NETWORK = {"width": 16, "layers": 2, "heads": 2, "feed": 32, "embedding": 12, "dropout": 0.0, "answer_length": 24}
KINDS = ("vlm", "encoder_decoder", "mcan")


@pytest.fixture(scope="module")
def data(drawn: Path, question_set: Path, maps: Path) -> QuestionData:
    """Prepared, on maps."""
    found = QuestionData(str(drawn), str(question_set), features=str(maps), words=300, images=4, val_questions=40)
    found.prepare(Preprocess(SIDE, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0))
    return found


@pytest.fixture(scope="module")
def pixels(drawn: Path, question_set: Path) -> QuestionData:
    """The same, on pixels."""
    found = QuestionData(str(drawn), str(question_set), words=300, images=4, val_questions=40, empties=0.0)
    found.prepare(build_backbone(SEEING, "random:1", SIDE).preprocess)
    return found


def task(facts: dict[str, Any], **options: Any) -> VqaTask:
    settings = {"backbone": SEEING, "weights": "random:1", "size": SIDE, "network": NETWORK}
    return VqaTask(facts, **settings | options)


def batch_of(data: QuestionData, split: str = "val") -> dict[str, Any]:
    found: dict[str, Any] = next(iter(data.loader(split)))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_mean_over_questions(data: QuestionData, kind: str) -> None:
    made, batch = task(data.facts, kind=kind).eval(), batch_of(data)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    each = made.network.losses(
        batch["cells"], batch["image_of"], batch["question"], batch["answer"], batch["answer_class"]
    )
    assert each.shape == batch["qid"].shape
    assert made.training_step(batch, 0).item() == pytest.approx(each.mean().item())
    ranked = made._judged(batch)["log_probability"]
    assert ranked.shape == (len(each), len(made.answers))
    assert torch.allclose(ranked.exp().sum(1), torch.ones(len(each)), atol=2e-3)


def test_pictures_are_encoded_once_for_all_their_questions(pixels: QuestionData, maps: Path) -> None:
    made, batch = task(pixels.facts), batch_of(pixels)
    assert made.backbone is not None
    seen: list[int] = []
    spatial = made.backbone.spatial
    made.backbone.spatial = lambda x: (seen.append(len(x)), spatial(x))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    cells = made.cells(batch)
    assert cells is not None and seen == [len(batch["row"])] and len(batch["qid"]) > 3 * seen[0]
    ids = pixels.ids("val")
    kept = FeatureStore(maps).maps([ids[row] for row in batch["row"].tolist()])
    assert cells.shape == kept.shape and torch.allclose(cells, torch.from_numpy(kept).float(), rtol=0.02, atol=0.02)
    assert made.counts(batch) == {
        "pictures": len(batch["row"]),
        "questions": len(batch["qid"]),
        "tokens": batch["tokens"],
    }


def test_what_trains_end_to_end(pixels: QuestionData) -> None:
    def free(**options: Any) -> set[str]:
        made = task(pixels.facts, **options)
        return {name for name, value in made.named_parameters() if value.requires_grad and "backbone." in name}

    whole, last, none = free(), free(freeze=1), free(freeze="all")
    assert whole > last > none == set()
    blind = task(pixels.facts, network=NETWORK | {"blind": True})
    assert blind.backbone is None and blind.cells({}) is None
    assert blind.network.config.channels == task(pixels.facts).network.config.channels


def test_cached_maps_need_no_backbone_until_training_begins(data: QuestionData) -> None:
    made = task(data.facts, weights="nowhere.safetensors")
    assert made.backbone is None and made.cached
    assert made.preprocess == Preprocess.from_dict(data.facts["preprocess"])
    with pytest.raises(InputError, match="nowhere"):
        made.on_fit_start()
    task(data.facts, weights="nowhere.safetensors", network=NETWORK | {"blind": True}).on_fit_start()


def test_maps_of_pictures_are_those_of_the_cache(data: QuestionData, drawn_catalog: Any, maps: Path) -> None:
    from fashionkit.train.pictures import first_pictures
    from fashionkit.vision.pictures import sized

    names, pictures = first_pictures(drawn_catalog, 20)
    made = task(data.facts)
    found = made.maps_of(np.stack([sized(one, made.preprocess) for one in pictures]))
    assert found is not None
    kept = torch.from_numpy(FeatureStore(maps).maps(names)).float()
    assert torch.allclose(found, kept, rtol=1e-2, atol=1e-2) and found.abs().max() > 0.1
    with pytest.raises(InputError, match="other weights"):
        task(data.facts, weights="random:2").on_fit_start()
    with pytest.raises(InputError, match="other weights"):
        task(data.facts, resize="squash").maps_of(np.zeros((1, SIDE, SIDE, 3), np.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": {"blue": 1}}, "no such setting"),
        ({"network": {"channels": 3}}, "decide this"),
        ({"network": {"kind": "mcan"}}, "beside `network`"),
        ({"network": {"heads": 3}}, "do not divide"),
        ({"network": {"fold": 3}}, "do not fill"),
        ({"network": {"answer_length": 2}}, "an answer has"),
        ({"kind": "oracle"}, "no such choice"),
        ({"backbone": None}, "still needed"),
    ],
)
def test_misuse(data: QuestionData, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(data.facts, **options)


def test_facts_of_other_data() -> None:
    with pytest.raises(InputError, match="data without questions"):
        task({"classes": ["a"], "general": 0})


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory, drawn: Path, question_set: Path, maps: Path
) -> dict[str, tuple[Path, Path]]:
    """Finished runs on cached maps by kind: recipe and folder."""
    from tests.train.conftest import ASKING

    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        recipe = folder / "asking.yaml"
        recipe.write_text(ASKING.format(catalog=drawn, questions=question_set, features=maps, kind=kind))
        assert fit(recipe, folder / "run") == 0
        found[kind] = recipe, folder / "run"
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_each_kind_is_measured_and_loaded(
    kind: str, ran: dict[str, tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = ran[kind]
    last = [row for row in table(out) if row["val/accuracy"]][-1]
    assert {"val/macro_accuracy", "val/loss", "val/ece", "train/loss"} <= set(last)
    speeds = {name for row in read_metrics(out / "metrics.csv") for name in row if name.endswith("_per_s")}
    assert speeds == {"train/pictures_per_s", "train/questions_per_s", "train/tokens_per_s"}
    assert run(["test", "--out", str(out)]) == 0
    said = json.loads((out / "test.json").read_text())
    assert 0 <= said["test/accuracy"] <= 1 and said["test/loss"] > 0
    assert f"test/accuracy {said['test/accuracy']:.4f}" in capsys.readouterr().out
    saved = checkpoint(out, "best")
    assert not [name for name in saved["state_dict"] if "backbone" in name]
    loaded = VqaTask.load(out)
    assert loaded.temperature == saved["temperature"] != 1.0 and type(saved["temperature"]) is float
    assert loaded.facts == saved["hyper_parameters"]["facts"] and not loaded.training


def test_answers_of_a_loaded_task_are_those_of_the_run(
    ran: dict[str, tuple[Path, Path]], drawn: Path, question_set: Path, maps: Path
) -> None:
    """Measures of validation, worked out again question by question."""
    made = VqaTask.load(ran["vlm"][1])
    again = QuestionData(str(drawn), str(question_set), features=str(maps), words=300, images=3, val_questions=60)
    again.prepare(made.preprocess)
    right, sure = [], []
    with torch.no_grad():
        for batch in again.loader("val"):
            found = made.predict_step(batch, 0)
            assert torch.equal(found["qid"], batch["qid"])
            right += (found["answer"] == batch["answer_class"]).tolist()
            sure += found["probability"].tolist()
    best = json.loads((ran["vlm"][1] / "result.json").read_text())["best"]
    assert len(right) == 60 and float(np.mean(right)) == pytest.approx(best, abs=1e-6)
    assert all(0 < p <= 1 for p in sure)


def test_predictions_and_other_data_are_refused(
    ran: dict[str, tuple[Path, Path]], data: QuestionData, tmp_path: Path, question_set: Path
) -> None:
    _, out = ran["vlm"]
    with pytest.raises(InputError, match="fashionkit eval vqa"):
        run(["predict", "--out", str(out)])
    with pytest.raises(InputError, match=r"trained on other data(.|\n)*eval vqa"):
        run(["test", "--out", str(out), "--data.families", "[B1]", "--data.words", "290"])


def test_checkpoints_of_other_data_are_refused(ran: dict[str, tuple[Path, Path]], data: QuestionData) -> None:
    saved = checkpoint(ran["vlm"][1])
    made = task(saved["hyper_parameters"]["facts"], network=saved["hyper_parameters"]["network"])
    made.on_load_checkpoint(saved)
    saved["hyper_parameters"]["facts"] = {**made.facts, "features": "another"}
    with pytest.raises(InputError, match="features"):
        made.on_load_checkpoint(saved)


def test_features_of_other_weights_or_pictures_are_refused(
    asking: Recipe, tmp_path: Path, drawn: Path, ran: dict[str, tuple[Path, Path]]
) -> None:
    with pytest.raises(InputError, match="other weights or another preparation"):
        fit(asking(), tmp_path / "run", "--model.weights", "random:2")
    with pytest.raises(InputError, match="other weights or another preparation"):
        fit(asking(), tmp_path / "run", "--model.weights", "random:2", "--data.empties", "0")
    other, wrong = tmp_path / "other", tmp_path / "wrong"
    draw_catalog(other, DrawOptions(30, seed=5, size=64, workers=1, splits=SPLITS))
    cache_catalog(other, wrong, build_backbone(SEEING, "random:1", SIDE), colour=False)
    with pytest.raises(InputError, match="not those of the catalogue's pictures"):
        fit(asking(features=wrong), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_network_that_gives_no_numbers_says_so(asking: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="diverged"):
        fit(asking(), tmp_path / "run", "--model.lr", "1e30")


def test_bf16_on_the_cpu(asking: Recipe, tmp_path: Path) -> None:
    words = ["--trainer.precision", "bf16-mixed", "--trainer.max_epochs", "1"]
    assert fit(asking(), tmp_path / "run", *words) == 0
    saved = checkpoint(tmp_path / "run")
    assert {v.dtype for v in saved["state_dict"].values()} == {torch.float32}
    losses = [float(row["train/loss"]) for row in table(tmp_path / "run") if row["train/loss"]]
    assert len(losses) == 4 and all(math.isfinite(loss) for loss in losses)


def test_end_to_end_trains_the_backbone_at_its_own_rate(asking: Recipe, tmp_path: Path, maps: Path) -> None:
    recipe = asking((f"    features: {maps}\n", ""))
    words = ["--trainer.max_epochs", "1", "--run.ema", "null"]
    assert fit(recipe, tmp_path / "run", *words, "--model.backbone_lr", "0.5") == 0
    saved = checkpoint(tmp_path / "run")
    fresh = build_backbone(SEEING, "random:1", SIDE).network.state_dict()
    moved = {
        name.removeprefix("backbone.network.")
        for name, value in saved["state_dict"].items()
        if name.startswith("backbone.") and not torch.equal(value, fresh[name.removeprefix("backbone.network.")])
    }
    assert len(moved) > 10
    rates = {group["initial_lr"] for group in saved["optimizer_states"][0]["param_groups"]}
    assert rates == {0.01, 0.005}
    again = VqaTask.load(tmp_path / "run")
    assert again.backbone is not None and not again.cached
    assert run(["test", "--out", str(tmp_path / "run")]) == 0
    frozen = fit(recipe, tmp_path / "frozen", *words, "--model.freeze", "all", "--model.backbone_lr", "0.5")
    state = checkpoint(tmp_path / "frozen")["state_dict"]
    assert frozen == 0 and all(same(state[f"backbone.network.{name}"], value) for name, value in fresh.items())


def test_a_blind_run_looks_at_nothing(asking: Recipe, tmp_path: Path) -> None:
    recipe = asking(("network: {", "network: {blind: true, "))
    assert fit(recipe, tmp_path / "run", "--trainer.max_epochs", "1", "--model.weights", "nowhere.safetensors") == 0
    names = set(checkpoint(tmp_path / "run")["state_dict"])
    assert names and not any("image" in name for name in names)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> QuestionData:
    """Facts of a few drawn pictures, and questions about them."""
    folder = tmp_path_factory.mktemp("told")
    catalog, questions = folder / "catalog", folder / "questions"
    draw_catalog(catalog, DrawOptions(12, seed=3, size=64, workers=1, pictures=False, splits=SPLITS))
    none = {family: 0.0 for family in FAMILIES if family not in ("B1", "C4", "C6", "C8")}
    generate(RunSpec(catalog=str(catalog), out=str(questions), workers=1, families=none))
    found = QuestionData(str(catalog), str(questions), truth=True, per_image=64, words=300, noise=0.0, empties=0.0)
    found.prepare(Preprocess(1, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0), ("train",))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_facts_are_learnt_in_seconds(kind: str, told: QuestionData) -> None:
    """The questions of pictures whose facts are shown are answered; shown another picture's facts, they are not."""
    network = {"width": 48, "layers": 1, "heads": 4, "feed": 96, "embedding": 32, "dropout": 0.0, "decoder_layers": 1}
    made = VqaTask(told.facts, kind=kind, network=network)
    optimizer = torch.optim.AdamW(made.parameters(), 3e-3)
    (batch,) = told.loader("train")
    for _ in range(120):
        optimizer.zero_grad()
        made._losses(batch, made.cells(batch)).mean().backward()
        torch.nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
    made.eval()

    def right(cells: torch.Tensor) -> float:
        with torch.no_grad():
            found = made.predict_step({**batch, "cells": cells}, 0)["answer"]
        return float((found == batch["answer_class"]).float().mean())

    assert len(batch["qid"]) > 30 and right(batch["cells"]) > 0.9
    assert right(batch["cells"].roll(1, 0)) < 0.8
