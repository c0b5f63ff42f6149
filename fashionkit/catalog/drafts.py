"""What importers hand over, and how a shard of it becomes parts of the catalogue's tables.

    ImageDraft(path or bytes, items, labels) ──► Shard.add ──► picture read and measured ──► rows of the tables
                                     Refused ──► Shard.reject ──────────────────────────► rows of `rejects`

Every entry of the source (a row, an annotation, a labelled region) ends as an item, in another item that it is merged
into, or in the rejects: `Tally` counts them, and the importer refuses to finish when they do not add up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fashionkit.catalog.catalog import write_rows
from fashionkit.catalog.images import PictureError, measure, perceptual_hashes, read_file
from fashionkit.catalog.words import Refused
from fashionkit.tables import shorten, write_text

# Reasons that cost one cell, not the row: the attribute stays unknown and the item stays
CELL_REASONS = frozenset({"unmapped_value", "does_not_apply", "conflicting_values"})


@dataclass
class AttributeDraft:
    """One attribute of an item, or one label of an image."""

    name: str
    state: str
    values: list[str] = field(default_factory=list)
    complete: bool = False
    source: str | None = None
    confidence: float | None = None


@dataclass
class ItemDraft:
    """One item; `entries` are the source rows it comes from. `box` is x, y, width, height in pixels."""

    category: str
    region: str | None
    entries: list[int]
    id: str | None = None
    box: tuple[float, float, float, float] | None = None
    mask: bytes | None = None
    area: float | None = None
    visible: float | None = None
    source: str | None = None
    confidence: float | None = None
    attributes: list[AttributeDraft] = field(default_factory=list)


@dataclass
class ImageDraft:
    """One picture with what is known of it.

    Attributes:
        row: Source row of the picture itself, for rejects of a picture without items.
        path: Of the file, relative to the image folder; or
        data: the encoded bytes; neither for a catalogue without pictures.
        size: Width and height that boxes and masks were drawn for; a picture of another size is refused.
    """

    id: str
    row: int
    path: str | None = None
    data: bytes | None = None
    group: str | None = None
    size: tuple[int, int] | None = None
    items: list[ItemDraft] = field(default_factory=list)
    labels: list[AttributeDraft] = field(default_factory=list)


@dataclass(frozen=True)
class ShardSettings:
    """How pictures are read: where from, whether their bytes are kept, and the pixel limit."""

    source: str  # what rejects call the source
    root: Path | None
    embed: bool
    max_pixels: int
    closed: bool  # the catalogue states absence: a picture with a refused entry is refused as a whole


_NUMBERS = ("images_in", "images", "entries", "items", "merged")


@dataclass
class Tally:
    """Counts of one shard; `cells` is column → what its cells became → how many."""

    images_in: int = 0
    images: int = 0
    entries: int = 0
    items: int = 0
    merged: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # entries by reason
    cells: dict[str, Counter[str]] = field(default_factory=dict)

    def adds_up(self) -> bool:
        """Whether every entry became an item, went into one, or was refused."""
        return self.entries == self.items + self.merged + self.rejected.total()

    def count(self, column: str, outcome: str) -> None:
        """Notes what a cell of a column became."""
        self.cells.setdefault(column, Counter())[outcome] += 1

    def counts(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        cells = {column: dict(sorted(counts.items())) for column, counts in sorted(self.cells.items())}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return {**numbers, "rejected": dict(sorted(self.rejected.items())), "cells": cells}

    def add(self, other: dict[str, Any]) -> None:
        """Adds another tally, as `counts` gives it."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + other[name])
        self.rejected.update(other["rejected"])
        for column, counts in other["cells"].items():
            self.cells.setdefault(column, Counter()).update(counts)


class Shard:
    """Collects one shard's rows and writes them as one part of each table."""

    def __init__(self, settings: ShardSettings) -> None:
        self.settings, self.tally = settings, Tally()
        self._images: list[dict[str, Any]] = []
        self._items: list[dict[str, Any]] = []
        self._attributes: list[dict[str, Any]] = []
        self._labels: list[dict[str, Any]] = []
        self._rejects: list[dict[str, Any]] = []
        self._thumbs: list[np.ndarray[Any, np.dtype[np.uint8]]] = []

    def reject(self, row: int | None, why: Refused) -> None:
        """Refuses an entry (or, by its reason, one cell of it)."""
        if why.reason not in CELL_REASONS:
            self.tally.rejected[why.reason] += 1
        found = None if why.found is None else shorten(why.found)
        column, reason, detail = why.column, why.reason, why.detail
        file = self.settings.source
        row_dict = {"file": file, "row": row, "column": column, "found": found, "reason": reason, "detail": detail}
        self._rejects.append(row_dict)

    def reject_image(self, image: ImageDraft, why: Refused) -> None:
        """Refuses a picture with every entry it has."""
        entries = [entry for item in image.items for entry in item.entries]
        self.tally.entries += not entries  # a picture without items counts as an entry of its own
        for entry in entries or [image.row]:
            self.reject(entry, why)

    def add(self, image: ImageDraft, refused: int = 0) -> None:
        """Takes a picture over, or refuses it with all its items.

        Args:
            image: The picture and its items.
            refused: How many of its entries were refused (not: left out on purpose).
        """
        if self.settings.closed and refused:
            lost = f"{refused} item(s) of picture {image.id!r} were refused"
            detail = f"{lost}, and under `closed_categories` a picture is taken whole or not at all"
            self.reject_image(image, Refused("incomplete_image", detail))
            return
        try:
            row = self._picture(image)
        except (PictureError, Refused) as error:
            detail = error.detail if isinstance(error, Refused) else f"picture {image.id!r}: {error}"
            self.reject_image(image, Refused(error.reason, detail, found=image.path))
            return
        self._images.append(row)
        self.tally.images += 1
        for number, item in enumerate(image.items, 1):
            self._item(image, item, f"{image.id}.{number}")
        for label in image.labels:
            self._labels.append({"image_id": image.id, "label": label.name, **_stated(label)})

    def _picture(self, image: ImageDraft) -> dict[str, Any]:
        row: dict[str, Any] = {"image_id": image.id, "group": image.group}
        data = image.data
        if image.path is not None:
            assert self.settings.root is not None, "a path needs an image folder"
            data = read_file(self.settings.root, image.path)
        if data is None:
            return row if image.size is None else row | {"width": image.size[0], "height": image.size[1]}
        found = measure(data, self.settings.max_pixels)
        if image.size is not None and image.size != (found.width, found.height):
            size, real = f"{image.size[0]} x {image.size[1]}", f"{found.width} x {found.height}"
            raise Refused("size_differs", f"picture {image.id!r} is {real} upright, but was annotated at {size}")
        self._thumbs.append(found.thumb)
        keep = self.settings.embed or image.path is None
        row |= {"path": None if keep else image.path, "bytes": data if keep else None}
        return row | {
            "width": found.width,
            "height": found.height,
            "sha256": found.sha256,
            "thumb": found.thumb.tobytes(),
        }

    def _item(self, image: ImageDraft, item: ItemDraft, name: str) -> None:
        name = item.id or name
        self.tally.items += 1
        self.tally.merged += len(item.entries) - 1
        row: dict[str, Any] = {"item_id": name, "image_id": image.id, "category": item.category, "region": item.region}
        row |= {"box": item.box, "mask": item.mask, "area": item.area, "visible": item.visible}
        self._items.append(row | {"source": item.source, "confidence": item.confidence})
        for a in item.attributes:
            self._attributes.append({"item_id": name, "attribute": a.name, "complete": a.complete, **_stated(a)})

    def write(self, folder: Path, part: int) -> None:
        """Writes the parts, `images` last: its presence says that the shard is whole."""
        measured = [row for row in self._images if row.get("thumb") is not None]
        if measured:
            for row, value in zip(measured, perceptual_hashes(np.stack(self._thumbs)), strict=True):
                row["phash"] = int(value)
        for name, rows in {"items": self._items, "attributes": self._attributes, "labels": self._labels}.items():
            if rows:
                write_rows(folder, name, part, rows)
        self.write_rejects(folder, part)
        write_rows(folder, "images", part, self._images)

    def write_rejects(self, folder: Path, part: int, below: str = ".") -> None:
        """Writes what was refused (into a folder `below`), and the counts."""
        if self._rejects:
            write_rows(folder / below, "rejects", part, self._rejects)
        write_text(tally_path(folder, part), json.dumps(self.tally.counts()))


def tally_path(folder: Path, part: int) -> Path:
    """Where a shard's counts wait until the import is finished."""
    return folder / ".import" / f"tally-{part:05d}.json"


def read_tallies(folder: Path, parts: Iterable[int]) -> Tally:
    """The sum of the shards' counts."""
    total = Tally()
    for part in parts:
        total.add(json.loads(tally_path(folder, part).read_text(encoding="utf-8")))
    return total


def _stated(draft: AttributeDraft) -> dict[str, Any]:
    return {"state": draft.state, "values": draft.values, "source": draft.source, "confidence": draft.confidence}
