"""ONNX: from the bytes of a picture file, the same numbers with onnxruntime as through `Embedder`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fashionkit import Embedder
from fashionkit.cli import main
from fashionkit.embed import export_onnx as module
from fashionkit.embed.export_onnx import export_onnx
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError
from fashionkit.vision.pictures import as_picture, encoded, sized, sized_masks
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.regions import BandRegions
from tests.tiny_models import CLASSES, made_up, tiny_attributes, tiny_backbone, tiny_model

onnxruntime = pytest.importorskip("onnxruntime")
for needed in module.NEEDED:
    pytest.importorskip(needed)

QUICK = ("timm/test_resnet", "timm/test_vit")
OTHERS = (
    "timm/mobilenetv3_small_050", "timm/test_convnext", "timm/swin_tiny_patch4_window7_224", "timm/resnet10t",
    "timm/vit_tiny_patch16_224", "timm/tf_efficientnet_lite0", "open_clip/RN50", "open_clip/ViT-B-32",
)  # fmt: skip


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def facts(path: Path) -> dict[str, str]:
    return dict(session(path).get_modelmeta().custom_metadata_map)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_vectors_from_bytes_to_unit_norm(name: str, tmp_path: Path) -> None:
    model = Embedder(tiny_backbone(name))
    made = export_onnx(model.model, tmp_path / "a.onnx")
    assert (made.inputs, made.outputs) == (("pixels",), ("vector", "norm"))
    assert made.difference is not None and made.difference < 1e-4
    how = Preprocess.from_dict(json.loads(facts(made.path)["preprocess"]))
    running = session(made.path)
    for count in (1, 3):
        files = [encoded(picture, "JPEG") for picture in made_up(count, seed=count)]
        pixels = np.stack([sized(as_picture(data), how) for data in files])
        vectors, norms = running.run(None, {"pixels": pixels})
        assert vectors.shape == (count, model.dim) and np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
        assert np.abs(vectors - model.embed(files)).max() <= 1e-4
        with torch.no_grad():
            pooled = model.backbone.pooled(model.tensor(list(pixels))).numpy()
        assert vectors * norms[:, None] == pytest.approx(pooled, rel=1e-3, abs=1e-3 * float(np.abs(pooled).max()))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[VisionModel, Path]:
    """A model with all parts, and its file."""
    model = tiny_model("random:2")
    return model, export_onnx(model, tmp_path_factory.mktemp("onnx") / "whole.onnx").path


def test_attributes_and_style_are_those_of_the_api(exported: tuple[VisionModel, Path]) -> None:
    model, path = exported
    whole, running = Embedder(model), session(path)
    general = model.general
    assert general is not None
    for count in (1, 3):
        shown = made_up(count, seed=count)
        masks = np.stack([sized_masks(BandRegions().regions(each, ""), model.preprocess) for each in shown])
        beside = torch.from_numpy(np.stack([sized(each, general.backbone.preprocess) for each in shown]))
        how = general.backbone.preprocess
        with torch.no_grad():
            x = (beside.permute(0, 3, 1, 2) / 255 - torch.tensor(how.mean).view(3, 1, 1)) / torch.tensor(how.std).view(
                3, 1, 1
            )
            vectors = general.vectors(x).numpy()
        pixels = np.stack([sized(each, model.preprocess) for each in shown])
        given = running.run(None, {"pixels": pixels, "masks": masks, "general": vectors})
        found = dict(zip([output.name for output in running.get_outputs()], given, strict=True))
        style = whole.style(shown)
        assert np.abs(found["style"] - style.probabilities).max() <= 1e-4
        assert np.abs(found["gates"] - style.gates).max() <= 1e-4
        for row, answers in enumerate(whole.attributes(shown)):
            assert answers is not None
            for name, answer in answers.items():
                wanted = list(answer.probabilities.values())
                assert found[f"attribute.{name}.values"][row] == pytest.approx(wanted, abs=1e-4)
                assert found[f"attribute.{name}.state"][row].max() == pytest.approx(answer.state_probability, abs=1e-4)


def test_unseen_items_are_left_out_in_the_file_too(exported: tuple[VisionModel, Path]) -> None:
    _, path = exported
    assert {axes.shape[0] for axes in [*session(path).get_inputs(), *session(path).get_outputs()]} == {"batch"}
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    masks = np.zeros((2, 4, 64, 64), bool)
    masks[1, 1] = True
    gates = session(path).run(["gates"], {"pixels": pixels, "masks": masks, "general": np.ones((2, 64), np.float32)})[0]
    assert gates[0, 2:].tolist() == [0, 0, 0, 0] and gates[1, 3] > 0 and gates[1, [2, 4, 5]].tolist() == [0, 0, 0]


def test_what_travels_in_the_file(exported: tuple[VisionModel, Path]) -> None:
    model, path = exported
    found = facts(path)
    assert json.loads(found["classes"]) == list(CLASSES) and found["regions"] == "bands"
    assert Preprocess.from_dict(json.loads(found["preprocess"])) == model.preprocess
    assert json.loads(found["attributes"])[0] == {
        "name": "colour",
        "values": ["red", "green", "blue"],
        "exclusive": True,
    }
    assert json.loads(found["streams"])[:2] == ["map", "general"] and json.loads(found["states"])[0] == "present"
    assert json.loads(found["general"]) == {"backbone": "timm/test_vit", "unit": False}
    assert found["fingerprint"] == model.fingerprint and found["licence"] == "Apache-2.0" and found["version"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Embedder(tiny_backbone("timm/test_resnet")).save(tmp_path / "m")
    out, figures = tmp_path / "a.onnx", tmp_path / "f.json"
    words = ["export", str(folder), "--format", "onnx", "--out", str(out)]
    capsys.readouterr()
    assert main([*words, "--json", str(figures)]) == 0
    assert "pixels → vector, norm" in capsys.readouterr().out
    assert json.loads(figures.read_text())["difference"] < 1e-4
    before = out.read_bytes()
    for changed, problem in (
        (words, "there is a file already"),
        (["export", str(folder), "--format", "tflite", "--out", str(tmp_path / "b")], "--format takes onnx"),
        (["export", str(tmp_path / "none"), "--out", str(tmp_path / "b")], "there is no such folder"),
        (["export", str(folder), "--out", str(tmp_path)], "this is a folder; name the file"),
        (["export", str(tmp_path), "--out", str(tmp_path / "b")], "holds no model"),
    ):
        assert main(changed) == 2
        assert problem in capsys.readouterr().err
    assert out.read_bytes() == before


def test_without_the_exporter_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(InputError, match=r"(?s)needs onnxscript.*fashionkit\[onnx\]"):
        export_onnx(VisionModel(tiny_backbone()), tmp_path / "a.onnx")


def test_a_file_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = VisionModel(tiny_backbone("timm/test_resnet"))
    export = module._exported

    def other(graph: module.Graph, name: str) -> Any:
        program = export(graph, name)
        graph.scale = graph.scale * 1.5  # after the file was traced, the network becomes another
        return program

    monkeypatch.setattr(module, "_exported", other)
    with pytest.raises(InputError, match="in ONNX the network gives another"):
        export_onnx(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_networks_that_cannot_be_traced_are_named(tmp_path: Path) -> None:
    backbone = tiny_backbone("timm/test_resnet")
    forward = backbone.network.forward_features

    def guesses(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = forward(x)
        return found if float(found.sum()) > 0 else -found

    backbone.network.forward_features = guesses
    with pytest.raises(InputError, match="timm/test_resnet cannot be expressed in ONNX"):
        export_onnx(VisionModel(backbone), tmp_path / "a.onnx")


def test_the_size_and_heads_without_colour(tmp_path: Path) -> None:
    backbone = tiny_backbone("timm/test_resnet", size=32)
    heads = tiny_attributes(backbone.dim, colour=False, hidden=8)
    made = export_onnx(VisionModel(backbone, heads), tmp_path / "a.onnx")
    (pixels,) = session(made.path).get_inputs()
    assert pixels.shape[1:] == [32, 32, 3] and pixels.shape[0] == "batch" and pixels.type == "tensor(uint8)"
