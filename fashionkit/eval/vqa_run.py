"""`fashionkit eval vqa`: a model's answers, their measures, a page.

model or run ─► `load_model` ─► `answer_questions` ─► OUT ─┐
blind model ─► the same questions ─► OUT-blind ────────────┼─► `measure`, `compare` ─► lines, figures, page
answers of other seeds, of another model ──────────────────┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fashionkit.datagen.store import VQAStore
from fashionkit.eval.vqa_answers import answer_questions
from fashionkit.eval.vqa_measures import WORDS, compare, measure
from fashionkit.eval.vqa_page import CARDS, answers_page, chosen, small_pictures
from fashionkit.eval.vqa_schema import KIND
from fashionkit.eval.vqa_side import read_side
from fashionkit.models.answering import AnsweringModel
from fashionkit.models.answering_checkpoint import answering_from_checkpoint
from fashionkit.models.checkpoint import find_checkpoint
from fashionkit.models.model_folder import CONFIG
from fashionkit.tables import MANIFEST, InputError, read_manifest, write_text
from fashionkit.vision.memory import keep_memory

Figures = dict[str, Any]
RESAMPLES = 1000


@dataclass(frozen=True)
class VqaRun:
    """What is to be answered, by whom, and what is made of it.

    Attributes:
        path, out, split, catalog, features, limit, seed, human, free, truth: See `answer_questions`.
        model: Folder of a model, or a training run. weights: See `load_model`. device: Where it runs.
        seeds: Answers of the same model, trained with other seeds. blind: A model that does not look, or its answers,
            one for each seed. against: Answers of another model, one for each seed.
        page: File of the HTML page. resamples: Of intervals.
    """

    path: str
    out: str
    model: str
    split: str = "test"
    catalog: str | None = None
    features: str | None = None
    limit: int | None = None
    seed: int = 0
    human: str | None = None
    free: bool = True
    truth: bool = False
    weights: str | None = None
    device: str = "cpu"
    seeds: Sequence[str] = ()
    blind: Sequence[str] = ()
    against: Sequence[str] = ()
    page: str | None = None
    resamples: int = RESAMPLES


def load_model(path: str | Path, weights: str | Path | None = None, device: str = "cpu") -> AnsweringModel:
    """The model of a folder that was shared, or of a training run.

    Args:
        path: The folder, the run's folder, or a checkpoint. weights: Of the backbone of a run, where they lie elsewhere
            than in training. device: Where it runs.

    Raises:
        InputError: There is no such model or device, or what is there is damaged.
    """
    path = Path(path)
    if not path.exists():
        hint = "name a folder that `fashionkit share` wrote, or a training run"
        raise InputError("there is no such model", file=path, hint=hint)
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        raise InputError("there is no such device", column="device", found=device, hint="cpu, cuda or mps") from error
    if (path / CONFIG).is_file():
        if weights is not None:
            raise InputError("a saved model has its own weights", file=path, column="weights", found=str(weights))
        model = AnsweringModel.load(path)
    else:
        model = answering_from_checkpoint(find_checkpoint(path), weights)
    if place.type == "cpu":
        keep_memory()
        if model.backbone is not None:
            model.backbone.to(memory_format=torch.channels_last)
    return model.to(place)


def run_vqa(run: VqaRun, describe: str = "") -> tuple[list[str], Figures]:
    """Answers, measures and shows.

    Args:
        run: What is asked for. describe: Label of the progress; "" shows none.

    Returns:
        Lines for a terminal, and figures for a file.

    Raises:
        InputError: See `answer_questions`, `load_model`, `measure`.
    """
    model = load_model(run.model, run.weights, run.device)
    folders = [_answered(run, model, Path(run.out), describe), *map(Path, run.seeds)]
    blind = [_blind(run, each, number, describe) for number, each in enumerate(run.blind)]
    figures = measure(folders, blind, run.resamples)
    differences = compare(folders, run.against, run.resamples) if run.against else None
    lines = report_lines(figures, differences, str(run.out))
    if run.page is not None:
        text = _page(run, folders, figures, differences)
        write_text(Path(run.page), text)
        lines.append(f"wrote {run.page}, {len(text.encode()) / 1e6:.1f} MB")
    return lines, figures if differences is None else {**figures, "against": differences}


def report_lines(figures: Figures, differences: Figures | None, name: str) -> list[str]:
    """Measures as text, with their intervals; beside them the gain by looking, and the difference to another model."""
    pictures = f"{figures['pictures']:,} pictures in {figures['groups']:,} groups"
    seeds = f", {figures['seeds']} seeds" if figures["seeds"] > 1 else ""
    lines = [f"{name}: {figures['questions']:,} questions of `{figures['split']}` about {pictures}{seeds}"]
    gains = figures.get("gain", {})
    others = {} if differences is None else differences["measures"]
    for key, row in figures["measures"].items():
        line = f"  {key.replace('_', ' '):22} {_shown(row)}"
        line += f"  gain by looking {_shown(gains[key], '+')}" if key in gains else ""
        line += f"  difference {_shown(others[key], '+')}" if key in others else ""
        lines.append(f"{line}  ({WORDS[key]})")
    return lines


def _shown(row: Mapping[str, Any], sign: str = "") -> str:
    """A share as .957 [.951, .963]."""
    if row["value"] is None:
        return "    –"
    if row["low"] is None or row["high"] is None:
        return f"{row['value']:{sign}.3f}"
    return f"{row['value']:{sign}.3f} [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"


def _answered(run: VqaRun, model: AnsweringModel, out: Path, describe: str) -> Path:
    return answer_questions(
        model, run.path, out, run.split, run.catalog, run.features, run.limit,
        run.seed, run.human, run.free, run.truth, describe,
    )  # fmt: skip


def _blind(run: VqaRun, given: str, number: int, describe: str) -> Path:
    """Answers of a blind model: what is given, or made beside those of the model."""
    if Path(given).resolve() == Path(run.out).resolve():
        raise InputError("these are the answers that the gain is to be over", file=given, column="blind")
    if (Path(given) / MANIFEST).is_file() and read_manifest(given).kind == KIND:
        return Path(given)
    out = Path(f"{str(run.out).rstrip('/')}-blind{number or ''}")
    weights = None if (Path(given) / CONFIG).is_file() else run.weights
    model = load_model(given, weights, run.device)
    if not model.config.blind:
        hint = "train one with `--model.network.blind true`"
        raise InputError("this model looks at pictures", file=given, column="blind", hint=hint)
    return _answered(run, model, out, f"{describe}, blind" if describe else "")


def _page(run: VqaRun, folders: Sequence[Path], figures: Figures, differences: Figures | None) -> str:
    side = read_side(folders).asked()
    rows = chosen(side, CARDS, run.seed)
    jpegs = None
    if run.catalog is not None:
        ids = [side.table["image_id"][row].as_py() for row in rows]
        jpegs = small_pictures(VQAStore(run.path).catalog(run.catalog), ids)
    return answers_page(side, figures, differences, rows, jpegs)
