"""Measures for a model's card: from what a run of training wrote about itself, or from any JSON file of measures.

<run>/attributes_test.json, test.json ──┐
<run>/result.json: the best of val ─────┴─► rows: split, attribute, n, accuracy, macro F1, ECE
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionkit.models.model_card import Metrics
from fashionkit.tables import InputError

TEST, EACH, RESULT = "test.json", "attributes_test.json", "result.json"  # files of a run
BEST = "best.ckpt"
WORDS = {"f1": "F1", "ece": "ECE"}
HINT = 'e.g. {"accuracy": 0.71} or [{"split": "test", "accuracy": 0.71}]'
Row = dict[str, object]


def measures_of_run(checkpoint: Path) -> tuple[list[Row], list[str]]:
    """Rows for the card of a checkpoint's model, and which files of its run they are from.

    Test measures count where they are of this very checkpoint: of its name, and not older than it.

    Raises:
        InputError: A file is damaged.
    """
    run = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    rows: list[Row] = []
    used: list[str] = []
    if _is_of(run / TEST, checkpoint):
        mean, used = as_rows(_read(run / TEST)), [TEST]
        if _newer(run / EACH, checkpoint):
            each, used = as_rows(_read(run / EACH)), [EACH, TEST]
            rows += [{"split": "test", **row} for row in each]
            mean = [{"split": row.get("split", "test"), "attribute": "mean", **row} for row in mean]
        rows += mean
    if checkpoint.name == BEST and _newer(run / RESULT, None):
        best = as_rows(_read(run / RESULT))
        rows += [{**row, "attribute": "mean"} if EACH in used else row for row in best]
        used += [RESULT] * bool(best)
    return rows, used


def read_measures(path: str | Path) -> Metrics:
    """Measures of a JSON file, ready for the card.

    Raises:
        InputError: It is no JSON, or neither a mapping nor a list of rows.
    """
    found = _read(Path(path))
    rows = as_rows(found)
    if rows and all(set(row) == {"measure", "value"} for row in rows):
        return {str(row["measure"]): row["value"] for row in rows}  # type: ignore[misc]
    return rows


def as_rows(found: Any) -> list[Row]:
    """Rows of what a run or a command wrote: a list of rows, a mapping of `split/name`, or of name → number.

    Bounds `x_low`, `x_high` go into one cell; names of checkpoints and what is no number or text are left out.
    """
    if isinstance(found, list):
        return [_row(row) for row in found]
    if {"monitor", "best"} <= set(found):  # a run's result
        split, _, name = str(found["monitor"]).rpartition("/")
        return [] if found["best"] is None else [{"split": split or "val", _words(name): found["best"]}]
    flat = dict(_flat(found))
    split_of = {key: key.partition("/")[0] for key in flat if "/" in key}
    rows: dict[str, Row] = {split: {"split": split} for split in split_of.values()}
    for key, split in split_of.items():
        rows[split][_words(key.removeprefix(f"{split}/"))] = flat[key]
    single = {key: value for key, value in flat.items() if key not in split_of}
    if not rows:
        return [{"measure": _words(key), "value": value} for key, value in single.items()]
    return [*rows.values(), *([{_words(key): value for key, value in single.items()}] if single else [])]


def _row(found: Mapping[str, Any]) -> Row:
    kept: Row = {}
    for key, value in found.items():
        of, _, end = key.rpartition("_")
        if key == "checkpoint" or isinstance(value, Mapping | list) or (end in ("low", "high") and of in found):
            continue
        kept[_words(key)] = value
        if f"{key}_low" in found and f"{key}_high" in found:
            low, high = found[f"{key}_low"], found[f"{key}_high"]
            kept[f"{_words(key)} 95 %"] = None if low is None or high is None else f"{low:.2f}–{high:.2f}"
    return kept


def _flat(found: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Numbers and texts of nested mappings, by names joined with `/`."""
    flat: list[tuple[str, Any]] = []
    for key, value in found.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float | str) and key != "checkpoint":
            flat.append((f"{prefix}{key}", value))
    return flat


def _words(name: str) -> str:
    return " ".join(WORDS.get(word, word) for word in name.split("_"))


def _is_of(file: Path, checkpoint: Path) -> bool:
    """Whether measures are those of this checkpoint."""
    return _newer(file, checkpoint) and _read(file).get("checkpoint") == checkpoint.name


def _newer(file: Path, checkpoint: Path | None) -> bool:
    return file.is_file() and (checkpoint is None or file.stat().st_mtime >= checkpoint.stat().st_mtime)


def _read(path: Path) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"the measures cannot be read: {error}", file=path, hint=HINT) from error
    if isinstance(found, dict) or (isinstance(found, list) and all(isinstance(row, dict) for row in found)):
        return found
    raise InputError("measures are a mapping, or a list of rows", file=path, hint=HINT)
