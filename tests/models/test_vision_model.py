"""The folder of a shared model: what is written comes back, and what somebody broke or forged is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fashionkit.models.calibration import Calibration
from fashionkit.models.irsn import Irsn, IrsnConfig
from fashionkit.models.model_folder import CONFIG
from fashionkit.models.style_model import StyleModel
from fashionkit.models.vision_model import General, VisionModel
from fashionkit.tables import InputError
from tests.tiny_models import CLASSES, OTHER, SPECS, tiny_attributes, tiny_backbone, tiny_model, tiny_style

Config = dict[str, Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with all parts; nobody changes it."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    rows = [{"split": "test", "n": 40, "accuracy": 0.7123456}, {"split": "val", "n": 30, "accuracy": 0.5}]
    return tiny_model("copy").save(folder, "Made-up pictures | of nothing.", rows)


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def says(model: VisionModel) -> list[torch.Tensor]:
    """Everything that a model says of two made-up inputs."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    masks = torch.rand(2, 4, 64, 64) > 0.5
    assert model.attributes is not None and model.style is not None and model.general is not None
    with torch.no_grad():
        x = pixels.permute(0, 3, 1, 2) / 255
        cells, vector = model.backbone.both(x)
        logits = model.attributes(model.attributes.inputs(vector, pixels))
        style = model.style(cells, masks, model.general.vectors(x))
    return [vector, *logits.values.values(), *logits.state.values(), *style]


def changed(folder: Path, change: Callable[[Config], object]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def test_what_is_saved_comes_back(saved: Path) -> None:
    made, again = tiny_model("copy"), VisionModel.load(saved)
    for one, two in zip(says(made), says(again), strict=True):
        assert torch.equal(one, two)
    assert made.attributes is not None and again.attributes is not None and again.style is not None
    assert again.attributes.calibration == made.attributes.calibration and again.attributes.specs == SPECS
    assert (again.style.classes, again.style.regions, again.style.temperature) == (CLASSES, "bands", 1.5)
    assert (again.preprocess, again.fingerprint, again.licence) == (made.preprocess, made.fingerprint, "Apache-2.0")
    assert not again.backbone.training and not again.style.training and not again.attributes.training
    assert sorted(path.name for path in saved.iterdir()) == [
        "README.md", "attributes.safetensors", "config.json", "general", "model.safetensors", "style.safetensors",
    ]  # fmt: skip


def test_the_card_tells_what_people_need(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    for part in (
        "# Attributes and style on timm/test_efficientnet", "Made-up pictures | of nothing.", "Apache-2.0",
        "`colour`: one of red, green, blue.", "`detail`: any of lace, zip.", "one of casual, formal, sporty",
        "| split | n | accuracy |", "| test | 40 | 0.7123 |", "64 × 64", "`bands`", "`timm/test_vit`", "## Limits",
        "model.attributes(", "model.style(",
    ):  # fmt: skip
        assert part in card, part
    assert "about" not in json.loads((saved / CONFIG).read_text())
    assert "like those they were calibrated on" in card


def test_the_card_says_what_is_not_calibrated(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    model = VisionModel(backbone, tiny_attributes(backbone.dim), tiny_style(backbone.channels, temperature=1))
    assert "Probabilities of styles are not calibrated" in (model.save(tmp_path / "m") / "README.md").read_text()


def test_the_card_claims_calibration_only_where_it_was_fitted(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    heads = tiny_attributes(backbone.dim)
    for number, (temperature, said, unsaid) in enumerate(
        (
            ({"values/colour": 1.7, "values/detail": 2.0}, "Probabilities of attributes were calibrated", "not calib"),
            ({"values/colour": 1.7, "values/detail": 1.0}, "to calibrate the attributes `detail`", "not calibrated"),
            ({"values/colour": 1.0, "values/detail": 1.0}, "of attributes are not calibrated", "were calibrated"),
            ({}, "of attributes are not calibrated", "were calibrated"),
        )
    ):
        heads.calibration = Calibration(temperature)
        card = (VisionModel(backbone, heads).save(tmp_path / str(number)) / "README.md").read_text()
        assert said in card and unsaid not in card
        assert ("validation pictures" in card) == ("were calibrated" in card)


def test_rows_of_the_card_may_lack_a_cell(tmp_path: Path) -> None:
    rows = [{"split": "test", "accuracy": 0.5}, {"split": "val", "macro F1": None, "n": 3}]
    card = (VisionModel(tiny_backbone()).save(tmp_path / "m", metrics=rows) / "README.md").read_text()
    assert "| split | accuracy | macro F1 | n |" in card and "| val |  |  | 3 |" in card


def test_names_cannot_break_the_card(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    style = tiny_style(backbone.channels)
    style.classes = ("a|b\n# c", "[x](http://y)", "<img src=x>")
    card = (VisionModel(backbone, style=style).save(tmp_path / "m", metrics={"a|b": 1.0}) / "README.md").read_text()
    assert "\n# c" not in card and "[x](http" not in card and " <img" not in card and "| a\\|b | 1 |" in card


def test_a_backbone_alone_and_folders_from_before_load(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    folder = VisionModel(backbone).save(tmp_path / "alone")
    again = VisionModel.load(folder)
    assert again.attributes is None and again.style is None and again.general is None
    before = {"backbone": backbone.name, "preprocess": backbone.preprocess.to_dict(), "dim": backbone.dim}
    (folder / CONFIG).write_text(json.dumps(before | {"fingerprint": "x", "made_by": "fashionkit 0.1.0"}))
    assert VisionModel.load(folder).fingerprint == again.fingerprint
    assert VisionModel.load(folder, size=32).preprocess.size == 32


def test_a_general_backbone_by_name_is_not_copied_and_checked(tmp_path: Path) -> None:
    folder = tiny_model("random:2").save(tmp_path / "m")
    assert not (folder / "general").exists()
    for one, two in zip(says(tiny_model("random:2")), says(VisionModel.load(folder)), strict=True):
        assert torch.equal(one, two)
    changed(folder, lambda config: config["general"].update(weights="random:3"))
    with pytest.raises(InputError, match="other weights than the one that this model was trained with"):
        VisionModel.load(folder)
    changed(folder, lambda config: config["general"].update(weights="hub:openai"))
    with pytest.raises(InputError, match=r"(?s)comes from the hub.*download"):
        VisionModel.load(folder)
    for path in ("../secret.pth", "/etc/passwd", str(folder / "model.safetensors"), 7):
        changed(folder, lambda config, path=path: config["general"].update(weights=path))  # type: ignore[misc]
        with pytest.raises(InputError, match="a shared model names no files"):
            VisionModel.load(folder)
    with pytest.raises(InputError, match="a shared model names no files"):
        general = General(tiny_backbone(OTHER), "mine.pth")
        style = tiny_style(tiny_backbone().channels, general.backbone.dim)
        VisionModel(tiny_backbone(), style=style, general=general).save(tmp_path / "path")


HOSTILE: dict[str, tuple[Callable[[Config], object], str]] = {
    "unknown key": (lambda c: c.update(pickle="x.pkl"), "unknown key of a model"),
    "newer": (lambda c: c.update(format=2), r"(?s)another format.*pip install -U"),
    "dim": (lambda c: c.update(dim=7), "gives vectors of"),
    "no backbone": (lambda c: c.pop("backbone"), "damaged"),
    "backbone of another kind": (lambda c: c.update(backbone=["timm"]), "a backbone has a name"),
    "path as backbone": (lambda c: c.update(backbone="timm/../../x"), "no such backbone"),
    "another backbone": (lambda c: c.update(backbone=OTHER), "the weights do not fit"),
    "preprocess": (lambda c: c["preprocess"].update(size="large"), "damaged"),
    "preprocess path": (lambda c: c["preprocess"].update(mean="../x"), "damaged"),
    "attributes no mapping": (lambda c: c.update(attributes=[1]), "no configuration of a head"),
    "attributes dim": (lambda c: c["attributes"].update(dim=3), "the weights do not fit"),
    "attributes huge": (lambda c: c["attributes"].update(hidden=900_000), "the weights do not fit"),
    "attribute values": (lambda c: c["attributes"]["specs"][0].update(values="red"), "values are a list"),
    "temperature of a head": (lambda c: c["attributes"]["calibration"].update(temperature={"a": -1}), "temperature"),
    "attributes left out": (lambda c: c.pop("attributes"), "says nothing of this file"),
    "style no mapping": (lambda c: c.update(style="x"), "no configuration of a head"),
    "style key": (lambda c: c["style"].update(code="x"), "no configuration of a style model"),
    "style lacks": (lambda c: c["style"].pop("regions"), "no configuration of a style model"),
    "network key": (lambda c: c["style"]["network"].update(lambda_="x"), "cannot be built"),
    "network size": (lambda c: c["style"]["network"].update(width=10**9), "is above"),
    "network within limits": (lambda c: c["style"]["network"].update(width=99_968, heads=2), "the weights do not fit"),
    "network type": (lambda c: c["style"]["network"].update(use_map="yes"), "of type bool"),
    "network text": (lambda c: c["style"]["network"].update(width="16"), "of type int"),
    "channels": (lambda c: c["style"]["network"].update(channels=5), "the weights do not fit"),
    "items": (lambda c: c["style"]["network"].update(items=3), "other items than"),
    "classes": (lambda c: c["style"].update(classes=["a", "b"]), "tells 3 styles apart"),
    "classes twice": (lambda c: c["style"].update(classes=["a", "a", "b"]), "tells 3 styles apart"),
    "classes of another kind": (lambda c: c["style"].update(classes=[1, 2, 3]), "tells 3 styles apart"),
    "temperature 0": (lambda c: c["style"].update(temperature=0), "a temperature is a number above 0"),
    "temperature nan": (lambda c: c["style"].update(temperature=float("nan")), "a temperature is a number above 0"),
    "regions": (lambda c: c["style"].update(regions=3), "named by a text"),
    "general": (lambda c: c.update(general={"backbone": "x"}), "no configuration of a general"),
    "general unit": (lambda c: c["general"].update(unit="no"), "no configuration of a general"),
    "general left out": (lambda c: c.pop("general"), "takes a general vector of"),
    "general size": (lambda c: c["general"].update(fingerprint="0"), "other weights than"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_forged_configuration_is_refused(folder: Path, name: str) -> None:
    change, problem = HOSTILE[name]
    changed(folder, change)
    with pytest.raises(InputError, match=problem):
        VisionModel.load(folder)


@pytest.mark.parametrize("name", ["model", "attributes", "style", "general/model"])
@pytest.mark.parametrize("how", ["nan", "inf", "shape", "extra", "missing", "cut", "gone", "pickle"])
def test_damaged_tensors_are_refused(folder: Path, name: str, how: str) -> None:
    file = folder / f"{name}.safetensors"
    state = load_file(file)
    key = next(key for key in state if state[key].is_floating_point())
    if how in ("nan", "inf"):
        state[key].view(-1)[0] = float(how)
    elif how == "shape":
        state[key] = torch.cat([state[key], state[key]])
    elif how == "extra":
        state["more"] = torch.zeros(1)
    elif how == "missing":
        del state[key]
    save_file(state, file)
    if how == "cut":
        file.write_bytes(file.read_bytes()[:100])
    elif how == "gone":
        file.unlink()
    elif how == "pickle":
        torch.save({"a": torch.zeros(1)}, file)
    said = r"not finite|do not fit|cannot read the weights|holds no model|its tensors are missing"
    with pytest.raises(InputError, match=said):
        VisionModel.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"backbone": NaN}', "\ufeff{}"])
def test_a_configuration_that_is_none(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        VisionModel.load(folder)


def test_a_style_network_without_its_tensors_or_the_other_way_round(folder: Path, tmp_path: Path) -> None:
    changed(folder, lambda config: [config.pop("style"), config.pop("general")])
    with pytest.raises(InputError, match="says nothing of this file"):
        VisionModel.load(folder)
    (folder / "style.safetensors").unlink()
    assert VisionModel.load(folder).style is None
    with pytest.raises(InputError, match="holds no model"):
        VisionModel.load(tmp_path / "nowhere")


def test_parts_that_do_not_fit_are_refused() -> None:
    backbone = tiny_backbone()
    with pytest.raises(InputError, match="the heads take 5"):
        VisionModel(backbone, tiny_attributes(5))
    with pytest.raises(InputError, match="the style network takes 7"):
        VisionModel(backbone, style=tiny_style(7))
    with pytest.raises(InputError, match="general vector of 9 numbers, and the general backbone gives 0"):
        VisionModel(backbone, style=tiny_style(backbone.channels, 9))
    with pytest.raises(InputError, match="general vector of 0 numbers"):
        VisionModel(backbone, style=tiny_style(backbone.channels), general=General(backbone))


def test_a_folder_is_never_written_over(folder: Path) -> None:
    before = (folder / CONFIG).read_bytes()
    with pytest.raises(InputError, match="there is something already"):
        tiny_model().save(folder)
    with pytest.raises(InputError, match="there is something already"):
        tiny_model().save(folder / CONFIG)
    assert (folder / CONFIG).read_bytes() == before


def test_providers_of_a_style_model() -> None:
    style = tiny_style(6)
    assert style.provider().key.startswith("bands/")
    for name, problem in (
        (None, "does not say which provider"), ("person:../x.onnx", "files of where it was trained"),
        ("clipseg:C:\\x", "files of where"), ("catalog", "needs a catalogue"), ("nothing", "no such provider"),
    ):  # fmt: skip
        style.regions = name
        with pytest.raises(InputError, match=problem) as error:
            style.provider()
        assert "provider" in "".join([str(error.value), *getattr(error.value, "__notes__", [])])
    assert style.streams == ("map", "head", "top", "bottom", "shoes")
    alone = Irsn(IrsnConfig(2, 6, use_regions=False, encoder="none"))
    assert not StyleModel(alone, ("a", "b")).needs_masks


def test_probabilities_are_those_of_the_temperature() -> None:
    style = tiny_style(6, temperature=2.0, use_regions=False, encoder="none", gate="mean").eval()
    with torch.no_grad():
        style.irsn.head.weight.zero_()
        style.irsn.head.bias.copy_(torch.tensor([2.0, 0.0, -2.0]))
        found = style(torch.rand(1, 6, 2, 2))
    wanted = torch.tensor([[1.0, 0.0, -1.0]]).softmax(1)
    assert torch.allclose(found.probability, wanted) and found.gates.tolist() == [[1.0]]
