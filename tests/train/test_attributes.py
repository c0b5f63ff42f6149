"""Training attribute heads on pictures of plain colours: what they learn, what a checkpoint holds, what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from fashionkit.catalog.catalog import write_facts, write_rows
from fashionkit.catalog.schema import KIND, PRESENT, SCHEMA, Facts
from fashionkit.engine import threads
from fashionkit.models.attribute_model import AttributeModel
from fashionkit.tables import InputError, Manifest, write_manifest
from fashionkit.train.attributes import REPORT, AttributeTask
from fashionkit.train.caching import cache_catalog
from fashionkit.train.checkpoints import CheckpointFiles
from fashionkit.train.data import AttributeData
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.colour import COLOUR_DIM
from fashionkit.vision.pictures import encoded

MODEL, SIZE = "timm/test_efficientnet", 32
ONTOLOGY = """
schema: fashionkit.ontology/1
regions: {top: {}, feet: {}}
categories:
  item: {abstract: true}
  shirt: {parent: item, region: top}
  shoes: {parent: item, region: feet}
attributes:
  colour: {values: {red: {}, green: {}, blue: {}}}
  sleeve: {applies_to: [shirt], values: {long: {}, short: {}}}
"""
RGB = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 40, 200)}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training.*"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*"),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with threads.one_thread():
        yield


def shop(folder: Path, number: int = 120) -> Path:
    """Squares of one colour: shirts are tall, shoes are wide; some of the colours are unknown."""
    from PIL import Image

    rows: dict[str, list[dict[str, Any]]] = {"images": [], "items": [], "attributes": [], "splits": []}
    rng = np.random.default_rng(0)
    for row in range(number):
        name, colour, shirt = f"p{row:03d}", list(RGB)[row % 3], row % 2 == 0
        pixels = np.full((SIZE, SIZE, 3), 245, np.uint8)
        place = (slice(4, 28), slice(12, 20)) if shirt else (slice(12, 20), slice(4, 28))
        pixels[place] = np.clip(np.array(RGB[colour]) + rng.integers(-25, 26, 3), 0, 255)
        rows["images"].append({"image_id": name, "bytes": encoded(Image.fromarray(pixels))})
        rows["items"].append({"item_id": name, "image_id": name, "category": "shirt" if shirt else "shoes"})
        said = {"colour": colour} if row % 7 else {}
        said |= {"sleeve": "long" if row % 4 else "short"} if shirt else {}
        for attribute, value in said.items():
            stated = {"attribute": attribute, "state": PRESENT, "values": [value], "complete": True}
            rows["attributes"].append({"item_id": name, **stated})
        split = {3: "val", 4: "test"}.get(row // 2 % 5, "train")
        rows["splits"].append({"image_id": name, "split_group": row // 2, "split": split})
    for table, found in rows.items():
        write_rows(folder, table, 0, found)
    write_facts(folder, Facts("plain", scene="product"))
    (folder / "ontology.yaml").write_text(ONTOLOGY)
    write_manifest(folder, Manifest(KIND, SCHEMA))
    return folder


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def features(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "out"
    cache_catalog(catalog, out, build_backbone(MODEL, "random:1", SIZE), maps=False, part=16)
    return out


def data(catalog: Path, features: Path | None = None, **options: Any) -> AttributeData:
    settings: dict[str, Any] = {"least": 2, "batch": 8, **options}
    return AttributeData(str(catalog), features=None if features is None else str(features), **settings)


def task(module: AttributeData, **options: Any) -> AttributeTask:
    settings: dict[str, Any] = {"weights": "random:1", "size": SIZE, "lr": 0.01, **options}
    return AttributeTask(MODEL, module.facts, **settings)


def trainer(folder: Path, epochs: int = 1, **options: Any) -> L.Trainer:
    silent = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return L.Trainer(
        accelerator="cpu", max_epochs=epochs, num_sanity_val_steps=0, default_root_dir=folder,
        plugins=[CheckpointFiles()], use_distributed_sampler=False, **silent, **options,
    )  # fmt: skip


def write_checkpoint(fitted: L.Trainer, path: Path) -> Path:
    """As `fashionkit train` does, with the preparation of pictures."""
    saved = fitted._checkpoint_connector.dump_checkpoint(weights_only=False)
    assert isinstance(fitted.lightning_module, AttributeTask)
    saved["preprocess"] = fitted.lightning_module.preprocess.to_dict()
    CheckpointFiles().save_checkpoint(saved, path)
    return path


@pytest.fixture(scope="module")
def fitted(catalog: Path, features: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[L.Trainer, AttributeData]:
    """A run of the heads on cached features."""
    module = data(catalog, features)
    run = trainer(tmp_path_factory.mktemp("run"), epochs=12)
    run.fit(task(module, colour=["colour"], balance={"beta": 0.9, "cap": 5}), datamodule=module)
    return run, module


def test_heads_on_cached_features_learn_colours(fitted: tuple[L.Trainer, AttributeData]) -> None:
    run, _ = fitted
    measures = {name: float(value) for name, value in run.callback_metrics.items()}
    assert measures["val/accuracy/colour"] == 1.0 and measures["val/macro_f1"] > 0.5
    assert {"val/loss", "val/ece", "val/applies_f1", "val/state_macro_f1", "train/loss"} <= set(measures)
    assert isinstance(run.lightning_module, AttributeTask) and run.lightning_module.backbone is None


def test_the_scale_is_that_of_the_training_pictures(fitted: tuple[L.Trainer, AttributeData]) -> None:
    run, module = fitted
    made = run.lightning_module
    assert isinstance(made, AttributeTask) and made.scaled
    vectors = np.asarray(module.examples["train"].features["vector"], np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    dim = made.model.dim
    np.testing.assert_allclose(made.model.mean[:dim].numpy(), vectors.mean(0), atol=1e-5)
    colours = np.asarray(module.examples["train"].features["colour"], np.float64)
    np.testing.assert_allclose(made.model.mean[dim:].numpy(), colours.mean(0), atol=1e-5)


def test_the_test_pictures_are_measured_with_intervals(fitted: tuple[L.Trainer, AttributeData], tmp_path: Path) -> None:
    run, module = fitted
    judge = trainer(tmp_path)
    (found,) = judge.test(run.lightning_module, datamodule=module, verbose=False)
    rows = {row["attribute"]: row for row in json.loads((tmp_path / REPORT).read_text())}
    assert list(rows) == ["category", "colour", "sleeve"]
    assert rows["colour"]["accuracy"] == 1.0 and rows["colour"]["n"] < len(module.examples["test"]) == 24
    assert rows["category"]["accuracy_low"] <= rows["category"]["accuracy"] <= rows["category"]["accuracy_high"]
    assert rows["category"]["applies_f1"] is None and 0 <= rows["sleeve"]["applies_f1"] <= 1
    known = [row["accuracy"] for row in rows.values()]
    assert found["test/accuracy"] == pytest.approx(np.mean(known))


def test_a_checkpoint_holds_heads_and_temperatures_in_plain_types(
    fitted: tuple[L.Trainer, AttributeData], tmp_path: Path
) -> None:
    run, module = fitted
    made = run.lightning_module
    assert isinstance(made, AttributeTask)
    path = write_checkpoint(run, tmp_path / "last.ckpt")
    saved = torch.load(path, weights_only=True)["attributes"]
    assert json.loads(json.dumps(saved)) == saved == made.model.to_dict()
    temperatures = saved["calibration"]["temperature"]
    assert set(temperatures) == {
        f"{kind}/{name}" for kind in ("values", "state") for name in ("category", "colour", "sleeve")
    }
    assert any(value != 1 for value in temperatures.values()) and saved["calibration"]["shift"]
    again = AttributeTask.load(path)
    assert again.model.calibration == made.model.calibration and not again.training
    batch = next(iter(module.val_dataloader()))
    one, two = made.eval().predict_step(batch, 0), again.predict_step(batch, 0)
    assert one.keys() == {
        "row",
        *(f"{name}{end}" for name in ("category", "colour", "sleeve") for end in ("", ".state")),
    }
    assert all(torch.equal(one[name], two[name]) for name in one)
    torch.testing.assert_close(one["colour"].sum(1), torch.ones(len(batch["row"])))


def test_a_run_that_goes_on_ends_where_the_whole_one_does(catalog: Path, features: Path, tmp_path: Path) -> None:
    module, options = data(catalog, features), {"hidden": 8, "dropout": 0.3, "balance": {"beta": 0.9}}
    whole = task(module, **options)
    trainer(tmp_path, 3).fit(whole, datamodule=module)

    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer: Any, task: Any) -> None:
            trainer.should_stop = trainer.current_epoch == 0

    module = data(catalog, features)
    part = trainer(tmp_path, 3, callbacks=[Stop()])
    part.fit(task(module, **options), datamodule=module)
    path = write_checkpoint(part, tmp_path / "last.ckpt")
    module = data(catalog, features)
    rest = task(module, **options)
    trainer(tmp_path, 3).fit(rest, datamodule=module, ckpt_path=path, weights_only=True)
    assert whole.model.calibration == rest.model.calibration
    state = rest.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())


def test_the_last_stages_train_from_pixels_and_the_rest_stays(catalog: Path, tmp_path: Path) -> None:
    module = data(catalog)
    made = task(module, freeze=1, colour=["colour"], backbone_lr=1.0)
    assert made.backbone is not None
    before = {name: value.clone() for name, value in made.backbone.state_dict().items()}
    free = {name for name, value in made.backbone.named_parameters() if value.requires_grad}
    trainer(tmp_path).fit(made, datamodule=module)
    after = made.backbone.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert free and free <= changed
    stages = made.backbone._stages()
    frozen = {f"network.{name}" for name in stages[0]}
    assert not changed & frozen, "the stem and its BatchNorm stay as they are"
    dim = made.model.dim
    fresh = AttributeModel(dim, made.model.specs, ["colour"])
    assert torch.equal(made.model.std[:dim], fresh.std[:dim]), "vectors that move have no fixed scale"
    assert not torch.equal(made.model.std[dim:], fresh.std[dim:]), "colours do"


def test_frozen_pixels_and_cached_features_are_the_same_inputs(catalog: Path, features: Path) -> None:
    plain, cached = data(catalog), data(catalog, features)
    one, two = task(plain), task(cached)
    for module, made in ((plain, one), (cached, two)):
        module.prepare(made.preprocess)
    keys = [(0, row) for row in range(6)]
    with torch.no_grad():
        from_pixels = one.eval().inputs(plain.examples["val"].__getitems__(keys))
        from_disk = two.inputs(cached.examples["val"].__getitems__(keys))
    assert from_disk.shape[1] == one.model.dim + COLOUR_DIM
    torch.testing.assert_close(from_pixels, from_disk, rtol=2e-3, atol=2e-3)


def test_unknown_targets_teach_nothing(catalog: Path, features: Path) -> None:
    module = data(catalog, features)
    made = task(module, dropout=0.0)
    module.prepare(made.preprocess)
    made.log = lambda *_, **__: None
    batch = module.examples["train"].__getitems__([(0, row) for row in range(12)])
    unknown = batch["values"]["colour"] < 0
    assert unknown.any() and not unknown.all()
    made.training_step(batch, 0).backward()
    place = [spec.name for spec in made.model.specs].index("colour")
    gradient = made.model.heads.value_heads[place].weight.grad
    assert gradient is not None
    first = gradient.clone()
    made.zero_grad()
    batch["vector"][unknown] += 5  # what an unknown row looks like changes nothing for its head
    made.training_step(batch, 0).backward()
    again = made.model.heads.value_heads[place].weight.grad
    assert again is not None and torch.equal(first, again)


def test_features_of_something_else_are_refused(catalog: Path, features: Path, tmp_path: Path) -> None:
    module = data(catalog, features)
    with pytest.raises(InputError, match="other weights or another preparation"):
        trainer(tmp_path).fit(task(module, weights="random:2"), datamodule=module)
    with pytest.raises(InputError, match="other weights or another preparation"):
        trainer(tmp_path).fit(task(data(catalog, features), resize="squash"), datamodule=data(catalog, features))
    bare = tmp_path / "bare"
    cache_catalog(catalog, bare, build_backbone(MODEL, "random:1", SIZE), maps=False, colour=False)
    with pytest.raises(InputError, match="hold 0 numbers of colour"):
        task(data(catalog, bare))
    assert task(data(catalog, bare), colour=False).model.reads_colour is False


def test_checkpoints_of_something_else_are_refused(fitted: tuple[L.Trainer, AttributeData], catalog: Path) -> None:
    made = fitted[0].lightning_module
    assert isinstance(made, AttributeTask)
    saved: dict[str, Any] = {}
    made.on_save_checkpoint(saved)
    other = task(data(catalog, attributes=["colour"]))
    with pytest.raises(InputError, match="other attributes or values"):
        other.on_load_checkpoint(saved)
    saved["features"] = {**saved["features"], "fingerprint": "of another backbone"}
    with pytest.raises(InputError, match="not trained on such features"):
        made.on_load_checkpoint(saved)
    with pytest.raises(InputError, match="no configuration"):
        made.on_load_checkpoint({})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"balance": {"gamma": 1}}, "no such setting"),
        ({"state_weight": float("nan")}, "0 or more"),
        ({"colour": "colour"}, "a list of names"),
        ({"hidden": -1}, "out of range"),
        ({"freeze": 99}, "stages to leave trainable"),
        ({"resize": "tall"}, "cannot prepare pictures so"),
    ],
)
def test_misuse_raises(catalog: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        task(data(catalog), **options)


def test_facts_of_other_data_are_refused() -> None:
    with pytest.raises(InputError, match="data without attributes"):
        AttributeTask(MODEL, {"classes": ["a", "b"], "general": 0})
