"""Attributes and styles through the API: known answers, batches, broken pictures, models that have no such head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fashionkit import Embedder
from fashionkit.embed.answers import AttributeAnswer, StyleAnswer
from fashionkit.embed.style_inputs import style_network
from fashionkit.models.attribute_model import AttributeModel
from fashionkit.models.attributes import AttributeOutput
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError
from fashionkit.vision.colour import colour_statistics
from fashionkit.vision.pictures import as_picture, as_tensor, sized, sized_masks
from fashionkit.vision.regions import BandRegions
from tests.tiny_models import CLASSES, made_up, tiny_attributes, tiny_backbone, tiny_model

CLOSE = 1e-6  # of probabilities, between a batch and its pictures one by one


def numbers(answers: list[dict[str, AttributeAnswer] | None]) -> np.ndarray:
    """All probabilities of pictures."""
    found = [[[a.state_probability, *a.probabilities.values()] for a in row.values()] for row in answers if row]
    return np.array([[p for a in row for p in a] for row in found])


def says(heads: AttributeModel, colour: list[float], detail: list[float], states: dict[str, list[float]]) -> None:
    """Lets heads give these logits for any picture."""

    def forward(x: torch.Tensor) -> AttributeOutput:
        values = {"colour": torch.tensor([colour]), "detail": torch.tensor([detail])}
        return AttributeOutput(values, {name: torch.tensor([row]) for name, row in states.items()})

    heads.heads.forward = forward  # type: ignore[method-assign]


def test_attributes_are_calibrated_logits() -> None:
    backbone = tiny_backbone()
    heads = tiny_attributes(backbone.dim)
    says(
        heads,
        colour=[0.2, 1.7, -0.1],  # minus the shift: 0, 1.7, 0
        detail=[4.0, -4.0],  # over the temperature: 2, -2
        states={"colour": [0.6, 0.0, 0.0], "detail": [0.5, 3.0, 0.0]},  # 1, 0, 0 and 0, 3, 0
    )
    (found,) = Embedder(VisionModel(backbone, heads)).attributes(made_up(1))
    assert found is not None and list(found) == ["colour", "detail"]
    colour, detail = found["colour"], found["detail"]
    e = np.e
    assert colour.state == "present" and colour.state_probability == pytest.approx(e / (e + 2))
    assert colour.values == {"green": pytest.approx(e / (e + 2))}
    assert colour.probabilities == {
        "red": pytest.approx(1 / (e + 2)), "green": pytest.approx(e / (e + 2)), "blue": pytest.approx(1 / (e + 2)),
    }  # fmt: skip
    assert detail.state == "not_visible" and detail.values == {}
    assert detail.probabilities["lace"] == pytest.approx(1 / (1 + e**-2))


def test_several_values_come_likeliest_first() -> None:
    backbone = tiny_backbone()
    heads = tiny_attributes(backbone.dim, colour=False)
    says(heads, colour=[0.0] * 3, detail=[1.0, 3.0], states={"colour": [0.0] * 3, "detail": [9.0, 0.0, 0.0]})
    (found,) = Embedder(VisionModel(backbone, heads)).attributes(made_up(1)[0])
    assert found is not None and list(found["detail"].values) == ["zip", "lace"]


def test_colour_is_of_the_pixels_that_the_network_gets(whole: Embedder) -> None:
    (picture,) = made_up(1)
    pixels = sized(as_picture(picture), whole.preprocess)
    heads = whole.model.attributes
    assert heads is not None
    with torch.no_grad():
        vector = whole.backbone.pooled(as_tensor([pixels], whole.preprocess))
        colour = colour_statistics(torch.from_numpy(pixels.copy())[None])
        logits = heads(heads.inputs(vector, colour=colour)).values["colour"]
        wanted = heads.calibration.apply("values/colour", logits).softmax(1)[0]
    (found,) = whole.attributes(picture)
    assert found is not None
    assert list(found["colour"].probabilities.values()) == pytest.approx(wanted.tolist(), abs=CLOSE)
    red, blue = (Image.new("RGB", (80, 80), colour) for colour in ("red", "blue"))
    assert np.abs(np.subtract(*numbers(whole.attributes([red, blue])))).max() > 1e-3


def test_a_batch_says_what_single_pictures_say(whole: Embedder) -> None:
    shown = made_up(7)  # batches of 3, 3 and 1
    several, styles = whole.attributes(shown), whole.style(shown)
    for number, picture in enumerate(shown):
        assert np.abs(numbers(whole.attributes(picture)) - numbers([several[number]])).max() < CLOSE
        one = whole.style(picture)
        assert np.abs(one.probabilities[0] - styles.probabilities[number]).max() < CLOSE
        assert np.abs(one.gates[0] - styles.gates[number]).max() < CLOSE
    assert np.ptp(styles.probabilities, axis=0).max() > 1e-4, "pictures differ"


def test_broken_pictures_are_named_or_skipped(whole: Embedder) -> None:
    good = made_up(2)
    mixed: list[object] = [b"broken", good[0], "https://shop.example/a.jpg", good[1]]
    for ask in (whole.attributes, whole.style):
        with pytest.raises(InputError, match="picture 0"):
            ask(mixed)
        with pytest.raises(InputError, match="cannot treat broken pictures so"):
            ask(mixed, on_error="ignore")
    found = whole.attributes(mixed, on_error="skip")
    assert [each is None for each in found] == [True, False, True, False]
    assert np.abs(numbers(found) - numbers(whole.attributes(good))).max() < CLOSE
    style = whole.style(mixed, on_error="skip")
    assert np.ma.getmaskarray(style.probabilities).all(1).tolist() == [True, False, True, False]
    assert np.ma.getmaskarray(style.gates).all(1).tolist() == [True, False, True, False]
    assert [best is None for best in style.best] == [True, False, True, False]
    assert np.abs(np.asarray(style.probabilities)[[1, 3]] - whole.style(good).probabilities).max() < CLOSE
    assert whole.attributes([]) == [] and whole.attributes([b""], on_error="skip") == [None]
    assert whole.style([]).probabilities.shape == (0, 3)


def test_style_is_that_of_the_plain_network(whole: Embedder) -> None:
    shown = made_up(2)
    network = style_network(whole.model)
    pixels = [sized(as_picture(each), whole.preprocess) for each in shown]
    masks = [sized_masks(BandRegions().regions(each, ""), whole.preprocess) for each in shown]
    with torch.no_grad():
        cells = whole.backbone.spatial(as_tensor(pixels, whole.preprocess))
        output = network.irsn(cells, torch.from_numpy(np.stack(masks)))
    found = whole.style(shown)
    assert found.classes == CLASSES and found.streams == ("map", "head", "top", "bottom", "shoes")
    assert np.abs(found.probabilities - (output.logits / 1.5).softmax(1).numpy()).max() < CLOSE
    assert np.abs(found.gates - output.gates.mean(2).numpy()).max() < CLOSE
    assert found.gates.sum(1) == pytest.approx(np.ones(2), abs=1e-5)
    assert found.best == [CLASSES[n] for n in found.probabilities.argmax(1)]


class Known:
    """A provider that tells which ids it was asked for, and sees a top alone."""

    key = "known"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def regions(self, image: Image.Image, image_id: str) -> np.ndarray:
        self.asked.append(image_id)
        masks = np.zeros((4, image.height, image.width), bool)
        masks[1] = True
        return masks


def test_ids_go_to_the_provider_and_unseen_items_are_not_held(whole: Embedder) -> None:
    provider = Known()
    found = whole.style(made_up(4), ids=["a", "b", "c", "d"], provider=provider)
    assert provider.asked == ["a", "b", "c", "d"]
    assert found.held[:, 1:].tolist() == [[False, True, False, False]] * 4
    assert found.gates[:, [1, 3, 4]].max() == 0
    with pytest.raises(InputError, match="one id is needed for each picture"):
        whole.style(made_up(2), ids=["a"])


@pytest.mark.parametrize("unit", [False, True])
def test_the_general_vector_is_of_its_own_preparation(unit: bool) -> None:
    model = tiny_model("random:2", use_regions=False)
    assert model.general is not None and model.style is not None
    object.__setattr__(model.general, "unit", unit)
    (picture,) = made_up(1)
    other = model.general.backbone
    assert other.preprocess != model.preprocess
    with torch.no_grad():
        general = other.pooled(as_tensor([sized(picture, other.preprocess)], other.preprocess))
        general = torch.nn.functional.normalize(general, dim=1) if unit else general
        cells = model.backbone.spatial(as_tensor([sized(picture, model.preprocess)], model.preprocess))
        wanted = model.style(cells, None, general)
    found = Embedder(model).style(picture)
    assert isinstance(found, StyleAnswer) and found.streams == ("map", "general")
    assert np.abs(found.probabilities - wanted.probability.numpy()).max() < CLOSE


def test_a_model_without_a_head_says_so(tmp_path: Path) -> None:
    alone = Embedder(tiny_backbone())
    for ask in (alone.attributes, alone.style):
        with pytest.raises(InputError, match=r"(?s)names no (attributes|styles).*fashionkit share"):
            ask(made_up(1))


def test_a_folder_answers_as_the_model_did(whole: Embedder, folder: Path) -> None:
    again, shown = Embedder.load(folder), made_up(3)
    assert np.array_equal(again.style(shown).probabilities, whole.style(shown).probabilities)
    assert np.array_equal(numbers(again.attributes(shown)), numbers(whole.attributes(shown)))
    assert np.array_equal(again.embed(shown), whole.embed(shown)) and again.fingerprint == whole.fingerprint
