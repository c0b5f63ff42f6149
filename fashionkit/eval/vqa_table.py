"""The table of the question-answer comparison, from its finished runs.

answers of an arm's seeds ─► `vqa_measures.measure` ─► values, intervals (pictures drawn again, seeds kept)
those of the arm `against`, of the same seeds ─► the paired difference; those of the blind arm ─► the gain by looking
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashionkit.eval.runs import Run
from fashionkit.eval.tables import markdown, number, signed
from fashionkit.eval.vqa import VqaSpec, answers_of, key_of
from fashionkit.eval.vqa_human import HUMAN
from fashionkit.eval.vqa_measures import compare, measure
from fashionkit.eval.vqa_questions import ENTAILED

HEAD = ("arm", "M parameters", "MFLOP a question", "seeds")
MORE = ("not-present F1", "gain by looking", "difference on test")


def vqa_rows(spec: VqaSpec, runs: Sequence[Run], resamples: int) -> list[dict[str, Any]]:
    """A row for each arm of which a seed is finished, in the order of the spec.

    Returns:
        Rows of `arm, parameters, flops, seeds, n, against`, and figures (value, low, high): of each split that is
        judged, by its name, and `human`: accuracy, or of what follows (`entailed:…`) consistency; of `test` also
        `not_present` (F1), `gain`, `difference`, where they are known, and `families`: name → (value, low, high).
    """
    folder = Path(runs[0].folder) if runs else Path()
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        found.setdefault(run.settings["arm"], {})[run.settings["seed"]] = run
    rows = []
    for arm in (arm for arm in spec.arms if arm.name in found):
        mine = found[arm.name]
        figures = next(iter(mine.values())).figures
        row: dict[str, Any] = {"arm": arm.name, "seeds": len(mine), "n": figures["n"], "against": arm.against}
        row |= {name: figures[name] for name in ("parameters", "flops")}
        for split in _splits(spec):
            measured = measure(_folders(folder, arm.name, sorted(mine), split), (), resamples)
            row[split] = _figure(measured, "consistency" if split.startswith(ENTAILED) else "accuracy")
            if split == "test":
                row["not_present"] = _figure(measured, "not_present_f1")
                row["families"] = {each["name"]: _values(each) for each in measured["families"]}
        for name, other in (("gain", spec.blind), ("difference", arm.against)):
            shared = sorted(mine.keys() & found.get(other, {}).keys())
            if other and other != arm.name and shared:
                ours, theirs = (_folders(folder, side, shared, "test") for side in (arm.name, other))
                row[name] = _figure(compare(ours, theirs, resamples), "accuracy")
        rows.append(row)
    return rows


def vqa_text(spec: VqaSpec, rows: Sequence[dict[str, Any]], resamples: int) -> str:
    """The rows of `vqa_rows` in Markdown, with what they are of; below it each family of questions."""
    t = spec.training
    cells = [
        (
            row["arm"],
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['flops'] / 1e6:.0f}",
            str(row["seeds"]),
            *(_shown(row.get(name)) for name in (*_splits(spec), "not_present")),
            _shown(row.get("gain"), signs=True),
            f"{_shown(row['difference'], signs=True)} to {row['against']}" if row.get("difference") else "",
        )
        for row in rows
    ]
    names = sorted({name for row in rows for name in row["families"]})
    families = [(row["arm"], *(_shown(row["families"].get(name), short=True) for name in names)) for row in rows]
    n = max((row["n"] for row in rows), default=0)
    about = (
        f"Maps of `{spec.backbone.name}`; {t.steps:,} steps of {t.images * t.per_image} questions "
        f"({t.images} pictures, {t.per_image} questions of each); test n = {n:,}. Means over seeds; intervals of 95 %: "
        f"groups of pictures drawn again {resamples:,} times, the same draws for both sides of a difference. FLOPs are "
        f"those of a forward pass in training, with {t.per_image} questions of a picture."
    )
    titles = [title(split) for split in _splits(spec)]
    parts = [about, markdown((*HEAD, *titles, *MORE), cells), "Accuracy by family of questions:"]
    return "\n\n".join([*parts, markdown(("arm", *names), families)])


def title(split: str) -> str:
    """Of the column of a split."""
    if split.startswith(ENTAILED):
        return f"consistency on {split.removeprefix(ENTAILED)}"
    return "people's questions" if split == HUMAN else split


def _splits(spec: VqaSpec) -> list[str]:
    """Test first; a kept spec has the others in the order of their names."""
    return [*sorted(spec.judged, key=lambda split: (split != "test", split)), *([HUMAN] if spec.human else [])]


def _folders(folder: Path, arm: str, seeds: Sequence[int], split: str) -> list[Path]:
    return [answers_of(folder, key_of(arm, seed), split) for seed in seeds]


def _figure(figures: dict[str, Any], name: str) -> tuple[float, float, float] | None:
    return _values(figures["measures"].get(name))


def _values(row: dict[str, Any] | None) -> tuple[float, float, float] | None:
    if row is None or row["value"] is None:
        return None
    value = row["value"]
    return value, value if row["low"] is None else row["low"], value if row["high"] is None else row["high"]


def _shown(figure: tuple[float, float, float] | None, signs: bool = False, short: bool = False) -> str:
    if figure is None:
        return ""
    if short:
        return f"{figure[0]:.3f}"
    return signed(*figure) if signs else number(*figure)
