"""The work of the regions' comparison in one process: items, kept features, views, probes, predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, open_mask
from fashionkit.engine.threads import one_thread
from fashionkit.eval.memory import settle
from fashionkit.eval.probe import parts_of, probe
from fashionkit.eval.regions import OF_MAPS, RegionBackbone, RegionsSpec, View, kept_folder, region_key
from fashionkit.eval.runs import RunFolder
from fashionkit.metrics.classification import accuracy, macro_f1
from fashionkit.tables import InputError
from fashionkit.train.pictures import CatalogPictures
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.feature_store import FeatureStore
from fashionkit.vision.features import cache_features
from fashionkit.vision.pooling import region_pool, shrink_masks
from fashionkit.vision.preprocess import whole
from fashionkit.vision.region_controls import drawn_bits

Array = npt.NDArray[Any]
SMALL = 0.01  # of a picture's area
NEEDED = ["item_id", "image_id", "category", "box", "mask"]


@dataclass(frozen=True)
class Items:
    """Items with a mask, of categories that are seen often enough.

    Attributes:
        rows: n of the catalogue, `item_id, image_id, category, box, mask`. sizes: Picture → height, width.
        groups: (n,) split groups of their pictures. truth: (n,) numbers of `classes`. classes: Categories, sorted.
        area: (n,) shares of the picture that their masks cover.
    """

    rows: list[dict[str, Any]]
    sizes: dict[str, tuple[int, int]]
    groups: Array
    truth: Array
    classes: list[str]
    area: Array


def read_items(spec: RegionsSpec) -> Items:
    """The items that are probed: of categories with `least` of them or more.

    Raises:
        InputError: No items with masks, or fewer than two categories are left.
    """
    catalog = Catalog(spec.catalog)
    images = catalog.table("images", ["image_id", "width", "height"]).to_pylist()
    sizes = {one["image_id"]: (one["height"], one["width"]) for one in images}
    group_of = {one["image_id"]: str(one["split_group"]) for one in catalog.table("splits").to_pylist()}
    rows = [row for row in catalog.table("items", NEEDED).to_pylist() if row["mask"] and None not in _box(row)]
    rows = [row for row in rows if None not in sizes[row["image_id"]]]
    if not rows:
        raise InputError("no item of the catalogue has a mask", file=spec.catalog)
    groups = np.array([group_of[row["image_id"]] for row in rows])
    if len(set(groups.tolist())) < spec.folds:
        raise InputError(f"{spec.folds} folds need as many groups of pictures", file=spec.catalog, column="folds")
    names = np.array([row["category"] for row in rows])
    kept = [name for name in sorted(set(names.tolist())) if (names == name).sum() >= spec.least]
    if len(kept) < 2:
        problem = f"fewer than two categories have {spec.least} items with masks"
        raise InputError(problem, file=spec.catalog, column="least", found=kept)
    at = np.flatnonzero(np.isin(names, kept))
    rows = [rows[i] for i in at]
    area = np.array([_mask(spec, row).mean() * _share(row, sizes[row["image_id"]]) for row in rows])
    return Items(rows, sizes, groups[at], np.searchsorted(kept, names[at]), kept, area)


def keep_features(spec: RegionsSpec, folder: Path, one: RegionBackbone, view: View) -> str:
    """Features that a view needs, unless they are there: of whole pictures with maps, or of what boxes cut out."""
    with one_thread():
        settle()
        items = read_items(spec)
        to = kept_folder(folder, one, view)
        backbone = build_backbone(one.backbone, one.weights, one.size)
        backbone.preprocess = whole(backbone.preprocess, "squash")
        ids = sorted({row["image_id"] for row in items.rows})
        pictures = CatalogPictures(Catalog(spec.catalog), ids)
        if view == "box":
            by_id = {row["item_id"]: row for row in items.rows}
            opened = lru_cache(maxsize=2)(pictures.named)  # a picture's items follow each other
            cache_features(
                to, backbone, list(by_id), lambda i: _cut(opened(by_id[i]["image_id"]), by_id[i]), False, False
            )
        else:
            maps = any(each in OF_MAPS for each in one.views)
            cache_features(to, backbone, ids, pictures.named, maps=maps, colour=False, part=128)
    return f"features of {one.name}, {'boxes' if view == 'box' else 'whole pictures'}"


def probe_views(spec: RegionsSpec, folder: Path, one: RegionBackbone) -> str:
    """Probes of one backbone; keeps a run for each view and seed."""
    with one_thread():
        settle()
        runs, _ = RunFolder.open(folder)
        items, cells = read_items(spec), None
        for view in one.views:
            left = [seed for seed in spec.seeds if not runs.has(region_key(one, view, seed))]
            if not left:
                continue
            store = FeatureStore(kept_folder(folder, one, view))
            if view in OF_MAPS and cells is None:
                cells = item_cells(spec, items, store)
            for seed in left:
                seen = _seen(view, items, store, cells, seed)
                said, decays = _folds(spec, items, seen, seed)
                _keep(runs, one, view, seed, items, said, decays, seen.shape[1])
    return f"probes of {one.name}"


def item_cells(spec: RegionsSpec, items: Items, store: FeatureStore) -> Tensor:
    """(n, h, w) soft masks of items at the size of the map."""
    height, width = store.shapes["map"][1:]
    cells = torch.empty(len(items.rows), height, width)
    for number, row in enumerate(items.rows):
        mask = torch.from_numpy(painted(_mask(spec, row), row, items.sizes[row["image_id"]]))
        cells[number] = shrink_masks(mask[None, None], (height, width), None)[0, 0]
    return cells


def painted(mask: Array, row: dict[str, Any], size: tuple[int, int]) -> Array:
    """(H, W) bool: an item's mask, which fills its box, in its picture."""
    canvas = np.zeros(size, bool)
    left, top, right, bottom = _edges(row)
    rows, columns = slice(max(top, 0), min(bottom, size[0])), slice(max(left, 0), min(right, size[1]))
    canvas[rows, columns] = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return canvas


def others(items: Items, seed: int) -> Array:
    """(n,) for each item the number of one of another picture, the next in a circle that the seed orders."""
    rows = items.rows
    circle = sorted(range(len(rows)), key=lambda i: (drawn_bits(seed, rows[i]["item_id"], "order", 0), i))
    found, pictures = np.empty(len(rows), np.int64), [rows[i]["image_id"] for i in circle]
    for place, number in enumerate(circle):
        steps = (step for step in range(1, len(rows)) if pictures[(place + step) % len(rows)] != pictures[place])
        found[number] = circle[(place + next(steps)) % len(rows)]
    return found


def _seen(view: View, items: Items, store: FeatureStore, cells: Tensor | None, seed: int) -> Array:
    """(n, D) float32: what a view shows of each item."""
    key = "item_id" if view == "box" else "image_id"
    ids = [row[key] for row in items.rows]
    if view not in OF_MAPS:
        return store.vectors(ids).astype(np.float32)
    assert cells is not None, "views of maps need masks"
    where: Array = cells.flatten(1).numpy()
    if view == "mask":
        return where
    masks = shrink_masks(cells[None], (cells.shape[1], cells.shape[2]))[0]  # same size: the threshold alone
    masks = masks[torch.from_numpy(others(items, seed))] if view == "shuffled" else masks
    seen, names = np.empty((len(ids), store.channels), np.float32), np.array(ids)
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        of_picture = torch.from_numpy(store.maps([str(name)]).astype(np.float32))  # (1, C, h, w)
        seen[rows] = region_pool(of_picture, masks[torch.from_numpy(rows)][None])[0].numpy()
    return np.concatenate([seen, where], 1) if view == "both" else seen


def _folds(spec: RegionsSpec, items: Items, seen: Array, seed: int) -> tuple[Array, list[float]]:
    """(n, V) probabilities of each item by the probe that did not train on its group; the decays chosen."""
    part, decays = parts_of(items.groups, spec.folds, seed), []
    said = np.zeros((len(seen), len(items.classes)), np.float32)
    for fold in range(spec.folds):
        test = part == fold
        train = (seen[~test], items.truth[~test], items.groups[~test])
        said[test], decay = probe(*train, seen[test], spec.decays, spec.steps, seed)
        decays.append(decay)
    return said, decays


def _keep(
    runs: RunFolder,
    one: RegionBackbone,
    view: View,
    seed: int,
    items: Items,
    said: Array,
    decays: list[float],
    width: int,
) -> None:
    found = said.argmax(1)
    small = items.area < SMALL
    figures: dict[str, Any] = {"accuracy": accuracy(items.truth, found), "macro_f1": macro_f1(items.truth, found)}
    figures |= {"n": len(found), "classes": len(items.classes), "width": width, "decays": decays}
    figures |= {"pictures": len({row["image_id"] for row in items.rows}), "small": int(small.sum())}
    figures["small_accuracy"] = accuracy(items.truth[small], found[small]) if small.any() else None
    figures["majority"] = float(np.bincount(items.truth).max() / len(found))
    predictions = pa.table(
        {
            "id": [row["item_id"] for row in items.rows],
            "group": items.groups.tolist(),
            "truth": items.truth,
            "predicted": found,
            "confidence": said.max(1),
        }
    )
    runs.add(region_key(one, view, seed), {"backbone": one.name, "view": view, "seed": seed}, figures, predictions)


def _box(row: dict[str, Any]) -> list[float | None]:
    return row["box"] or [None]


def _edges(row: dict[str, Any]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of an item's box, in whole pixels."""
    left, top, width, height = row["box"]
    return math.floor(left), math.floor(top), math.ceil(left + width), math.ceil(top + height)


def _share(row: dict[str, Any], size: tuple[int, int]) -> float:
    left, top, right, bottom = _edges(row)
    return (right - left) * (bottom - top) / (size[0] * size[1])


def _cut(pixels: Array, row: dict[str, Any]) -> Array:
    """(h, w, 3) what an item's box cuts out of its picture."""
    left, top, right, bottom = _edges(row)
    return np.ascontiguousarray(pixels[max(top, 0) : bottom, max(left, 0) : right])


def _mask(spec: RegionsSpec, row: dict[str, Any]) -> Array:
    """(h, w) bool of an item's box.

    Raises:
        InputError: It is broken, or has another size than its box.
    """
    left, top, right, bottom = _edges(row)
    try:
        mask: Array = open_mask(row["mask"]) > 0
    except PictureError as error:
        problem = f"the mask of item {row['item_id']!r} is broken: {error}"
        raise InputError(problem, file=spec.catalog, column="mask") from error
    if mask.shape != (bottom - top, right - left):
        problem = f"the mask of item {row['item_id']!r} has another size than its box"
        raise InputError(problem, file=spec.catalog, column="mask", found=mask.shape)
    return mask
