"""A made-up shop: a few drawn pictures and a table, which tests write in whatever bad way they need."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.importer import ImportOptions, ImportReport, import_catalog
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import TABLES

KINDS = ("T-Shirts", "Jeans", "Dresses", "Sneakers", "Coats", "Handbags")
COLOURS = ("Black", "Navy Blue", "Red", "White", "Green")

MAPPING = """
schema: fashionkit.mapping/1
format: table
ontology: fashion
catalog: {name: shop, scene: product, noun: product}
image: {id: sku, path: file, folder: photos}
category: {column: type}
attributes:
  - {column: colour, attribute: colour}
"""


def picture(seed: int, size: tuple[int, int] = (40, 60), kind: str = "JPEG", **options: Any) -> bytes:
    """An encoded picture of coarse coloured noise; another seed gives a clearly other picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST).save(out, format=kind, **options)
    return out.getvalue()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads each ontology file once and leaves flushing to the disk out: most tests' time otherwise."""

    def load(path: str | Path) -> Ontology:
        stat = Path(path).stat()
        return _load(Path(path), stat.st_mtime_ns, stat.st_size)

    monkeypatch.setattr(Ontology, "load", staticmethod(load))
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


_read_ontology = Ontology.load


@lru_cache(maxsize=4)
def _load(path: Path, *_: int) -> Ontology:
    return _read_ontology(path)


@dataclass
class Shop:
    """Rows and pictures below `folder`; `run` imports them with `mapping` into `out`."""

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    mapping: str = MAPPING

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self, name: str = "shop.csv", delimiter: str = ",", newline: str = "\n") -> Path:
        path = self.folder / name
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            return path
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, list(self.rows[0]), delimiter=delimiter, lineterminator=newline)
            writer.writeheader()
            writer.writerows(self.rows)
        return path

    def run(self, source: Path | None = None, out: Path | None = None, **options: Any) -> ImportReport:
        mapping = self.folder / "shop.yaml"
        mapping.write_text(self.mapping)
        options = {"workers": 1, **options}
        return import_catalog(source or self.write(), out or self.out, mapping, ImportOptions(**options))

    def catalog(self) -> Catalog:
        return Catalog(self.out)

    def table(self, name: str) -> list[dict[str, Any]]:
        """A table's rows, also of an unfinished catalogue."""
        import pyarrow as pa

        from fashionkit.tables import read_table, table_parts

        rows = read_table(self.out, name) if table_parts(self.out, name) else pa.table({})
        assert not rows.num_columns or rows.column_names == TABLES[name].names
        return rows.to_pylist()

    def attribute(self, sku: str, name: str) -> dict[str, Any] | None:
        """The one row of an item's attribute, or None where it is unknown."""
        rows = [r for r in self.table("attributes") if r["item_id"].split(".")[0] == sku and r["attribute"] == name]
        assert len(rows) <= 1
        return rows[0] if rows else None

    def reasons(self) -> dict[str, int]:
        """Rejects by reason."""
        found: dict[str, int] = {}
        for row in self.table("rejects"):
            found[row["reason"]] = found.get(row["reason"], 0) + 1
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Thirty products with pictures."""
    made = Shop(tmp_path)
    (tmp_path / "photos").mkdir()
    for i in range(30):
        made.rows.append(
            {"sku": f"p{i:02d}", "file": f"{i}.jpg", "type": KINDS[i % 6], "colour": COLOURS[i % 5], "price": 10 + i}
        )
        (tmp_path / "photos" / f"{i}.jpg").write_bytes(picture(i))
    return made


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    return picture


def content(folder: Path) -> dict[str, str]:
    """Checksums of all files but the manifest, and the manifest less its provenance."""
    from fashionkit.tables import read_manifest, sha256_file

    files = {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*.*")) if p.is_file()}
    files.pop("manifest.json")
    return {**files, "manifest": read_manifest(folder).content_hash()}


@pytest.fixture
def contents() -> Callable[[Path], dict[str, str]]:
    return content
