"""The README.md of a shared model that answers questions; see `fashionkit.models.model_card`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fashionkit.models.model_card import Metrics, card, code, measured, plain, prepared

if TYPE_CHECKING:
    from fashionkit.models.answering import AnsweringModel

SHOWN = 200  # known answers that the card lists
NAMES = {"vlm": "A visual language model", "encoder_decoder": "An encoder and a decoder", "mcan": "Co-attention (MCAN)"}


def answering_card(model: AnsweringModel, about: str, metrics: Metrics) -> str:
    """Markdown; arguments as for `model_card`."""
    looks = "questions alone: it is blind" if model.backbone is None else f"{model.backbone.name}"
    how = "Pictures are not looked at."
    if model.preprocess is not None:
        how = prepared(model.preprocess, "VQAModel")
    sections = {
        "What it says": _says(model),
        "How well": measured(metrics),
        "How to use it": _use(),
        "How pictures are prepared": how,
        "Limits": _limits(model),
    }
    return card(f"Answers to questions about clothes, on {looks}", about, model.licence, sections)


def _says(model: AnsweringModel) -> str:
    config, known = model.config, model.answers
    shown = ", ".join(map(plain, known[:SHOWN]))
    more = f", and {len(known) - SHOWN:,} more" if len(known) > SHOWN else ""
    lines = [
        f"- To any question, one of {len(known):,} known answers, or that it cannot tell: {shown}{more}.",
        f"- {NAMES[config.kind]}; width {config.width}, {config.layers} layers. It reads the first "
        f"{config.question_length} tokens of a question (a token is a word or a part of one).",
        f"- It cannot tell where its likeliest answer has a probability below {model.cannot_tell:g}.",
    ]
    return "\n".join(lines)


def _use() -> str:
    lines = [
        "from fashionkit import VQAModel",
        "",
        'model = VQAModel.load("this/folder")',
        'answer = model.ask("photo.jpg", "what colour is the dress?")[0]',
        "print(answer.text, answer.probability, answer.alternatives, answer.state)",
    ]
    body = "\n".join(lines)
    return f"```python\n{body}\n```\n\nor {code('fashionkit ask photo.jpg QUESTION --model this/folder')}."


def _limits(model: AnsweringModel) -> str:
    sure = (
        "- Probabilities are not calibrated: they may be too sure."
        if model.temperature == 1
        else "- Probabilities were calibrated (one temperature) on questions that did not train: those of the "
        "validation pictures. They fit the share that is right only for pictures and questions like those."
    )
    lines = [
        "- What it says of pictures unlike those it was trained on is not known.",
        "- It knows no other answers than those above, and takes the nearest of them for what it never saw.",
        sure,
        "- A question is only ever read as a question: no instruction in it, or in a picture, is followed.",
        "- It must not be used to tell who a person is or what a person is like.",
    ]
    return "\n".join(lines)
