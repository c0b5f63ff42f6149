"""Answers as one HTML page: measures with intervals, families, attributes, how sure, what for what, and pictures.

    figures of `vqa_measures.measure`, differences of `compare` ─► tables, bars, two plots ─┐
    `chosen` answers, half of them wrong, by seed ─► small pictures ─► cards ───────────────┴─► one text

All texts come from data, or from a network, and are escaped; pictures are inside the page; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_picture
from fashionkit.eval.vqa_asked import plain_text
from fashionkit.eval.vqa_measures import WORDS
from fashionkit.eval.vqa_side import Side
from fashionkit.report.document import Section, document
from fashionkit.report.html import Html, escape
from fashionkit.report.parts import Cell, badge, folded, table, tiles
from fashionkit.report.pictures import no_picture, picture, small_jpeg
from fashionkit.report.plots import HIDDEN, against
from fashionkit.tables import shorten

Array = npt.NDArray[Any]
Figures = Mapping[str, Any]
CARDS = 100
SIDE = 300  # pixels of a picture on the page
TOP = 15  # rows of a table before the rest is folded
LEFT, FOOT, WIDE, TALL = 62, 240, 250, 232  # of a plot: its corner and its sides
FEW = 5  # questions below which an answer is not called hard
NUMBERS = ("loss",)  # measures that are no shares
HEADLINE = (
    ("accuracy", "Right answers"),
    ("harmonic", "Harmonic mean over families"),
    ("macro", "Mean over answers"),
    ("binary", "Yes or no"),
    ("open", "Other questions"),
    ("not_present_f1", "F1 of “not present”"),
    ("consistency", "Consistency"),
    ("swap", "Swap of pictures"),
    ("valid", "Valid"),
    ("ece", "Calibration error"),
)
STYLE = """
#measures .plot { width: 20%; } #measures tbody .note { display: block; } #measures tbody th { min-width: 15em; }
.axes { stroke: var(--line); fill: none; } .even { stroke: var(--soft); stroke-dasharray: 4 4; }
.curve { stroke: var(--s0); stroke-width: 2; fill: none; } .dot { fill: var(--s0); fill-opacity: .8; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 18px 40px; }
.plots svg { max-width: 430px; width: 100%; } .card .no { color: var(--bad); } .card .others { font-size: 13px;
 color: var(--soft); } .cards { grid-template-columns: repeat(auto-fill, minmax(min(240px, 100%), 1fr)); }
.card .pic { height: 220px; display: grid; place-items: center; } .card .pic img { max-height: 220px; }
"""
SAYS = {
    "measures": "Intervals hold with a probability of 95 %; whole groups of pictures are drawn again. Several seeds "
    "are the outer level: what they differ by is added.",
    "families": "A family is a kind of question, and the unit of all means over kinds.",
    "attributes": "All questions that an attribute decides, yes or no among them; and of those, the ones that ask for "
    "its value. A question about two attributes counts for both.",
    "sure": "Left: answers in bins of about as many each; where they are calibrated, dots lie on the line. Right: what "
    "remains wrong where only the surest answers are given.",
    "answers": "Right answers that are found least often.",
    "confusions": "The most frequent wrong answers.",
    "pictures": "Chosen by seed.",
}


def answers_page(
    side: Side,
    figures: Figures,
    differences: Figures | None = None,
    rows: Sequence[int] = (),
    jpegs: Mapping[str, bytes] | None = None,
) -> str:
    """The page.

    Args:
        side: The answers; pictures show those of the first seed. figures: Of `measure`. differences: Of `compare` with
            another model. rows: Of `side`, to be shown. jpegs: Their pictures by id; None: no catalogue was given.
    """
    about = side.manifest.about
    lead = f"Split {figures['split']}: {figures['questions']:,} questions about {figures['pictures']:,} pictures. "
    lead += f"Model: {about.get('model', 'not named')}."
    if differences is not None:
        lead += f" Differences are against {', '.join(differences['two'])}."
    wrong = sum(not side.right[0, row] for row in rows)
    parts = [
        ("measures", "Measures", _measures(figures, differences)),
        ("families", "Families", _shares("family", figures["families"], differences, "families")),
        ("attributes", "Attributes", _shares("attribute", figures["attributes"], differences, "attributes")),
        ("sure", "How sure", _sure(figures)),
        ("answers", "Hard answers", _answers(figures)),
        ("confusions", "Taken for each other", _confusions(figures)),
        ("pictures", f"{len(rows)} answers, {wrong} of them wrong", _cards(side, rows, jpegs)),
    ]
    sections = [Section(anchor, title, body, SAYS[anchor]) for anchor, title, body in parts if body]
    title = f"Answers to questions about {about.get('set', 'pictures')}"
    return document(title, lead, sections, _tiles(figures), STYLE)


def chosen(side: Side, number: int = CARDS, seed: int = 0) -> list[int]:
    """Rows to be shown, by seed: half of them wrong where there are so many; of people's questions all that are wrong.

    Args:
        side: The answers, of which the first seed counts. number: Of rows, or all errors where these are more.
        seed: Which.
    """
    rng, right = np.random.default_rng(seed), side.right[0].astype(bool)
    wrong, good = (rng.permutation(np.flatnonzero(mask)) for mask in (~right, right))
    most = len(wrong) if side.human else max(number // 2, number - len(good))
    wrong = wrong[:most]
    good = good[: max(number - len(wrong), 0)]
    return [*map(int, np.sort(wrong)), *map(int, np.sort(good))]


def small_pictures(catalog: Catalog, ids: Sequence[str]) -> dict[str, bytes]:
    """Small JPEGs of pictures by id; those that are missing or damaged are left out.

    Raises:
        InputError: A path leads out of the catalogue's pictures, or its file is gone.
    """
    found = {}
    for name, data in catalog.image_bytes(sorted(set(ids))).items():
        try:
            if data is not None:
                found[name] = small_jpeg(open_picture(data), SIDE, 78)
        except PictureError:
            continue  # its card says so
    return found


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _points(row: Figures, name: str = "value") -> str:
    """A difference of shares in points, with its interval."""
    low, high = (row.get(f"{name}_{end}" if name != "value" else end) for end in ("low", "high"))
    if row.get(name) is None:
        return "–"
    said = f"{100 * row[name]:+.1f}"
    return said if low is None or high is None else f"{said} ({100 * low:+.1f} to {100 * high:+.1f})"


def _between(row: Figures, number: bool = False) -> str:
    if row["low"] is None or row["high"] is None:
        return "–"
    return f"{row['low']:.2f} to {row['high']:.2f}" if number else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}"


def _tiles(figures: Figures) -> Html:
    made: list[tuple[str, Cell, str]] = []
    for name, title in HEADLINE:
        row = figures["measures"].get(name)
        if row is not None and row["value"] is not None:
            made.append((title, _percent(row["value"]), _between(row)))
    gain = figures.get("gain", {}).get("accuracy")
    if gain is not None:
        made.insert(1, ("Gain by looking", f"{100 * gain['value']:+.1f}", f"points; {_between(gain)}"))
    return tiles(made)


def _bar(row: Figures) -> Html:
    if row["value"] is None:
        return Html("")
    ends = None if row["low"] is None or row["high"] is None else (row["low"], row["high"])
    return against(row["value"], None, 1.0, ends)


def _measures(figures: Figures, differences: Figures | None) -> Html:
    """All measures; without those that are means over one label only, which say nothing of their own."""
    gains = figures.get("gain")
    head: list[str | Html] = ["measure", HIDDEN, "value", "interval", "of"]
    head += ["gain by looking"] * (gains is not None) + ["difference"] * (differences is not None)
    rows = []
    for name, row in figures["measures"].items():
        number = name in NUMBERS
        value = f"{row['value']:.2f}" if number and row["value"] is not None else _percent(row["value"])
        cells: list[Cell] = [_named(name), Html("") if number else _bar(row), value, _between(row, number), row["n"]]
        for side in (gains, None if differences is None else differences["measures"]):
            if side is not None:
                cells.append("–" if name not in side else _number(side[name]) if number else _points(side[name]))
        rows.append(cells)
    return table(head, rows, plot=1, right=range(2, len(head)))


def _number(row: Figures) -> str:
    return "–" if row["value"] is None else f"{row['value']:+.2f}"


def _named(name: str) -> Html:
    """A measure and what it is."""
    return Html(f'{escape(name.replace("_", " "))} <span class="note">{escape(WORDS[name])}</span>')


def _shares(word: str, rows: Sequence[Figures], differences: Figures | None, part: str) -> Html:
    """A table of accuracies."""
    if not rows:
        return Html("")
    gains = "gain" in rows[0]
    other = {} if differences is None else {row["name"]: row for row in differences[part]}
    head: list[str | Html] = [word, HIDDEN, "right", "interval", "questions"]
    head += ["gain by looking"] * gains + ["difference"] * bool(other)
    made = []
    for row in rows:
        cells: list[Cell] = [row["name"] or "–", _bar(row), _percent(row["value"]), _between(row), row["n"]]
        cells += [_points(row, "gain")] * gains
        cells += [_points(other[row["name"]]) if row["name"] in other else "–"] * bool(other)
        made.append(cells)
    return table(head, made, plot=1, right=range(2, len(head)))


def _sure(figures: Figures) -> Html:
    """Two plots, and their figures as tables."""
    bins, curve = figures["reliability"], figures["coverage"]
    dots = [(row["probability"], row["right"], row["n"]) for row in bins]
    plots = _reliability_plot(dots) + _risk_plot([(row["coverage"], row["risk"]) for row in curve])
    rows: list[list[Cell]] = [[_percent(p), _percent(right), n] for p, right, n in dots]
    step = max(1, len(curve) // 10)
    risks: list[list[Cell]] = [[_percent(r["coverage"]), _percent(r["risk"])] for r in curve[step - 1 :: step]]
    tables = str(table(["probability", "right", "answers"], rows, "Calibration", right=range(0, 3)))
    tables += table(["given answers", "wrong among them"], risks, "Coverage and risk", right=range(0, 2))
    return Html(f'<div class="plots">{plots}</div>{folded("As tables", Html(tables))}')


def _axes(title: str, x: str, y: str, body: str, top: float, said: str) -> str:
    """A plot of the unit square; `top` is what its height stands for."""
    marks = ""
    for at, down in ((0, 4), (0.5, 4), (1, 9)):  # the uppermost number stays below the plot's edge
        marks += f'<text x="{LEFT + WIDE * at:.0f}" y="{FOOT + 18}" text-anchor="middle">{at:.0%}</text>'
        marks += f'<text x="{LEFT - 6}" y="{FOOT - TALL * at + down:.0f}" text-anchor="end">{at * top:.0%}</text>'
    middle = FOOT - TALL / 2
    return (
        f'<figure><figcaption><b>{escape(title)}</b></figcaption><svg viewBox="0 0 330 284" role="img" '
        f'aria-label="{escape(said)}"><rect class="axes" x="{LEFT}" y="{FOOT - TALL}" width="{WIDE}" height="{TALL}"/>'
        f'{body}{marks}<text x="{LEFT + WIDE / 2}" y="{FOOT + 38}" text-anchor="middle">{escape(x)}</text>'
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y)}</text>'
        "</svg></figure>"
    )


def _at(x: float, y: float) -> tuple[str, str]:
    """Where a point of the unit square lies in a plot."""
    return f"{LEFT + WIDE * x:.1f}", f"{FOOT - TALL * y:.1f}"


def _reliability_plot(dots: Sequence[tuple[float, float, int]]) -> str:
    most = max((n for *_, n in dots), default=1)
    (x1, y1), (x2, y2) = _at(0, 0), _at(1, 1)
    body = f'<line class="even" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'
    for p, right, n in dots:
        x, y = _at(p, right)
        body += f'<circle class="dot" cx="{x}" cy="{y}" r="{2 + 3 * n / most:.1f}"/>'
    said = "; ".join(f"{p:.0%} sure, {right:.0%} right" for p, right, _ in dots)
    return _axes("Calibration", "probability of the answer", "share of right ones", body, 1.0, said)


def _risk_plot(curve: Sequence[tuple[float, float]]) -> str:
    top = max((risk for _, risk in curve), default=0) or 1.0
    points = " ".join(",".join(_at(coverage, risk / top)) for coverage, risk in curve)
    said = "; ".join(f"{coverage:.0%} given, {risk:.0%} wrong" for coverage, risk in curve[:: max(1, len(curve) // 8)])
    body = f'<polyline class="curve" points="{points}"/>'
    return _axes("Coverage and risk", "share of questions that are answered", "share of wrong ones", body, top, said)


def _answers(figures: Figures) -> Html:
    rows = sorted((row for row in figures["answers"] if row["n"] >= FEW), key=lambda row: (row["right"], -row["n"]))
    head: list[str | Html] = ["answer", HIDDEN, "found", "questions", "times given"]
    cells: list[list[Cell]] = [
        [shorten(r["answer"], 60), against(r["right"], None, 1.0), _percent(r["right"]), r["n"], round(r["given"])]
        for r in rows
    ]
    if not cells:
        return Html("")
    few = len(figures["answers"]) - len(rows)
    rest = f"the other {len(cells) - TOP}" if len(cells) > TOP else ""
    made = str(table(head, cells[:TOP], plot=1, right=(2,)))
    if rest:
        made += folded(rest, table(head, cells[TOP:], plot=1, right=(2,)))
    return Html(made + (f'<p class="note">and {few:,} answers with fewer than {FEW} questions</p>' if few else ""))


def _confusions(figures: Figures) -> Html:
    rows: list[list[Cell]] = [
        [shorten(row["answer"], 60), shorten(row["given"], 60), row["n"], _percent(row["share"])]
        for row in figures["confusions"]
    ]
    if not rows:
        return Html("")
    head = ["right answer", "given", "times", "of its questions"]
    made = str(table(head, rows[:TOP], right=(3,)))
    made += folded(f"{len(rows) - TOP} more", table(head, rows[TOP:], right=(3,))) if len(rows) > TOP else ""
    return Html(made)


def _cards(side: Side, rows: Sequence[int], jpegs: Mapping[str, bytes] | None) -> Html:
    shown = side.table.take(pa.array(list(rows), pa.int64())).to_pylist()
    return Html(f'<div class="cards">{"".join(_card(row, jpegs) for row in shown)}</div>' if shown else "")


def _card(row: Figures, jpegs: Mapping[str, bytes] | None) -> str:
    jpeg = (jpegs or {}).get(row["image_id"])
    if jpeg is not None:
        drawn = picture(jpeg, 1, 1, f"picture {row['image_id']}")
    else:
        drawn = no_picture("no catalogue was given" if jpegs is None else "the picture cannot be shown")
    given = badge("right", "pass") if row["right"] else badge("wrong", "fail")
    said = (
        f"<b>{escape(row['predicted'])}</b>" if row["right"] else f'<span class="no">{escape(row["predicted"])}</span>'
    )
    right = "" if row["right"] else f'<p class="a">right: <b>{escape(shorten(row["answer"], 200))}</b></p>'
    others = zip(row["alternatives"][1:], row["probabilities"][1:], strict=True)
    rest = ", ".join(f"{escape(text)} {share:.0%}" for text, share in others if share >= 0.005)
    others_line = f'<p class="others">else: {rest}</p>' if rest else ""
    words = row["free"]
    differs = words is not None and plain_text(words) != plain_text(row["predicted"])
    own = f'<p class="others">own words: {escape(shorten(words, 120))}</p>' if differs else ""
    tags = "".join(badge(shorten(text, 36)) for text in (row["template"], row["attribute"]) if text)
    name = f"question {row['question_id']}" if row["question_id"] else f"qid {row['qid']}"
    return (
        f'<div class="card">{drawn}<div class="tags">{given}{tags}</div>'
        f'<p class="q">{escape(shorten(row["question"], 300))}</p>'
        f'<p class="a">{said} {row["probability"]:.0%}</p>{right}'
        f"{others_line}{own}"
        f"<code>picture {escape(shorten(row['image_id'], 60))}, {escape(shorten(name, 60))}</code></div>"
    )
