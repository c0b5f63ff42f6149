"""The `maskset` format: a picture, a mask of 8-bit label ids, and the labels' names.

    table (image and mask as columns of bytes or paths), or
    folder/<image.folder>/NAME.jpg + folder/<mask.folder>/NAME.png ──► staged as a table of paths
                                                                            │
    all pixels of one id in a picture ──► one item: box, mask, area ◄───────┘

Regions of one label are one item: an open coat has two halves, shoes come in two. Id 0 is the background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fashionkit.catalog import from_table
from fashionkit.catalog.drafts import ImageDraft, ItemDraft, Shard
from fashionkit.catalog.images import PictureError, open_mask, read_file
from fashionkit.catalog.mapping import Mapping
from fashionkit.catalog.masks import cropped
from fashionkit.catalog.staging import Stager
from fashionkit.catalog.tabular import PREFIX, ROW, Source, open_table
from fashionkit.catalog.values import ValueReader, joined
from fashionkit.catalog.words import CategoryWords, Refused
from fashionkit.tables import InputError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")


def stage(source: Path, mapping: Mapping, stager: Stager) -> None:
    """Stages a table or a folder of pictures and masks.

    Raises:
        InputError: No pictures, or what the `table` format refuses.
    """
    view = table_view(mapping)
    label_names(mapping, source if source.is_dir() else source.parent)
    table = FolderSource(source, mapping) if source.is_dir() else open_table(source, mapping.table)
    from_table.stage(table, view, stager)


def table_view(mapping: Mapping) -> Mapping:
    """The mapping with the columns of `FolderSource` where it names none."""
    if mapping.image.id is not None:
        return mapping
    image = replace(mapping.image, id="name", path="image")
    return replace(mapping, image=image, mask=replace(mapping.mask, path="mask"))


class FolderSource(Source):
    """Pictures and masks of equal names in two folders, as a table of paths."""

    def __init__(self, folder: Path, mapping: Mapping) -> None:
        self.path, self.names, self.broken = folder, ["name", "image", "mask"], []
        pictures = folder / mapping.image.folder
        if not pictures.is_dir():
            raise InputError("no such folder of pictures", file=pictures)
        self._files = sorted(p.name for p in pictures.iterdir() if p.suffix.lower() in PICTURES)
        self._suffix = mapping.mask.suffix

    def batches(self, columns: Sequence[str], binary: Sequence[str] = ()) -> Iterator[pa.Table]:
        rows = [(Path(name).stem, name, Path(name).stem + self._suffix) for name in self._files]
        if rows:
            cells = dict(
                zip(self.names, (pa.array(column, pa.string()) for column in zip(*rows, strict=True)), strict=True)
            )
            arrays = [pa.array(range(1, len(rows) + 1), pa.int64()), *(cells[name] for name in columns)]
            yield pa.table(arrays, names=[ROW, *(PREFIX + name for name in columns)])


def names_path(mapping: Mapping, base: Path) -> Path | None:
    """The file of label names, where the mapping names one."""
    return None if mapping.mask.names_file is None else base / mapping.mask.names_file


def label_names(mapping: Mapping, base: Path) -> dict[int, str]:
    """Mask id → label, from the mapping or from the first two columns of a table.

    Raises:
        InputError: The file is not there, or an id is no number from 0 to 255.
    """
    path = names_path(mapping, base)
    if path is None:
        return {int(number): name for number, name in mapping.mask.names.items()}
    table = open_table(path)
    if len(table.names) < 2:
        raise InputError("two columns are needed: id and label", file=path, found=table.names)
    found: dict[int, str] = {}
    for batch in table.batches(table.names[:2]):
        rows, numbers, labels = (column.to_pylist() for column in batch.columns)
        for row, number, label in zip(rows, numbers, labels, strict=True):
            if not (number and number.isdecimal() and int(number) < 256) or not label:
                raise InputError(
                    "an id from 0 to 255 and a label are needed", file=path, row=row, found=[number, label]
                )
            found[int(number)] = label
    return found


class MaskReader:
    """Makes drafts of staged rows."""

    def __init__(self, mapping: Mapping, base: Path) -> None:
        self.mapping = table_view(mapping)
        self.names = label_names(mapping, base)
        self.root = base / (mapping.mask.folder or ".")
        self.category = CategoryWords(mapping.category, mapping.ontology, mapping.table.missing)
        self.labels = [ValueReader(spec, mapping) for spec in mapping.labels]

    def read(self, staged: pa.Table, shard: Shard) -> None:
        """Adds a staged shard's pictures to `shard`."""
        for row in staged.to_pylist():
            spec = self.mapping.image
            path = None if spec.path is None else row[PREFIX + spec.path] or ""
            data = None if spec.bytes is None else row[PREFIX + spec.bytes] or b""
            group = None if spec.group is None else row[PREFIX + spec.group]
            image = ImageDraft(row[PREFIX + str(spec.id)].strip(), row[ROW], path, data, group)
            shard.tally.images_in += 1
            try:
                ids = self._mask(row, shard)
            except PictureError as error:
                shard.reject_image(image, Refused(error.reason, f"mask of picture {image.id!r}: {error}"))
                continue
            refused = self._items(image, ids, shard)
            drafts = (r.read(row[PREFIX + str(r.spec.column)], "", row[ROW], shard) for r in self.labels)
            image.labels = joined(
                [draft for draft in drafts if draft is not None], self.mapping.ontology, row[ROW], shard
            )
            shard.add(image, refused)

    def _mask(self, row: dict[str, Any], shard: Shard) -> np.ndarray[Any, np.dtype[np.uint8]]:
        spec = self.mapping.mask
        data = (
            row[PREFIX + spec.bytes]
            if spec.bytes is not None
            else read_file(self.root, row[PREFIX + str(spec.path)] or "")
        )
        return open_mask(data or b"", shard.settings.max_pixels)

    def _items(self, image: ImageDraft, ids: np.ndarray[Any, np.dtype[np.uint8]], shard: Shard) -> int:
        """Adds an item for each label in the mask; returns how many labels were refused."""
        image.size = (ids.shape[1], ids.shape[0])
        refused = 0
        for number in np.flatnonzero(np.bincount(ids.ravel(), minlength=256)).tolist():
            label = self.names.get(number)
            if number == 0:
                continue
            shard.tally.entries += 1
            try:
                if label is None:
                    raise Refused(
                        "unnamed_id", f"the mask has the id {number}, which no label names", "mask", str(number)
                    )
                category = self.category.look(label)
            except Refused as why:
                refused += why.reason != "skipped"
                shard.reject(image.row, why)
                continue
            image.items.append(self._item(image, category, ids == number))
        return refused

    def _item(self, image: ImageDraft, category: str, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> ItemDraft:
        box, png, area = cropped(mask)
        spec = self.mapping.category
        item = ItemDraft(category, self.mapping.ontology.region_of(category), [image.row], None, box, png, area)
        item.source, item.confidence = spec.source or "mask", spec.confidence
        return item
