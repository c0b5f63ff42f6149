"""A sheet to be checked by hand: cards with a verdict and a comment each, kept in the browser, exported as a file.

    cards ──► sheet (markup) + SCRIPT ──► a person ticks ──► localStorage ──► export: CSV or JSON ──► read back

Without the script the cards can be read and ticked, but nothing is kept or exported. The script reads what it needs
from `data-` attributes, and never writes markup. Each verdict is kept under a key of its own, so that two windows with
the same page do not overwrite each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fashionkit.report.html import Html, escape
from fashionkit.report.sheet_script import SCRIPT as SCRIPT
from fashionkit.report.sheet_script import STYLE as STYLE

VERDICTS = {"right": "right", "wrong": "wrong", "cannot_tell": "cannot tell"}
MAX_COMMENT = 500


@dataclass(frozen=True)
class Check:
    """One thing to be checked.

    Attributes:
        id: A whole number, unique on the sheet. body: What is to be judged.
        verdict: A key of `VERDICTS`, or empty: not judged yet. comment: In a person's words.
    """

    id: str
    body: Html
    verdict: str = ""
    comment: str = ""


def sheet(checks: Sequence[Check], content: str, id_name: str, file_name: str) -> Html:
    """The sheet: a bar with the count and the export, and the cards. A page holds one at most.

    Args:
        checks: In order. content: Hash of what is checked; kept verdicts and exports belong to it.
        id_name: Column of the ids in an export. file_name: Of an export, without its ending.
    """
    cards = "".join(_card(check, number, len(checks)) for number, check in enumerate(checks, 1))
    return Html(
        f'<div id="sheet" class="sheet" data-content="{escape(content)}" data-id-name="{escape(id_name)}" '
        f'data-file="{escape(file_name)}">{_bar(len(checks))}'
        '<noscript><p class="banner stale">This browser runs no script here: verdicts are neither kept nor exported.'
        f'</p></noscript><div class="cards checks">{cards}</div></div>'
    )


_KEYS = {
    "1": "right",
    "2": "wrong",
    "3": "cannot tell",
    "j": "next",
    "k": "previous",
    "u": "next without verdict",
    "c": "comment",
    "m": "regions",
}


def _bar(count: int) -> str:
    keys = "".join(f"<li><kbd>{key}</kbd> {what}</li>" for key, what in _KEYS.items())
    return (
        '<div class="checkbar noprint"><div class="progress"><progress id="sheet-bar" value="0" '
        f'max="{count}" aria-label="judged"></progress><output id="sheet-count">0 of {count} judged</output></div>'
        '<div class="buttons"><button type="button" id="sheet-next" class="main">Next without verdict</button>'
        '<label class="box"><input type="checkbox" id="sheet-marks" autocomplete="off"> show regions</label>'
        '<button type="button" id="sheet-csv">Export CSV</button>'
        '<button type="button" id="sheet-json">Export JSON</button>'
        '<button type="button" id="sheet-clear">Clear</button></div><p id="sheet-note" class="say" role="status"></p>'
        f'<ul class="keys" aria-label="Keys on a card">{keys}</ul></div>'
    )


def _card(check: Check, number: int, count: int) -> str:
    name = escape(check.id)
    radios = "".join(
        f'<label class="v-{key}"><input type="radio" name="verdict-{name}" value="{key}" autocomplete="off"'
        f"{' checked' if key == check.verdict else ''}><span>{text}</span></label>"
        for key, text in VERDICTS.items()
    )
    return (
        f'<article class="card check" tabindex="-1" data-id="{name}" aria-label="{number} of {count}">'
        f'<p class="place"><span>{number} of {count}</span></p>{check.body}<div class="judge">'
        f'<fieldset><legend class="hidden">Verdict on number {number}</legend>{radios}</fieldset>'
        f'<input type="text" class="comment" maxlength="{MAX_COMMENT}" autocomplete="off" placeholder="comment" '
        f'aria-label="Comment on number {number}" value="{escape(check.comment)}"></div></article>'
    )
