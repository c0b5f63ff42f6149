"""Does looking at item regions tell style better? IRSN against its own backbone, with controls, on drawn outfits.

    draw ─► pretrain each backbone on other outfits' attributes (or take published weights)
         ─► its maps of all pictures ─► each arm: a head on them, the same steps for all ─► predictions of test
         ─► for each size and seed: fine-tune on style ─► maps of all pictures ─► each arm, as before
         ─► table: accuracy, macro-F1, their intervals, paired differences

A fine-tuned backbone has learnt its training pictures by heart, so heads on its maps of the same pictures find nothing
left to learn from; heads on its first maps, from before it saw a style, do.

A series takes hours, so every fine-tuned backbone and every arm is kept when it is done, and a series that was stopped
goes on. Which arms there are, and the settings they share, is the recipe `eval/irsn.yaml`; no number here is tuned on
the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from fashionkit.engine import run_shards
from fashionkit.eval.runs import RunFolder
from fashionkit.tables import InputError
from fashionkit.tables.yamls import Lines

Grid = Literal["full", "core"]


@dataclass(frozen=True)
class Drawing:
    """Outfits to draw: how many, from which seed, in which shares of train, val and test; side in pixels."""

    images: int
    seed: int
    size: int
    shares: list[float] = field(default_factory=lambda: [0.8, 0.1, 0.1])


@dataclass(frozen=True)
class Training:
    """Passes over the training pictures, learning rate, rows of a batch, and how strongly it is held back."""

    epochs: int
    lr: float
    batch: int
    weight_decay: float = 0.05
    dropout: float = 0.1


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone of the grid.

    Attributes:
        name: See `build_backbone`. weights: Its source, or `pretrained`: from other drawn outfits' attributes.
        sizes: Training pictures. grid: Which arms. freeze: What does not train in fine-tuning.
    """

    name: str
    weights: str
    sizes: list[int]
    grid: Grid = "core"
    freeze: str | None = None


@dataclass(frozen=True)
class Arm:
    """One thing to compare.

    Attributes:
        name: In the table. kind: `tuned` is the fine-tuned backbone itself; `head` a head on its maps; `masks_in` the
            backbone fine-tuned with masks as further channels; `end_to_end` backbone and head trained together.
        masks: `catalog` (the drawn ones), `bands` (found in the picture), either with `random` or `shuffled` before.
        maps: For a head: of the fine-tuned backbone, which has seen the styles of the training pictures, or of what it
            started from, which has not. against: The arm that its difference is to; without it, the tuned backbone.
        network: Switches of `IrsnConfig`. grid: In which grids it is. largest: Only at the largest size.
    """

    name: str
    kind: Literal["tuned", "head", "masks_in", "end_to_end"] = "head"
    masks: list[str] = field(default_factory=lambda: ["none"])
    maps: Literal["tuned", "start"] = "tuned"
    against: str = ""
    network: dict[str, Any] = field(default_factory=dict)
    grid: Grid = "full"
    largest: bool = False


@dataclass(frozen=True)
class IrsnSpec:
    """The whole comparison; see the classes of its parts.

    Attributes:
        heads: How heads are trained; of several, each run takes what validation pictures like best.
        general: The frozen backbone of the general vector. network: Switches of `IrsnConfig` that all arms share,
            where they do not say otherwise.
    """

    outfits: Drawing
    others: Drawing
    pretraining: Training
    finetuning: Training
    heads: list[Training]
    general: BackboneSpec
    backbones: list[BackboneSpec]
    arms: list[Arm]
    seeds: list[int]
    network: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """What one process does at a time: arms of one backbone, size and seed; those on its first maps, or the others."""

    backbone: BackboneSpec
    size: int
    seed: int
    first: bool

    def key(self, arm: str, masks: str) -> str:
        """Name of a run."""
        short = self.backbone.name.split("/")[1]
        return f"{short}-n{self.size}-s{self.seed}-{arm}-{masks}"


Job = tuple[IrsnSpec, Path, Group | tuple[str, BackboneSpec | None]]


def check_irsn(spec: IrsnSpec, path: Path, lines: Lines) -> None:
    """Refuses a grid that cannot be.

    Raises:
        InputError: Two arms of one name, no tuned arm, or more training pictures than there are.
    """
    names = [arm.name for arm in spec.arms]
    if len(set(names)) < len(names):
        raise InputError("two arms have one name", file=path, row=lines.of("arms"), found=", ".join(names))
    for arm in (arm for arm in spec.arms if arm.against and arm.against not in names):
        raise InputError("no such arm", file=path, row=lines.of("arms"), found=arm.against, allowed=names)
    if not any(arm.kind == "tuned" for arm in spec.arms):
        raise InputError("an arm of kind `tuned` is needed: what the others are compared with", file=path)
    most = int(spec.outfits.images * spec.outfits.shares[0] * 0.95)
    for backbone in spec.backbones:
        if max(backbone.sizes) > most:
            problem = f"there are about {most} training pictures"
            raise InputError(problem, file=path, row=lines.of("backbones"), column="sizes", found=max(backbone.sizes))


def groups(spec: IrsnSpec) -> Iterator[Group]:
    """All groups: of each backbone first the quick ones, on maps that need no fine-tuning, and of these the largest."""
    for backbone in spec.backbones:
        for first in (True, False):
            for size in sorted(backbone.sizes, reverse=True):
                for seed in spec.seeds:
                    yield Group(backbone, size, seed, first)


def arms_of(spec: IrsnSpec, group: Group) -> Iterator[tuple[Arm, str]]:
    """The arms of a group, each with its masks."""
    for arm in spec.arms:
        wanted = group.backbone.grid == "full" or arm.grid == "core"
        wanted = wanted and group.first == (arm.maps == "start")
        if wanted and (not arm.largest or group.size == max(group.backbone.sizes)):
            for masks in arm.masks:
                yield arm, masks


def run_irsn(spec: IrsnSpec, runs: RunFolder, workers: int, say: Callable[[str], None]) -> int:
    """Makes all runs that are missing; returns how many there are.

    Args:
        spec: What to run. runs: Where; what the runs share is kept there, too. workers: Processes, one thread each.
        say: Told what is being done.
    """
    folder = runs.folder
    missing = [g for g in groups(spec) if any(not runs.has(g.key(a.name, m)) for a, m in arms_of(spec, g))]
    total = sum(1 for g in groups(spec) for _ in arms_of(spec, g))
    say(f"{total} runs, {len(missing)} of {sum(1 for _ in groups(spec))} groups to do")
    if missing:
        _draw(spec, folder, workers, say)
        for jobs in _phases(spec, folder, missing):
            for line in run_shards(_made, jobs, workers):
                say(line)
    return total


def _draw(spec: IrsnSpec, folder: Path, workers: int, say: Callable[[str], None]) -> None:
    from fashionkit.catalog.drawn import DrawOptions, draw_catalog
    from fashionkit.catalog.splits import SplitOptions

    for name, drawing in (("outfits", spec.outfits), ("others", spec.others)):
        shares = tuple(zip(("train", "val", "test"), drawing.shares, strict=True))
        options = DrawOptions(drawing.images, drawing.seed, drawing.size, splits=SplitOptions(shares), workers=workers)
        say(f"{drawing.images:,} outfits of seed {drawing.seed}")
        draw_catalog(folder / name, options)


def _phases(spec: IrsnSpec, folder: Path, missing: list[Group]) -> Iterator[list[Job]]:
    """What can be made at the same time: the groups of one backbone, and the pretraining of the next."""
    backbones = _once([group.backbone for group in missing])
    pretraining = [("pretrained", b) if b.weights == "pretrained" else None for b in [*backbones, spec.general]]
    before = [("outfits", None), ("general", None), pretraining[0]]
    yield [(spec, folder, what) for what in before if what is not None]
    for backbone, later in zip(backbones, pretraining[1:], strict=True):
        ours = [group for group in missing if group.backbone.name == backbone.name]
        yield [(spec, folder, what) for what in ([later] if later else []) + ours]


def _once(backbones: list[BackboneSpec]) -> list[BackboneSpec]:
    return list({b.name: replace(b, sizes=[]) for b in backbones}.values())


def _made(job: Job) -> str:
    """Makes one job in a worker; says what it was."""
    from fashionkit.eval import irsn_training  # torch is loaded in worker processes only, after they were forked

    spec, folder, what = job
    if not isinstance(what, Group):
        return irsn_training.make_shared(spec, folder, *what)
    done = irsn_training.run_group(spec, folder, what)
    maps = "first maps" if what.first else "tuned"
    return f"{what.backbone.name}, {what.size:,} pictures, seed {what.seed}, {maps}: {done} runs"
