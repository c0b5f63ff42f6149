"""The bias gate as a whole: every check on one question set, its verdicts, and the file that keeps them.

    set ─┬─► counts of all samples ─► majority, association, option-position, missing-answers
         ├─► questions run again on the catalogue ─► unknown
         ├─► texts ─► what the words give away          all verdicts ─► PATH/audit.json, passed or not
         ├─► pictures and groups ─► what leaks between splits
         └─► question-only models ─► what can be known without looking

The order is from cheap to dear. The models come last: they load torch, and no process is forked after that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fashionkit.datagen.audit.balance_checks import balance_checks
from fashionkit.datagen.audit.counts import count
from fashionkit.datagen.audit.leaks import leak_checks
from fashionkit.datagen.audit.options import LIMITS, AuditOptions
from fashionkit.datagen.audit.rerun import rerun_checks
from fashionkit.datagen.audit.texts import text_checks
from fashionkit.datagen.audit.verdicts import Verdict, verdict_lines
from fashionkit.datagen.spec import load_spec
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import AUDIT, InputError, write_text

Say = Callable[[str], None]


@dataclass(frozen=True)
class Audit:
    """What the gate found.

    Attributes:
        path: The set. set: Its content hash. options: The thresholds. verdicts: All findings.
    """

    path: str
    set: str
    options: AuditOptions
    verdicts: list[Verdict]

    @property
    def passed(self) -> bool:
        """Whether no check failed; checks that were left out (`left_out`) fail nothing."""
        return not any(v.verdict == "fail" for v in self.verdicts)

    @property
    def left_out(self) -> list[str]:
        """Names of checks of which at least a part was left out."""
        return list(dict.fromkeys(v.check for v in self.verdicts if v.verdict == "skip"))

    def to_dict(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        return {
            "set": self.set,
            "passed": self.passed,
            "left_out": self.left_out,
            "loosened": self.options.loosened(),
            "options": asdict(self.options),
            "verdicts": [v.to_dict() for v in self.verdicts],
        }

    def lines(self, everything: bool = False) -> list[str]:
        """The findings as text."""
        failed = sum(v.verdict == "fail" for v in self.verdicts)
        found = verdict_lines(self.verdicts, everything)
        if self.options.loosened():
            found.append(f"thresholds looser than the usual ones: {', '.join(self.options.loosened())}")
        result = "passed" if self.passed else f"failed: {failed} of {len(self.verdicts)} verdicts"
        part = f"; left out, at least in part: {', '.join(self.left_out)}" if self.left_out else ""
        return [*found, f"{self.path}: {result}{part}"]


def audit(
    path: str | Path,
    catalog: str | Path | None = None,
    spec: str | None = None,
    blind: bool = True,
    workers: int = 2,
    seed: int = 0,
    say: Say = lambda line: None,
) -> Audit:
    """Runs the gate on a question set and writes its `audit.json`.

    Args:
        path: The set.
        catalog: The catalogue it was made from; without it what needs one is left out.
        spec: Recipe name or path whose thresholds count in place of those saved in the set.
        blind: Whether question-only models are trained.
        workers: Processes of the exact checks.
        seed: Of the models' samples and first weights.
        say: Gets a line about each step.

    Raises:
        InputError: Not a question set, damaged, or made from another catalogue.
    """
    store = VQAStore(path)
    options = saved_options(store) if spec is None else load_spec(spec).audit
    if not len(store):
        raise InputError("the question set holds no samples", file=path)
    facts, counts = count(store, workers)
    verdicts = balance_checks(store, facts, counts, options)
    say(f"counted {len(store):,} samples")
    verdicts += rerun_checks(store, catalog, workers)
    verdicts += text_checks(store, options, workers, say)
    verdicts += leak_checks(store, catalog, options, say, workers)
    verdicts += (
        _blind(store, options, seed, say) if blind else [Verdict("blind", "all families", "skip", note=LEFT_OUT)]
    )
    found = Audit(str(path), store.manifest.content_hash(), options, verdicts)
    write_text(Path(path) / AUDIT, json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return found


LEFT_OUT = "question-only models were left out (--no-blind)"


def _blind(store: VQAStore, options: AuditOptions, seed: int, say: Say) -> list[Verdict]:
    from fashionkit.datagen.audit.blind import blind_checks  # loads torch

    return blind_checks(store, options, seed, say)


def saved_options(store: VQAStore) -> AuditOptions:
    """The thresholds that a set's spec gave it; the usual ones for sets that name none.

    Raises:
        InputError: The manifest names a setting that does not exist, or an impossible value.
    """
    saved = store.manifest.params.get("audit", {})
    place: dict[str, Any] = {"file": store.path / "manifest.json", "column": "params.audit"}
    if not isinstance(saved, dict):
        raise InputError("a mapping is needed here", found=saved, **place)
    names = [f.name for f in fields(AuditOptions)]
    for name, value in saved.items():
        if name not in names:
            raise InputError("no such threshold", found=name, allowed=names, **place)
        low, high = LIMITS[name]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise InputError(f"{name} must be a number from {low:g} to {high:g}", found=value, **place)
    return AuditOptions(**saved)
