"""Which network answers best? Vlm, encoder-decoder and MCAN on the same maps, questions and steps, with bounds.

    question set, cached maps of one backbone ─► each arm and seed: `fashionkit train` ─► a run's folder
         ─► the same questions to all (test, what follows from it, other wordings, people's) ─► folders of answers
         ─► table: accuracy, consistency, not-present F1, gain by looking, paired differences

Arms that do not look (`blind`) say what questions give away; arms that are shown what the catalogue says (`truth`) say
what the network and its steps could reach if pictures were read without a fault. A run that was stopped goes on from
its last checkpoint, and a series from its last run. Which arms there are is the recipe, `eval/vqa_drawn.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fashionkit.datagen.samples import SAMPLE_SPLITS, sample_files
from fashionkit.datagen.store import ABSENT, VQAStore
from fashionkit.engine import run_shards
from fashionkit.eval.runs import RunFolder, file_name
from fashionkit.eval.vqa_human import HumanQuestions
from fashionkit.eval.vqa_questions import ENTAILED
from fashionkit.models.vqa_config import KINDS
from fashionkit.recipes import root
from fashionkit.tables import InputError
from fashionkit.tables.yamls import Lines

TRAINED, ANSWERS = "trained", "answers"  # folders beside the runs
EQUAL = 0.05  # how far sizes of arms that are compared may lie apart


@dataclass(frozen=True)
class Encoder:
    """The backbone of the cached maps: `name` as in `build_backbone`; side in pixels."""

    name: str
    size: int | None = None
    resize: str | None = None


@dataclass(frozen=True)
class VqaTraining:
    """Steps, pictures of a batch, questions of each, learning rate and its rise, weight decay; see `QuestionData`.

    Attributes:
        noise, empties, words, val_questions: See `QuestionData`. every: Epochs between two looks at validation.
        precision: Of `Trainer`.
    """

    steps: int
    images: int
    per_image: int
    lr: float
    warmup: float = 0.05
    weight_decay: float = 0.05
    noise: float = 0.1
    empties: float = 0.02
    words: int = 2048
    val_questions: int = 4096
    every: int = 1
    precision: str = "32-true"


@dataclass(frozen=True)
class VqaArm:
    """One thing to compare.

    Attributes:
        name: In the table. kind: See `VqaConfig`. network: Its settings beside those that all arms share.
        truth: It is shown what the catalogue says in place of pictures. equal: Its size must be that of the other
            such arms. against: The arm that its difference is to.
    """

    name: str
    kind: str
    network: dict[str, Any] = field(default_factory=dict)
    truth: bool = False
    equal: bool = False
    against: str = ""


@dataclass(frozen=True)
class VqaSpec:
    """The whole comparison.

    Attributes:
        catalog, questions, features: Folders; `--catalog`, `--questions` and `--features` say where they lie.
        weights: Of the backbone, or the training run that made it; the features must be theirs.
        judged: Split (`test`, `entailed:test`, `paraphrase`, …) → most questions of it. human: Table of people's
            questions, by the name of a file beside the recipes. network: Settings that all arms share.
        blind: The arm that does not look, which gains are over.
    """

    backbone: Encoder
    training: VqaTraining
    arms: list[VqaArm]
    seeds: list[int]
    judged: dict[str, int]
    network: dict[str, Any] = field(default_factory=dict)
    blind: str = ""
    human: str = ""
    catalog: str = ""
    questions: str = ""
    features: str = ""
    weights: str = ""


def check_vqa(spec: VqaSpec, path: Path, lines: Lines) -> None:
    """Refuses a comparison that cannot be.

    Raises:
        InputError: A folder, weights, arms or seeds are missing, arms that cannot be told apart or are of no known
            kind, one against an arm that is not there, a blind arm that looks, or splits and people's questions that
            the question set does not have.
    """
    for place in ("catalog", "questions", "features"):
        folder = getattr(spec, place)
        if not folder or not Path(folder).is_dir():
            problem, hint = f"`{place}` must name a folder that is there", f"--{place} FOLDER says where"
            raise InputError(problem, file=path, column=place, found=folder, hint=hint)
    if not spec.weights:
        hint = "--weights RUN names the training run that made it, or `offline`, a file, …"
        raise InputError("weights of the backbone are needed", file=path, column="weights", hint=hint)
    if not spec.seeds or len(set(spec.seeds)) < len(spec.seeds):
        raise InputError("seeds are needed, each once", file=path, row=lines.of("seeds"), column="seeds")
    _check_arms(spec, path, lines)
    store = VQAStore(spec.questions)
    there = [split for split in SAMPLE_SPLITS if sample_files(store.path, split)]
    allowed = [*there, ABSENT, *(f"{ENTAILED}{one}" for one in store.manifest.params.get("entail") or [])]
    for split, limit in spec.judged.items():
        row = lines.of("judged", split)
        if split not in allowed:
            problem = "the question set has no such split"
            raise InputError(problem, file=path, row=row, column="judged", found=split, allowed=allowed)
        if limit < 1:
            raise InputError("at least one question is needed", file=path, row=row, column=split, found=limit)
    if "test" not in spec.judged:
        raise InputError("the split `test` is needed", file=path, row=lines.of("judged"), column="judged")
    if spec.human:
        HumanQuestions(store, human_file(spec))


def _check_arms(spec: VqaSpec, path: Path, lines: Lines) -> None:
    names = [arm.name for arm in spec.arms]
    apart = all(name[:1].isalnum() for name in names) and len(set(map(file_name, names))) == len(names)
    if not names or not apart:
        problem = "arms need names that begin with a letter or a digit, each once"
        raise InputError(problem, file=path, row=lines.of("arms"), column="arms", found=", ".join(names))
    for number, arm in enumerate(spec.arms):
        row = lines.of("arms", number)
        if arm.kind not in KINDS:
            raise InputError("no such kind", file=path, row=row, column="kind", found=arm.kind, allowed=KINDS)
        if arm.against and arm.against not in names:
            raise InputError("no such arm", file=path, row=row, column="against", found=arm.against, allowed=names)
        if arm.name == spec.blind and not {**spec.network, **arm.network}.get("blind"):
            hint = "`blind: true` in its `network`"
            raise InputError("the blind arm looks at pictures", file=path, row=row, column="network", hint=hint)
    if spec.blind and spec.blind not in names:
        row = lines.of("blind")
        raise InputError("no such arm", file=path, row=row, column="blind", found=spec.blind, allowed=names)


def human_file(spec: VqaSpec) -> Path:
    """Where people's questions are."""
    return root() / "eval" / spec.human


def answers_of(folder: Path, key: str, split: str) -> Path:
    """Where the answers of a run lie; people's questions are the split HUMAN."""
    return folder / ANSWERS / file_name(key) / split.replace(":", "-")


def key_of(arm: str, seed: int) -> str:
    """Name of a run."""
    return f"{arm}-s{seed}"


@dataclass(frozen=True)
class Job:
    """What one process does at a time."""

    spec: VqaSpec
    folder: Path
    arm: VqaArm
    seed: int

    @property
    def key(self) -> str:
        """Name of the run."""
        return key_of(self.arm.name, self.seed)


def jobs_of(spec: VqaSpec, folder: Path) -> Iterator[Job]:
    """All runs: each arm with the first seed, then with the next."""
    for seed in spec.seeds:
        for arm in spec.arms:
            yield Job(spec, folder, arm, seed)


def recipe_of(job: Job) -> dict[str, Any]:
    """What `fashionkit train fit` is given."""
    spec, arm, t = job.spec, job.arm, job.spec.training
    maps = {"truth": True} if arm.truth else {"features": spec.features}
    data = {"catalog": spec.catalog, "questions": spec.questions, **maps}
    data |= {name: getattr(t, name) for name in ("images", "per_image", "noise", "words", "val_questions")}
    data["empties"] = 0.0 if arm.truth else t.empties
    model: dict[str, Any] = {"kind": arm.kind, "network": {**spec.network, **arm.network}}
    model |= {name: getattr(t, name) for name in ("lr", "warmup", "weight_decay")}
    if not arm.truth:
        encoder = asdict(spec.backbone)
        model |= {
            "backbone": encoder.pop("name"),
            "weights": spec.weights,
            **{k: v for k, v in encoder.items() if v is not None},
        }
    return {
        "seed_everything": job.seed,
        "data": {"class_path": "fashionkit.train.questions.QuestionData", "init_args": data},
        "model": {"class_path": "fashionkit.train.vqa.VqaTask", "init_args": model},
        "trainer": {
            "max_steps": t.steps,
            "max_epochs": -1,
            "check_val_every_n_epoch": t.every,
            "gradient_clip_val": 1.0,
            "accelerator": "cpu",
            "precision": t.precision,
            "enable_progress_bar": False,
        },
        "run": {"save_every": 500},
    }


def run_vqa_series(spec: VqaSpec, runs: RunFolder, workers: int, say: Callable[[str], None]) -> int:
    """Makes all runs that are missing; returns how many there are.

    Args:
        spec: What to run. runs: Where; trained runs and answers are kept there, too. workers: Processes, one thread
            each. say: Told what is being done.
    """
    jobs = list(jobs_of(spec, runs.folder))
    missing = [job for job in jobs if not runs.has(job.key)]
    say(f"{len(jobs)} runs, {len(missing)} to do")
    for line in run_shards(_made, missing, workers):
        say(line)
    return len(jobs)


def _made(job: Job) -> str:
    """Makes one run in a worker; says what it was."""
    from fashionkit.eval import vqa_training  # torch is loaded in worker processes only, after they were forked

    return vqa_training.make_run(job)
