"""The `table` format: CSV, JSON lines or Parquet, a row an item; rows of one image id are items of one picture.

source ──► ids only ──► duplicates, order of pictures ──► staged shards: whole pictures, text cells, bytes
staged shard ──► rows of a picture ──► ImageDraft with its items ──► Shard
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fashionkit.catalog.drafts import AttributeDraft, ImageDraft, ItemDraft, Shard
from fashionkit.catalog.mapping import Mapping
from fashionkit.catalog.staging import Stager
from fashionkit.catalog.tabular import PREFIX, ROW, Source
from fashionkit.catalog.values import ValueReader, joined
from fashionkit.catalog.words import CategoryWords, Refused
from fashionkit.tables import InputError

Row = dict[str, Any]


@dataclass
class _Ids:
    """What a first look at the id columns tells: for each source row the number of its picture, or -1 if refused."""

    picture: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    incomplete: set[int] = field(default_factory=set)  # pictures that lost an item here


def stage(source: Source, mapping: Mapping, stager: Stager) -> None:
    """Cuts a table into shards of whole pictures.

    Raises:
        InputError: A missing column, no row at all, or rows that cannot be read where absence is stated.
    """
    source.require([*mapping.columns(), *mapping.binary_columns()])
    ids = _read_ids(source, mapping)
    if not ids.picture and not source.broken:
        raise InputError("the table has no rows", file=source.path)
    if source.broken and mapping.facts.closed_categories and mapping.item.id is not None:
        row, why = source.broken[0]
        hint = "mend the row, or take `closed_categories` out of the mapping"
        problem = f"an item that cannot be read could belong to any picture, so none is complete: {why.detail}"
        raise InputError(problem, file=source.path, row=row, hint=hint)
    for row, why in [*source.broken, *ids.refused]:
        stager.refuse(row, why)
    numbers = np.array(ids.picture, dtype=np.int64)
    kept = numbers[numbers >= 0]
    batches = source.batches(mapping.columns(), mapping.binary_columns())
    if np.any(np.diff(kept) < 0):  # rows of one picture lie apart: bring them together
        whole = pa.concat_tables(batches)
        order = np.argsort(np.where(numbers < 0, np.iinfo(np.int64).max, numbers), kind="stable")[: len(kept)]
        batches, numbers = iter([whole.take(pa.array(order))]), kept[np.argsort(kept, kind="stable")]
    for table, part in _numbered(batches, numbers):
        lost = pa.array([int(number) in ids.incomplete for number in part])
        stager.add(table.append_column("incomplete", lost), part)
    stager.close()


def _numbered(batches: Iterator[pa.Table], numbers: np.ndarray[Any, Any]) -> Iterator[tuple[pa.Table, Any]]:
    """Batches without refused rows, each with its rows' picture numbers."""
    start = 0
    for batch in batches:
        part = numbers[start : start + len(batch)]
        start += len(batch)
        yield batch.filter(pa.array(part >= 0)), part[part >= 0]


def _read_ids(source: Source, mapping: Mapping) -> _Ids:
    ids, seen = _Ids(), set[str]()
    assert mapping.image.id is not None, "checked when the mapping was loaded"
    names = [mapping.image.id] if mapping.item.id is None else [mapping.image.id, mapping.item.id]
    for batch in source.batches(names):
        cells = [batch.column(PREFIX + name).to_pylist() for name in names]
        for row, *words in zip(batch.column(ROW).to_pylist(), *cells, strict=True):
            ids.picture.append(_number(ids, seen, names, row, words))
    return ids


def _number(ids: _Ids, seen: set[str], names: list[str], row: int, words: list[Any]) -> int:
    for name, word in zip(names, words, strict=True):
        if not isinstance(word, str) or not word.strip():
            ids.refused.append((row, Refused("missing_id", "the id is empty", name, None)))
            return -1
    name, key = words[0].strip(), words[-1].strip()
    number = ids.names.setdefault(name, len(ids.names))
    if key in seen:
        ids.refused.append((row, Refused("duplicate_id", f"the id {key!r} stands in an earlier row", names[-1], key)))
        ids.incomplete.add(number)
        return -1
    seen.add(key)
    return number


class TableReader:
    """Makes drafts of staged rows."""

    def __init__(self, mapping: Mapping, base: Path) -> None:
        self.mapping, self.ontology = mapping, mapping.ontology
        self.category = CategoryWords(mapping.category, mapping.ontology, mapping.table.missing)
        self.attributes = [ValueReader(spec, mapping) for spec in mapping.attributes]
        self.labels = [ValueReader(spec, mapping) for spec in mapping.labels]

    def read(self, staged: pa.Table, shard: Shard) -> None:
        """Adds a staged shard's pictures to `shard`."""
        for name, rows in groupby(staged.to_pylist(), key=lambda row: self._cell(row, self.mapping.image.id)):
            self._image(str(name), list(rows), shard)

    def _cell(self, row: Row, column: str | None) -> Any:
        value = None if column is None else row[PREFIX + column]
        return value.strip() if isinstance(value, str) else value

    def _image(self, name: str, rows: list[Row], shard: Shard) -> None:
        spec, first = self.mapping.image, rows[0]
        data = (self._cell(first, spec.bytes) or b"") if spec.bytes is not None else None
        path = (self._cell(first, spec.path) or "") if spec.path is not None else None
        image = ImageDraft(name, first[ROW], path, data, self._cell(first, spec.group))
        refused = int(any(row["incomplete"] for row in rows))
        labels: list[AttributeDraft] = []
        shard.tally.images_in += 1
        shard.tally.entries += len(rows)
        for row in rows:
            try:
                self._same_image(first, row)
                self._leave_out(row)
                item = self._item(row, shard)
            except Refused as why:
                refused += why.reason != "skipped"
                shard.reject(row[ROW], why)
                continue
            image.items.append(item)
            drafts = (r.read(self._cell(row, r.spec.column), item.category, row[ROW], shard) for r in self.labels)
            labels += [draft for draft in drafts if draft is not None]
        if image.items:
            image.labels = joined(labels, self.ontology, first[ROW], shard)
            shard.add(image, refused)

    def _leave_out(self, row: Row) -> None:
        for rule in self.mapping.leave_out:
            text = str(self._cell(row, rule.column) or "")
            if any(piece.lower() in text.lower() for piece in rule.contains):
                raise Refused("skipped", rule.reason, rule.column, text)

    def _same_image(self, first: Row, row: Row) -> None:
        for column in (self.mapping.image.path, self.mapping.image.group):
            before, found = self._cell(first, column), self._cell(row, column)
            if before != found:
                detail = f"an earlier row of this picture says {before!r}"
                raise Refused("image_differs", detail, column, found)

    def _item(self, row: Row, shard: Shard) -> ItemDraft:
        spec = self.mapping.category
        category = self.category.look(self._word(row, spec.column))
        region, box = self._region(row, category), self._box(row)
        drafts = [r.read(self._cell(row, r.spec.column), category, row[ROW], shard) for r in self.attributes]
        known = joined([draft for draft in drafts if draft is not None], self.ontology, row[ROW], shard)
        name, source = self._cell(row, self.mapping.item.id), spec.source or spec.column
        item = ItemDraft(category, region, [row[ROW]], name, box, source=source, confidence=spec.confidence)
        item.attributes = known
        return item

    def _word(self, row: Row, column: str | None) -> str | None:
        value = self._cell(row, column)
        if isinstance(value, list):
            raise Refused("bad_cell", "one word is needed, not a list", column, ", ".join(value))
        return None if value is None else str(value)

    def _region(self, row: Row, category: str) -> str | None:
        column, values = self.mapping.item.region, self.mapping.item.region_values
        word = self._word(row, column)
        if word is None:
            return self.ontology.region_of(category)
        key = values.get(word, word)
        if key is not None and key not in self.ontology.regions:
            raise Refused("bad_region", f"no such region; there are: {', '.join(self.ontology.regions)}", column, word)
        return key

    def _box(self, row: Row) -> tuple[float, float, float, float] | None:
        cells = [self._word(row, column) for column in self.mapping.item.box]
        if not any(cells):
            return None
        try:
            x, y, width, height = (float(cell or "") for cell in cells)
        except ValueError as error:
            detail = "a box needs four numbers: x, y, width, height"
            raise Refused("bad_box", detail, self.mapping.item.box[0], str(cells)) from error
        if not (0 <= x < 1e6 and 0 <= y < 1e6 and 0 < width < 1e6 and 0 < height < 1e6):
            raise Refused(
                "bad_box", "a box must have a size and lie in the picture", self.mapping.item.box[0], str(cells)
            )
        return x, y, width, height
