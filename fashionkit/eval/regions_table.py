"""The table of the regions' comparison, from its finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fashionkit.eval.paired import by_seed, f1, gain, interval, right
from fashionkit.eval.regions import RegionsSpec
from fashionkit.eval.runs import Run
from fashionkit.eval.tables import markdown, number, signed

Interval = tuple[float, float, float]


def region_rows(spec: RegionsSpec, runs: Sequence[Run], resamples: int) -> list[dict[str, Any]]:
    """A row for each backbone and view of which a seed is finished.

    Returns:
        Rows of `backbone, view, seeds, n, pictures, classes, majority, width, accuracy, macro_f1, small, small_n,
        difference, finer`; accuracy and macro-F1 are (value, low, high), and so are the differences in accuracy to the
        backbone's first view (`difference`) and to the same view of the first backbone (`finer`), None for themselves
        and where that is not finished. `small` is the accuracy for small items, None where there are none.
    """
    found = {
        (b.name, view): by_seed(runs, {"backbone": b.name, "view": view}) for b in spec.backbones for view in b.views
    }
    rows = []
    for one in spec.backbones:
        for view in one.views:
            seeds = found[one.name, view]
            if not seeds:
                continue
            first = next(iter(seeds.values())).figures
            row: dict[str, Any] = {"backbone": one.name, "view": view, "seeds": len(seeds)}
            row |= {name: first[name] for name in ("n", "pictures", "classes", "majority", "width")}
            row |= {"accuracy": interval(right, [seeds], resamples), "macro_f1": interval(f1, [seeds], resamples)}
            small = [run.figures["small_accuracy"] for run in seeds.values()]
            row |= {"small": None if None in small else float(np.mean(small)), "small_n": first["small"]}
            base = {} if view == one.views[0] else found[one.name, one.views[0]]
            row["difference"] = _gain(seeds, base, resamples)
            coarse = {} if one == spec.backbones[0] else found.get((spec.backbones[0].name, view), {})
            row["finer"] = _gain(seeds, coarse, resamples)
            rows.append(row)
    return rows


def region_table(spec: RegionsSpec, rows: Sequence[dict[str, Any]], resamples: int) -> str:
    """The rows of `region_rows` in Markdown, with what they are of."""
    first = spec.backbones[0]
    versus = (
        f"against `{first.views[0]}`" if len({b.views[0] for b in spec.backbones}) == 1 else "against the first view"
    )
    head = ("backbone", "view", "numbers", "accuracy", "macro-F1", "small items", versus, f"against {first.name}")
    cells = [
        (
            row["backbone"],
            row["view"],
            f"{row['width']:,}",
            number(*row["accuracy"]),
            number(*row["macro_f1"]),
            "" if row["small"] is None else number(row["small"]),
            "" if row["difference"] is None else signed(*row["difference"]),
            "" if row["finer"] is None else signed(*row["finer"]),
        )
        for row in rows
    ]
    one = rows[0]
    about = (
        f"n = {one['n']:,} items of {one['pictures']:,} pictures, {one['classes']} categories; always saying the most "
        f"frequent one gives {number(one['majority'])}. Each item is tested once for each of {one['seeds']} seeds, in "
        f"{spec.folds} folds that keep a picture's items together. Small: {one['small_n']:,} items whose mask covers "
        f"less than 1 % of the picture. Differences are in accuracy. Means over seeds; intervals of 95 %: split groups "
        f"drawn again {resamples:,} times, the same draws for both sides of a difference."
    )
    return f"{about}\n\n{markdown(head, cells)}"


def _gain(seeds: Mapping[int, Run], base: Mapping[int, Run], resamples: int) -> Interval | None:
    shared = seeds.keys() & base.keys()
    sides = [{seed: side[seed] for seed in shared} for side in (seeds, base)]
    return interval(gain, sides, resamples) if shared else None
