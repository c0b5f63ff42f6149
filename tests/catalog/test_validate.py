"""The check finds what an edited catalogue may have wrong."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fashionkit.catalog.assemble import split_again
from fashionkit.catalog.splits import SplitOptions
from fashionkit.catalog.validate import check_catalog
from fashionkit.tables import part_path, read_manifest, verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one good catalogue is kept."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def good(shop: Any, whole: Path, tmp_path: Path) -> Path:
    """A copy of a catalogue that passes, beside its pictures."""
    if not any(whole.iterdir()):
        shop.mapping += "labels:\n  - {column: use, label: outfit_occasion}\n"
        for row in shop.rows:
            row["use"] = "Casual"
        shop.run()
        assert check_catalog(shop.out, pictures=True, checksums=True) == []
        shutil.copytree(shop.out, whole, dirs_exist_ok=True)
    return Path(shutil.copytree(whole, tmp_path / "out", dirs_exist_ok=True))


def edit(folder: Path, table: str, change: Callable[[pa.Table], pa.Table]) -> None:
    path = part_path(folder, table, 0)
    pq.write_table(change(pq.read_table(path)), path)


def put(column: str, value: object, row: int = 0) -> Callable[[pa.Table], pa.Table]:
    """Sets one cell."""

    def change(table: pa.Table) -> pa.Table:
        field = table.schema.field(column)
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(table.column_names.index(column), field, pa.array(values, field.type))

    return change


def png(height: int, width: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ones((height, width), bool)).save(out, format="PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    ("table", "column", "value", "words"),
    [
        ("images", "image_id", "p01", "images.image_id: stands twice: 1, e.g. p01"),
        ("images", "image_id", "new", "items.image_id: no such id: 1, e.g. p00"),
        ("images", "image_id", "new", "splits: pictures without a split: 1, e.g. new"),
        ("images", "width", 39, "is not the one that was measured"),
        ("items", "item_id", "p01.1", "items.item_id: stands twice"),
        ("items", "item_id", "new", "attributes.item_id: no such id"),
        ("items", "category", "t_shirts", "items.category: 't_shirts' is not in the ontology; nearest: 't_shirt'"),
        ("items", "category", "jeanz", "nearest: 'jeans'"),
        ("items", "region", "tap", "items.region: 'tap'"),
        ("items", "box", [30.0, 0.0, 20.0, 10.0], "items.box: outside its picture"),
        ("items", "area", 1.5, "items.area: not a share"),
        ("attributes", "attribute", "color", "attributes.attribute: 'color' is not in the ontology; nearest: 'colour'"),
        (
            "attributes",
            "attribute",
            "heel_height",
            "the category cannot have the attribute: 1, e.g. t_shirt / heel_height",
        ),
        (
            "attributes",
            "values",
            ["blak"],
            "attributes.values of colour: 'blak' is not in the ontology; nearest: 'black'",
        ),
        ("attributes", "values", ["black", "red"], "several values of colour"),
        ("attributes", "values", [], "values must be there where the state is present"),
        ("attributes", "state", "perhaps", "attributes.state: no such state"),
        ("attributes", "item_id", "p01.1", "two rows for one item_id and attribute"),
        ("labels", "image_id", "nobody", "labels.image_id: no such id"),
        ("labels", "label", "colour", "labels.label: 'colour'"),
        ("splits", "split", "dev", "splits.split: no such split"),
        ("splits", "split_group", 1, "splits: groups in two splits"),
    ],
)
def test_it_finds_each_kind_of_damage(good: Path, table: str, column: str, value: object, words: str) -> None:
    if column == "split_group":  # two groups of different splits become one
        edit(good, table, put("split", "test", 1))
        edit(good, table, put("split", "train", 0))
    edit(good, table, put(column, value))
    problems = check_catalog(good, pictures=True)
    assert any(words in problem for problem in problems), problems


def test_it_finds_masks_that_do_not_fit(good: Path) -> None:
    edit(good, "items", put("box", [2.0, 3.0, 10.0, 20.0]))
    edit(good, "items", put("mask", png(20, 10)))
    assert check_catalog(good, pictures=True) == []
    edit(good, "items", put("mask", png(10, 20)))
    assert "the mask is 20 x 10" in check_catalog(good, pictures=True)[0]
    edit(good, "items", put("mask", b"junk"))
    assert "items.mask" in check_catalog(good, pictures=True)[0]


def test_it_finds_lost_tables_columns_and_types(good: Path) -> None:
    edit(good, "items", lambda t: t.drop_columns(["region"]))
    assert check_catalog(good) == ["items: column 'region' is missing"]
    edit(good, "images", lambda t: t.set_column(3, "width", pc.cast(t["width"], pa.int64())))
    assert "images.width: is int64, and must be int32" in check_catalog(good)
    shutil.rmtree(good / "splits")
    assert "splits: the table is missing" in check_catalog(good)


def test_it_finds_lost_and_changed_pictures(good: Path, make_picture: Callable[..., bytes]) -> None:
    photos = good.parent / "photos"
    (photos / "4.jpg").write_bytes(make_picture(99))
    assert "picture 'p04' is not the one" in check_catalog(good, pictures=True)[0]
    (photos / "4.jpg").unlink()
    assert "4.jpg" in check_catalog(good, pictures=True)[0]
    assert check_catalog(good) == []  # not looked at unless asked


def test_it_finds_wrong_facts_and_checksums(good: Path) -> None:
    path = good / "catalog.yaml"
    path.write_text(path.read_text().replace("countable: []", "countable: [shose]"))
    assert check_catalog(good) == ["catalog.yaml, countable: 'shose' is not in the ontology; nearest: 'shoes'"]
    assert "catalog.yaml: changed" in check_catalog(good, checksums=True)[0]


def test_splits_can_be_made_again(good: Path) -> None:
    report = split_again(good, SplitOptions(shares=(("train", 0.5), ("test", 0.5)), salt="other"))
    assert set(report.splits) == {"train", "test"}
    assert verify(good) == [] and check_catalog(good) == []
    assert read_manifest(good).params["splits"]["salt"] == "other"
