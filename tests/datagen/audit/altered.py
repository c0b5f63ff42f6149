"""Question sets to damage: a copy of a real one that keeps a few pictures, and its parts changed row by row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.samples import SAMPLE_SPLITS, SAMPLES, read_samples, sample_files
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import read_manifest

Row = dict[str, Any]


def thinned(source: Path, folder: Path, most: int) -> Path:
    """A copy of a set with the first few samples of each template in each part."""
    shutil.copytree(source, folder)
    for split in SAMPLE_SPLITS:
        for path in sample_files(folder, split):
            table = read_samples(path)
            template = table["template"].to_numpy()
            rows = np.concatenate([np.flatnonzero(template == t)[:most] for t in np.unique(template)])
            pq.write_table(table.take(pa.array(np.sort(rows))), path)
    return folder


def rows_of(folder: Path, split: str, template: str = "") -> list[Row]:
    """Samples of a split; of one template."""
    number = VQAStore(folder).pack.index(template) if template else None
    rows = [row for path in sample_files(folder, split) for row in read_samples(path).to_pylist()]
    return [row for row in rows if number is None or row["template"] == number]


def rewrite(folder: Path, split: str, change: Callable[[list[Row]], list[Row]], part: int = 0) -> Path:
    """Changes the samples of one part of a split; gives the part."""
    path = sample_files(folder, split)[part]
    rows = change(read_samples(path).to_pylist())
    for row in rows:  # their type is not taken for one
        row["difficulty"] = np.float16(row["difficulty"])
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), path)
    return path


def plant(folder: Path, split: str, *rows: Row) -> None:
    """Adds samples to the part that holds the picture of the first one, or to the first part."""
    parts = [set(read_samples(path)["image"].to_pylist()) for path in sample_files(folder, split)]
    part = next((number for number, images in enumerate(parts) if rows[0]["image"] in images), 0)
    rewrite(folder, split, lambda there: [*there, *rows], part)


def tell(folder: Path, **changes: Any) -> None:
    """Changes keys of a set's manifest."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def made_from(folder: Path, catalog: Path) -> None:
    """Says that a set was made from another catalogue."""
    tell(folder, inputs={"catalog": read_manifest(catalog).content_hash()})


def values(verdicts: list[Verdict], check: str) -> dict[str, float | None]:
    """Scope → value of one check."""
    return {v.scope: v.value for v in verdicts if v.check == check}


def failures(verdicts: list[Verdict]) -> dict[tuple[str, str], float | None]:
    """(check, scope) → value of what failed."""
    return {(v.check, v.scope): v.value for v in verdicts if v.verdict == "fail"}
