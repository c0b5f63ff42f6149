"""The report of a question set as one HTML page that needs no server, no network and, but for the sheet, no script.

SetReport + Seen (pictures) + AuditFile + Judgements ──► sections ──► fashionkit.report.document ──► text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.datagen.judge import LIMIT
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.report import LEVELS, SetReport
from fashionkit.datagen.report_audit import AuditFile, audit_part, read_audit
from fashionkit.datagen.report_regions import Album, Seen
from fashionkit.datagen.report_samples import checked_line, checked_part, samples_part, sheet_part
from fashionkit.datagen.report_verdicts import Judgement, read_verdicts, tally
from fashionkit.datagen.samples import PARAPHRASE, SAMPLE_SPLITS
from fashionkit.datagen.vocab import NO, YES
from fashionkit.report.document import Section, document
from fashionkit.report.html import Html, escape
from fashionkit.report.parts import Cell, banner, folded, legend, table, tiles
from fashionkit.report.plots import Bar, against, bars, histogram
from fashionkit.report.sheet import SCRIPT, STYLE
from fashionkit.tables import write_text

Array = npt.NDArray[Any]
TOP = 12  # answers of a family that are listed
BINS = 32  # of a histogram of difficulty

ASKS = {
    "B1": "is there such an item",
    "B2": "is the item like this",
    "B3": "is there an item like this",
    "B4": "two statements joined",
    "B5": "the opposite",
    "B6": "do two items match",
    "C1": "which value",
    "C2": "one of two",
    "C3": "which kind of item",
    "C4": "what is worn there",
    "C5": "which of two items",
    "C6": "where is it worn",
    "C7": "list the values",
    "C8": "how many",
    "N1": "of an item that is not there",
    "G1": "the picture as a whole",
}


SAYS: dict[str, str | Html] = {
    "families": "A family is a kind of question; a template is one way to build it. Bars are samples, split by split.",
    "answers": "Yes and no are meant to be equally many. Of open answers the order of frequency is kept, but evened "
    "out. Counted over all splits.",
    "difficulty": "From -4 (easy) to 4 (hard), relative to questions of the same template: how surprising the answer "
    "is, how like the nearest wrong one, how small the item.",
    "rejects": "Questions that were proposed and not kept, by reason. Nothing is dropped in silence.",
    "audit": "What the set gives away to a model that never looks at a picture.",
    "samples": "Chosen by seed, evenly over the families. Marked are the items that the program of the question speaks "
    "of; with a broken line those that fit it in part, where none fits.",
    "check": Html(
        "Is the answer right, by the picture alone? Verdicts stay in this browser. Export them and give the file to "
        "<code>fashionkit datagen report</code> with <code>--verdicts</code>: it says how many questions are wrong at "
        "most."
    ),
}


def make_report(
    report: SetReport, html: str | None = None, catalog: str | None = None, verdicts: str | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Writes the page, where one is asked for; returns lines for a terminal and figures for a file.

    Args:
        report: From `gather`. html: File of the page. catalog: The set's catalogue. verdicts: Export of the sheet.

    Raises:
        InputError: Another catalogue, a damaged audit, verdicts of another set or sheet.
    """
    lines, figures = report.lines(), report.to_dict()
    audit = read_audit(report.store.path)
    judgements, source = None, ""
    if verdicts is not None:
        judgements = read_verdicts(verdicts, report.content, [row["qid"] for row in report.checked])
        source = Path(verdicts).name
        told = tally(judgements)
        lines.append(f"  {checked_line(told, len(report.checked), source)}")
        figures["checked"] = told.to_dict()
    if html is not None:
        seen = None if catalog is None else Album(report.store, catalog).see([*report.shown, *report.checked])
        text = report_page(report, seen, audit, judgements, source)
        write_text(Path(html), text)
        lines.append(f"wrote {html}, {len(text.encode()) / 1e6:.1f} MB")
    return lines, figures


def report_page(
    report: SetReport,
    seen: Mapping[int, Seen] | None = None,
    audit: AuditFile | None = None,
    judgements: Sequence[Judgement] | None = None,
    source: str = "",
) -> str:
    """The page.

    Args:
        report: From `gather`. seen: `qid` → picture, of all samples shown; None: no catalogue was given.
        audit: Of the set. judgements: Verdicts read back; they are on the sheet, too. source: File they are from.
    """
    about = report.store.manifest.about
    name = str(about.get("catalog") or report.store.path.name)
    lead = f"A question set made from the catalogue “{name}”. Licence: {about.get('licence') or 'not stated'}."
    command = f"fashionkit datagen audit {report.store.path}"
    parts = [
        ("facts", "What it is", _facts(report)),
        ("families", "Families and templates", _families(report)),
        ("answers", "Answers", _answers(report)),
        ("difficulty", "Difficulty", _difficulty(report)),
        ("rejects", "What was refused", _rejects(report)),
        ("audit", "Bias gate", audit_part(audit, report.content, command)),
        ("samples", f"{len(report.shown)} samples", samples_part(report, seen)),
        ("check", "Check by hand", sheet_part(report, seen, judgements or ())),
    ]
    if judgements is not None:
        parts.insert(-2, ("checked", "Checked by hand", checked_part(report, judgements, source)))
    sections = [Section(anchor, title, body, SAYS.get(anchor, "")) for anchor, title, body in parts]
    return document(f"Questions about {name}", lead, sections, _tiles(report, audit), STYLE, SCRIPT)


def _tiles(report: SetReport, audit: AuditFile | None) -> Html:
    samples, programs = report.samples(), report.programs()
    distinct = sum(n for split, n in programs.items() if split != PARAPHRASE)
    asked, whole = int((report.counts.image > 0).sum()), len(report.counts.image)
    each = int(np.median(report.counts.image[report.counts.image > 0]))
    used = int(report.counts.split.any(axis=0).sum())
    if audit is None:
        gate, note = "not run", ""
    elif audit.content != report.content:
        gate, note = "stale", "of another state of the set"
    else:
        gate, note = ("passed" if audit.passed else "failed"), f"{len(audit.verdicts):,} verdicts"
    return tiles(
        [
            ("Samples", sum(samples.values()), "a question, its answer, its picture"),
            ("Programs", distinct, "distinct questions about a picture"),
            ("Pictures asked about", asked, f"of {whole:,}; {each:,} questions each (median)"),
            ("Templates", used, f"in {len(report.families())} of {len(FAMILIES)} families"),
            ("Bias gate", gate, note),
        ]
    )


def _facts(report: SetReport) -> Html:
    samples, programs, manifest = report.samples(), report.programs(), report.store.manifest
    rows: list[list[Cell]] = [
        [s, report.pictures.get(s), samples.get(s, 0), programs.get(s, 0)]
        for s in SAMPLE_SPLITS
        if s in samples or s in report.pictures
    ]
    said = "Pictures are divided once, with the catalogue; compositional and paraphrase are about pictures of test."
    head, entailed = ["split", "pictures", "samples", "programs"], manifest.counts.get("entailed")
    if isinstance(entailed, dict) and entailed:
        head, rows = [*head, "entailed"], [[*row, entailed.get(row[0])] for row in rows]
    splits = table(head, rows, said)
    facts: list[list[Cell]] = [
        ["made by", manifest.made_by],
        ["made at", str(manifest.provenance.get("time", "not stated"))],
        ["seed", str(manifest.params.get("seed", "not stated"))],
        ["set hash", _mono(report.content)],
    ]
    facts += [[f"{key} hash", _mono(value)] for key, value in manifest.inputs.items()]
    facts += [[key, _said(manifest.about[key])] for key in ("source", "licence", "notes") if manifest.about.get(key)]
    rest = {"about": manifest.about, **manifest.params}
    settings: list[list[Cell]] = [[key, _said(value)] for key, value in sorted(_flat(rest))]
    origin = table(["fact", "value"], facts)
    more = folded("All settings of the run", table(["setting", "value"], settings))
    left, right = f"<h3>Splits</h3>{splits}", f"<h3>Where it comes from</h3>{origin}{more}"
    return Html(f'<div class="pair"><div>{left}</div><div>{right}</div></div>')


def _mono(text: str) -> Html:
    return Html(f'<span class="mono">{escape(text)}</span>')


def _flat(params: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted name, value)."""
    found: list[tuple[str, Any]] = []
    for key, value in params.items():
        inner = isinstance(value, dict) and value
        found += _flat(value, f"{before}{key}.") if inner else [(f"{before}{key}", value)]
    return found


def _said(value: Any) -> str:
    """A setting in words."""
    if value is None or value == [] or value == {}:
        return "none"
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def _families(report: SetReport) -> Html:
    split, templates = report.counts.split, report.store.pack.templates
    used = [n for n, name in enumerate(SAMPLE_SPLITS) if split[n].any()]
    names = [SAMPLE_SPLITS[n] for n in used]
    families = [
        Bar(family, tuple(split[used][:, mine].sum(axis=1).tolist()), ASKS.get(family, ""))
        for family, mine in report.families().items()
    ]
    rows = [
        Bar(Html(f'{escape(t.id)}<br><code class="note">{escape(t.program.text())}</code>'), tuple(counts))
        for t, counts in zip(templates, split[used].T.tolist(), strict=True)
        if any(counts)
    ]
    missing = [f for f in FAMILIES if f not in report.families()]
    note = f"<p class='say'>Not in this set: {', '.join(missing)}.</p>" if missing else ""
    every = folded(f"All {len(rows)} templates", bars("template", rows, names, "Samples by template"))
    return Html(legend(names) + bars("family", families, names, "Samples by family") + note + every)


def _answers(report: SetReport) -> Html:
    answer, templates = report.counts.answer, report.store.pack.templates
    binary = np.array([counts.any() and not _others(counts).any() for counts in answer])
    families = report.families().items()
    parts = []
    if binary.any():
        head = ["family", Html("share of yes"), "yes", "no", "yes in 100"]
        rows = [_balance(f, answer[mine & binary].sum(axis=0)) for f, mine in families if (mine & binary).any()]
        parts += ["<h3>Yes and no</h3>", table(head, rows, "The tick is at one half", 1, (4,))]
        rows = [_balance(templates[n].id, answer[n]) for n in np.flatnonzero(binary).tolist()]
        parts.append(folded(f"By template ({len(rows)})", table(["template", *head[1:]], rows, "", 1, (4,))))
    opened = [(family, _others(answer[mine].sum(axis=0))) for family, mine in families]
    if any(counts.any() for _, counts in opened):
        plots = "".join(_top(report, family, counts) for family, counts in opened if counts.any())
        parts.append(f'<h3>Open answers</h3><div class="many wide">{plots}</div>')
    return Html("".join(parts))


def _others(counts: Array) -> Array:
    """(vocabulary,) counts without yes and no."""
    rest = counts.copy()
    rest[[YES, NO]] = 0
    return rest


def _balance(name: str, counts: Array) -> list[Cell]:
    """A row with the share of yes."""
    yes, no = int(counts[YES]), int(counts[NO])
    share = yes / max(yes + no, 1)
    return [name, against(share, 0.5, 1.0), yes, no, f"{100 * share:.1f}"]


def _top(report: SetReport, family: str, counts: Array) -> str:
    """The most frequent open answers of a family."""
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    texts = report.store.vocab.text
    rows = [Bar(texts[n], (int(counts[n]),)) for n in order[:TOP].tolist()]
    rest = counts[order[TOP:]]
    left = f'<p class="note">and {int(rest.sum()):,} samples with {len(rest):,} other answers</p>' if len(rest) else ""
    title = f"{family}: {ASKS.get(family, '')}, {len(order):,} answers"
    return f"<div>{bars('answer', rows, ['samples'], title)}{left}</div>"


def _difficulty(report: SetReport) -> Html:
    level = report.counts.level
    plots: list[str] = []
    rows: list[list[Cell]] = []
    for family, mine in report.families().items():
        counts = level[mine].sum(axis=0)
        low, median, high = (_quantile(counts, q) for q in (0.05, 0.5, 0.95))
        number = np.linspace(-LIMIT, LIMIT, LEVELS)
        mean = float((counts * number).sum() / counts.sum())
        plots.append(histogram(family, _binned(counts), -LIMIT, LIMIT, (-4, -2, 0, 2, 4), f"median {_signed(median)}"))
        rows.append([family, int(counts.sum()), *(_signed(v) for v in (mean, low, median, high))])
    figures = table(
        ["family", "samples", "mean", "5%", "median", "95%"], rows, "Difficulty by family", right=range(2, 6)
    )
    return Html(f'<div class="many">{"".join(plots)}</div>{folded("As a table", figures)}')


def _signed(number: float) -> str:
    return f"{number:+.2f}" if abs(number) >= 0.005 else "0"


def _quantile(counts: Array, share: float) -> float:
    """The difficulty below or at which this share of the samples lies."""
    total = np.cumsum(counts)
    return float(np.linspace(-LIMIT, LIMIT, LEVELS)[np.searchsorted(total, share * total[-1])])


def _binned(counts: Array) -> Array:
    """(BINS,) counts of equal parts of the scale; the last level belongs to the last bin."""
    bins = np.minimum(np.arange(LEVELS) * BINS // (LEVELS - 1), BINS - 1)
    found: Array = np.bincount(bins, weights=counts, minlength=BINS).astype(np.int64)
    return found


def _rejects(report: SetReport) -> Html:
    refused = [r for r in report.rejects if r["count"]]
    absent = [r for r in report.rejects if not r["count"]]
    parts: list[str] = []
    if refused:
        totals: dict[str, int] = {}
        for r in refused:
            totals[r["reason"]] = totals.get(r["reason"], 0) + r["count"]
        ordered = sorted(totals.items(), key=lambda entry: -entry[1])
        parts.append(bars("reason", [Bar(reason, (n,)) for reason, n in ordered], ["refused"], "Refused, by reason"))
        rows = [Bar(r["template"], (r["count"],), r["reason"]) for r in refused]
        parts.append(folded("By template and reason", bars("template", rows, ["refused"], "Refused, by template")))
    if absent:
        cells: list[list[Cell]] = [[r["template"], r["family"], r["reason"]] for r in absent]
        made = table(["template", "family", "why"], cells)
        parts.append(folded(f"Templates that are not in the set ({len(absent)})", made))
    return Html("".join(parts)) if parts else banner("The set has no table of what was refused.")
