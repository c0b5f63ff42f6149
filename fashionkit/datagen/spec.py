"""A run's settings: one YAML (or recipe name) whose keys are the fields of `RunSpec`; flags override it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fashionkit import recipes
from fashionkit.datagen.audit.options import LIMITS, AuditOptions
from fashionkit.datagen.balance import BalanceOptions
from fashionkit.datagen.feedback import Feedback
from fashionkit.datagen.judge import SPLIT_NAMES, DifficultyOptions
from fashionkit.datagen.negatives import NegativeOptions
from fashionkit.datagen.packs import FAMILIES
from fashionkit.engine import ENGINES
from fashionkit.tables import InputError
from fashionkit.tables.typed import build
from fashionkit.tables.yamls import Lines, load_yaml

UNDECISIVE = ("catalog", "out", "packs", "workers", "engine", "ray_address", "audit")  # keys that change no sample


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a question set, and where it is read and written.

    Attributes:
        catalog: Catalogue folder. out: Folder to write. packs: Pack names or paths.
        samples: How many samples; null: as many as balance allows.
        phrasings: In how many of its paraphrases each question program is put.
        per_image: Most samples of one picture (before the paraphrase split repeats those of test); null: no limit.
        seed: Of all random choices. shard_images: Pictures to a shard. workers: Processes.
        engine: What runs the shards, `local` processes or `ray`. ray_address: See `engine_session`.
        families: Family → weight of its share; 0 leaves it out. Families not named weigh 1.
        drop: Template ids to leave out.
        entail: Splits for whose samples it is stored what follows from them.
        feedback: Folder of `datagen reweight`, from the folder of the spec; empty: none.
        negatives, difficulty, balance: See their classes.
        audit: Thresholds of the bias gate.
    """

    catalog: str = ""
    out: str = ""
    packs: list[str] = field(default_factory=lambda: ["core"])
    samples: int | None = None
    phrasings: int = 1
    per_image: int | None = None
    seed: int = 0
    shard_images: int = 4096
    workers: int = 2
    engine: str = "local"
    ray_address: str = ""
    families: dict[str, float] = field(default_factory=dict)
    drop: list[str] = field(default_factory=list)
    entail: list[str] = field(default_factory=lambda: [name for name in SPLIT_NAMES if name != "train"])
    feedback: str = ""
    negatives: NegativeOptions = field(default_factory=NegativeOptions)
    difficulty: DifficultyOptions = field(default_factory=DifficultyOptions)
    balance: BalanceOptions = field(default_factory=BalanceOptions)
    audit: AuditOptions = field(default_factory=AuditOptions)

    def decides(self) -> dict[str, Any]:
        """The settings that the content depends on; paths, engine, workers and the gate's thresholds do not count.

        Feedback counts by its content, wherever it lies.
        """
        kept = {k: v for k, v in asdict(self).items() if k not in UNDECISIVE}
        return {**kept, "feedback": Feedback(self.feedback).manifest.content_hash() if self.feedback else ""}


def load_spec(name: str, **overrides: Any) -> RunSpec:
    """Reads a spec by recipe name or path; `overrides` that are not None win.

    Raises:
        InputError: Unknown key, wrong type or impossible value, with its line.
    """
    path = recipes.find("datagen", name)
    data, lines = load_yaml(path)
    if not isinstance(data, dict):
        raise InputError("a spec is a mapping", file=path, found=data)
    data = {**data, **{k: v for k, v in overrides.items() if v is not None}}
    spec: RunSpec = build(RunSpec, data, path, lines)
    _check(spec, path, lines)
    packs = [str(recipes.find("datagen/packs", name, relative_to=path.parent)) for name in spec.packs]
    feedback = str(Feedback(Path(path.parent, spec.feedback)).path.resolve()) if spec.feedback else ""
    return replace(spec, packs=packs, feedback=feedback)


def _check(spec: RunSpec, path: Path, lines: Lines) -> None:
    limits: dict[str, tuple[float, float, float]] = {
        "samples": (spec.samples if spec.samples is not None else 1, 1, 10**12),
        "phrasings": (spec.phrasings, 1, 16),
        "per_image": (spec.per_image if spec.per_image is not None else 1, 1, 10**9),
        "shard_images": (spec.shard_images, 1, 60_000),
        "workers": (spec.workers, 1, 4096),
        "negatives.draws": (spec.negatives.draws, 1, 64),
        "negatives.temperature": (spec.negatives.temperature, 1e-3, 1e3),
        "negatives.uniform": (spec.negatives.uniform, 0, 1),
        "negatives.alpha": (spec.negatives.alpha, 0, 1),
        "difficulty.loss": (spec.difficulty.loss, -100, 100),
        "difficulty.item_loss": (spec.difficulty.item_loss, -100, 100),
        "difficulty.clip": (spec.difficulty.clip, 1, 1e6),
        "balance.temper": (spec.balance.temper, 0, 1),
        "balance.ratio": (spec.balance.ratio, 1, 1e9),
        "balance.family_cap": (spec.balance.family_cap, 0.01, 1),
        **{f"audit.{name}": (getattr(spec.audit, name), *limits) for name, limits in LIMITS.items()},
    }
    for key, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise InputError(
                f"must be from {low:g} to {high:g}", file=path, row=lines.of(*key.split(".")), column=key, found=value
            )
    needs = {f"difficulty.{name}": getattr(spec.difficulty, name) != 0 for name in ("loss", "item_loss")}
    needs["negatives.alpha"] = spec.negatives.alpha != 1
    for key in (key for key, needed in needs.items() if needed and not spec.feedback):
        problem, hint = "this needs `feedback`, which the spec does not name", "`fashionkit datagen reweight` makes one"
        raise InputError(problem, file=path, row=lines.of(*key.split(".")), column=key, hint=hint)
    if spec.engine not in ENGINES:
        row = lines.of("engine")
        raise InputError("no such engine", file=path, row=row, column="engine", found=spec.engine, allowed=ENGINES)
    if spec.ray_address and spec.engine != "ray":
        row, hint = lines.of("ray_address"), "set `engine: ray`, or give --engine ray"
        raise InputError("only the engine `ray` has an address", file=path, row=row, column="ray_address", hint=hint)
    for number, split in enumerate(spec.entail):
        if split not in SPLIT_NAMES or split in spec.entail[:number]:
            problem = "no such split" if split not in SPLIT_NAMES else "a split stands twice"
            row = lines.of("entail", number)
            raise InputError(problem, file=path, row=row, column="entail", found=split, allowed=SPLIT_NAMES)
    for family, weight in spec.families.items():
        if family not in FAMILIES:
            raise InputError(
                "no such family", file=path, row=lines.of("families", family), found=family, allowed=FAMILIES
            )
        if not 0 <= weight <= 1e6:
            raise InputError("a weight is 0 or more", file=path, row=lines.of("families", family), found=weight)
