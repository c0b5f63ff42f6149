"""The frame in which a catalogue is made: begin or continue, make the missing shards, finish with a manifest.

    begin ──► .import/plan.json ──► make_shards (any worker, any order) ──► finish: facts, ontology, splits, manifest

`made_from` is all that decides the content (input hashes and settings). A folder that was begun with the same is
continued, a finished one is left as it is, and nothing that fashionkit did not make is ever removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fashionkit.catalog import staging
from fashionkit.catalog.catalog import copy_ontology, write_facts
from fashionkit.catalog.drafts import Tally
from fashionkit.catalog.schema import KIND, SCHEMA, TABLES, Facts
from fashionkit.catalog.splits import REPORT, SplitOptions, SplitReport, split_catalog
from fashionkit.engine import run_shards
from fashionkit.tables import (
    MANIFEST,
    InputError,
    Manifest,
    part_path,
    read_manifest,
    sweep_temporary,
    write_manifest,
)

_FILES = (MANIFEST, "catalog.yaml", "ontology.yaml", "mapping.yaml", REPORT)


def begin(out: Path, made_from: dict[str, Any], overwrite: bool, stage: Callable[[], int]) -> int | None:
    """Prepares the folder.

    Args:
        out: The catalogue folder.
        made_from: {"inputs": name → hash, "params": settings}, as plain data.
        overwrite: Whether a finished catalogue of something else may be replaced.
        stage: Writes what the shards need into the folder and returns their number.

    Returns:
        The number of shards; None where the folder is finished already.

    Raises:
        InputError: The folder holds something else.
    """
    plan = staging.read_plan(out)
    if plan is not None and plan["made_from"] == made_from:
        sweep_temporary(out)
        return int(plan["shards"])
    finished = (out / MANIFEST).is_file()
    if finished and not overwrite:
        other = _differences(read_manifest(out, KIND), made_from)
        if not other:
            return None
        hint = "give another folder, or --overwrite"
        raise InputError(f"the folder holds a catalogue made from {' and '.join(other)}", file=out, hint=hint)
    _may_be_replaced(out, overwrite or ((out / staging.HIDDEN).is_dir() and not finished))
    staging.remove(out)
    (out / staging.HIDDEN).mkdir(parents=True)
    shards = stage()  # before anything is removed: a source that cannot be read costs no catalogue
    _clear(out)
    staging.publish(out)
    staging.write_plan(out, {"made_from": made_from, "shards": shards})
    return shards


def _differences(manifest: Manifest, made_from: dict[str, Any]) -> list[str]:
    """What a finished catalogue was made from, where it is not what is asked for now."""
    mine, asked = {**manifest.inputs, **manifest.params}, {**made_from["inputs"], **made_from["params"]}
    names = [name for name in sorted({*mine, *asked}) if mine.get(name) != asked.get(name)]
    inputs = [f"another {name}" for name in names if name in {*manifest.inputs, *made_from["inputs"]}]
    settings = [name for name in names if name in {*manifest.params, *made_from["params"]}]
    return inputs + ([f"other settings ({', '.join(settings)})"] if settings else [])


def _may_be_replaced(out: Path, allowed: bool) -> None:
    if out.is_file():
        raise InputError("this is a file, and a folder is needed", file=out)
    if not out.exists() or not any(out.iterdir()):
        return
    if not allowed:
        hint = "give another folder, or --overwrite"
        raise InputError("the folder is not empty, and holds no catalogue", file=out, hint=hint)
    strange = [p.name for p in out.iterdir() if p.name not in (*_FILES, *TABLES, staging.HIDDEN)]
    if strange:
        hint = "give another folder"
        raise InputError("the folder holds things that are no part of a catalogue", file=out, found=strange, hint=hint)


def _clear(out: Path) -> None:
    """Empties the folder of what a catalogue is made of; the manifest first, so that what is left is no catalogue."""
    for name in (*_FILES, *TABLES):
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def make_shards(
    out: Path,
    shards: int,
    task: Callable[[int], int],
    workers: int,
    initializer: Callable[[Any], None],
    job: object,
    label: str,
) -> None:
    """Runs `task(part)` for each shard whose `images` part is not there; it returns the pictures it went through."""
    missing = [part for part in range(shards) if not part_path(out, "images", part).is_file()]
    results = run_shards(
        task, missing, workers, initializer=initializer, initargs=(job,), describe=label if missing else "", rows=int
    )
    for _ in results:
        pass


def finish(
    out: Path, facts: Facts, ontology: Path, made_from: dict[str, Any], tally: Tally, splits: SplitOptions
) -> SplitReport:
    """Writes facts, ontology, splits and the manifest, and removes the staging."""
    write_facts(out, facts)
    copy_ontology(out, ontology)
    report = split_catalog(out, splits)
    manifest = Manifest(KIND, SCHEMA, params=made_from["params"], inputs=made_from["inputs"])
    manifest.counts = tally.counts()
    manifest.about = {"name": facts.name, "licence": facts.licence, "source": facts.source}
    write_manifest(out, manifest)
    staging.remove(out)
    return report


def plain_splits(options: SplitOptions) -> dict[str, Any]:
    """Split options as they stand in a manifest (JSON has no tuples)."""
    values = asdict(options)
    return {**values, "shares": [list(pair) for pair in options.shares]}


def split_again(folder: Path, options: SplitOptions) -> SplitReport:
    """Divides a finished catalogue anew and renews its manifest.

    Raises:
        InputError: No finished catalogue.
    """
    manifest = read_manifest(folder, KIND, SCHEMA)
    report = split_catalog(folder, options)
    manifest.params = {**manifest.params, "splits": plain_splits(options)}
    write_manifest(folder, manifest)
    return report
