"""Which vectors find pictures of the same kind? Rankings of a gallery by cosine, against a shop's labels.

    catalogue, table of labels by id ─► features of each backbone, kept ─┬─► as they are, each part at unit norm ─┐
                    training pictures ─► attribute heads ─► kept heads ──┴─► hidden layer of the heads ───────────┤
    of each query: the gallery without its own split group, ranked by cosine ◄────────────────────────────────────┘
                                        └─► hit@1, recall@k, average precision ─► table

A picture whose label is unknown neither asks nor is found. Pictures of a query's own split group (near duplicates; of
home photos, all that one person sent) are left out of its gallery, or a wardrobe would be found by its wallpaper. The
hidden layer of attribute heads as a vector for search is our own choice; it costs no training beside the heads'.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fashionkit.engine import run_shards
from fashionkit.eval.runs import RunFolder
from fashionkit.tables import InputError
from fashionkit.tables.yamls import Lines

Split = Literal["train", "val", "test"]
Part = Literal["vector", "colour"]


@dataclass(frozen=True)
class Tuning:
    """Attribute heads whose hidden layer becomes the vector.

    Attributes:
        columns: Of the table of labels, what the heads learn from the training pictures.
        heads: Folder of another comparison that has tuned an arm of this name: its heads are taken, none are trained.
        hidden, dropout: Of the heads. epochs, lr, weight_decay, batch: Of their training.
    """

    columns: list[str] = field(default_factory=list)
    heads: str | None = None
    hidden: int = 512
    dropout: float = 0.5
    epochs: int = 15
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 256


@dataclass(frozen=True)
class RetrievalArm:
    """One way to make a vector of a picture.

    Attributes:
        name: In the table. backbone: See `build_backbone`. weights: Its source. size: Side of its input.
        resize: How pictures get there. reads: Parts of the features, each brought to unit norm.
        width: Numbers of the vector that are read, from its first one on: `+stages` puts the vector that the backbone
            has without it first. Null: all. tuning: Null: features as they are.
    """

    name: str
    backbone: str
    weights: str = "offline"
    size: int = 224
    resize: str = "squash"
    reads: list[Part] = field(default_factory=lambda: ["vector"])
    width: int | None = None
    tuning: Tuning | None = None


@dataclass(frozen=True)
class RetrievalSpec:
    """The comparison.

    Attributes:
        relevant: Each a list of columns of the table of labels: a picture is relevant where all of them agree.
        arms: The first is what the others are compared with. seeds: Of arms that are tuned.
        queries, gallery: Splits of the catalogue. k: Of recall@k. unknown: Labels that say nothing.
        catalog: Its folder. labels: Parquet file with ids and columns. id: Name of the column of ids.
    """

    relevant: list[list[str]]
    arms: list[RetrievalArm]
    seeds: list[int]
    queries: list[Split] = field(default_factory=lambda: ["test"])
    gallery: list[Split] = field(default_factory=lambda: ["test"])
    k: int = 10
    unknown: list[str] = field(default_factory=list)
    catalog: str = ""
    labels: str = ""
    id: str = "id"


def check_retrieval(spec: RetrievalSpec, path: Path, lines: Lines) -> None:
    """Refuses what cannot be run.

    Raises:
        InputError: No catalogue, labels or columns, two arms of one name, an arm that reads nothing, one that is tuned
            on pictures that also ask or are found, or on heads that are not there.
    """
    for name in ("catalog", "labels"):
        value = getattr(spec, name)
        if not value or not Path(value).exists():
            raise InputError(f"`{name}` must name what is there", file=path, column=name, found=value, hint=f"--{name}")
    for name in ("relevant", "seeds", "queries", "gallery"):
        if not getattr(spec, name) or [] in getattr(spec, name):
            raise InputError(f"`{name}` is empty", file=path, row=lines.of(name), column=name)
    if spec.k < 1:
        raise InputError("recall is of a place or more", file=path, row=lines.of("k"), column="k", found=spec.k)
    names = [arm.name for arm in spec.arms]
    if len(set(names)) < len(names) or not names:
        raise InputError("arms need names, each once", file=path, row=lines.of("arms"), found=", ".join(names))
    for number, arm in enumerate(spec.arms):
        if problem := _problem(spec, arm):
            row = lines.of("arms", number)
            raise InputError(f"arm {arm.name!r}: {problem}", file=path, row=row, column="arms")


def _problem(spec: RetrievalSpec, arm: RetrievalArm) -> str | None:
    """What is wrong with an arm."""
    if not arm.reads or (arm.width is not None and arm.width < 1):
        return "it reads nothing"
    if arm.tuning is None:
        return None
    if arm.width is not None:
        return "heads read the whole vector, leave `width` out"
    if arm.tuning.heads is None:
        if not arm.tuning.columns or arm.tuning.hidden < 1 or "vector" not in arm.reads:
            return "tuning needs columns, a hidden layer, and the vector"
        if "train" in {*spec.queries, *spec.gallery}:
            return "it learns from pictures that also ask or are found"
        return None
    missing = [seed for seed in spec.seeds if not heads_file(Path(arm.tuning.heads), arm, seed).exists()]
    return f"{arm.tuning.heads} has no heads of seed {missing[0]}; run that comparison first" if missing else None


def run_retrieval(spec: RetrievalSpec, runs: RunFolder, workers: int, say: Callable[[str], None]) -> int:
    """Makes all runs that are missing; returns how many there are. Arguments as for `run_irsn`."""
    jobs = [(arm, seed) for arm in spec.arms for seed in seeds_of(spec, arm)]
    missing = [job for job in jobs if any(not runs.has(run_key(*job, columns)) for columns in spec.relevant)]
    say(f"{len(jobs)} arms and seeds, {len(missing)} to do")
    folders = {feature_folder(runs.folder, arm): arm for arm, _ in missing}
    for line in run_shards(_kept, [(spec, runs.folder, arm) for arm in folders.values()], workers):
        say(line)
    for line in run_shards(_ranked, [(spec, runs.folder, *job) for job in missing], workers):
        say(line)
    return len(jobs) * len(spec.relevant)


def seeds_of(spec: RetrievalSpec, arm: RetrievalArm) -> list[int]:
    """Nothing is drawn for an arm that is not tuned, so one seed tells all."""
    return spec.seeds if arm.tuning is not None else spec.seeds[:1]


def asked(columns: list[str]) -> str:
    """What is relevant, in words."""
    return " and ".join(columns)


def run_key(arm: RetrievalArm, seed: int, columns: list[str]) -> str:
    """Name of a run."""
    return f"{arm.name}-s{seed}-{'+'.join(columns)}"


def feature_folder(folder: Path, arm: RetrievalArm) -> Path:
    """Where the features of an arm are kept; arms of one preparation share them."""
    what = repr((arm.backbone, arm.weights, arm.size, arm.resize))
    return folder / "features" / hashlib.sha256(what.encode()).hexdigest()[:16]


def heads_file(folder: Path, arm: RetrievalArm, seed: int) -> Path:
    """Where the heads of an arm and seed are kept; beside it, a .json of what builds them."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", arm.name)
    return folder / "heads" / f"{name}-s{seed}.safetensors"


def _kept(job: tuple[RetrievalSpec, Path, RetrievalArm]) -> str:
    from fashionkit.eval import retrieval_training  # torch is loaded in worker processes only

    return retrieval_training.keep_features(*job)


def _ranked(job: tuple[RetrievalSpec, Path, RetrievalArm, int]) -> str:
    from fashionkit.eval import retrieval_training

    return retrieval_training.rank_arm(*job)
