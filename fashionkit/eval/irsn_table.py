"""The table of the IRSN comparison, from its finished runs.

runs of one backbone, size, arm and masks ─► mean over seeds; interval: test pictures drawn again, seeds kept
the same against the backbone's own runs   ─► paired difference, on the same draws
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fashionkit.eval.irsn import IrsnSpec
from fashionkit.eval.paired import f1, gain, interval, right
from fashionkit.eval.runs import Run
from fashionkit.eval.tables import markdown, number, signed

HEAD = ("backbone", "train", "arm", "masks", "seeds", "accuracy", "macro-F1", "difference in accuracy")
Cell = tuple[str, int, str, str]  # backbone, size, arm, masks


def irsn_rows(spec: IrsnSpec, runs: Sequence[Run], resamples: int) -> list[dict[str, Any]]:
    """A row for each arm of which a seed is finished, in the order of the spec.

    Returns:
        Rows of `backbone, size, arm, masks, seeds, n, accuracy, macro_f1, difference`; the last three are (value, low,
        high), the difference in accuracy to the arm `against` over the seeds that both have, None for itself.
    """
    found: dict[Cell, dict[int, Run]] = {}
    for run in runs:
        s = run.settings
        found.setdefault((s["backbone"], s["size"], s["arm"], s["masks"]), {})[s["seed"]] = run
    against = compared(spec)
    rows = []
    for cell in _ordered(spec, found):
        backbone, size, arm, masks = cell
        other, with_masks = against[arm]
        by_seed, base = found[cell], found.get((backbone, size, other, with_masks), {})
        row: dict[str, Any] = {"backbone": backbone, "size": size, "arm": arm, "masks": masks, "seeds": len(by_seed)}
        row |= {"n": len(next(iter(by_seed.values())).predictions)}
        row["accuracy"] = interval(right, [by_seed], resamples)
        row["macro_f1"] = interval(f1, [by_seed], resamples)
        shared = sorted(by_seed.keys() & base.keys())
        both = [{seed: side[seed] for seed in shared} for side in (by_seed, base)]
        row["difference"] = interval(gain, both, resamples) if shared and cell[2:] != (other, with_masks) else None
        row["against"] = other
        rows.append(row)
    return rows


def irsn_table(spec: IrsnSpec, rows: Sequence[dict[str, Any]], resamples: int) -> str:
    """The rows of `irsn_rows` in Markdown, with what they are of."""
    cells = [
        (
            f"`{row['backbone']}`",
            f"{row['size']:,}",
            row["arm"],
            row["masks"],
            str(row["seeds"]),
            number(*row["accuracy"]),
            number(*row["macro_f1"]),
            "" if row["difference"] is None else f"{signed(*row['difference'])} to {row['against']}",
        )
        for row in rows
    ]
    n = max((row["n"] for row in rows), default=0)
    about = (
        f"{spec.outfits.images:,} drawn outfits (seed {spec.outfits.seed}, {spec.outfits.size} px), test n = {n:,}; "
        f"labels are wrong in 5 % by design. Means over seeds; intervals of 95 %: test pictures drawn again "
        f"{resamples:,} times, the same draws for both sides of a difference."
    )
    return f"{about}\n\n{markdown(HEAD, cells)}"


def compared(spec: IrsnSpec) -> dict[str, tuple[str, str]]:
    """Arm → the arm that its difference is to, with that one's (first) masks."""
    tuned = next(arm.name for arm in spec.arms if arm.kind == "tuned")
    first = {arm.name: arm.masks[0] for arm in spec.arms}
    return {arm.name: (arm.against or tuned, first[arm.against or tuned]) for arm in spec.arms}


def _ordered(spec: IrsnSpec, found: dict[Cell, dict[int, Run]]) -> list[Cell]:
    arms = [arm.name for arm in spec.arms]
    names = [backbone.name for backbone in spec.backbones]
    return sorted(found, key=lambda c: (names.index(c[0]), -c[1], arms.index(c[2]), c[3]))
