"""The style task: what its backbone starts from, masks as channels, what is frozen, and the measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fashionkit.metrics.classification import macro_f1
from fashionkit.tables import InputError
from fashionkit.train.start import start_backbone, trains_for_maps, widened
from fashionkit.train.style import StyleTask
from fashionkit.vision.backbones import build_backbone
from tests.train.running import checkpoint, fit, table

FACTS = {"classes": ["a", "b", "c"], "general": 0}
PLAIN = {"use_regions": False, "use_general": False, "encoder": "none", "gate": "mean", "width": 16, "auxiliary": False}
TINY = "timm/test_efficientnet"


def task(**options: Any) -> StyleTask:
    return StyleTask(**{"backbone": TINY, "facts": FACTS, "size": 32, "network": PLAIN, **options})


def batch(masks: bool = False) -> dict[str, Any]:
    torch.manual_seed(0)
    found = {"row": torch.arange(4), "image": torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)}
    return found | ({"masks": torch.rand(4, 4, 32, 32) > 0.5} if masks else {})


@pytest.mark.parametrize("name", [TINY, "timm/test_vit", "timm/test_convnext", "timm/mobilenetv2_050"])
def test_masks_as_channels_start_as_nothing(name: str) -> None:
    plain, wide = task(backbone=name).eval(), task(backbone=name, mask_channels=True).eval()
    expected = plain(batch()).logits
    assert torch.allclose(wide(batch(masks=True)).logits, expected, atol=1e-5)
    assert wide.backbone is not None
    first = next(layer for layer in wide.backbone.network.modules() if isinstance(layer, torch.nn.Conv2d))
    assert first.weight.shape[1] == 7 and first.weight.requires_grad and not first.weight[:, 3:].any()
    wide.train()(batch(masks=True)).logits.sum().backward()
    assert first.weight.grad is not None and first.weight.grad[:, 3:].any(), "they can be learnt"


def test_masks_as_channels_need_masks_and_a_fitting_backbone() -> None:
    with pytest.raises(InputError, match="the data has none"):
        task(mask_channels=True)(batch())
    with pytest.raises(InputError, match="the data has none"):
        task(network={**PLAIN, "use_regions": True})(batch())
    with pytest.raises(InputError, match="cannot take masks as channels"):
        widened(build_backbone("timm/test_nfnet", "random", 32), 4)  # it normalises its weights
    with pytest.raises(InputError, match="cached features have seen no masks"):
        task(mask_channels=True, cached=True)


def test_the_whole_picture_can_be_asked_for_and_is_recorded(tiny: Callable[..., Path], tmp_path: Path) -> None:
    assert task().preprocess.resize == "shortest"
    assert (task(resize="squash").preprocess.resize, task(resize="squash").preprocess.crop) == ("squash", 1.0)
    with pytest.raises(InputError, match="nearest allowed: 'squash'"):
        task(resize="squish")
    first, second, words = tmp_path / "first", tmp_path / "second", ["--trainer.max_epochs", "1"]
    assert fit(tiny(), first, *words, "--model.resize", "squash") == 0
    assert fit(tiny(), second, *words, "--model.weights", str(first)) == 0
    kept = checkpoint(first)["preprocess"]
    assert kept == checkpoint(second)["preprocess"] and (kept["resize"], kept["crop"]) == ("squash", 1.0)
    assert StyleTask.load(second).preprocess.to_dict() == kept


def test_what_the_map_does_not_need_does_not_train() -> None:
    backbone = build_backbone("timm/mobilenetv3_small_050", "random", 32)
    backbone.train().freeze(1)
    trains_for_maps(backbone)
    free = {name for name, value in backbone.network.named_parameters() if value.requires_grad}
    assert free and not any(name.startswith("conv_head") for name in free)
    assert backbone.network.blocks[-1].training and not backbone.network.blocks[0].training
    found = task(backbone="timm/mobilenetv3_small_050").train()
    found(batch()).logits.sum().backward()
    assert [name for name, value in found.named_parameters() if value.requires_grad and value.grad is None] == []


def test_frozen_parts_stay_as_they_were(tiny: Callable[..., Path], tmp_path: Path) -> None:
    """Through training with validation in between: weights and BatchNorm's statistics."""
    assert fit(tiny(), tmp_path / "run", "--model.freeze", "1", "--trainer.max_epochs", "1") == 0
    state = checkpoint(tmp_path / "run")["current_model_state"]
    before = start_backbone(TINY, "random", 32)
    before.freeze(1)
    own = before.network.state_dict()
    free = {name for name, value in before.network.named_parameters() if value.requires_grad}
    stages = {name.rsplit(".", 1)[0] for name in free}
    for name, value in own.items():
        moved = not torch.equal(value, state[f"backbone.network.{name}"])
        if name.rsplit(".", 1)[0] not in stages:
            assert not moved, f"{name} is frozen"
    assert any(not torch.equal(own[name], state[f"backbone.network.{name}"]) for name in free)


def test_two_stages(tiny: Callable[..., Path], tmp_path: Path) -> None:
    """A run goes on from the backbone of another: by its folder, its checkpoint, or a file of tensors."""
    first = tmp_path / "first"
    assert fit(tiny(), first, "--trainer.max_epochs", "1") == 0
    best = checkpoint(first, "best")
    assert "optimizer_states" not in best and "loops" not in best
    own = {k.removeprefix("backbone.network."): v for k, v in best["state_dict"].items() if k.startswith("backbone.")}
    save_file(own, tmp_path / "model.safetensors")
    for weights in (first, first / "checkpoints" / "best.ckpt", tmp_path / "model.safetensors"):
        state = start_backbone(TINY, str(weights), 32).network.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in state.items() if "num_batches" not in name)
    words = ["--model.weights", str(first), "--model.backbone_lr", "0.1", "--data.regions", "bands"]
    network = "{use_general: false, encoder: none, width: 16}"
    assert fit(tiny(network=network), tmp_path / "second", *words) == 0
    with pytest.raises(InputError, match="the checkpoint is of another backbone"):
        start_backbone("timm/test_resnet", str(first), 32)


def test_a_task_is_loaded_without_its_weights_file(tiny: Callable[..., Path], tmp_path: Path) -> None:
    save_file(start_backbone(TINY, "random:5", 32).network.state_dict(), tmp_path / "start.safetensors")
    assert fit(tiny(), tmp_path / "run", "--model.weights", str(tmp_path / "start.safetensors")) == 0
    (tmp_path / "start.safetensors").unlink()
    loaded = StyleTask.load(tmp_path / "run")
    state = checkpoint(tmp_path / "run", "best")["state_dict"]
    assert not loaded.training and all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert loaded.temperature == checkpoint(tmp_path / "run", "best")["temperature"]
    assert loaded.preprocess.size == 32


def test_probabilities_are_those_of_the_temperature() -> None:
    found = task(cached=True).eval()
    rows = {"row": torch.arange(2), "map": torch.rand(2, found.network.config.channels, 1, 1)}
    with torch.no_grad():
        plain = found.predict_step(rows, 0)["probability"]
        found.on_load_checkpoint({"temperature": 4.0})
        soft = found.predict_step(rows, 0)["probability"]
    torch.testing.assert_close(soft, (plain.log() / 4).softmax(1))


def test_unknown_switches_are_named() -> None:
    with pytest.raises(InputError, match="nearest allowed: 'gate'"):
        task(network={"gat": "mean"})
    with pytest.raises(InputError, match="no such gate"):
        task(network={"gate": "fence"})


def test_cached_features_need_no_backbone() -> None:
    found = task(cached=True)
    assert found.backbone is None
    channels = found.network.config.channels
    assert found({"row": torch.arange(2), "map": torch.rand(2, channels, 1, 1)}).logits.shape == (2, 3)


def test_measures_are_those_of_all_rows(tiny: Callable[..., Path], tmp_path: Path, drawn: Path) -> None:
    """What the table says of an epoch is what the averaged weights say of all validation pictures."""
    from fashionkit.train.data import StyleData

    assert fit(tiny(), tmp_path / "run", "--trainer.max_epochs", "1") == 0
    loaded, data = StyleTask.load(tmp_path / "run"), StyleData(str(drawn), batch=3)
    data.prepare(loaded.preprocess)
    said, true = [], []
    with torch.no_grad():
        for part in data.loader("val"):
            said += loaded(part).logits.argmax(1).tolist()
            true += part["style"].tolist()
    import numpy as np

    row = next(row for row in table(tmp_path / "run") if row["val/macro_f1"])
    assert float(row["val/macro_f1"]) == pytest.approx(macro_f1(np.array(true), np.array(said)), abs=1e-6)
    assert float(row["val/accuracy"]) == pytest.approx(np.mean(np.array(true) == np.array(said)), abs=1e-6)
