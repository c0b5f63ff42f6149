"""The `coco` and `fashionpedia` formats: one JSON of images, annotations and categories, and a folder of pictures.

    JSON ──► annotations by picture, ids turned into names ──► staged shards
    staged picture ──► annotations ──► items: category, box, mask, attributes (`attribute_ids`) ──► Shard

An annotation of a garment's part (sleeve, pocket) is no item: the mapping's `skip` says so. Categories in `item.merge`
(shoes, socks) are annotated piece by piece and become one item a picture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fashionkit.catalog.drafts import AttributeDraft, ImageDraft, ItemDraft, Shard
from fashionkit.catalog.mapping import Mapping
from fashionkit.catalog.masks import Mask, MaskError, cropped, segmentation_mask, union
from fashionkit.catalog.staging import Stager
from fashionkit.catalog.tabular import PREFIX, ROW
from fashionkit.catalog.values import ValueReader, joined
from fashionkit.catalog.words import UNMAPPED, CategoryWords, Refused, unknown_word
from fashionkit.tables import InputError

Annotation = dict[str, Any]
_BATCH = 256


def stage(source: Path, mapping: Mapping, stager: Stager) -> None:
    """Stages a COCO file's pictures with their annotations.

    Raises:
        InputError: Not JSON, not COCO, or no picture in it.
    """
    data = _load(source)
    names = {key: _names(source, data, key) for key in ("categories", "attributes")}
    images = _images(source, data, stager)
    if not images:
        raise InputError("the file lists no pictures", file=source)
    by_image: dict[Any, list[Annotation]] = {key: [] for key in images}
    seen: set[Any] = set()
    for row, raw in enumerate(data["annotations"], 1):
        try:
            annotation = _annotation(raw, names, seen)
            if annotation["image_id"] not in by_image:
                raise Refused("unknown_image", "no picture has this id", "image_id", str(annotation["image_id"]))
        except Refused as why:
            _lost(mapping, source, row, why)
            stager.refuse(row, why)
            continue
        by_image[annotation["image_id"]].append({"row": row, **annotation})
    pictures = list(images.items())
    for start in range(0, len(pictures), _BATCH):
        some = pictures[start : start + _BATCH]
        rows = [{**image, PREFIX + "annotations": json.dumps(by_image[key])} for key, image in some]
        stager.add(pa.Table.from_pylist(rows, schema=_STAGED), np.arange(start, start + len(some)))
    stager.close()


_STAGED = pa.schema(
    [
        pa.field(ROW, pa.int64()),
        pa.field(PREFIX + "id", pa.string()),
        pa.field(PREFIX + "file_name", pa.string()),
        pa.field(PREFIX + "width", pa.int64()),
        pa.field(PREFIX + "height", pa.int64()),
        pa.field(PREFIX + "annotations", pa.string()),
    ]
)


def _lost(mapping: Mapping, source: Path, row: int, why: Refused) -> None:
    """Refuses to go on where absence is stated and an annotation belongs to no known picture."""
    if mapping.facts.closed_categories:
        hint = "mend the annotation, or take `closed_categories` out of the mapping"
        problem = f"an item that cannot be read could belong to any picture, so none is complete: {why.detail}"
        raise InputError(problem, file=source, row=row, column=why.column, hint=hint)


def _load(source: Path) -> dict[str, Any]:
    if source.is_dir():
        raise InputError("a JSON file is needed, not a folder", file=source)
    try:
        data = json.loads(source.read_bytes())
    except UnicodeDecodeError as error:
        raise InputError("the file is not UTF-8 text", file=source) from error
    except (json.JSONDecodeError, RecursionError) as error:
        row = getattr(error, "lineno", None)
        raise InputError(f"the file is no JSON: {error}", file=source, row=row) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise InputError("COCO needs lists of images, annotations and categories", file=source, column=key)
    return data


def _names(source: Path, data: dict[str, Any], key: str) -> dict[Any, str]:
    """Id → name of the categories or attributes."""
    found: dict[Any, str] = {}
    for row, entry in enumerate(data.get(key, []), 1):
        if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("name"), str):
            raise InputError("an entry needs `id` and `name`", file=source, row=row, column=key, found=entry)
        if entry["id"] in found:
            raise InputError("an id stands twice", file=source, row=row, column=key, found=entry["id"])
        found[entry["id"]] = entry["name"]
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _images(source: Path, data: dict[str, Any], stager: Stager) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    names: set[str] = set()
    for row, entry in enumerate(data["images"], 1):
        try:
            image = _image(row, entry)
            if image[PREFIX + "id"] in names:
                raise Refused("duplicate_id", "an earlier picture has this id", "id", image[PREFIX + "id"])
        except Refused as why:
            stager.refuse(row, why)
            continue
        names.add(image[PREFIX + "id"])
        found[entry["id"]] = image
    return found


def _image(row: int, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not _is_id(entry.get("id")) or str(entry["id"]).strip() == "":
        raise Refused("missing_id", "a picture needs an id", "id", repr(entry))
    if not isinstance(entry.get("file_name"), str):
        raise Refused("image_missing", "a picture needs a file name", "file_name", repr(entry.get("file_name")))
    size = entry.get("width"), entry.get("height")
    if not all(type(side) is int and 0 < side < 100_000 for side in size):
        raise Refused("bad_size", "a picture needs its width and height in pixels", "width", repr(size))
    values = {"id": str(entry["id"]).strip(), "file_name": entry["file_name"], "width": size[0], "height": size[1]}
    return {ROW: row, **{PREFIX + key: value for key, value in values.items()}}


def _annotation(raw: Any, names: dict[str, dict[Any, str]], seen: set[Any]) -> Annotation:
    """An annotation with names in place of ids."""
    if not isinstance(raw, dict) or not _is_id(raw.get("image_id")):
        raise Refused("unknown_image", "an annotation needs the id of its picture", "image_id", repr(raw))
    name = raw.get("id")
    if _is_id(name) and name in seen:
        raise Refused("duplicate_id", "an earlier annotation has this id", "id", str(name))
    if _is_id(name):
        seen.add(name)
    key, ids = raw.get("category_id"), raw.get("attribute_ids") or []
    category = names["categories"].get(key) if _is_id(key) else None
    if not isinstance(ids, list) or not all(_is_id(i) and i in names["attributes"] for i in ids):
        raise Refused("unknown_attribute", "an id that is not in the file's attributes", "attribute_ids", repr(ids))
    kept = {field: raw.get(field) for field in ("image_id", "segmentation", "bbox", "iscrowd")}
    return {**kept, "category_id": key, "category": category, "attributes": [names["attributes"][i] for i in ids]}


class CocoReader:
    """Makes drafts of staged pictures."""

    def __init__(self, mapping: Mapping, base: Path) -> None:
        self.mapping, self.ontology = mapping, mapping.ontology
        self.category = CategoryWords(mapping.category, mapping.ontology, mapping.table.missing)
        self.attributes = [ValueReader(spec, mapping) for spec in mapping.attributes]

    def read(self, staged: pa.Table, shard: Shard) -> None:
        """Adds a staged shard's pictures to `shard`."""
        for row in staged.to_pylist():
            size = row[PREFIX + "width"], row[PREFIX + "height"]
            image = ImageDraft(row[PREFIX + "id"], row[ROW], row[PREFIX + "file_name"], size=size)
            shard.tally.images_in += 1
            refused = self._items(image, json.loads(row[PREFIX + "annotations"]), shard)
            shard.add(image, refused)

    def _items(self, image: ImageDraft, annotations: list[Annotation], shard: Shard) -> int:
        """Adds the picture's items; returns how many annotations were refused."""
        assert image.size is not None, "staged with its size"
        refused, merged = 0, dict[str, tuple[ItemDraft, list[Mask]]]()
        shard.tally.entries += len(annotations)
        for annotation in annotations:
            try:
                item, mask = self._item(annotation, image.size, shard)
            except Refused as why:
                refused += why.reason != "skipped"
                shard.reject(annotation["row"], why)
                continue
            if annotation["category"] in self.mapping.item.merge and mask is not None:
                first, masks = merged.setdefault(item.category, (item, []))
                masks.append(mask)
                if first is not item:
                    first.entries += item.entries
                    both = [*first.attributes, *item.attributes]
                    first.attributes = joined(both, self.ontology, annotation["row"], shard)
                    continue
            image.items.append(item)
        for item, masks in merged.values():
            item.box, item.mask, item.area = cropped(union(masks))
        return refused

    def _item(self, annotation: Annotation, size: tuple[int, int], shard: Shard) -> tuple[ItemDraft, Mask | None]:
        row, spec = annotation["row"], self.mapping.category
        if annotation["category"] is None:
            found = repr(annotation["category_id"])
            raise Refused("unmapped_category", "an id that is not in the file's categories", "category_id", found)
        category = self._refined(self.category.look(annotation["category"]), annotation["attributes"])
        if annotation["iscrowd"]:
            raise Refused("crowd", "one region stands for several things", "iscrowd", annotation["category"])
        mask = self._mask(annotation, size, shard.settings.max_pixels)
        item = ItemDraft(category, self.ontology.region_of(category), [row])
        item.source, item.confidence = spec.source or "annotation", spec.confidence
        if mask is not None:
            item.box, item.mask, item.area = cropped(mask)
        else:
            item.box = _box(annotation["bbox"], size)
        item.attributes = self._attributes(annotation["attributes"], category, row, shard)
        return item, mask

    def _refined(self, category: str, names: list[str]) -> str:
        """The narrower category that the attributes name: the one there is, where it can be the same thing."""
        refine = self.mapping.category.refine
        found = {refine[name] for name in names if name in refine} & self.ontology.overlapping(category)
        return str(found.pop()) if len(found) == 1 else category

    def _mask(self, annotation: Annotation, size: tuple[int, int], max_pixels: int) -> Mask | None:
        if not annotation["segmentation"]:
            return None
        if size[0] * size[1] > max_pixels:
            raise Refused("image_too_large", f"a picture of {size[0]} x {size[1]} pixels is over the limit", "width")
        try:
            mask = segmentation_mask(annotation["segmentation"], size[1], size[0])
        except MaskError as error:
            raise Refused("bad_mask", str(error), "segmentation", repr(annotation["segmentation"])[:200]) from error
        if not mask.any():
            raise Refused("bad_mask", "the segmentation covers no pixel", "segmentation")
        return mask

    def _attributes(self, names: list[str], category: str, row: int, shard: Shard) -> list[AttributeDraft]:
        words: dict[int, list[str]] = {}
        for name in names:
            if name in self.mapping.drop or name in self.mapping.category.refine:
                shard.tally.count("attribute_ids", "left_out")
                continue
            hits = [i for i, r in enumerate(self.attributes) if r.words.look(name).state != UNMAPPED]
            if not hits:
                known = [word for r in self.attributes for word in r.spec.values]
                why = Refused("unmapped_value", unknown_word("attribute", name, known), "attribute_ids", name)
                shard.tally.count("attribute_ids", why.reason)
                shard.reject(row, why)
            for i in hits:
                words.setdefault(i, []).append(name)
        drafts = [self.attributes[i].read(cell, category, row, shard) for i, cell in words.items()]
        return joined([draft for draft in drafts if draft is not None], self.ontology, row, shard)


def _box(box: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A checked `bbox` (x, y, width, height in pixels)."""
    good = isinstance(box, list) and len(box) == 4 and all(isinstance(n, int | float) for n in box)
    if not good or not (0 <= box[0] < size[0] and 0 <= box[1] < size[1] and box[2] > 0 and box[3] > 0):
        raise Refused("bad_box", "a box of x, y, width, height within the picture is needed", "bbox", repr(box))
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])
