"""The work of the retrieval comparison in one process: labels, kept features, heads, vectors, rankings.

Letters: n pictures, Q queries, N pictures of the gallery, D numbers of a vector.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from safetensors.torch import save_file

from fashionkit.catalog.catalog import Catalog
from fashionkit.engine.threads import one_thread
from fashionkit.eval.attributes import AttributesSpec
from fashionkit.eval.attributes_training import Table, read_table
from fashionkit.eval.memory import Arrays, fit, loader, settle
from fashionkit.eval.retrieval import (
    RetrievalArm,
    RetrievalSpec,
    Tuning,
    asked,
    feature_folder,
    heads_file,
    run_key,
)
from fashionkit.eval.runs import RunFolder
from fashionkit.metrics.retrieval import average_precision, hit_at, recall_at
from fashionkit.models.attribute_model import CLIP, AttributeModel
from fashionkit.tables import InputError, write_atomic, write_text
from fashionkit.train.attributes import AttributeTask
from fashionkit.train.pictures import CatalogPictures
from fashionkit.vectors.search import unit
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.colour import COLOUR_DIM
from fashionkit.vision.feature_store import FeatureStore
from fashionkit.vision.features import cache_features
from fashionkit.vision.preprocess import whole
from fashionkit.vision.tensors import fill, read_tensors

Array = npt.NDArray[Any]
BLOCK = 256  # queries that are ranked at a time
UNKNOWN = -1
RANKED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),  # what is drawn again together in a bootstrap
        pa.field("truth", pa.int64(), nullable=False),  # number of the query's class
        pa.field("there", pa.int64(), nullable=False),  # relevant pictures of its gallery
        pa.field("hit", pa.float32(), nullable=False),  # is the first one relevant
        pa.field("recall", pa.float32(), nullable=False),  # at k
        pa.field("precision", pa.float32(), nullable=False),  # average precision of the whole ranking
    ]
)


def read_labels(spec: RetrievalSpec) -> Table:
    """The labels of all columns that are asked for or learned; raises as `read_table`."""
    columns = [name for names in spec.relevant for name in names]
    columns += [name for arm in spec.arms if _trains(arm) for name in (arm.tuning or Tuning()).columns]
    return read_table(AttributesSpec(list(dict.fromkeys(columns)), [], [], spec.catalog, spec.labels, spec.id))


def keep_features(spec: RetrievalSpec, folder: Path, arm: RetrievalArm) -> str:
    """Features of the pictures that are needed, unless they are there."""
    with one_thread():
        settle()
        table = read_labels(spec)
        wanted = {*spec.queries, *spec.gallery, *(["train"] if any(map(_trains, spec.arms)) else [])}
        ids = [name for name, split in zip(table.ids, table.splits, strict=True) if split in wanted]
        backbone = build_backbone(arm.backbone, arm.weights, arm.size)
        backbone.preprocess = whole(backbone.preprocess, arm.resize)
        pictures = CatalogPictures(Catalog(spec.catalog), ids)
        cache_features(feature_folder(folder, arm), backbone, ids, pictures.named, maps=False)
    return f"features of {arm.backbone}"


def rank_arm(spec: RetrievalSpec, folder: Path, arm: RetrievalArm, seed: int) -> str:
    """Vectors of one arm and seed and their rankings; keeps a run for each kind of relevance."""
    with one_thread():
        settle()
        runs, _ = RunFolder.open(folder)
        table = read_labels(spec)
        store = FeatureStore(feature_folder(folder, arm))
        rows = np.flatnonzero(np.isin(table.splits, [*spec.queries, *spec.gallery]))
        ids = [table.ids[row] for row in rows]
        vectors = _hidden(spec, folder, arm, seed, table, store, ids) if arm.tuning else _plain(arm, store, ids)
        for columns in spec.relevant:
            codes = class_codes(spec, table, columns)[rows]
            _keep(runs, spec, arm, seed, columns, table, rows, codes, vectors)
    return f"{arm.name}, seed {seed}"


def class_codes(spec: RetrievalSpec, table: Table, columns: list[str]) -> Array:
    """(n,) one number for each combination of values; UNKNOWN where a column says nothing."""
    known, parts = np.ones(len(table.ids), bool), []
    for one in table.specs:
        if one.name in columns:
            values = table.targets.values[one.name].numpy()
            silent = [number for number, value in enumerate(one.values) if value in spec.unknown]
            known &= (values >= 0) & ~np.isin(values, silent)
            parts.append(values)
    codes = np.unique(np.stack(parts, 1), axis=0, return_inverse=True)[1].reshape(-1)
    return np.where(known, codes, UNKNOWN)


def rank(
    query: Array, gallery: Array, classes: tuple[Array, Array], groups: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Whether what stands at each place of a query's ranking is relevant.

    Args:
        query: (Q, D), gallery: (N, D) of unit norm. classes, groups: (Q,) and (N,) of them.

    Returns:
        (Q, N) booleans, best first, what shares the query's group at the end and never relevant; (Q,) how many
        relevant pictures there are.
    """
    scores = query @ gallery.T
    own = groups[0][:, None] == groups[1]
    scores[own] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")
    relevant = (classes[0][:, None] == classes[1]) & ~own
    return np.take_along_axis(relevant, order, axis=1), relevant.sum(1)


def _keep(
    runs: RunFolder,
    spec: RetrievalSpec,
    arm: RetrievalArm,
    seed: int,
    columns: list[str],
    table: Table,
    rows: Array,
    codes: Array,
    vectors: Array,
) -> None:
    groups, splits = np.array(table.groups)[rows], table.splits[rows]
    ask = np.flatnonzero((codes != UNKNOWN) & np.isin(splits, spec.queries))
    found = np.flatnonzero((codes != UNKNOWN) & np.isin(splits, spec.gallery))
    if not len(ask) or len(found) < 2:
        problem = f"{len(ask)} pictures ask and {len(found)} can be found by {asked(columns)}"
        raise InputError(problem, file=spec.labels, column=columns[0])
    k, parts = min(spec.k, len(found)), []
    for lo in range(0, len(ask), BLOCK):
        some = ask[lo : lo + BLOCK]
        relevant, there = rank(
            vectors[some], vectors[found], (codes[some], codes[found]), (groups[some], groups[found])
        )
        scores = [hit_at(relevant, there, 1), recall_at(relevant, there, k), average_precision(relevant, there)]
        parts.append(np.stack([there, *(one.score for one in scores)], 1))
    scored = np.concatenate(parts)
    counts = scored[:, 0] > 0
    if not counts.any():
        raise InputError(f"no query has anything to find by {asked(columns)}", file=spec.labels, column=columns[0])
    ask, scored = ask[counts], scored[counts]
    there = scored[:, 0]
    figures: dict[str, Any] = {"n": len(ask), "left_out": int((~counts).sum()), "gallery": len(found), "k": k}
    figures |= {"classes": len(np.unique(codes[ask])), "width": vectors.shape[1]}
    figures |= {"best_recall": float((np.minimum(there, k) / there).mean()), "chance": float(there.mean() / len(found))}
    figures |= dict(zip(("hit", "recall", "map"), map(float, scored[:, 1:].mean(0)), strict=True))
    predictions = pa.table(
        {
            "id": [table.ids[rows[at]] for at in ask],
            "group": groups[ask].tolist(),
            "truth": codes[ask],
            "there": there.astype(np.int64),
            **dict(zip(("hit", "recall", "precision"), scored[:, 1:].astype(np.float32).T, strict=True)),
        }
    )
    settings = {"arm": arm.name, "seed": seed, "relevant": asked(columns)}
    runs.add(run_key(arm, seed, columns), settings, figures, predictions, RANKED)


def _plain(arm: RetrievalArm, store: FeatureStore, ids: list[str]) -> Array:
    """(n, D) of unit norm: features as they are.

    Raises:
        InputError: The vector has fewer numbers than are read.
    """
    parts = []
    if "vector" in arm.reads:
        if (arm.width or 1) > store.dim:
            raise InputError(f"arm {arm.name!r} reads more than the vector has", column="width", found=arm.width)
        parts.append(unit(store.vectors(ids)[:, : arm.width].astype(np.float32)))
    if "colour" in arm.reads:
        parts.append(unit(store.colours(ids).astype(np.float32)))
    return unit(np.concatenate(parts, 1))


def _hidden(
    spec: RetrievalSpec, folder: Path, arm: RetrievalArm, seed: int, table: Table, store: FeatureStore, ids: list[str]
) -> Array:
    """(n, E) of unit norm: the hidden layer of attribute heads, trained now, or kept here or elsewhere."""
    tuning = arm.tuning
    assert tuning is not None
    file = heads_file(folder if tuning.heads is None else Path(tuning.heads), arm, seed)
    if not file.with_suffix(".json").exists():
        _train_heads(spec, arm, tuning, seed, table, store, file)
    model = _read_heads(file, store)
    return unit(hidden_layer(model, _inputs(arm, store, ids)))


@torch.inference_mode()
def hidden_layer(model: AttributeModel, parts: dict[str, Array]) -> Array:
    """(n, E) what the hidden layer of attribute heads makes of features."""
    model.eval()
    vector, colour = (None if name not in parts else torch.from_numpy(parts[name]) for name in ("vector", "colour"))
    assert vector is not None
    found = []
    for lo in range(0, len(vector), 1024):
        some = slice(lo, lo + 1024)
        inputs = model.inputs(vector[some], colour=None if colour is None else colour[some].float())
        scaled = ((inputs - model.mean) / model.std).clamp(-CLIP, CLIP)
        found.append(model.heads.trunk(scaled))
    hidden: Array = torch.cat(found).numpy()
    return hidden


def _inputs(arm: RetrievalArm, store: FeatureStore, ids: list[str]) -> dict[str, Array]:
    parts = {"vector": store.vectors(ids)}
    return parts | ({"colour": store.colours(ids)} if "colour" in arm.reads else {})


def _train_heads(
    spec: RetrievalSpec, arm: RetrievalArm, tuning: Tuning, seed: int, table: Table, store: FeatureStore, file: Path
) -> None:
    """Trains heads on the training pictures and keeps them; the .json is written last."""
    learned = [one for one in table.specs if one.name in tuning.columns]
    task = AttributeTask(
        arm.backbone,
        {
            "specs": [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in learned],
            "features": {"fingerprint": store.fingerprint, "colour": COLOUR_DIM},
        },
        arm.weights,
        arm.size,
        arm.resize,
        colour="colour" in arm.reads,
        hidden=tuning.hidden,
        dropout=tuning.dropout,
        lr=tuning.lr,
        weight_decay=tuning.weight_decay,
        seed=seed,
    )
    rows = np.flatnonzero(table.splits == "train")
    targets = table.targets[torch.from_numpy(rows)]
    values, state = ({one.name: side[one.name] for one in learned} for side in (targets.values, targets.state))
    examples = Arrays(_inputs(arm, store, [table.ids[row] for row in rows]), {"values": values, "state": state})
    fit(task, loader(examples, tuning.batch, seed, shuffle=True), tuning.epochs)
    model = task.model
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_atomic(file, lambda path: save_file(tensors, path))
    body = {"fingerprint": store.fingerprint, "model": model.to_dict()}
    write_text(file.with_suffix(".json"), json.dumps(body, indent=1, sort_keys=True) + "\n")


def _read_heads(file: Path, store: FeatureStore) -> AttributeModel:
    """Kept heads.

    Raises:
        InputError: They are damaged, or read other features.
    """
    path = file.with_suffix(".json")
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        fingerprint, config = body["fingerprint"], dict(body["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the kept heads are damaged: {error}", file=path, hint="remove them, and run again"
        ) from error
    if fingerprint != store.fingerprint:
        hint = "backbone, weights, size and resize of both arms must be the same"
        raise InputError("these heads read features of other weights or another preparation", file=path, hint=hint)
    model = AttributeModel.from_dict(config)
    fill(model, read_tensors(file), file)
    return model


def _trains(arm: RetrievalArm) -> bool:
    return arm.tuning is not None and arm.tuning.heads is None
