"""The table of the retrieval comparison, from its finished runs.

runs of one arm by seed ─► (n, seeds) scores of the same queries, mean over seeds ─► mean, mean of classes, differences
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fashionkit.eval.paired import by_seed
from fashionkit.eval.retrieval import RetrievalSpec, asked
from fashionkit.eval.runs import Run
from fashionkit.eval.tables import markdown, number, signed
from fashionkit.metrics.classification import grouped_bootstrap

Array = npt.NDArray[Any]
SCORES = {"hit": "hit", "recall": "recall", "map": "precision"}  # name in rows → column of runs


def retrieval_rows(spec: RetrievalSpec, runs: Sequence[Run], resamples: int) -> list[dict[str, Any]]:
    """A row for each kind of relevance and arm of which a seed is finished.

    Returns:
        Rows of `relevant, arm, seeds, n, groups, gallery, left_out, classes, k, best_recall, chance, hit, recall, map,
        class_map, difference`; the scores and the difference in mAP to the first arm are (value, low, high), the last
        one None for itself. `class_map` is the mean over classes of their mAP.
    """
    rows = []
    for columns in spec.relevant:
        found = {arm.name: by_seed(runs, {"relevant": asked(columns), "arm": arm.name}) for arm in spec.arms}
        base = found[spec.arms[0].name]
        for name, seeds in found.items():
            if not seeds:
                continue
            first = next(iter(seeds.values()))
            groups = np.array(first.predictions["group"].to_pylist())
            row: dict[str, Any] = {"relevant": asked(columns), "arm": name, "seeds": len(seeds)}
            row |= {key: value for key, value in first.figures.items() if key not in (*SCORES, "width")}
            row["groups"] = len(np.unique(groups))
            for score, column in SCORES.items():
                row[score] = grouped_bootstrap(np.mean, [_mean(seeds, column)], groups, resamples)
            precision, truth = _mean(seeds, "precision"), first.predictions["truth"].to_numpy()
            row["class_map"] = grouped_bootstrap(of_classes, [precision, truth], groups, resamples)
            row["difference"] = None
            if base and name != spec.arms[0].name:
                assert next(iter(base.values())).predictions["id"].equals(first.predictions["id"]), "the same queries"
                gained = precision - _mean(base, "precision")
                row["difference"] = grouped_bootstrap(np.mean, [gained], groups, resamples)
            rows.append(row)
    return rows


def retrieval_table(spec: RetrievalSpec, rows: Sequence[dict[str, Any]], resamples: int) -> str:
    """The rows of `retrieval_rows` in Markdown, with what they are of."""
    head = ("relevant", "arm", "seeds", "hit@1", f"recall@{spec.k}", "mAP", "mAP by class", "mAP against the first arm")
    cells = [
        (
            f"same {row['relevant']}",
            row["arm"],
            str(row["seeds"]),
            *(number(*row[name]) for name in ("hit", "recall", "map", "class_map")),
            "" if row["difference"] is None else signed(*row["difference"]),
        )
        for row in rows
    ]
    abouts = [
        _about({row["relevant"]: row for row in rows}[name]) for name in dict.fromkeys(r["relevant"] for r in rows)
    ]
    how = (
        f"Queries: {', '.join(spec.queries)}; gallery: {', '.join(spec.gallery)}, without the query's own split group. "
        f"{' '.join(abouts)} Means over queries and seeds; by class: over classes of their means. Intervals of 95 %: "
        f"split groups of the queries drawn again {resamples:,} times, the same draws for both sides of a difference."
    )
    return f"{how}\n\n{markdown(head, cells)}"


def of_classes(score: Array, truth: Array) -> float:
    """Mean over classes of the mean score of their queries."""
    _, at = np.unique(truth, return_inverse=True)
    return float((np.bincount(at, score) / np.bincount(at)).mean())


def _about(row: Mapping[str, Any]) -> str:
    return (
        f"Same {row['relevant']}: {row['n']:,} queries in {row['groups']:,} groups ({row['left_out']:,} more have "
        f"nothing to find), {row['classes']} classes, gallery of {row['gallery']:,}; the best recall@{row['k']} that "
        f"can be had is {number(row['best_recall'])}, and {number(row['chance'])} of a gallery is relevant."
    )


def _mean(seeds: Mapping[int, Run], column: str) -> Array:
    """(n,) mean over seeds."""
    return np.stack([run.predictions[column].to_numpy() for run in seeds.values()]).astype(np.float64).mean(axis=0)
