"""Explanations as one HTML page: pictures, probabilities, gates, heat, what changes without an item, attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from fashionkit.embed.answers import Answers, StyleAnswer
from fashionkit.embed.embedder import Embedder
from fashionkit.embed.explain import HEAT, Explanation, ItemEvidence, heated
from fashionkit.embed.style_inputs import style_network
from fashionkit.report import Html, escape
from fashionkit.report.document import Section, document
from fashionkit.report.parts import badge, folded, table, tiles
from fashionkit.report.pictures import Region, keys, picture, small_jpeg
from fashionkit.report.plots import HIDDEN, against
from fashionkit.tables import shorten

SHOWN = 5  # styles and values of a table
SIDE = 320  # pixels of a picture on the page
STYLE = """
.explained { display: grid; grid-template-columns: minmax(0, 320px) minmax(0, 1fr); gap: 12px 32px;
 align-items: start; }
.explained .pic { width: fit-content; } .explained .pic img { width: 320px; }
.heats { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 18px 20px; }
.heats figcaption { margin: 0 0 6px; } .heats .pic { width: 100%; } .heats .pic img { width: 100%; max-height: none; }
.heats .mark { fill-opacity: 0; } .heats p { margin: 6px 0 0; font-size: 13.5px; }
.scale { display: flex; gap: 8px; align-items: center; font-size: 13px; color: var(--soft); margin: 0 0 10px; }
.explained > div > h3:first-child { margin-top: 0; }
@media (max-width: 720px) { .explained { grid-template-columns: minmax(0, 1fr); }
 .heats { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""
READ = (
    (
        "Gates",
        "How much the network lets each stream count in its sum. Streams are the mean of the whole map, the frozen "
        "general vector, and each item. Where a network weighs every channel for itself, the number is the mean over "
        "channels. A gate says how much a stream counts, not for which style.",
    ),
    (
        "Heat",
        "Grad-CAM on the last map of the backbone: the gradient of the likeliest style’s score, averaged over the "
        "cells of one item, times the map. Only what speaks for that style is shown. All items of a picture share one "
        "scale, so their colours can be compared; pictures cannot. The map is coarse: edges of the heat mean little.",
    ),
    (
        "Without an item",
        "The item’s mask is emptied and the network is run again: the item counts as absent. Its pixels stay in the "
        "picture, so what the whole map and the general vector see of it stays, too. These differences are a test of "
        "this network, not of what people would say.",
    ),
)


def explain_page(model: Embedder, found: Sequence[Explanation]) -> str:
    """The page.

    Args:
        model: What was asked. found: What it said, in the order of the page.
    """
    style = model.model.style
    broken = sum(bool(each.problem) for each in found)
    note = f"{broken} could not be read" if broken else ""
    facts: list[tuple[str, str | int, str]] = [("pictures", len(found), note)]
    if style is not None:
        facts.append(("styles", len(style.classes), f"temperature {style.temperature:.3g}"))
        if style.needs_masks:
            facts.append(("regions", shorten(style.regions or "not named", 40), "that it was trained with"))
    if model.model.attributes is not None:
        facts.append(("attributes", len(model.model.attributes.specs), ""))
    facts.append(("input", f"{model.preprocess.size} px", model.name))
    sections = [_section(number, each, model) for number, each in enumerate(found)]
    if any(each.items for each in found):
        body = "".join(f"<h3>{escape(head)}</h3><p class='say'>{escape(text)}</p>" for head, text in READ)
        sections.append(Section("reading", "How to read this page", Html(body)))
    lead = f"What {model.name} says, and what it looked at."
    return document("Pictures explained", lead, sections, tiles(facts), STYLE)


def _section(number: int, each: Explanation, model: Embedder) -> Section:
    if each.problem:
        said = Html(f"<p class='say'>This picture could not be read: {escape(each.problem)}</p>")
        return Section(f"picture-{number}", shorten(each.name, 80), said)
    parts = []
    if each.style is not None:
        parts.append(_judged(each, each.style, model))
    else:
        parts.append(_shown(each))
    if each.style is not None and each.items:
        parts += [_heats(each, each.style), _dropped(each, each.style)]
    if each.attributes is not None:
        parts.append(_attributes(each.attributes))
    return Section(f"picture-{number}", shorten(each.name, 80), Html("".join(parts)))


def _shown(each: Explanation) -> Html:
    regions = [_region(number, item) for number, item in enumerate(each.items) if item.there]
    drawn = _picture(Image.fromarray(each.pixels), "The picture as the network sees it", regions)
    return Html(f"<div>{drawn}{keys(regions)}</div>")


def _region(number: int, item: ItemEvidence) -> Region:
    side = float(len(item.mask))
    return Region(item.name, number, (0.0, 0.0, side, side), item.mask)


def _picture(image: Image.Image, alt: str, regions: Sequence[Region]) -> Html:
    side = image.width
    large = image.resize((max(SIDE, side),) * 2, Image.Resampling.BICUBIC) if side < SIDE else image
    return picture(small_jpeg(large, SIDE, 88), side, side, alt, regions)


def _judged(each: Explanation, style: StyleAnswer, model: Embedder) -> Html:
    """The picture beside what is said of its style, and what counted."""
    order = np.argsort(-style.probabilities[0], kind="stable").tolist()
    rows = [_bar(style.classes[n], float(style.probabilities[0, n])) for n in order]
    head = ["style", HIDDEN, "probability"]
    said = str(table(head, rows[:SHOWN], plot=1, right=(2,)))
    if len(rows) > SHOWN:
        said += folded(f"the other {len(rows) - SHOWN}", table(head, rows[SHOWN:], plot=1, right=(2,)))
    gates = _gates(style, model)
    return Html(f'<div class="explained">{_shown(each)}<div><h3>Style</h3>{said}{gates}</div></div>')


def _bar(label: str, share: float) -> list[str | Html]:
    return [label, against(share, None, 1.0), f"{share:.1%}"]


def _gates(style: StyleAnswer, model: Embedder) -> Html:
    network = style_network(model.model)
    if not network.weighs:
        return Html("<h3>Gates</h3><p class='say'>This network weighs nothing: it joins all streams in one layer.</p>")
    gate = network.irsn.config.gate
    per = {"softmax": "mean over channels; they add up to 1", "sigmoid": "mean over channels, each 0 to 1"}
    rows, most = [], float(style.gates[0].max())
    for name, value, there in zip(style.streams, style.gates[0].tolist(), style.held[0].tolist(), strict=True):
        label = {"map": "whole map", "general": "general vector"}.get(name, name)
        rows.append([label, against(value, None, most), f"{value:.2f}"] if there else [label, Html(""), "not seen"])
    told = f"How much each stream counts ({per.get(gate, 'they add up to 1')}); the largest fills its bar"
    return Html(f"<h3>Gates</h3>{table(['stream', HIDDEN, 'gate'], rows, told, plot=1, right=(2,))}")


def _heats(each: Explanation, style: StyleAnswer) -> Html:
    best = escape(str(style.best[0]))
    cards = []
    for number, item in enumerate(each.items):
        if not item.there:
            cards.append(
                f'<figure><figcaption><b>{item.name}</b></figcaption><div class="pic none">not seen</div></figure>'
            )
            continue
        image = heated(each.pixels, item.heat)
        drawn = _picture(image, f"Where in {item.name} the map speaks for the style", [_region(number, item)])
        none = "" if item.heat.max() > 0.02 else f"<p>Nothing in it speaks for {best}.</p>"
        note = f'<span class="note">{item.share:.0%} of the picture</span>'
        cards.append(f"<figure><figcaption><b>{item.name}</b> {note}</figcaption>{drawn}{none}</figure>")
    return Html(f"<h3>Where each item speaks for {best}</h3>{_scale()}<div class='heats'>{''.join(cards)}</div>")


def _scale() -> str:
    stops = "".join(f'<stop offset="{at}" stop-color="rgb{colour}"/>' for at, colour in HEAT)
    return (
        '<p class="scale">little <svg width="120" height="10" aria-hidden="true"><defs><linearGradient id="heat">'
        f'{stops}</linearGradient></defs><rect width="120" height="10" rx="3" fill="url(#heat)"/></svg> '
        "most of this picture</p>"
    )


def _dropped(each: Explanation, style: StyleAnswer) -> Html:
    """What each item changes: probabilities with its mask emptied."""
    before = style.probabilities[0]
    best, rows = int(before.argmax()), []
    for item in each.items:
        if not item.there:
            rows.append([item.name, Html(""), "", "", badge("not seen", "skip")])
            continue
        change, then = float(item.without[best] - before[best]), int(item.without.argmax())
        turned = badge(style.classes[then], "stale") if then != best else escape(style.classes[then])
        most = int(np.argmax(item.without - before))
        gains = f"{style.classes[most]} {item.without[most] - before[most]:+.1%}" if most != best else ""
        rows.append([item.name, _change(change), f"{100 * change:+.1f}", gains, turned])
    head = ["without", HIDDEN, f"{style.classes[best]}, points", "what gains most", "likeliest then"]
    told = f"Probability of {style.classes[best]} is {before[best]:.1%} with all items"
    return Html(f"<h3>Without an item</h3>{table(head, rows, told, plot=1, right=(2,))}")


def _change(value: float) -> Html:
    """A bar from the middle: to the left where the style loses."""
    width = 50 * min(abs(value), 1)
    x, kind = (50 - width, "s1") if value < 0 else (50, "s0")
    return Html(
        '<svg width="100%" height="14" aria-hidden="true"><rect class="track" width="100%" height="14"/>'
        f'<rect class="{kind}" x="{x:.2f}%" y="3" width="{width:.2f}%" height="8"/>'
        '<line class="tick" x1="50%" x2="50%" y1="0" y2="14"/></svg>'
    )


def _attributes(answers: Answers) -> Html:
    kinds = {"present": ("applies", ""), "not_visible": ("not visible", "stale"), "absent": ("does not apply", "skip")}
    rows: list[list[str | Html]] = []
    for name, answer in answers.items():
        word, kind = kinds[answer.state]
        values = ", ".join(f"{value} {share:.0%}" for value, share in list(answer.values.items())[:SHOWN])
        others = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
        rest = ", ".join(f"{value} {share:.0%}" for value, share in others if value not in answer.values)
        rows.append([name, badge(word, kind), f"{answer.state_probability:.0%}", values or "—", _rest(rest)])
    head = ["attribute", "state", "probability", "values", "other values"]
    return Html(f"<h3>Attributes</h3>{table(head, rows, right=(2,))}")


def _rest(text: str) -> Html:
    return Html(f'<span class="note">{escape(shorten(text, 90))}</span>')
