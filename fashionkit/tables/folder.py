"""A folder of Parquet tables with a manifest: the one thing that stages of fashionkit hand to each other.

    <folder>/manifest.json            what it is, who made it from what, and a checksum of every file
    <folder>/<table>/part-00000.parquet …
    <folder>/<other files named by the stage>

The manifest is written last: a folder without one is unfinished, and its parts are what a later run continues from.
Everything in the manifest but `provenance` is a function of the inputs and the seed, so two runs of the same command
give the same manifest apart from time, host and command line.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import fashionkit
from fashionkit.tables.errors import InputError
from fashionkit.tables.files import sha256_file, write_text

MANIFEST = "manifest.json"
AUDIT = "audit.json"  # verdicts on the finished folder: about its content, and no part of it
_TYPES: dict[str, type] = {"kind": str, "schema": int, "made_by": str}
_TYPES |= dict.fromkeys(("params", "inputs", "counts", "about", "files", "provenance"), dict)


@dataclass
class Manifest:
    """What a folder is and where it comes from.

    Attributes:
        kind: What sort of folder this is, e.g. `catalog` or `questions`.
        schema: Version of that kind's tables; raised when their meaning changes.
        made_by: fashionkit's version.
        params: The settings that decided the content (seed among them).
        inputs: Name → content hash of what it was made from.
        counts: Name → number, for people.
        about: Free facts: source, licence, notes.
        files: Relative path → {"sha256", "bytes", "rows"?}.
        provenance: Time, host, command line: the only part that differs between equal runs.
    """

    kind: str
    schema: int
    made_by: str = f"fashionkit {fashionkit.__version__}"
    params: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def content_hash(self) -> str:
        """Hash over kind, schema and the files' checksums: equal for equal content."""
        import hashlib

        body = {"kind": self.kind, "schema": self.schema, "files": {k: v["sha256"] for k, v in self.files.items()}}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


Migration = Callable[[Path, dict[str, Any]], dict[str, Any]]


def provenance() -> dict[str, Any]:
    """Time, host and command line of this run."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "command": sys.argv,
        "python": platform.python_version(),
    }


def describe_file(path: Path) -> dict[str, Any]:
    """Checksum, size and (for Parquet) rows of one file, as the manifest lists them."""
    entry: dict[str, Any] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    if path.suffix == ".parquet":
        entry["rows"] = pq.read_metadata(path).num_rows
    return entry


def write_manifest(folder: Path, manifest: Manifest, known: Mapping[str, dict[str, Any]] | None = None) -> Manifest:
    """Lists every file of `folder` with its checksum and writes the manifest: the folder is then complete.

    Args:
        folder: The finished folder.
        manifest: Everything but `files` and `provenance`.
        known: Entries that a stage worked out already while it wrote, to spare reading the files again.
    """
    known = known or {}
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if _is_content(folder, p))
    manifest.files = {name: known.get(name) or describe_file(folder / name) for name in names}
    manifest.provenance = provenance()
    write_text(folder / MANIFEST, json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return manifest


def _is_content(folder: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.is_file() and not hidden and path not in (folder / MANIFEST, folder / AUDIT)


def read_manifest(
    folder: str | Path,
    kind: str | None = None,
    schema: int | None = None,
    migrations: Mapping[int, Migration] | None = None,
) -> Manifest:
    """Reads a folder's manifest and refuses, with words, what it cannot be.

    Args:
        folder: A folder made by fashionkit.
        kind: The kind it must be of.
        schema: The version this code reads; an older one is migrated where `migrations` has a step from it.
        migrations: From-version → function that turns that version's manifest (as a dict) into the next one's.

    Raises:
        InputError: No folder, no manifest, a broken manifest, another kind, a newer or unmigratable schema.
    """
    folder = Path(folder)
    raw = _load_json(folder)
    if kind is not None and raw.get("kind") != kind:
        raise InputError(f"this is a {raw.get('kind')!r} folder, and a {kind!r} folder is needed", file=folder)
    if schema is not None:
        raw = _migrate(folder, raw, schema, migrations or {})
    known = {name: raw[name] for name in Manifest.__dataclass_fields__ if name in raw}
    return Manifest(**known)


def _load_json(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputError("no such folder", file=folder)
    if not path.is_file():
        hint = "an interrupted command leaves a folder without one: run that command again, it continues"
        problem = f"the folder holds no {MANIFEST}, so it was not made, or not finished, by fashionkit"
        raise InputError(problem, file=folder, hint=hint)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, a number of absurd length
        raise InputError(f"the manifest is damaged: {error}", file=path) from error
    if not isinstance(raw, dict) or "kind" not in raw or "schema" not in raw:
        raise InputError("the manifest lacks `kind` or `schema`", file=path)
    for name, wanted in _TYPES.items():
        if type(raw.get(name, wanted())) is not wanted:
            raise InputError(f"the manifest is damaged: {wanted.__name__} needed", file=path, column=name)
    for name, entry in raw.get("files", {}).items():
        if (
            not isinstance(entry, dict)
            or type(entry.get("bytes")) is not int
            or not isinstance(entry.get("sha256"), str)
        ):
            raise InputError("the manifest is damaged: a file's entry lacks `sha256` or `bytes`", file=path, found=name)
    return raw


def _migrate(folder: Path, raw: dict[str, Any], schema: int, migrations: Mapping[int, Migration]) -> dict[str, Any]:
    while raw["schema"] < schema and raw["schema"] in migrations:
        raw = migrations[raw["schema"]](folder, raw)
    if raw["schema"] != schema:
        age = "newer" if raw["schema"] > schema else "older"
        hint = "update fashionkit" if age == "newer" else "make the folder again with this version"
        problem = f"schema {raw['schema']} of this {raw['kind']!r} folder is {age} than the {schema} that is read here"
        raise InputError(problem, file=folder / MANIFEST, hint=hint)
    return raw


def verify(folder: str | Path) -> list[str]:
    """Compares every file with the manifest; returns one line for each that is missing, extra or changed."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    problems = []
    for name, entry in manifest.files.items():
        path = folder / name
        if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
            problems.append(f"{name}: leads outside the folder")
        elif not path.is_file():
            problems.append(f"{name}: missing")
        elif path.stat().st_size != entry["bytes"] or sha256_file(path) != entry["sha256"]:
            problems.append(f"{name}: changed since it was written")
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if _is_content(folder, p)}
    return problems + [f"{name}: not in the manifest" for name in sorted(there - set(manifest.files))]


def part_path(folder: Path, table: str, part: int) -> Path:
    """Where part number `part` of a table lies."""
    return folder / table / f"part-{part:05d}.parquet"


def table_parts(folder: Path, table: str) -> list[Path]:
    """The parts of a table in order."""
    return sorted((folder / table).glob("part-*.parquet"))


def read_table(folder: str | Path, table: str, columns: Iterable[str] | None = None) -> pa.Table:
    """Reads all parts of one table.

    Raises:
        InputError: The table is not there, a part is damaged, or a column is missing.
    """
    parts = table_parts(Path(folder), table)
    if not parts:
        raise InputError(f"the folder has no table {table!r}", file=folder)
    wanted = None if columns is None else list(columns)
    return pa.concat_tables([_read_part(path, wanted) for path in parts])


def _read_part(path: Path, wanted: list[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            table = file.read(wanted)  # leaves out in silence what is not there
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"the file is damaged or not Parquet: {error}", file=path) from error
    if wanted is None:
        return table
    missing = set(wanted) - set(names)
    if missing:
        raise InputError("a column is missing", file=path, found=", ".join(sorted(missing)), allowed=names)
    return table.select(wanted)
