"""The verdicts of the bias gate on the page: `audit.json` of the set, read, checked, and told.

PATH/audit.json ──► AuditFile ──► a line that says how it ended, a table a check with each value against its limit
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.report.html import Html, escape
from fashionkit.report.parts import Cell, badge, banner, folded, table
from fashionkit.report.plots import HIDDEN, against
from fashionkit.tables import InputError

AUDIT = "audit.json"
MOST = 30  # verdicts of a check that are listed; failures always are
_ORDER = ("fail", "skip", "pass", "info")
_NUMBERS = ("value", "threshold", "low", "high")


@dataclass(frozen=True)
class AuditFile:
    """What `audit.json` says.

    Attributes:
        content: Content hash of the set it judged. passed: Whether no check failed. verdicts: All.
        notes: What was left out, and which thresholds were looser than the usual ones.
    """

    content: str
    passed: bool
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()


def read_audit(folder: Path) -> AuditFile | None:
    """The audit of a set, or None where there is none.

    Raises:
        InputError: The file is damaged.
    """
    path = folder / AUDIT
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"it is not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("set"), str) or type(data.get("passed")) is not bool:
        raise _damaged(path, "`set` or `passed` is missing")
    rows = data.get("verdicts")
    if not isinstance(rows, list):
        raise _damaged(path, "`verdicts` is no list")
    notes = [
        f"{told}: {', '.join(map(str, data[key]))}"
        for key, told in (("left_out", "Left out, at least in part"), ("loosened", "Looser than the usual thresholds"))
        if isinstance(data.get(key), list) and data[key]
    ]
    verdicts = tuple(_verdict(path, number, row) for number, row in enumerate(rows, 1))
    return AuditFile(data["set"], data["passed"], verdicts, tuple(notes))


def _damaged(path: Path, why: str, row: int | None = None) -> InputError:
    hint = "run `fashionkit datagen audit` on the set again, or remove the file"
    return InputError(f"the audit is damaged: {why}", file=path, row=row, hint=hint)


def _verdict(path: Path, number: int, row: Any) -> Verdict:
    names = {f.name for f in fields(Verdict)}
    if not isinstance(row, dict) or not {"check", "scope", "verdict"} <= set(row):
        raise _damaged(path, "a verdict lacks `check`, `scope` or `verdict`", number)
    if row["verdict"] not in _ORDER:
        raise _damaged(path, f"no such verdict: {row['verdict']!r}", number)
    for name in _NUMBERS:
        if row.get(name) is not None and (isinstance(row[name], bool) or not isinstance(row[name], int | float)):
            raise _damaged(path, f"`{name}` is no number", number)
    if type(row.get("n", 0)) is not int or not all(isinstance(row.get(k, ""), str) for k in ("check", "scope", "note")):
        raise _damaged(path, "a verdict has a field of another type", number)
    return Verdict(**{name: row[name] for name in names if name in row})


def audit_part(audit: AuditFile | None, content: str, command: str) -> Html:
    """The markup.

    Args:
        audit: As read. content: Content hash of the set. command: That makes or renews the audit.
    """
    how = Html(f"<code>{escape(command)}</code>")
    if audit is None:
        return banner(Html(f"This set has not been audited. The bias gate is run by {how}"), "stale")
    stale = audit.content != content
    parts = []
    if stale:
        text = f"Stale: this audit judged another state of the set (content hash {audit.content[:16]}…). Renew it by "
        parts.append(banner(Html(escape(text) + how), "stale"))
    ended = "passed" if audit.passed else "failed"
    kind = "stale" if stale else "pass" if audit.passed else "fail"
    parts.append(banner(f"The bias gate {ended}: {_told(audit.verdicts) or 'no verdicts'}.", kind))
    parts += [Html(f'<p class="say">{escape(note)}</p>') for note in audit.notes]
    checks = dict.fromkeys(v.check for v in audit.verdicts)
    return Html("".join([*parts, *(_check(name, [v for v in audit.verdicts if v.check == name]) for name in checks)]))


def _told(verdicts: Sequence[Verdict]) -> str:
    """How many verdicts there are of each kind."""
    words = {"fail": "failed", "pass": "passed", "skip": "left out", "info": "for information"}
    counts = {word: sum(v.verdict == kind for v in verdicts) for kind, word in words.items()}
    return ", ".join(f"{n:,} {word}" for word, n in counts.items() if n)


_HEAD = ("what", "verdict", HIDDEN, "value", "at most", "95% interval", "n")


def _check(name: str, verdicts: Sequence[Verdict]) -> Html:
    """A check, folded unless it failed; failures first, then what came nearest to its limit."""
    worst = next(kind for kind in _ORDER if any(v.verdict == kind for v in verdicts))
    ordered = sorted(verdicts, key=lambda v: (_ORDER.index(v.verdict), -_strain(v)))
    failed = sum(v.verdict == "fail" for v in verdicts)
    listed = ordered[: max(MOST, failed)]
    drawn = [x for v in listed for x in (v.value, v.threshold, v.high) if x is not None and math.isfinite(x)]
    rows = [_row(v, max(drawn, default=1.0)) for v in listed]
    made = table(_HEAD, rows, plot=2, right=range(3, 7))
    rest = len(ordered) - len(listed)
    left = f'<p class="note">{rest:,} more are in {AUDIT}.</p>' if rest else ""
    summary = Html(f'{badge(worst, worst)} {escape(name)} <span class="note">{_told(verdicts)}</span>')
    return folded(summary, Html(made + left), opened=failed > 0)


def _strain(v: Verdict) -> float:
    """How near a value comes to its limit."""
    if v.value is None or v.threshold is None or not math.isfinite(v.value):
        return -math.inf
    return v.value - v.threshold


def _row(v: Verdict, top: float) -> list[Cell]:
    interval = (v.low, v.high) if v.low is not None and v.high is not None else None
    bar = Html("")
    if v.value is not None and math.isfinite(v.value):
        bar = against(float(v.value), v.threshold, top, interval, v.verdict == "fail")
    told = f"{_short(v.low)} – {_short(v.high)}" if interval else ""
    note = f'<br><span class="note">{escape(v.note)}</span>' if v.note else ""
    name = Html(f"{escape(v.scope)}{note}")
    return [name, badge(v.verdict, v.verdict), bar, _short(v.value), _short(v.threshold), told, v.n or None]


def _short(number: float | None) -> str:
    """Four decimals for shares; few digits for what is larger or very small."""
    if number is None:
        return ""
    return f"{number:.4f}" if 0.00005 <= abs(number) < 1 else f"{number:.4g}"
