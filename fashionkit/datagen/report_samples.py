"""The parts of a report that people look at one by one: samples with pictures, the sheet, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fashionkit.datagen.report import SetReport
from fashionkit.datagen.report_regions import Seen
from fashionkit.datagen.report_verdicts import Judgement, Tally, by_family, tally
from fashionkit.report.html import Html, escape
from fashionkit.report.parts import Cell, badge, banner, folded, table
from fashionkit.report.pictures import keys, no_picture, picture
from fashionkit.report.sheet import VERDICTS, Check, sheet

GOOD = 0.05  # a bound on the share of errors that is shown in green

Pictures = Mapping[int, Seen] | None


def samples_part(report: SetReport, seen: Pictures) -> Html:
    """Cards of samples with pictures, regions, programs."""
    cards = "".join(_card(row, seen) for row in report.shown)
    marked = seen is None or any(r.box is not None for row in report.shown for r in seen[row["qid"]].regions)
    note = "" if marked else banner("The catalogue keeps no boxes or masks of these items, so no region is drawn.")
    return Html(f'{note}<div class="cards">{cards}</div>')


def _card(row: Mapping[str, Any], seen: Pictures) -> str:
    told = [row["template"], row["split"], f"difficulty {row['difficulty']:+.2f}"]
    if not row["template"].startswith(row["family"]):
        told.insert(0, row["family"])
    return (
        f'<article class="card">{_looked(row, seen)}<div class="tags">{"".join(map(badge, told))}</div>{_asked(row)}'
        f"<code>{escape(row['program'])}</code>"
        f'<p class="note mono">qid {row["qid"]}, picture {escape(row["image_id"])}</p></article>'
    )


def sheet_part(report: SetReport, seen: Pictures, judgements: Sequence[Judgement]) -> Html:
    """The sheet; verdicts that were read back are on it."""
    given = {j.qid: j for j in judgements}
    checks = []
    for row in report.checked:
        j = given.get(row["qid"], Judgement(row["qid"], ""))
        name = f'<p class="note mono">{escape(row["template"])}, qid {row["qid"]}</p>'
        checks.append(Check(str(row["qid"]), Html(f"{_looked(row, seen)}{_asked(row)}{name}"), j.verdict, j.comment))
    warning = "" if seen is not None else banner(_WITHOUT, "stale")
    return Html(warning + sheet(checks, report.content, "qid", f"checked-{report.content[:8]}"))


_WITHOUT = "There are no pictures on this page, so nothing can be judged: make it again with --catalog."


def _asked(row: Mapping[str, Any]) -> str:
    return f'<p class="q">{escape(row["question"])}</p><p class="a">Answer: <b>{escape(row["answer"])}</b></p>'


def _looked(row: Mapping[str, Any], seen: Pictures) -> str:
    """The picture with its regions, and what the colours are."""
    if seen is None:
        return no_picture("made without a catalogue")
    found = seen[row["qid"]]
    if found.jpeg is None:
        return no_picture(found.why)
    drawn = [region for region in found.regions if region.box is not None]
    alt = f"picture {row['image_id']}"
    return picture(found.jpeg, found.width, found.height, alt, drawn) + keys(drawn)


def checked_part(report: SetReport, judgements: Sequence[Judgement], source: str) -> Html:
    """What people found: the bound, by family, and each fault."""
    told = tally(judgements)
    rows = by_family(judgements, {row["qid"]: row["family"] for row in report.checked})
    cells: list[list[Cell]] = [
        [family, t.right, t.wrong, t.cannot_tell, f"{t.bound:.1%}", f"{t.worst:.1%}"]
        for family, t in rows.items()
        if t.judged
    ]
    head = ["family", "right", "wrong", "cannot tell", "wrong at most", "with cannot tell"]
    line = banner(checked_line(told, len(report.checked), source), "pass" if told.bound <= GOOD else "")
    bounds = table(head, cells, "Upper bounds at 95% confidence, each family by itself", right=(4, 5))
    return Html(line + bounds + _faults(report, judgements))


def _faults(report: SetReport, judgements: Sequence[Judgement]) -> Html:
    """What was not simply right, in words."""
    known = {row["qid"]: row for row in report.checked}
    faults: list[list[Cell]] = []
    for j in judgements:
        if j.verdict != "right" or j.comment:
            row, verdict = known[j.qid], VERDICTS.get(j.verdict, "no verdict")
            faults.append([f"{row['template']}, qid {j.qid}", verdict, row["question"], row["answer"], j.comment])
    if not faults:
        return Html("")
    made = table(["sample", "verdict", "question", "answer", "comment"], faults)
    return folded(f"{len(faults)} with a fault or a comment", made, opened=len(faults) < 20)


def checked_line(told: Tally, size: int, source: str = "") -> str:
    """What the verdicts say, for page and terminal.

    Args:
        told: All verdicts. size: Samples on the sheet. source: Name of the file.
    """
    by = f" ({source})" if source else ""
    return (
        f"Checked by hand{by}: {told.judged:,} of {size:,} judged, {told.right:,} right, {told.wrong:,} wrong, "
        f"{told.cannot_tell:,} cannot tell. With 95% confidence at most {told.bound:.1%} of the questions are wrong, "
        f"every family counting the same; at most {told.worst:.1%} if those that nobody can tell are wrong, too."
    )
