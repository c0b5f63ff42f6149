"""The table of the attributes' comparison, from its finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fashionkit.eval.attributes import AttributesSpec
from fashionkit.eval.paired import by_seed, f1, gain, interval, right
from fashionkit.eval.runs import Run
from fashionkit.eval.tables import markdown, number, signed
from fashionkit.metrics.classification import calibration_error

HEAD = ("attribute", "values", "arm", "seeds", "accuracy", "macro-F1", "ECE", "against the first arm")


def attribute_rows(spec: AttributesSpec, runs: Sequence[Run], resamples: int) -> list[dict[str, Any]]:
    """A row for each attribute and arm of which a seed is finished.

    Returns:
        Rows of `attribute, values, n, majority, arm, seeds, accuracy, macro_f1, ece, difference`; accuracy, macro-F1
        and the difference in accuracy to the first arm are (value, low, high), the last one None for itself.
    """
    rows = []
    for column in spec.columns:
        found = {arm.name: by_seed(runs, {"attribute": column, "arm": arm.name}) for arm in spec.arms}
        base = found[spec.arms[0].name]
        for name, seeds in found.items():
            if not seeds:
                continue
            first = next(iter(seeds.values())).figures
            row: dict[str, Any] = {"attribute": column, "values": first["values"], "n": first["n"], "arm": name}
            row |= {"majority": first["majority"], "seeds": len(seeds)}
            row |= {"accuracy": interval(right, [seeds], resamples), "macro_f1": interval(f1, [seeds], resamples)}
            row["ece"] = float(np.mean([_ece(run) for run in seeds.values()]))
            shared = seeds.keys() & base.keys()
            sides = [{seed: side[seed] for seed in shared} for side in (seeds, base)]
            row["difference"] = interval(gain, sides, resamples) if shared and name != spec.arms[0].name else None
            rows.append(row)
    return rows


def attribute_table(spec: AttributesSpec, rows: Sequence[dict[str, Any]], resamples: int) -> str:
    """The rows of `attribute_rows` in Markdown, with what they are of."""
    cells = [
        (
            row["attribute"],
            str(row["values"]),
            row["arm"],
            str(row["seeds"]),
            number(*row["accuracy"]),
            number(*row["macro_f1"]),
            number(row["ece"]),
            "" if row["difference"] is None else signed(*row["difference"]),
        )
        for row in rows
    ]
    most = {row["attribute"]: f"{row['attribute']} {number(row['majority'])}" for row in rows}
    about = (
        f"Test n = {max(row['n'] for row in rows):,} pictures of the catalogue's split, near duplicates kept together; "
        f"always saying the most frequent value gives {', '.join(most.values())}. Means over seeds; intervals of 95 %: "
        f"split groups drawn again {resamples:,} times, the same draws for both sides of a difference."
    )
    return f"{about}\n\n{markdown(HEAD, cells)}"


def _ece(run: Run) -> float:
    table = run.predictions
    same = table["truth"].to_numpy() == table["predicted"].to_numpy()
    return calibration_error(np.clip(table["confidence"].to_numpy(), 0, 1), same)
