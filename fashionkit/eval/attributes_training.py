"""The work of the attributes' comparison in one process: labels, kept features, heads, predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.schema import PRESENT
from fashionkit.engine.threads import one_thread
from fashionkit.eval.attributes import AttributesSpec, HeadArm, feature_folder, run_key
from fashionkit.eval.memory import Arrays, fit, loader, settle
from fashionkit.eval.runs import RunFolder
from fashionkit.metrics.classification import accuracy, calibration_error, macro_f1
from fashionkit.models.attributes import AttributeOutput, AttributeSpec
from fashionkit.models.calibration import Calibration, predict
from fashionkit.models.targets import MASKED, Statement, Targets
from fashionkit.tables import InputError
from fashionkit.train.attributes import AttributeTask
from fashionkit.train.pictures import CatalogPictures
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.colour import COLOUR_DIM
from fashionkit.vision.feature_store import FeatureStore
from fashionkit.vision.features import cache_features
from fashionkit.vision.pictures import as_picture, sized
from fashionkit.vision.preprocess import whole


@dataclass(frozen=True)
class Table:
    """Labels of the catalogue's pictures.

    Attributes:
        ids: n ids. groups: n split groups. specs: Of each column. targets: Of n rows. splits: (n,) texts.
    """

    ids: list[str]
    groups: list[str]
    splits: npt.NDArray[Any]
    specs: list[AttributeSpec]
    targets: Targets


def read_table(spec: AttributesSpec) -> Table:
    """The labels of all pictures that have a row in the table.

    Raises:
        InputError: A column is missing, an id is there twice, no picture has labels, or a column has one value.
    """
    file = Path(spec.labels)
    there = pq.read_schema(file).names
    for name in (spec.id, *spec.columns):
        if name not in there:
            raise InputError("no such column", file=file, column=name, allowed=there)
    rows = pq.read_table(file, columns=[spec.id, *spec.columns]).to_pylist()
    by_id = {str(row[spec.id]): row for row in rows}
    if len(by_id) < len(rows):
        raise InputError("an id is there twice", file=file, column=spec.id)
    splits = Catalog(spec.catalog).table("splits").to_pylist()
    found = [entry for entry in splits if entry["image_id"] in by_id]
    if not found:
        raise InputError("no picture of the catalogue has labels", file=file, column=spec.id)
    labels = [by_id[entry["image_id"]] for entry in found]
    specs = []
    for name in spec.columns:
        values = sorted({str(row[name]) for row in labels if row[name] is not None})
        if len(values) < 2:
            raise InputError("fewer than two values", file=file, column=name, found=values)
        specs.append(AttributeSpec(name, tuple(values)))
    states = [
        {n: Statement(PRESENT, (str(row[n]),), True) for n in spec.columns if row[n] is not None} for row in labels
    ]
    return Table(
        [entry["image_id"] for entry in found],
        [str(entry["split_group"]) for entry in found],
        np.array([entry["split"] for entry in found]),
        specs,
        Targets.encode(specs, states),
    )


def keep_features(spec: AttributesSpec, folder: Path, arm: HeadArm) -> str:
    """Features of all pictures, unless they are there."""
    with one_thread():
        settle()
        table = read_table(spec)
        pictures = CatalogPictures(Catalog(spec.catalog), table.ids)
        at = {name: row for row, name in enumerate(table.ids)}
        cache_features(
            feature_folder(folder, arm), _backbone(arm), table.ids, lambda i: pictures.pixels(at[i]), maps=False
        )
    return f"features of {arm.backbone}"


def train_arm(spec: AttributesSpec, folder: Path, arm: HeadArm, seed: int) -> str:
    """Heads of one arm and seed; keeps a run for each attribute."""
    with one_thread():
        settle()
        runs, _ = RunFolder.open(folder)
        table = read_table(spec)
        task = _task(arm, table, seed, folder)
        rows = {split: np.flatnonzero(table.splits == split) for split in ("train", "val", "test")}
        examples = {split: _examples(spec, folder, arm, table, at) for split, at in rows.items()}
        examples["train"].flip, examples["train"].seed = arm.tune > 0, seed
        fit(task, loader(examples["train"], arm.batch, seed, shuffle=True), arm.epochs)
        task.eval()
        val = _outputs(task, examples["val"])
        calibration = Calibration.fit(val, table.targets[torch.from_numpy(rows["val"])], table.specs)
        said = predict(_outputs(task, examples["test"]), table.specs, calibration)
        for one in table.specs:
            _keep(runs, arm, seed, one, table, rows["test"], said[one.name].probability.numpy())
    return f"{arm.name}, seed {seed}"


def _keep(
    runs: RunFolder, arm: HeadArm, seed: int, spec: AttributeSpec, table: Table, rows: Any, probability: Any
) -> None:
    truth = table.targets.values[spec.name][torch.from_numpy(rows)].numpy()
    known = truth != MASKED
    truth, probability, rows = truth[known], probability[known], rows[known]
    found, sure = probability.argmax(1), probability.max(1)
    figures = {"accuracy": accuracy(truth, found), "macro_f1": macro_f1(truth, found), "n": len(truth)}
    figures |= {"ece": calibration_error(sure, found == truth), "values": len(spec.values)}
    figures["majority"] = float(np.bincount(truth).max() / len(truth))
    predictions = pa.table(
        {
            "id": [table.ids[row] for row in rows],
            "group": [table.groups[row] for row in rows],
            "truth": truth,
            "predicted": found,
            "confidence": sure.astype(np.float32),
        }
    )
    settings = {"arm": arm.name, "seed": seed, "attribute": spec.name}
    runs.add(run_key(arm, seed, spec.name), settings, figures, predictions)


def _backbone(arm: HeadArm) -> Backbone:
    backbone = build_backbone(arm.backbone, arm.weights, arm.size)
    if arm.resize is not None:
        backbone.preprocess = whole(backbone.preprocess, arm.resize)
    return backbone


def _task(arm: HeadArm, table: Table, seed: int, folder: Path) -> AttributeTask:
    features = None
    if not arm.tune:
        features = {"fingerprint": FeatureStore(feature_folder(folder, arm)).fingerprint, "colour": COLOUR_DIM}
    specs = [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in table.specs]
    return AttributeTask(
        arm.backbone,
        {"specs": specs, "features": features},
        arm.weights,
        arm.size,
        arm.resize,
        freeze=arm.tune or "all",
        colour=arm.colour,
        hidden=arm.hidden,
        dropout=arm.dropout,
        lr=arm.lr,
        weight_decay=arm.weight_decay,
        seed=seed,
    )


def _examples(spec: AttributesSpec, folder: Path, arm: HeadArm, table: Table, rows: Any) -> Arrays:
    ids = [table.ids[row] for row in rows]
    parts: dict[str, npt.NDArray[Any]]
    if arm.tune:
        how, pictures = _backbone(arm).preprocess, CatalogPictures(Catalog(spec.catalog), ids)
        parts = {"image": np.stack([sized(as_picture(pictures.pixels(row)), how) for row in range(len(ids))])}
    else:
        store = FeatureStore(feature_folder(folder, arm))
        parts = {"vector": store.vectors(ids)}
        if arm.colour:
            parts["colour"] = store.colours(ids)
    targets = table.targets[torch.from_numpy(rows)]
    return Arrays(parts, {"values": targets.values, "state": targets.state})


@torch.inference_mode()
def _outputs(task: AttributeTask, examples: Arrays) -> AttributeOutput:
    parts = [task(batch) for batch in loader(examples, 128)]
    names = list(parts[0].values)
    values = {name: torch.cat([part.values[name] for part in parts]) for name in names}
    return AttributeOutput(values, {name: torch.cat([part.state[name] for part in parts]) for name in names})
