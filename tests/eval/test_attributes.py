"""The attributes' comparison, whole, on drawn pictures whose label is their colour."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.splits import SplitOptions
from fashionkit.eval.protocols import run_recipe, table_of
from fashionkit.tables import InputError, part_path, read_manifest, write_manifest, write_table
from tests.made_up_shop import SHAPES, photo

RECIPE = """
protocol: attributes
columns: [tone, odd]
seeds: [0]
arms:
- {name: linear, backbone: timm/mobilenetv3_small_050, weights: random, size: 32, hidden: 0, epochs: 1, batch: 16}
- name: colour
  backbone: timm/mobilenetv3_small_050+stages
  weights: random
  size: 32
  colour: [tone]
  hidden: 16
  dropout: 0.1
  epochs: 10
  batch: 16
- {name: tuned, backbone: timm/mobilenetv3_small_050, weights: random, size: 32, tune: 1, epochs: 1, batch: 16}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of red and of navy things, a recipe, and labels: the colour, and a coin's side."""
    folder = tmp_path_factory.mktemp("attributes")
    shares = (("train", 0.5), ("val", 0.2), ("test", 0.3))
    draw_catalog(folder / "catalog", DrawOptions(80, size=64, workers=1, splits=SplitOptions(shares)))
    part = part_path(folder / "catalog", "images", 0)
    images, kinds = pq.read_table(part), list(SHAPES)
    tones = [("Red", "Navy Blue")[row * 7 // 3 % 2] for row in range(len(images))]
    photos = [photo(kinds[row % len(kinds)], tone, "Plain", row, 64) for row, tone in enumerate(tones)]
    column = images.schema.get_field_index("bytes")
    write_table(part, images.set_column(column, images.schema.field(column), pa.array(photos)))
    write_manifest(folder / "catalog", read_manifest(folder / "catalog", "catalog"))
    odd = [None if row % 9 == 0 else "yes" if row * 37 % 11 % 2 else "no" for row in range(len(images))]
    table = pa.table({"id": images["image_id"], "tone": tones, "odd": odd})
    pq.write_table(table.slice(0, 78), folder / "labels.parquet")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def run(shop: Path, out: Path, **changes: str) -> int:
    paths = {"catalog": str(shop / "catalog"), "labels": str(shop / "labels.parquet")}
    return run_recipe(str(shop / "recipe.yaml"), out, 1, **(paths | changes))


def test_colour_tells_tone_and_nothing_tells_a_coin(shop: Path) -> None:
    assert run(shop, shop / "out") == 3 * 2
    text, rows = table_of(shop / "out", 50)
    by = {(row["attribute"], row["arm"]): row for row in rows}
    assert len(by) == 6 and by["tone", "linear"]["difference"] is None
    assert by["tone", "colour"]["accuracy"][0] > 0.9 > by["odd", "colour"]["accuracy"][0]
    assert by["odd", "linear"]["n"] < by["tone", "linear"]["n"]  # unknown labels are no part of the test
    assert "| tone | 2 | colour |" in text and "near duplicates" in text


def test_again_makes_nothing_again(shop: Path) -> None:
    run(shop, shop / "again")
    times = {path: path.stat().st_mtime_ns for path in (shop / "again").rglob("*.*")}
    run(shop, shop / "again")
    assert {path: path.stat().st_mtime_ns for path in (shop / "again").rglob("*.*")} == times


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [("tone", None, "no such column"), ("tone", "x", "fewer than two values"), ("id", "0000001", "there twice")],
)
def test_labels_that_cannot_be_learnt_are_refused(
    shop: Path, tmp_path: Path, column: str, values: str | None, problem: str
) -> None:
    table = pq.read_table(shop / "labels.parquet").drop_columns([column])
    if values is not None:
        table = table.append_column(column, pa.array([values] * len(table)))
    pq.write_table(table, tmp_path / "labels.parquet")
    with pytest.raises(InputError, match=problem):
        run(shop, tmp_path / "out", labels=str(tmp_path / "labels.parquet"))


def test_a_missing_catalogue_is_named(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`catalog` must name what is there"):
        run(shop, tmp_path / "out", catalog=str(tmp_path / "none"))
