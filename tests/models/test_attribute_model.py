"""The attribute model: what it reads, how that is scaled, and the same model again from plain types or as ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fashionkit.models.attribute_model import LEAST, AttributeModel
from fashionkit.models.attributes import AttributeSpec
from fashionkit.models.calibration import Calibration
from fashionkit.tables import InputError
from fashionkit.vision.colour import COLOUR_DIM, colour_statistics

B, D, S = 5, 7, 16
SPECS = (AttributeSpec("colour", ("red", "blue", "green")), AttributeSpec("top.details", ("bow", "zip"), False))


def build(**options: Any) -> AttributeModel:
    torch.manual_seed(0)
    return AttributeModel(D, SPECS, **{"dropout": 0.2, **options}).eval()


def pictures(number: int = B) -> Tensor:
    return torch.randint(0, 256, (number, S, S, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_it_reads_a_vector_of_unit_norm_beside_colour_statistics() -> None:
    vector, pixels = torch.randn(B, D).half() * 30, pictures()
    found = build().inputs(vector, pixels)
    assert found.shape == (B, D + COLOUR_DIM) and found.dtype == torch.float32
    torch.testing.assert_close(found[:, :D].norm(dim=1), torch.ones(B))
    torch.testing.assert_close(found[:, :D], vector.float() / vector.float().norm(dim=1, keepdim=True))
    torch.testing.assert_close(found[:, D:], colour_statistics(pixels))
    torch.testing.assert_close(build().inputs(vector, colour=colour_statistics(pixels)), found)
    assert torch.equal(build(colour=False).inputs(vector, pixels), found[:, :D])
    with pytest.raises(ValueError, match="reads colour"):
        build().inputs(vector)


def test_attributes_of_colour_have_a_net_of_their_own() -> None:
    whole, inputs = build(colour=["colour"], hidden=3), build().inputs(torch.randn(B, D), pictures())
    assert whole.reads_colour and list(whole(inputs).values) == ["colour", "top.details"]
    other = inputs.clone()
    other[:, D:] += 1
    one, two = whole(inputs), whole(other)
    for before, after in zip(one, two, strict=True):
        assert not torch.equal(before["colour"], after["colour"])
        assert torch.equal(before["top.details"], after["top.details"]), "it does not see colour"
    by_region = build(colour=["details"])
    assert by_region.heads.specs == SPECS[:1] and list(by_region(inputs).state) == ["colour", "top.details"]
    for colour, reads in ((["brand"], False), (["colour", "details"], True), (True, True), (False, False)):
        model = build(colour=colour)
        assert model.reads_colour == reads and model.colour_heads is None
        assert model.heads.dim == D + COLOUR_DIM * reads


def test_inputs_beyond_all_that_training_showed_are_cut() -> None:
    model = build(colour=False)
    model.fit_scale(torch.randn(100, D))
    far = torch.full((1, D), 1e6)
    assert torch.equal(model(far).values["colour"], model(far * 2).values["colour"])


def test_without_a_fitted_scale_vectors_have_a_mean_square_of_one() -> None:
    model = build(colour=False, hidden=0)
    vector = torch.randn(400, D)
    scaled = (model.inputs(vector) - model.mean) / model.std
    assert scaled.square().mean().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("colour", [False, True])
def test_the_scale_is_that_of_the_training_pictures(colour: bool) -> None:
    model = build(colour=colour)
    inputs = torch.randn(300, D + COLOUR_DIM * colour) * 3 + 5
    inputs[:, 0] = 2.0  # a number that never changes
    model.fit_scale(inputs)
    scaled = (inputs - model.mean) / model.std
    torch.testing.assert_close(scaled.mean(0), torch.zeros(scaled.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled[:, 1:].std(0, correction=0), torch.ones(scaled.shape[1] - 1))
    assert model.std[0].item() == pytest.approx(LEAST * inputs[:, :D].std(0, correction=0).mean().item(), rel=1e-4)
    other = build(colour=colour)
    other.fit_scale(inputs, whole=False)
    assert torch.equal(other.std[:D], build(colour=colour).std[:D]) and torch.equal(other.mean[:D], torch.zeros(D))
    assert torch.equal(other.std[D:], model.std[D:])


@pytest.mark.parametrize("colour", [True, ["colour"]])
def test_plain_types_build_the_same_model(colour: Any) -> None:
    model = build(hidden=6, colour=colour)
    model.fit_scale(torch.randn(50, D + COLOUR_DIM))
    model.calibration = Calibration({"values/colour": 1.5}, {"state/colour": [0.1, 0.2, 0.3]})
    again = AttributeModel.from_dict(json.loads(json.dumps(model.to_dict()))).eval()
    again.load_state_dict(model.state_dict())
    assert again.to_dict() == model.to_dict() and again.calibration == model.calibration
    inputs = torch.randn(B, D + COLOUR_DIM)
    for one, two in zip(model(inputs), again(inputs), strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
    with torch.device("meta"):
        assert AttributeModel.from_dict(model.to_dict()).mean.is_meta
    assert all(value.is_floating_point() for value in model.state_dict().values()), "a folder of a model wants floats"


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 0},
        {"dim": 10**12},
        {"hidden": 10**12},
        {"hidden": -1},
        {"dim": "many"},
        {"colour": "colour"},
        {"colour": 3},
        {"dropout": 1.5},
        {"specs": []},
        {"specs": 3},
        {"specs": [{"name": "x"}]},
        {"specs": [{"name": "x", "values": ["a", "b"], "code": "?"}]},
        {"calibration": {"temperature": {"values/colour": 0}}},
        {"calibration": {"temperature": {"values/colour": "hot"}}},
        {"calibration": []},
        {"width": 3},
    ],
)
def test_configurations_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        AttributeModel.from_dict({**build().to_dict(), **change})


class Whole(nn.Module):
    """A model from a backbone's vector and pixels on."""

    def __init__(self, model: AttributeModel):
        super().__init__()
        self.model = model

    def forward(self, vector: Tensor, pixels: Tensor) -> tuple[Tensor, ...]:
        output = self.model(self.model.inputs(vector, pixels))
        return (*output.values.values(), *output.state.values())


def test_onnx_gives_the_same_for_any_number_of_pictures(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    import warnings

    whole, file = Whole(build(hidden=4, colour=["colour"])).eval(), tmp_path / "model.onnx"
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            whole,
            (torch.randn(3, D), pictures(3)),
            file,
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch}),
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    for number in (1, 6):
        given = torch.randn(number, D), pictures(number)
        found = session.run(None, dict(zip(names, (part.numpy() for part in given), strict=True)))
        for one, two in zip(found, whole(*given), strict=True):
            np.testing.assert_allclose(one, two.detach().numpy(), atol=1e-4)
