"""The README.md of a shared model: what it is, what it says, how it was judged, how to use it, what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import fashionkit

if TYPE_CHECKING:
    from fashionkit.models.vision_model import VisionModel
    from fashionkit.vision.preprocess import Preprocess

Metrics = Mapping[str, float] | Sequence[Mapping[str, object]]


def model_card(model: VisionModel, about: str, metrics: Metrics, licence: str) -> str:
    """Markdown.

    Args:
        model: What is described. about: What it was trained on, and whatever else people should know.
        metrics: Name → number, or the rows of a table; a cell without a value is empty.
        licence: Of the weights; empty: not known.
    """
    sections = {
        "What it says": _says(model),
        "How well": measured(metrics),
        "How to use it": _use(model),
        "How pictures are prepared": _preparation(model),
        "Limits": _limits(model),
    }
    return card(_title(model), about, licence, sections)


def card(title: str, about: str, licence: str, sections: Mapping[str, str]) -> str:
    """Markdown of a card.

    Args:
        title: Of the page. about, licence: As for `model_card`. sections: Heading → text.
    """
    parts = [
        f"# {title}",
        about.strip() or "Nothing was said about what this model was trained on.",
        f"Licence of the weights: {licence or 'not stated. Ask who gave you this folder before you rely on it.'}",
        *(f"## {head}\n\n{text}" for head, text in sections.items()),
        f"Made by fashionkit {fashionkit.__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def _title(model: VisionModel) -> str:
    heads = [word for word, part in (("attributes", model.attributes), ("style", model.style)) if part is not None]
    return f"{' and '.join(heads) or 'embeddings'} on {model.backbone.name}".capitalize()


def _says(model: VisionModel) -> str:
    lines = [f"- A vector of {model.backbone.dim} numbers, of unit norm, for each picture."]
    if model.attributes is not None:
        for spec in model.attributes.specs:
            kind = "one of" if spec.exclusive else "any of"
            lines.append(f"- {code(spec.name)}: {kind} {', '.join(map(plain, spec.values))}.")
        lines.append("- For each attribute whether it applies, cannot be seen, or does not apply.")
    if model.style is not None:
        lines.append(f"- Style: one of {', '.join(map(plain, model.style.classes))}.")
    return "\n".join(lines)


def measured(metrics: Metrics) -> str:
    """The measures as a table, or that there are none."""
    rows = [{"measure": k, "value": v} for k, v in metrics.items()] if isinstance(metrics, Mapping) else list(metrics)
    if not rows:
        return "No measures came with this model."
    head = list(dict.fromkeys(key for row in rows for key in row))
    lines = [head, ["---"] * len(head), *([_cell(row.get(key)) for key in head] for row in rows)]
    return "\n".join("| " + " | ".join(plain(str(cell)) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _use(model: VisionModel) -> str:
    calls = ['vectors = model.embed(["photo.jpg"])']
    if model.attributes is not None:
        calls.append('answers = model.attributes(["photo.jpg"])  # attribute → state, values, probabilities')
    if model.style is not None:
        calls.append('style = model.style(["photo.jpg"])  # classes, probabilities, gates')
    body = "\n".join(["from fashionkit import Embedder", "", 'model = Embedder.load("this/folder")', *calls])
    return f"```python\n{body}\n```"


def prepared(how: Preprocess, by: str) -> str:
    """How pictures are prepared, and `by` which class."""
    side = {"shortest": "the shorter side", "longest": "the longer side", "squash": "both sides"}[how.resize]
    resized = int(how.size / how.crop)
    return (
        f"Upright, RGB, transparency on white; {side} resized to {resized} px ({how.interpolation}, Pillow), the "
        f"centre {how.size} × {how.size} kept, values in 0..1, minus {list(how.mean)}, divided by {list(how.std)}. "
        f"`{by}` does all of this."
    )


def _preparation(model: VisionModel) -> str:
    lines = [prepared(model.preprocess, "Embedder")]
    if model.style is not None and model.style.needs_masks:
        regions = code(model.style.regions) if model.style.regions else "that is not named"
        lines.append(f"Style looks at head, top, bottom and shoes, found by a provider of regions: {regions}.")
    if model.general is not None:
        lines.append(f"Style also takes the vector of {code(model.general.backbone.name)}, which did not train.")
    return "\n\n".join(lines)


def _limits(model: VisionModel) -> str:
    lines = ["- What it says of pictures unlike those it was trained on is not known."]
    if model.attributes is not None or model.style is not None:
        lines.append(
            "- It knows no other values than those above, and takes the nearest of them for what it never saw."
        )
        lines += [f"- {line}" for line in _calibrated(model)]
    lines.append("- It must not be used to tell who a person is or what a person is like.")
    return "\n".join(lines)


def _calibrated(model: VisionModel) -> list[str]:
    """What is said of how sure the model is: a temperature of 1 is what was never fitted, or on too few pictures."""
    raw: list[str] = []
    fitted: list[str] = []
    some: list[str] = []
    if model.attributes is not None:
        known = model.attributes.calibration.temperature
        some = [spec.name for spec in model.attributes.specs if known.get(f"values/{spec.name}", 1) == 1]
        (raw if len(some) == len(model.attributes.specs) else fitted).append("attributes")
    if model.style is not None:
        (raw if model.style.temperature == 1 else fitted).append("styles")
    lines = []
    if fitted:
        lines.append(
            f"Probabilities of {' and '.join(fitted)} were calibrated (temperatures) on pictures that did not train: "
            "the validation pictures. They fit the share that is right only for pictures like those they were "
            "calibrated on."
        )
    if "attributes" in fitted and some:
        lines.append(f"Too few pictures were there to calibrate the attributes {', '.join(map(code, some))}.")
    if raw:
        lines.append(f"Probabilities of {' and '.join(raw)} are not calibrated: they may be too sure.")
    return lines


def plain(text: str) -> str:
    """A text that cannot break out of its line or cell, nor bring markup or links of its own."""
    line = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`|*_[]<>" else letter for letter in line)


def code(text: str) -> str:
    """A name as code."""
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
