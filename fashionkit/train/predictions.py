"""What a trained network says of each picture, and its measures, beside its run.

predict ─► batches of rows and tensors ─► <run>/predictions_test.parquet: image_id, class, a column a tensor
test    ─► <run>/test.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from fashionkit.tables import write_table, write_text


def write_predictions(folder: Path, split: str, ids: Sequence[str], task: Any, batches: Any) -> Path:
    """Writes predictions by id and returns the file.

    Args:
        folder: Of the run. split: Of the pictures. ids: n ids, by row. task: Its `classes`, where it has any, name
            the columns of `probability`. batches: Of `predict_step`: `row` (B,), and tensors (B, …) by name.
    """
    found = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    rows = found.pop("row").tolist()
    columns: dict[str, Any] = {"image_id": [ids[row] for row in rows]}
    classes = getattr(task, "classes", None)
    if classes is not None and "probability" in found:
        columns["class"] = [classes[number] for number in found["probability"].argmax(1).tolist()]
    columns |= {
        name: values.flatten(1).tolist() if values.ndim > 1 else values.tolist() for name, values in found.items()
    }
    table = pa.table(columns).replace_schema_metadata({"classes": json.dumps(classes)})
    file = folder / f"predictions_{split}.parquet"
    write_table(file, table)
    return file


def write_measures(folder: Path, verb: str, measures: Mapping[str, float], checkpoint: Path | None) -> Path:
    """Writes the measures of a split and returns the file."""
    file = folder / f"{verb}.json"
    content = {"checkpoint": None if checkpoint is None else checkpoint.name, **measures}
    write_text(file, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return file
