"""Does region pooling carry the item? A linear probe of an item's category, from several views of its picture.

    catalogue: pictures, masks of items ─► maps and vectors of each backbone, kept ─► a view of each item (n, D)
    folds by split group ─► probes: each item is tested once for each seed ─► table

The views: `global`, the vector of the whole picture, the same for all of its items; `box`, the vector of what the
item's box cuts out; `regions`, the map pooled in its mask (`fashionkit.vision.pooling`). Two controls: `shuffled`, the
map pooled in the mask of an item of another picture, and `mask`, the mask alone without a pixel of the photo, since
where something is and how large tells much of what it is. `both` has `regions` and `mask` side by side: what pooling
adds to knowing where to look. Views, controls and folds are our own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fashionkit.engine import run_shards
from fashionkit.eval.runs import RunFolder
from fashionkit.tables import InputError
from fashionkit.tables.yamls import Lines

View = Literal["global", "box", "regions", "shuffled", "mask", "both"]
OF_MAPS = ("regions", "shuffled", "mask", "both")


@dataclass(frozen=True)
class RegionBackbone:
    """One backbone, and what is looked at with it.

    Attributes:
        name: In the table. backbone: See `build_backbone`. views: The first is what the others are compared with.
        weights: Its source. size: Side of its input; pictures are squashed to it, so that no item is cut off.
    """

    name: str
    backbone: str
    views: list[View]
    weights: str = "offline"
    size: int = 224


@dataclass(frozen=True)
class RegionsSpec:
    """The comparison.

    Attributes:
        backbones: The first is what the others are compared with, view by view. seeds: Of folds and of shuffling.
        folds: Parts of the pictures; each is tested once. least: Items of a category; rarer ones are left out.
        decays: Strengths of regularisation; which is taken is told by a part of the training pictures.
        steps: Of L-BFGS, at most. catalog: Its folder.
    """

    backbones: list[RegionBackbone]
    seeds: list[int]
    folds: int = 5
    least: int = 18
    decays: list[float] = field(default_factory=lambda: [0.3, 0.1, 0.03, 0.003])
    steps: int = 25
    catalog: str = ""


def check_regions(spec: RegionsSpec, path: Path, lines: Lines) -> None:
    """Refuses what cannot be run.

    Raises:
        InputError: No catalogue, no seed, fewer than two folds, a decay that is not above 0, two backbones of one
            name, or a backbone without a view or with one twice.
    """
    if not spec.catalog or not Path(spec.catalog).exists():
        problem = "`catalog` must name what is there"
        raise InputError(problem, file=path, column="catalog", found=spec.catalog, hint="--catalog")
    if not spec.seeds or spec.folds < 2 or spec.least < 1 or spec.steps < 1:
        found = f"{len(spec.seeds)} seeds, {spec.folds} folds, least {spec.least}, {spec.steps} steps"
        raise InputError("a seed, two folds, an item and a step are needed, or more of them", file=path, found=found)
    if not spec.decays or not all(0 < decay < float("inf") for decay in spec.decays):
        row = lines.of("decays")
        raise InputError("decays lie above 0", file=path, row=row, column="decays", found=spec.decays)
    names = [one.name for one in spec.backbones]
    if len(set(names)) < len(names) or not names:
        raise InputError("backbones need names, each once", file=path, row=lines.of("backbones"), found=names)
    for number, one in enumerate(spec.backbones):
        if len(set(one.views)) < len(one.views) or not one.views:
            row = lines.of("backbones", number)
            raise InputError("views are needed, each once", file=path, row=row, column="views", found=one.views)


def run_regions(spec: RegionsSpec, runs: RunFolder, workers: int, say: Callable[[str], None]) -> int:
    """Makes all runs that are missing; returns how many there are. Arguments as for `run_irsn`."""
    jobs = [(one, view) for one in spec.backbones for view in one.views]
    missing = [job for job in jobs if any(not runs.has(region_key(*job, seed)) for seed in spec.seeds)]
    say(f"{len(jobs)} backbones and views, {len(missing)} to do")
    kept = {kept_folder(runs.folder, *job): (spec, runs.folder, *job) for job in missing}
    for line in run_shards(_kept, list(kept.values()), workers):
        say(line)
    left = [one for one in spec.backbones if any(one is other for other, _ in missing)]
    for line in run_shards(_probed, [(spec, runs.folder, one) for one in left], workers):
        say(line)
    return len(jobs) * len(spec.seeds)


def region_key(one: RegionBackbone, view: View, seed: int) -> str:
    """Name of a run."""
    return f"{one.name}-{view}-s{seed}"


def kept_folder(folder: Path, one: RegionBackbone, view: View) -> Path:
    """Where the features that a view needs are kept; all but `box` share those of whole pictures."""
    what = hashlib.sha256(repr((one.backbone, one.weights, one.size)).encode()).hexdigest()[:16]
    return folder / "features" / f"{'boxes' if view == 'box' else 'pictures'}-{what}"


def _kept(job: tuple[RegionsSpec, Path, RegionBackbone, View]) -> str:
    from fashionkit.eval import regions_training  # torch is loaded in worker processes only

    return regions_training.keep_features(*job)


def _probed(job: tuple[RegionsSpec, Path, RegionBackbone]) -> str:
    from fashionkit.eval import regions_training

    return regions_training.probe_views(*job)
