"""A model that answers questions: what it says, and its folder, which comes back bit by bit and is hard to forge."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fashionkit.models.answering import MOST_ANSWERS, AnsweringModel
from fashionkit.models.model_folder import CONFIG
from fashionkit.models.tokenizer import EOS, Tokenizer
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError
from tests.tiny_models import ANSWERS, OTHER, QUESTIONS, tiny_answering, tiny_backbone, tiny_tokenizer

Config = dict[str, Any]
KINDS = ("vlm", "encoder_decoder", "mcan")
IMAGE_OF = torch.tensor([0, 0, 1, 1, 0])
ASKED = [*QUESTIONS, "is the skirt dark red or blue?"]


def maps(n: int = 2, channels: int = 256) -> Tensor:
    """Made-up maps."""
    return torch.randn(n, channels, 2, 2, generator=torch.Generator().manual_seed(6))


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> AnsweringModel:
    """One of each kind; nobody changes it."""
    return tiny_answering(request.param, temperature=1.5, cannot_tell=0.25, licence="MIT")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as a folder; nobody changes it."""
    made = tiny_answering("encoder_decoder", temperature=1.5, licence="MIT")
    return made.save(tmp_path_factory.mktemp("models") / "m", "Made-up pictures.", {"accuracy": 0.25})


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def changed(folder: Path, change: Callable[[Config], object]) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def slow_probabilities(model: AnsweringModel, cells: Tensor, image: int, question: str) -> list[float]:
    """Of each known answer, token by token: at each the share among those tokens that still lead to a known answer."""
    network, ids = model.network, model.read([question])
    row, picture = torch.tensor([0]), cells[image : image + 1]
    if model.config.kind == "mcan":
        with torch.no_grad():
            logits = network(picture, row, ids)[0]  # type: ignore[operator]
        return [float(each) for each in (logits / model.temperature).softmax(0)]
    known = [[*tokens, EOS] for tokens in model.tokenizer.encode(ANSWERS)]
    scores = []
    for tokens in known:
        score = torch.zeros(())
        for at, token in enumerate(tokens):
            may = sorted({other[at] for other in known if other[:at] == tokens[:at]})
            written = torch.tensor([tokens[:at]], dtype=torch.long)
            with torch.no_grad():
                if model.config.kind == "vlm":
                    prefix = network.prefix(picture, row, ids)  # type: ignore[operator]
                    logits = network.logits(prefix, ids, written)[0, -1]  # type: ignore[operator, arg-type, call-arg]
                else:
                    logits = network.logits(*network.encode(picture, row, ids), written)[0, -1]  # type: ignore[operator]
            score = score + logits[may].log_softmax(0)[may.index(token)]
        scores.append(score)
    return [float(each) for each in (torch.stack(scores) / model.temperature).softmax(0)]


def test_probabilities_are_those_of_the_network_and_the_temperature(model: AnsweringModel) -> None:
    cells = maps()
    found = model.log_probabilities(cells, IMAGE_OF, ASKED, exact=len(ANSWERS)).exp()
    assert found.shape == (5, len(ANSWERS)) and found.dtype == torch.float32
    for number, (image, question) in enumerate(zip(IMAGE_OF.tolist(), ASKED, strict=True)):
        assert found[number].tolist() == pytest.approx(slow_probabilities(model, cells, image, question), abs=1e-4)
    assert found.max() > 0.3 and (found[0] - found[2]).abs().max() > 1e-3, "it tells questions and pictures apart"


def test_the_likeliest_answers(model: AnsweringModel) -> None:
    every = model.log_probabilities(maps(), IMAGE_OF, ASKED).exp()
    for k in (1, 3, 50):
        ranked = model.answer(maps(), IMAGE_OF, ASKED, k)
        assert ranked.index.shape == ranked.probability.shape == (5, min(k, len(ANSWERS)))
        assert ranked.index.dtype == torch.int64 and ranked.probability.dtype == torch.float32
        assert (ranked.probability.diff(dim=1) <= 0).all()
        assert torch.equal(every.gather(1, ranked.index[:, :3]), ranked.probability[:, :3])
        assert torch.equal(ranked.index[:, 0], every.argmax(1))
    whole = model.answer(maps(), IMAGE_OF, ASKED, len(ANSWERS))
    assert whole.probability.sum(1).tolist() == pytest.approx([1] * 5, abs=1e-5)
    assert all(sorted(row) == list(range(len(ANSWERS))) for row in whole.index.tolist())


def test_how_many_are_asked_for_does_not_change_how_likely_they_are(model: AnsweringModel) -> None:
    one, five = (model.answer(maps(), IMAGE_OF, ASKED, k) for k in (1, 5))
    assert torch.equal(one.probability[:, 0], five.probability[:, 0])


def test_a_batch_says_what_single_questions_say(model: AnsweringModel) -> None:
    whole = model.log_probabilities(maps(), IMAGE_OF, ASKED).exp()
    for number, (image, question) in enumerate(zip(IMAGE_OF.tolist(), ASKED, strict=True)):
        one = model.log_probabilities(maps()[image : image + 1], torch.tensor([0]), [question]).exp()
        assert (one[0] - whole[number]).abs().max() < 1e-5


def test_text_of_its_own(model: AnsweringModel) -> None:
    said = model.free(maps(), IMAGE_OF, ASKED)
    if model.config.kind == "mcan":
        best = model.answer(maps(), IMAGE_OF, ASKED).index[:, 0].tolist()
        assert said == [ANSWERS[at] for at in best]
    else:
        rows = model.network.greedy(maps(), IMAGE_OF, model.read(ASKED))
        assert said == [model.tokenizer.decode(row).strip() for row in rows] and len(said) == 5
    assert model.free(maps(), torch.zeros(0, dtype=torch.long), []) == []
    assert model.log_probabilities(maps(), torch.zeros(0, dtype=torch.long), []).shape == (0, len(ANSWERS))
    assert model.answer(maps(), torch.zeros(0, dtype=torch.long), []).index.shape == (0, 5)


def test_questions_of_any_kind(model: AnsweringModel) -> None:
    odd = [
        "",
        "   ",
        "word " * 10_000,
        "какого цвета платье?",
        "👗❓",
        "\ud800",
        "\0\x1b[2J",
        "a" * 1_000_000,
        "<eos><pad>",
    ]
    found = model.answer(maps(1), torch.zeros(len(odd), dtype=torch.long), odd)
    assert found.probability.isfinite().all() and (found.probability >= 0).all()
    assert model.read(odd).shape[1] == model.config.question_length
    assert model.read([""]).tolist() == [[0]] and model.tokens("") == 0 and model.tokens("word " * 10_000) >= 10_000
    short, long = (model.log_probabilities(maps(1), torch.tensor([0]), ["word " * n]) for n in (40, 10_000))
    assert torch.equal(short, long), "the first tokens are read"


def test_maps_of_pictures(model: AnsweringModel) -> None:
    x = torch.rand(2, 3, 64, 64)
    cells = model.cells(x)
    assert cells is not None and model.backbone is not None
    with torch.no_grad():
        assert torch.equal(cells, model.backbone.spatial(x))
    half = model.log_probabilities(cells.half(), IMAGE_OF, ASKED).exp()
    assert (half - model.log_probabilities(cells, IMAGE_OF, ASKED).exp()).abs().max() < 0.05
    with pytest.raises(InputError, match="has no backbone"):
        tiny_answering(eyes=False).cells(x)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_comes_back_bit_by_bit(kind: str, tmp_path: Path) -> None:
    made = tiny_answering(kind, temperature=1.5, cannot_tell=0.25, licence="MIT")
    again = AnsweringModel.load(made.save(tmp_path / "m"))
    x = torch.rand(2, 3, 64, 64)
    one, two = (each.log_probabilities(each.cells(x), IMAGE_OF, ASKED) for each in (made, again))
    assert torch.equal(one, two)
    assert made.free(made.cells(x), IMAGE_OF, ASKED) == again.free(again.cells(x), IMAGE_OF, ASKED)
    assert again.config == made.config and again.answers == list(ANSWERS)
    assert (again.temperature, again.cannot_tell, again.licence) == (1.5, 0.25, "MIT")
    assert (again.preprocess, again.fingerprint) == (made.preprocess, made.fingerprint)
    assert again.tokenizer.to_text() == made.tokenizer.to_text()
    assert not again.network.training and again.backbone is not None and not again.backbone.training
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "network.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert (again.save(tmp_path / "n") / CONFIG).read_bytes() == (tmp_path / "m" / CONFIG).read_bytes()


def test_a_blind_model_has_no_backbone(tmp_path: Path) -> None:
    made = tiny_answering(blind=True)
    assert made.backbone is None and made.cells(torch.rand(1, 3, 64, 64)) is None and made.preprocess is None
    folder = made.save(tmp_path / "m")
    assert not (folder / "model.safetensors").exists() and "it is blind" in (folder / "README.md").read_text()
    again = AnsweringModel.load(folder)
    one, two = (each.log_probabilities(None, IMAGE_OF, ASKED) for each in (made, again))
    assert torch.equal(one, two)
    for name, value in (("backbone", "timm/test_vit"), ("preprocess", {})):
        changed(folder, lambda config, name=name, value=value: config.update({name: value}))  # type: ignore[misc]
        with pytest.raises(InputError, match="a blind network has no backbone"):
            AnsweringModel.load(folder)
        changed(folder, lambda config, name=name: config.pop(name))  # type: ignore[misc]
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="a blind network has no backbone"):
        AnsweringModel.load(folder)


def test_a_model_of_maps_alone_is_not_shared(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nobody could show it pictures"):
        tiny_answering(eyes=False).save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_network_that_the_folder_cannot_name_is_not_shared(tmp_path: Path) -> None:
    made = tiny_answering()
    made.network = type("Tower", (torch.nn.Module,), {"config": made.config})()  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"(?s)of this kind is not shared.*Tower"):
        made.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_card_tells_what_people_need(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    for part in (
        "# Answers to questions about clothes, on timm/test_efficientnet", "Made-up pictures.", "MIT",
        "one of 9 known answers", "dark red", "An encoder and a decoder", "first 32 tokens", "| accuracy | 0.25 |",
        "VQAModel.load(", "64 × 64", "below 0.5", "were calibrated", "## Limits",
    ):  # fmt: skip
        assert part in card, part
    assert "about" not in json.loads((saved / CONFIG).read_text())


def test_the_card_claims_calibration_only_where_it_was_fitted(tmp_path: Path) -> None:
    card = (tiny_answering(temperature=1.0).save(tmp_path / "m") / "README.md").read_text()
    assert "not calibrated" in card and "were calibrated" not in card


def test_answers_cannot_break_the_card(tmp_path: Path) -> None:
    made = tiny_answering("mcan", answer_length=32)
    names = ["a|b\n# c", "[x](http://y)", "<img src=x>", *ANSWERS[3:]]
    model = AnsweringModel(made.network, made.tokenizer, names, made.backbone)
    card = (model.save(tmp_path / "m") / "README.md").read_text()
    assert "\n# c" not in card and "[x](http" not in card and " <img" not in card


def test_folders_of_another_kind_say_what_they_are(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)this model answers questions.*VQAModel\.load.*fashionkit ask"):
        VisionModel.load(saved)
    other = VisionModel(tiny_backbone()).save(tmp_path / "m")
    with pytest.raises(InputError, match=r"(?s)this model gives vectors, attributes and styles.*Embedder\.load"):
        AnsweringModel.load(other)
    with pytest.raises(InputError, match="holds no model"):
        AnsweringModel.load(tmp_path / "nowhere")


def test_parts_that_do_not_fit_are_refused() -> None:
    made = tiny_answering("mcan")
    network, words, eyes = made.network, made.tokenizer, made.backbone
    for answers, problem in (
        (ANSWERS[1:], "the network knows 9 answers"),
        (("", *ANSWERS[1:]), "an answer is a text"),
        (("  ", *ANSWERS[1:]), "an answer is a text"),
        (("x" * 201, *ANSWERS[1:]), "an answer is a text"),
        ((7, *ANSWERS[1:]), "an answer is a text"),
        (("no", *ANSWERS[1:]), "two answers are the same to the network"),
        ((" NO ", *ANSWERS[1:]), "two answers are the same to the network: ' NO ' and this one"),
        (("zyzzyva qwx pfk", *ANSWERS[1:]), "an answer has 1 to 7 tokens"),
    ):
        with pytest.raises(InputError, match=problem):
            AnsweringModel(network, words, answers, eyes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the tokenizer 300"):
        AnsweringModel(network, Tokenizer.train([*QUESTIONS] * 3, 300), ANSWERS, eyes)
    with pytest.raises(InputError, match="gives maps of 64 x 4 x 4 at 64 px, the network takes 256 x 2 x 2"):
        AnsweringModel(network, words, ANSWERS, tiny_backbone(OTHER))
    with pytest.raises(InputError, match=r"gives maps of 256 x 3 x 3 at 96 px"):
        AnsweringModel(network, words, ANSWERS, tiny_backbone(size=96))
    for name, value in (
        ("temperature", 0), ("temperature", float("nan")), ("temperature", True), ("temperature", "1"),
        ("temperature", float("inf")), ("cannot_tell", -0.1), ("cannot_tell", 1.5), ("cannot_tell", None),
    ):  # fmt: skip
        with pytest.raises(InputError, match=name):
            AnsweringModel(network, words, ANSWERS, eyes, **{name: value})  # type: ignore[arg-type]


HOSTILE: dict[str, tuple[Callable[[Config], object], str]] = {
    "unknown key": (lambda c: c.update(code="x.py"), "unknown key of a model"),
    "unknown kind": (lambda c: c.update(kind="oracle"), "a model of an unknown kind"),
    "kind of no text": (lambda c: c.update(kind=[1]), "a model of an unknown kind"),
    "no kind": (lambda c: c.pop("kind"), "this model gives vectors"),
    "newer": (lambda c: c.update(format=2), r"(?s)another format.*pip install -U"),
    "no network": (lambda c: c.pop("network"), "damaged: it needs"),
    "network a list": (lambda c: c.update(network=[1]), "no settings of a network"),
    "network key": (lambda c: c["network"].update(code="x"), "no such setting"),
    "network lacks": (lambda c: c["network"].pop("words"), "a setting is missing"),
    "network kind": (lambda c: c["network"].update(kind="oracle"), "no such choice"),
    "another network": (lambda c: c["network"].update(kind="vlm"), "the weights do not fit"),
    "width": (lambda c: c["network"].update(width=18), "the weights do not fit"),
    "huge width": (lambda c: c["network"].update(width=1 << 22), "the weights do not fit"),
    "above all": (lambda c: c["network"].update(width=1 << 40), "a whole number from 1"),
    "huge layers": (lambda c: c["network"].update(layers=1 << 24), "there are"),
    "huge decoder": (lambda c: c["network"].update(decoder_layers=1 << 24), "there are"),
    "huge sizes": (
        lambda c: c["network"].update(channels=1 << 24, cells=[1 << 24, 1 << 24], fold=1 << 24),
        "cannot be built|do not fit",
    ),
    "huge question": (lambda c: c["network"].update(question_length=1 << 24), "the weights do not fit"),
    "huge words": (lambda c: c["network"].update(words=1 << 24), "the weights do not fit"),
    "text for a number": (lambda c: c["network"].update(width="16"), "a whole number"),
    "cells": (lambda c: c["network"].update(cells=[2]), "rows and columns"),
    "other cells": (lambda c: c["network"].update(cells=[4, 1]), "gives maps of 256 x 2 x 2"),
    "dropout": (lambda c: c["network"].update(dropout=float("nan")), "a share below 1"),
    "blind": (lambda c: c["network"].update(blind=True), "do not fit|no backbone"),
    "answers text": (lambda c: c.update(answers="yes no"), "a list of texts"),
    "answers twice": (lambda c: c.update(answers=["no", *ANSWERS[1:]]), "two answers are the same"),
    "answers empty": (lambda c: c.update(answers=["", *ANSWERS[1:]]), "an answer is a text"),
    "answers none": (lambda c: c.update(answers=[]), "the network knows 9 answers"),
    "answers fewer": (lambda c: c["answers"].pop(), "the network knows 9 answers"),
    "answers of another kind": (lambda c: c.update(answers=[{}, *ANSWERS[1:]]), "an answer is a text"),
    "answers many": (
        lambda c: (c.update(answers=[f"{n}" for n in range(MOST_ANSWERS + 1)]), c["network"].update(answers=10_001)),
        "more than 10,000",
    ),
    "temperature": (lambda c: c.update(temperature=-1), "a temperature is a number above 0"),
    "temperature nan": (lambda c: c.update(temperature=float("nan")), "a temperature is a number above 0"),
    "temperature text": (lambda c: c.update(temperature="1"), "a temperature is a number above 0"),
    "threshold": (lambda c: c.update(cannot_tell=2), "lies within 0 to 1"),
    "no backbone": (lambda c: c.pop("backbone"), "a network that looks needs"),
    "path as backbone": (lambda c: c.update(backbone="timm/../../x"), "no such backbone"),
    "backbone of another kind": (lambda c: c.update(backbone=7), "a backbone has a name"),
    "another backbone": (lambda c: c.update(backbone=OTHER), "the weights do not fit"),
    "preprocess": (lambda c: c["preprocess"].update(size="large"), "damaged"),
    "other size": (lambda c: c["preprocess"].update(size=96), "at 96 px"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_forged_configuration_is_refused(folder: Path, name: str) -> None:
    change, problem = HOSTILE[name]
    changed(folder, change)
    with pytest.raises(InputError, match=problem) as error:
        AnsweringModel.load(folder)
    said = "".join([str(error.value), *getattr(error.value, "__notes__", [])])
    assert str(folder) in said, "it names the place"


@pytest.mark.parametrize("name", ["model", "network"])
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
        AnsweringModel.load(folder)


@pytest.mark.parametrize("how", ["gone", "empty", "no text", "none", "another size", "words swapped", "huge"])
def test_a_forged_tokenizer_is_refused(folder: Path, how: str) -> None:
    file = folder / "tokenizer.json"
    text = file.read_text()
    values = json.loads(text)
    if how == "gone":
        file.unlink()
    elif how == "no text":
        file.write_bytes(b"\xff\xfe\x00")
    elif how == "another size":
        file.write_text(Tokenizer.train([*QUESTIONS] * 3, 300).to_text())
    elif how == "words swapped":
        vocab = values["model"]["vocab"]
        vocab["<pad>"], vocab["<eos>"] = vocab["<eos>"], vocab["<pad>"]
        file.write_text(json.dumps(values))
    elif how == "huge":
        file.write_text(text + " " * (17 << 20))
    else:
        file.write_text({"empty": "", "none": "[1]"}[how])
    with pytest.raises(InputError, match=r"tokenizer"):
        AnsweringModel.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, "\ufeff{}"])
def test_a_configuration_that_is_none(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        AnsweringModel.load(folder)


def test_numbers_that_run_over_are_no_answer(folder: Path) -> None:
    state = load_file(folder / "network.safetensors")
    state["words.weight"] = torch.full_like(state["words.weight"], 3e38)
    save_file(state, folder / "network.safetensors")
    model = AnsweringModel.load(folder)
    with pytest.raises(InputError, match="the network gives no numbers"):
        model.answer(maps(), IMAGE_OF, ASKED)


def test_a_folder_is_never_written_over(folder: Path) -> None:
    before = (folder / CONFIG).read_bytes()
    for place in (folder, folder / CONFIG):
        with pytest.raises(InputError, match="there is something already"):
            tiny_answering().save(place)
    assert (folder / CONFIG).read_bytes() == before


def test_the_tokenizer_of_the_tests_knows_german_letters() -> None:
    words = tiny_tokenizer()
    assert "ö" in {letter for number in range(len(words)) for letter in words.decode([number])}
