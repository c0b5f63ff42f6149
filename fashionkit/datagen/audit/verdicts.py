"""What a check of the bias gate found: one verdict for each thing it looked at, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from fashionkit.tables import shorten


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        check: Name of the check, as in `majority`. scope: What was looked at: a template, family, slot or split.
        verdict: `fail` closes the gate; `skip` says why in `note`; `info` is for reading only.
        value: What was measured. threshold: The most that passes. low, high: 95 % interval of `value`.
        n: How many samples (or pictures, texts) it rests on. note: In words, for people.
    """

    check: str
    scope: str
    verdict: Literal["pass", "fail", "skip", "info"]
    value: float | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The verdict for `audit.json`; a number that JSON cannot hold becomes null."""
        entries = asdict(self).items()
        return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in entries}

    @property
    def over(self) -> float:
        """How far `value` is above `threshold`; minus infinity where there is none."""
        return -float("inf") if self.value is None or self.threshold is None else self.value - self.threshold


def at_most(check: str, scope: str, value: float, threshold: float, n: int, note: str = "") -> Verdict:
    """Passes where `value` is not above `threshold`."""
    verdict: Literal["pass", "fail"] = "pass" if value <= threshold else "fail"
    return Verdict(check, scope, verdict, value, threshold, n=n, note=note)


def verdict_lines(verdicts: Sequence[Verdict], everything: bool = False) -> list[str]:
    """A table: what failed, then a line a check with its worst scope; with `everything` a line a verdict instead.

    Notes are cut to a line of `NOTE` characters unless `everything` is wanted; `audit.json` has them whole.
    """
    if everything:
        rows = [_row(v.verdict, v) for v in sorted(verdicts, key=lambda v: ORDER.index(v.verdict))]
        return _aligned([HEAD, *rows])
    rows = [_row("fail", v) for v in verdicts if v.verdict == "fail"]
    checks = dict.fromkeys(v.check for v in verdicts)
    for outcome in ("fail", "pass", "skip"):
        rows += [row for check in checks for row in _summary([v for v in verdicts if v.check == check], outcome)]
    return _aligned([HEAD, *((*row[:-1], shorten(row[-1], NOTE)) for row in rows)])


NOTE = 120
ORDER = ("fail", "pass", "skip", "info")
HEAD = ("", "check", "scope", "value", "at most", "n", "")


def _summary(verdicts: list[Verdict], outcome: str) -> list[tuple[str, ...]]:
    """The line of a check of this outcome: its worst scope; for what was left out a line for each reason."""
    gated = [v for v in verdicts if v.verdict in ("pass", "fail")]
    skipped = [v for v in verdicts if v.verdict == "skip"]
    failed = sum(v.verdict == "fail" for v in gated)
    if outcome == "skip":
        return [_left_out([v for v in skipped if v.note == note]) for note in dict.fromkeys(v.note for v in skipped)]
    if not gated or outcome != ("fail" if failed else "pass"):
        return []
    worst = max(gated, key=lambda v: v.over)
    said = f"{len(gated)} scopes" + (f", {failed} fail" if failed else "")
    _, check, scope, *numbers, note = _row("", worst)
    note = "" if failed else note  # it stands above
    return [("= " + outcome, check, f"{said}; worst: {scope}" if len(gated) > 1 else scope, *numbers, note)]


def _left_out(alike: list[Verdict]) -> tuple[str, ...]:
    scope = alike[0].scope if len(alike) == 1 else f"{len(alike)} scopes: {alike[0].scope}, ..."
    return ("skip", alike[0].check, scope, "", "", "", alike[0].note)


def _row(outcome: str, v: Verdict) -> tuple[str, ...]:
    form = "{:,.0f}" if v.threshold == 0 else "{:.4f}"  # what may not occur at all is counted
    value, limit = ("" if x is None else form.format(x) for x in (v.value, v.threshold))
    if v.low is not None and v.high is not None:
        value += f" ({form.format(v.low)} to {form.format(v.high)})"
    return (outcome, v.check, v.scope, value, limit, f"{v.n:,}" if v.n else "", v.note)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Columns under each other; numbers to the right, the note as long as it is."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD) - 1)]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i in (3, 4, 5) else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return lines
