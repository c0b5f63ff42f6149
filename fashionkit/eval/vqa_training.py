"""The work of the question-answer comparison in one process: train an arm, let it answer, keep both.

<folder>/trained/<key>.yaml, <key>/    the recipe and the run of `fashionkit train fit`, with its log
<folder>/answers/<key>/<split>/        folders of kind `answers`
<folder>/runs/…                        see `RunFolder`; figures in short, the test answers by number
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from fashionkit.engine.threads import one_thread
from fashionkit.eval.memory import settle
from fashionkit.eval.runs import PLACES, RunFolder, file_name
from fashionkit.eval.vqa import EQUAL, TRAINED, Job, answers_of, human_file, recipe_of
from fashionkit.eval.vqa_answers import answer_questions
from fashionkit.eval.vqa_human import HUMAN
from fashionkit.eval.vqa_run import load_model
from fashionkit.models.vqa import build_vqa, count_parameters, flops
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.tables import InputError, read_table, write_text
from fashionkit.train.cli import run as train
from fashionkit.train.questions import QuestionData
from fashionkit.train.runs import CONFIG


def make_run(job: Job) -> str:
    """Trains one arm with one seed and lets it answer; goes on where it was stopped."""
    with one_thread():
        settle()
        runs, _ = RunFolder.open(job.folder)
        if job.arm.equal:
            check_sizes(job)
        model = load_model(_trained(job), job.spec.weights)
        network = model.network
        figures: dict[str, Any] = {
            "parameters": count_parameters(network),
            "flops": flops(network, job.spec.training.per_image),
        }
        for split, limit in job.spec.judged.items():
            _answered(job, model, split, limit)
        if job.spec.human:
            _answered(job, model, HUMAN, None)
        table = read_table(answers_of(job.folder, job.key, "test"), "answers")
        right = table["right"].to_numpy(zero_copy_only=False)
        figures |= {"accuracy": float(right.mean()), "n": len(right)}
        settings = {"arm": job.arm.name, "seed": job.seed}
        runs.add(job.key, settings, figures, _predictions(table))
    return f"{job.arm.name}, seed {job.seed}: {figures['accuracy']:.4f} of {figures['n']:,} test questions"


def check_sizes(job: Job) -> None:
    """Arms that are compared at equal size have it.

    Raises:
        InputError: The largest has over `EQUAL` more parameters than the smallest.
    """
    spec, t = job.spec, job.spec.training
    data = QuestionData(spec.catalog, spec.questions, features=spec.features, words=t.words, seed=job.seed)
    facts = data.facts
    given = {"channels": facts["channels"], "cells": facts["cells"]}
    given |= {"words": len(data.read[0].tokenizer), "answers": len(facts["answers"])}
    sizes = {
        arm.name: count_parameters(
            build_vqa(VqaConfig.from_dict({**spec.network, **arm.network, "kind": arm.kind, **given}))
        )
        for arm in spec.arms
        if arm.equal
    }
    if max(sizes.values()) > min(sizes.values()) * (1 + EQUAL):
        found = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        hint = "change `feed` or `layers` of one of them"
        raise InputError(f"sizes of equal arms lie more than {EQUAL:.0%} apart", column="arms", found=found, hint=hint)


def _trained(job: Job) -> Path:
    folder, recipe = job.folder / TRAINED / file_name(job.key), recipe_of(job)
    file, log = (folder.with_name(f"{folder.name}.{ending}") for ending in ("yaml", "log"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, yaml.safe_dump(recipe, sort_keys=False))
    _moved(folder / CONFIG, recipe)
    with open(log, "a", encoding="utf-8") as lines, contextlib.redirect_stdout(lines):
        code = train(["fit", "--config", str(file), "--out", str(folder)])
    if code:
        raise InputError(f"training ended with exit code {code}", file=log)
    return folder


def _moved(config: Path, recipe: dict[str, Any]) -> None:
    """Lets a run that has begun go on where the same inputs lie elsewhere now; the series knows their content."""
    if config.is_file():
        kept = yaml.safe_load(config.read_text(encoding="utf-8"))
        for part in ("data", "model"):
            now = recipe[part]["init_args"]
            kept[part]["init_args"] |= {name: now[name] for name in PLACES if name in now}
        write_text(config, yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))


def _answered(job: Job, model: Any, split: str, limit: int | None) -> None:
    spec = job.spec
    human = human_file(spec) if split == HUMAN else None
    answer_questions(
        model,
        spec.questions,
        answers_of(job.folder, job.key, split),
        split="test" if human is not None else split,
        catalog=spec.catalog if job.arm.truth else None,
        features=None if job.arm.truth else spec.features,
        limit=limit,
        human=human,
        truth=job.arm.truth,
    )


def _predictions(table: pa.Table) -> pa.Table:
    """The test answers as `RunFolder` keeps them, by vocabulary id; -1 where an answer has none."""
    return pa.table(
        {
            "id": table["qid"].cast(pa.string()),
            "group": table["group"].cast(pa.string()),
            "truth": table["answer_id"].fill_null(-1).cast(pa.int64()),
            "predicted": table["predicted_id"].fill_null(-1).cast(pa.int64()),
            "confidence": table["probability"],
        }
    )
