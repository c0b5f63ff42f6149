"""Verdicts of people on the sheet of a report, read back: how many of the questions are wrong, at most.

    checked.csv or .json ──► rows, of this set and this sheet ──► right, wrong, cannot tell by family ──► upper bounds

The bound is that of Clopper and Pearson (Biometrika 26, 1934), exact for the binomial distribution: the largest share
of wrong questions at which as few as were found, or fewer, would still turn up in one sheet of twenty. The sheet holds
a like number of every family, so it bounds the share in which every family counts the same; for such a stratified
sample the bound errs on the safe side (Hoeffding, Annals of Mathematical Statistics 27, 1956).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fashionkit.report.sheet import MAX_COMMENT, VERDICTS
from fashionkit.tables import InputError

LEVEL = 0.95
_COLUMNS = ("set", "qid", "verdict", "comment")
_MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class Judgement:
    """A person's verdict on one sample; `verdict` is a key of `VERDICTS`, or empty where there is only a comment."""

    qid: int
    verdict: str
    comment: str = ""


@dataclass(frozen=True)
class Tally:
    """How many were judged right, wrong, and undecidable."""

    right: int
    wrong: int
    cannot_tell: int

    @property
    def judged(self) -> int:
        """How many have a verdict."""
        return self.right + self.wrong + self.cannot_tell

    @property
    def bound(self) -> float:
        """The share of errors is at most this, of questions that can be told; 1 where nothing was told."""
        return upper_bound(self.wrong, self.right + self.wrong)

    @property
    def worst(self) -> float:
        """The same where whatever nobody can tell counts as an error, too."""
        return upper_bound(self.wrong + self.cannot_tell, self.judged)

    def to_dict(self) -> dict[str, Any]:
        """Figures for `--json`."""
        return {
            "right": self.right,
            "wrong": self.wrong,
            "cannot_tell": self.cannot_tell,
            "errors_at_most": self.bound,
            "errors_at_most_with_cannot_tell": self.worst,
            "level": LEVEL,
        }


def upper_bound(wrong: int, judged: int, level: float = LEVEL) -> float:
    """The one-sided exact upper bound of Clopper and Pearson for a share.

    Args:
        wrong, judged: `wrong` of `judged` were found. level: Confidence, between 0 and 1.

    Returns:
        The share at which `wrong` or fewer are found with probability 1 - `level`; 1 where all (or none of none) are.
    """
    if not 0 <= wrong <= judged or not 0 < level < 1:
        raise ValueError(f"no share: {wrong} of {judged} at level {level}")
    if wrong == judged:
        return 1.0
    low, high = wrong / judged, 1.0
    for _ in range(60):  # halves the range to less than the spacing of doubles
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(wrong, judged, middle) > 1 - level else (low, middle)
    return high


def _at_most(wrong: int, judged: int, share: float) -> float:
    """Probability of `wrong` or fewer among `judged`, each with probability `share` (above 0, below 1)."""
    if share >= 1.0:
        return 0.0
    log, other = math.log(share), math.log1p(-share)
    choose = (math.lgamma(judged + 1) - math.lgamma(k + 1) - math.lgamma(judged - k + 1) for k in range(wrong + 1))
    return math.fsum(math.exp(c + k * log + (judged - k) * other) for k, c in enumerate(choose))


def tally(judgements: Iterable[Judgement]) -> Tally:
    """Counts verdicts; a comment alone is none."""
    given = [j.verdict for j in judgements]
    return Tally(*(given.count(name) for name in VERDICTS))


def by_family(judgements: Sequence[Judgement], family: dict[int, str]) -> dict[str, Tally]:
    """Family → its tally; `family` is that of each `qid`."""
    names = dict.fromkeys(family.values())
    return {name: tally(j for j in judgements if family[j.qid] == name) for name in names}


def read_verdicts(path: str | Path, content: str, sheet: Iterable[int]) -> list[Judgement]:
    """Reads an export of the sheet.

    Args:
        path: CSV or JSON as the page writes it. content: Content hash of the set. sheet: `qid`s of the sheet.

    Raises:
        InputError: Not such a file, of another set or sheet, an unknown verdict, or a sample that stands twice.
    """
    path, known = Path(path), set(sheet)
    if not path.is_file():
        raise InputError("no such file", file=path, hint="the page's buttons `Export CSV` and `Export JSON` write one")
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"an export has at most {_MAX_BYTES:,} bytes", file=path, found=path.stat().st_size)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the file is not UTF-8 text: {error.reason}", file=path) from error
    rows = _json_rows(path, text) if text.lstrip().startswith(("{", "[")) else _csv_rows(path, text)
    found: dict[int, Judgement] = {}
    for number, row in rows:
        judgement = _judgement(path, number, row, content, known)
        if judgement.qid in found:
            raise InputError("a sample is judged twice", file=path, row=number, column="qid", found=judgement.qid)
        found[judgement.qid] = judgement
    return list(found.values())


def _csv_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """(line, row) of a CSV; spreadsheets of some countries write semicolons."""
    separator = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey="…", strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"the file is not CSV: {error}", file=path, row=reader.line_num) from error
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError("a column is missing", file=path, row=1, found=", ".join(missing), allowed=_COLUMNS)
    for number, row in rows:
        if "…" in row or None in row.values():
            raise InputError(f"a row has {len(_COLUMNS)} cells", file=path, row=number)
    return rows


def _json_rows(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    """(number, row) of a JSON export."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the file is not JSON: {error}", file=path) from error
    rows = data.get("verdicts") if isinstance(data, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError("`set` and a list `verdicts` are needed", file=path)
    return [(number, {"set": data.get("set"), **row}) for number, row in enumerate(rows, 1)]


def _judgement(path: Path, number: int, row: dict[str, Any], content: str, known: set[int]) -> Judgement:
    """One row, checked."""

    def fail(problem: str, column: str, **more: Any) -> InputError:
        return InputError(problem, file=path, row=number, column=column, found=row.get(column), **more)

    if row.get("set") != content:
        hint = "give the verdicts of a page that was made from this set"
        raise fail("the verdicts belong to another question set, or to another state of it", "set", hint=hint)
    qid, verdict, comment = (row.get(name) for name in _COLUMNS[1:])
    if isinstance(qid, str) and qid.strip().isascii() and qid.strip().isdigit() and len(qid) < 20:
        qid = int(qid)
    if type(qid) is not int:
        raise fail("a whole number is needed", "qid")
    if qid not in known:
        hint = "give the --seed and --sheet with which the page was made"
        raise fail("the sample is not on the sheet", "qid", hint=hint)
    if not isinstance(verdict, str) or (verdict and verdict not in VERDICTS):
        raise fail("no such verdict", "verdict", allowed=VERDICTS)
    if not isinstance(comment, str) or len(comment) > MAX_COMMENT:
        raise fail(f"a comment is text of at most {MAX_COMMENT} letters", "comment")
    return Judgement(qid, verdict, comment)
