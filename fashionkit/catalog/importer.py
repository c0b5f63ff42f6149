"""`fashionkit catalog import`: from a source and its mapping to a finished catalogue folder.

    source ──► stage (ids, duplicates, shards of whole pictures) ──► shards over workers ──► splits ──► manifest
                 └── .import/plan.json                                 └── part-00000 … of each table

A kill loses at most the shards in flight: the same command continues. Bytes depend on the source, the mapping and the
options alone, not on workers or restarts. When too many rows are refused, the tables (with `rejects`) stay for a look,
but no manifest is written, so that no later stage takes the folder for a catalogue.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fashionkit.catalog import from_coco, from_folders, from_masks, from_table, staging
from fashionkit.catalog.assemble import begin, finish, make_shards, plain_splits
from fashionkit.catalog.drafts import CELL_REASONS, Shard, ShardSettings, Tally, read_tallies
from fashionkit.catalog.images import MAX_PIXELS
from fashionkit.catalog.mapping import Mapping, load_mapping
from fashionkit.catalog.schema import KIND
from fashionkit.catalog.splits import SplitOptions, SplitReport
from fashionkit.catalog.tabular import open_table
from fashionkit.tables import InputError, read_manifest, read_table, sha256_file, shorten, table_parts


@dataclass
class ImportOptions:
    """What a mapping does not say."""

    workers: int = 2
    embed: bool | None = None  # None: as the mapping says
    max_pixels: int = MAX_PIXELS
    max_rejects: float = 0.10  # share of entries, and of the filled cells of a column
    overwrite: bool = False
    splits: SplitOptions = field(default_factory=SplitOptions)


@dataclass
class ImportReport:
    """What came of an import. `failure` says why the folder was left unfinished; None where it is finished."""

    folder: Path
    tally: Tally
    examples: dict[str, str]
    splits: SplitReport | None = None
    failure: str | None = None
    was_finished: bool = False

    def lines(self) -> list[str]:
        """The report for people."""
        t = self.tally
        merged = f", {t.merged:,} merged into others" if t.merged else ""
        text = [f"{t.images:,} of {t.images_in:,} pictures, {t.items:,} items from {t.entries:,} entries{merged}"]
        for reason, count in _most_first(t.rejected + _lost_cells(t)):
            text.append(f"  {reason}: {count:,}, e.g. {shorten(self.examples.get(reason, ''), 300)}")
        for column, cells in sorted(t.cells.items()):
            parts = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in _most_first(cells))
            text.append(f"  column {shorten(column)}: {parts}")
        return text if self.failure is None else [*text, self.failure]


def _most_first(counts: Counter[str]) -> list[tuple[str, int]]:
    """In an order that the counts alone decide, so that a report read back from the manifest is the same."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


class _Reader(Protocol):
    def read(self, staged: pa.Table, shard: Shard) -> None:
        """Adds a staged shard's pictures to `shard`."""


_READERS: dict[str, Callable[[Mapping, Path], _Reader]] = {
    "table": from_table.TableReader,
    "coco": from_coco.CocoReader,
    "fashionpedia": from_coco.CocoReader,
    "maskset": from_masks.MaskReader,
    "folders": from_folders.FolderReader,
}


def import_catalog(source: Path, out: Path, mapping_path: Path, options: ImportOptions | None = None) -> ImportReport:
    """Imports a source into a catalogue folder, or continues an interrupted import.

    Raises:
        InputError: The source, the mapping or the folder cannot be used.
    """
    options = options or ImportOptions()
    mapping = load_mapping(mapping_path)
    if not source.exists():
        raise InputError("no such file or folder", file=source)
    base = source if source.is_dir() else source.parent
    settings = _settings(base, source.name, mapping, options)
    made_from = _made_from(source, base, mapping, settings, options)
    shards = begin(out, made_from, options.overwrite, lambda: _stage(source, mapping, staging.Stager(out, settings)))
    if shards is None:
        tally = Tally()
        tally.add(read_manifest(out, KIND).counts)
        return ImportReport(out, tally, _examples(out), was_finished=True)
    reader = _READERS[mapping.format](mapping, base)
    make_shards(out, shards, _make, options.workers, _take, _Job(out, reader, settings), "import")
    report = ImportReport(out, read_tallies(out, range(shards + 1)), _examples(out))
    assert report.tally.adds_up(), "an entry has vanished"
    report.failure = _too_many(report.tally, options.max_rejects, out)
    if report.failure is None:
        root = "." if settings.root is None or settings.embed else _image_root(settings.root, out)
        shutil.copyfile(mapping.path, out / "mapping.yaml")
        facts = replace(mapping.facts, image_root=root)
        report.splits = finish(out, facts, mapping.ontology_path, made_from, report.tally, options.splits)
    return report


def _made_from(
    source: Path, base: Path, mapping: Mapping, settings: ShardSettings, options: ImportOptions
) -> dict[str, Any]:
    """All that decides the catalogue's content."""
    inputs = {"source": hash_source(source, mapping), "mapping": sha256_file(mapping.path)}
    inputs["ontology"] = sha256_file(mapping.ontology_path)
    names = from_masks.names_path(mapping, base)
    if names is not None and names.is_file():
        inputs["names"] = sha256_file(names)
    params = {"embed": settings.embed, "max_pixels": options.max_pixels, "shard": staging.SHARD}
    return {"inputs": inputs, "params": params | {"splits": plain_splits(options.splits)}}


def hash_source(source: Path, mapping: Mapping) -> str:
    """Content hash of a file; of a folder, the hash over the names and sizes of its pictures and masks (`folders`: over
    their content, since it decides the ids)."""
    if source.is_file():
        return sha256_file(source)
    if mapping.format == "folders":
        return from_folders.hash_pictures(source, mapping)
    folders = [source / name for name in (mapping.image.folder, mapping.mask.folder) if name is not None]
    files = sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file())
    listed = [(path.relative_to(source).as_posix(), path.stat().st_size) for path in files]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _settings(base: Path, name: str, mapping: Mapping, options: ImportOptions) -> ShardSettings:
    embed = mapping.image.embed if options.embed is None else options.embed
    root = base / mapping.image.folder
    with_files = mapping.image.bytes is None and (mapping.image.path is not None or mapping.format != "table")
    if with_files and not root.is_dir():
        raise InputError("no such folder of pictures", file=root, hint="`image.folder` in the mapping says where it is")
    embed = embed or mapping.image.bytes is not None
    closed = bool(mapping.facts.closed_categories)
    return ShardSettings(name, root if with_files else None, embed, options.max_pixels, closed)


def _stage(source: Path, mapping: Mapping, stager: staging.Stager) -> int:
    if mapping.format == "table":
        table = open_table(source, mapping.table)
        table.require([*mapping.columns(), *mapping.binary_columns()], mapping.asks_for)
        from_table.stage(table, mapping, stager)
    elif mapping.format == "maskset":
        from_masks.stage(source, mapping, stager)
    elif mapping.format == "folders":
        from_folders.stage(source, mapping, stager)
    else:
        from_coco.stage(source, mapping, stager)
    return stager.shards


@dataclass
class _Job:
    """What a worker needs besides the number of its shard."""

    out: Path
    reader: _Reader
    settings: ShardSettings


_job: _Job | None = None


def _take(job: _Job) -> None:
    global _job
    _job = job


def _make(part: int) -> int:
    assert _job is not None, "the initializer ran"
    shard = Shard(_job.settings)
    _job.reader.read(staging.staged_rows(_job.out, part), shard)
    shard.write(_job.out, part)
    return shard.tally.images_in


def _examples(out: Path) -> dict[str, str]:
    """Reason → where and what, of the first reject with it."""
    found: dict[str, str] = {}
    if table_parts(out, "rejects"):
        for row in read_table(out, "rejects").to_pylist():
            place = f"row {row['row']}" if row["row"] is not None else row["file"]
            column = f", column {row['column']!r}" if row["column"] else ""
            found.setdefault(row["reason"], f"{place}{column}: {row['detail']}")
    return found


def _lost_cells(tally: Tally) -> Counter[str]:
    return Counter({r: n for r in sorted(CELL_REASONS) if (n := sum(cells[r] for cells in tally.cells.values()))})


def _too_many(tally: Tally, limit: float, out: Path) -> str | None:
    """Why the import may not be finished, or None: too much was refused, or nothing is left."""
    refused = sum(count for reason, count in tally.rejected.items() if reason != "skipped")
    lists = f"{out / 'rejects'} lists every row"
    end = f"no manifest was written; {lists}: mend the source or the mapping, or raise the limit"
    if not tally.images:
        return f"no picture is left; {end}"
    if refused > limit * tally.entries:
        return f"{refused / tally.entries:.0%} of the entries were refused, and at most {limit:.0%} may be; {end}"
    for column, cells in tally.cells.items():
        filled = cells.total() - cells["unknown"] - cells["left_out"]
        if cells["unmapped_value"] > limit * filled:
            share = cells["unmapped_value"] / filled
            return f"{share:.0%} of the filled cells of column {column!r} mean nothing to the mapping; {end}"
    return None


def _image_root(root: Path, out: Path) -> str:
    """The picture folder as `catalog.yaml` states it: relative where both lie in one place that may move as a whole."""
    root, out = root.resolve(), out.resolve()
    if len(Path(os.path.commonpath([root, out])).parts) > 1:
        return Path(os.path.relpath(root, out)).as_posix()
    return root.as_posix()
