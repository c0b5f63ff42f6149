"""Reading and writing a catalogue folder: the tables of `schema`, their facts and their ontology."""

from __future__ import annotations

import shutil
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import KIND, SCHEMA, TABLES, Facts
from fashionkit.tables import (
    InputError,
    Manifest,
    part_path,
    read_manifest,
    read_table,
    table_parts,
    write_table,
    write_text,
)
from fashionkit.tables.yamls import load_yaml


class Catalog:
    """A finished catalogue folder, read lazily.

    Args:
        path: The folder.

    Raises:
        InputError: Not a catalogue, unfinished, or of a schema this version cannot read.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path, KIND, SCHEMA)

    @cached_property
    def facts(self) -> Facts:
        """What holds for the catalogue as a whole."""
        return read_facts(self.path / "catalog.yaml")

    @cached_property
    def ontology(self) -> Ontology:
        """The catalogue's words."""
        return Ontology.load(self.path / "ontology.yaml")

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One of the tables of `schema.TABLES`, all rows; an absent optional table is empty."""
        if name not in TABLES:
            raise InputError("no such table in a catalogue", file=self.path, found=name, allowed=TABLES)
        if not table_parts(self.path, name):
            schema = TABLES[name]
            return (schema if columns is None else pa.schema([schema.field(c) for c in columns])).empty_table()
        return read_table(self.path, name, columns)

    def image_bytes(self, image_ids: list[str]) -> dict[str, bytes | None]:
        """Encoded pictures by id; None where the catalogue has no picture for it.

        Raises:
            InputError: A path leaves the image root, or the file is gone.
        """
        import pyarrow.compute as pc

        wanted = pa.array(image_ids, pa.string())
        found: dict[str, bytes | None] = {}
        for part in table_parts(self.path, "images"):
            table = pa.parquet.read_table(
                part, columns=["image_id", "path", "bytes"], filters=pc.field("image_id").isin(wanted)
            )
            for row in table.to_pylist():
                found[row["image_id"]] = row["bytes"] if row["path"] is None else self._file_bytes(row["path"])
        return found

    def _file_bytes(self, relative: str) -> bytes:
        root = (self.path / self.facts.image_root).resolve()
        path = (root / relative).resolve()
        if not path.is_relative_to(root):
            raise InputError("the picture's path leads outside the image folder", file=self.path, found=relative)
        if not path.is_file():
            raise InputError(
                "the picture's file is gone",
                file=path,
                hint=f"image_root in {self.path / 'catalog.yaml'} says where to look",
            )
        return path.read_bytes()


def read_facts(path: Path) -> Facts:
    """Reads `catalog.yaml`.

    Raises:
        InputError: An unknown key, a wrong type or an unknown scene, with its line.
    """
    data, lines = load_yaml(path)
    if not isinstance(data, dict):
        raise InputError("a mapping is needed", file=path, found=data)
    kinds = {f.name: str(f.type) for f in fields(Facts)}
    for key, value in data.items():
        if key not in kinds:
            raise InputError("unknown key", file=path, row=lines.of(key), found=key, allowed=kinds)
        wanted: Any = str if kinds[key] == "str" else list
        if not isinstance(value, wanted) or (wanted is list and not all(isinstance(v, str) for v in value)):
            raise InputError(f"{kinds[key]} is needed", file=path, row=lines.of(key), column=key, found=value)
    if "name" not in data:
        raise InputError("`name` is missing", file=path)
    facts = Facts(**data)
    if facts.scene not in ("product", "outfit"):
        raise InputError(
            "no such scene", file=path, row=lines.of("scene"), found=facts.scene, allowed=["product", "outfit"]
        )
    return facts


def write_facts(folder: Path, facts: Facts) -> None:
    """Writes `catalog.yaml`."""
    write_text(folder / "catalog.yaml", yaml.safe_dump(asdict(facts), sort_keys=False, allow_unicode=True))


def write_rows(folder: Path, table: str, part: int, rows: list[dict[str, Any]] | pa.Table) -> None:
    """Writes one part of a table in the schema of `schema.TABLES`; list rows may leave nullable columns out."""
    data = rows.cast(TABLES[table]) if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema=TABLES[table])
    write_table(part_path(folder, table, part), data)


def copy_ontology(folder: Path, source: Path) -> None:
    """Puts the ontology file into the catalogue, so that the folder explains itself."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / "ontology.yaml")
