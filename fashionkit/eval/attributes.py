"""Which features name attributes of products best? Heads on frozen or tuned backbones, attribute by attribute.

    catalogue: pictures, splits by group ─┐
    table of labels, joined by id ────────┴─► features of each backbone, kept ─► each arm and seed: heads trained,
                                              temperatures from val ─► predictions of test ─► table

Labels come from a table of one's own, as its authors wrote them, and not through the catalogue's ontology, so that the
figures can be compared with those of others on the same columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fashionkit.engine import run_shards
from fashionkit.eval.runs import RunFolder
from fashionkit.tables import InputError
from fashionkit.tables.yamls import Lines


@dataclass(frozen=True)
class HeadArm:
    """One way to name attributes.

    Attributes:
        name: In the table. backbone: See `build_backbone`. weights: Its source. size: Side of its input.
        resize: How pictures get there: `squash` keeps all of a portrait photo; null: as the weights want it.
        colour: Attributes that read colour statistics, too. hidden, dropout: Of the heads.
        tune: How many last stages of the backbone are trained; 0: none, from kept features.
        epochs, lr, weight_decay, batch: Of the training. seeds: Those of the spec, or these.
    """

    name: str
    backbone: str
    weights: str = "offline"
    size: int = 224
    resize: str | None = "squash"
    colour: list[str] = field(default_factory=list)
    hidden: int = 512
    dropout: float = 0.5
    tune: int = 0
    epochs: int = 15
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 256
    seeds: list[int] | None = None


@dataclass(frozen=True)
class AttributesSpec:
    """The comparison.

    Attributes:
        columns: Of the table of labels, each an attribute. arms: The first is what the others are compared with.
        seeds: Of weights and order. catalog: Its folder. labels: Parquet file with a column `id` and `columns`.
        id: Name of the column of ids.
    """

    columns: list[str]
    arms: list[HeadArm]
    seeds: list[int]
    catalog: str = ""
    labels: str = ""
    id: str = "id"


def check_attributes(spec: AttributesSpec, path: Path, lines: Lines) -> None:
    """Refuses what cannot be run.

    Raises:
        InputError: No catalogue or labels, two arms of one name, colour for an attribute that is no column.
    """
    for name in ("catalog", "labels"):
        value = getattr(spec, name)
        if not value or not Path(value).exists():
            raise InputError(f"`{name}` must name what is there", file=path, column=name, found=value, hint=f"--{name}")
    names = [arm.name for arm in spec.arms]
    if len(set(names)) < len(names) or not names:
        raise InputError("arms need names, each once", file=path, row=lines.of("arms"), found=", ".join(names))
    for number, arm in enumerate(spec.arms):
        for name in set(arm.colour) - set(spec.columns):
            row = lines.of("arms", number)
            raise InputError("no such attribute", file=path, row=row, column="colour", found=name, allowed=spec.columns)


def run_attributes(spec: AttributesSpec, runs: RunFolder, workers: int, say: Callable[[str], None]) -> int:
    """Makes all runs that are missing; returns how many there are. Arguments as for `run_irsn`."""
    jobs = [(arm, seed) for arm in spec.arms for seed in arm.seeds or spec.seeds]
    missing = [job for job in jobs if any(not runs.has(run_key(*job, column)) for column in spec.columns)]
    say(f"{len(jobs)} arms and seeds, {len(missing)} to do")
    frozen = {feature_folder(runs.folder, arm): arm for arm, _ in missing if not arm.tune}
    for line in run_shards(_kept, [(spec, runs.folder, arm) for arm in frozen.values()], workers):
        say(line)
    for line in run_shards(_trained, [(spec, runs.folder, *job) for job in missing], workers):
        say(line)
    return len(jobs) * len(spec.columns)


def run_key(arm: HeadArm, seed: int, column: str) -> str:
    """Name of a run."""
    return f"{arm.name}-s{seed}-{column}"


def feature_folder(folder: Path, arm: HeadArm) -> Path:
    """Where the features of an arm are kept; arms of one preparation share them."""
    what = repr((arm.backbone, arm.weights, arm.size, arm.resize))
    return folder / "features" / hashlib.sha256(what.encode()).hexdigest()[:16]


def _kept(job: tuple[AttributesSpec, Path, HeadArm]) -> str:
    from fashionkit.eval import attributes_training  # torch is loaded in worker processes only

    return attributes_training.keep_features(*job)


def _trained(job: tuple[AttributesSpec, Path, HeadArm, int]) -> str:
    from fashionkit.eval import attributes_training

    return attributes_training.train_arm(*job)
