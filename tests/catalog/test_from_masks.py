"""Pictures with a mask of label ids, as a table and as folders."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.importer import ImportOptions, ImportReport, import_catalog
from fashionkit.catalog.validate import check_catalog
from fashionkit.tables import InputError

MAPPING = """
schema: fashionkit.mapping/1
format: maskset
ontology: fashion
catalog: {name: street, scene: outfit%s}
image: %s
mask: %s
category: {values: {pants: trousers}, skip: {skin: no item}}
"""
TABLE = MAPPING % ("%s", "{id: name, bytes: image}", "{bytes: mask, names: {1: coat, 2: shoes, 3: skin, 4: spoon}}")
FOLDER = MAPPING % ("", "{folder: pictures}", "{folder: masks, names_file: labels.csv}")


def png(ids: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(ids.astype(np.uint8)).save(out, format="PNG")
    return out.getvalue()


def coat_and_shoes() -> np.ndarray[Any, Any]:
    """An open coat in two halves, and two shoes."""
    ids = np.zeros((60, 40), np.uint8)
    ids[5:30, 5:12] = ids[5:30, 20:27] = 1
    ids[50:55, 6:10] = ids[51:55, 20:25] = 2
    ids[0:5, 10:20] = 3
    return ids


def run(folder: Path, masks: list[bytes | None], pictures: list[bytes], facts: str = "") -> ImportReport:
    names = [f"n{i}" for i in range(len(masks))]
    table = {"name": pa.array(names), "image": pa.array(pictures), "mask": pa.array(masks, pa.binary())}
    pq.write_table(pa.table(table), folder / "street.parquet")
    (folder / "m.yaml").write_text(TABLE % facts)
    options = ImportOptions(workers=1, max_rejects=1.0)
    return import_catalog(folder / "street.parquet", folder / "out", folder / "m.yaml", options)


def test_all_regions_of_a_label_are_one_item(tmp_path: Path, make_picture: Callable[..., bytes]) -> None:
    ids = coat_and_shoes()
    report = run(tmp_path, [png(ids), png(np.zeros((60, 40)))], [make_picture(0), make_picture(1)])
    catalog = Catalog(tmp_path / "out")
    coat, shoes = catalog.table("items").to_pylist()
    assert (coat["category"], coat["box"], shoes["category"], shoes["box"]) == (
        "coat",
        [5, 5, 22, 25],
        "shoes",
        [6, 50, 19, 5],
    )
    assert coat["area"] == pytest.approx((ids == 1).mean())
    mask = np.asarray(Image.open(io.BytesIO(coat["mask"])))
    assert np.array_equal(mask, ids[5:30, 5:27] == 1)
    assert (report.tally.images, report.tally.entries, report.tally.rejected) == (2, 3, {"skipped": 1})
    assert check_catalog(tmp_path / "out", pictures=True) == []


def test_bad_masks(tmp_path: Path, make_picture: Callable[..., bytes]) -> None:
    good = png(coat_and_shoes())
    masks = [good, None, b"x", good[:60], make_picture(1), png(np.zeros((60, 41))), png(np.full((60, 40), 9)), good]
    pictures = [make_picture(i) for i in range(7)] + [b"junk"]
    report = run(tmp_path, masks, pictures)
    rows = Catalog(tmp_path / "out").table("rejects").to_pylist()
    reasons: dict[int, set[str]] = {}
    for row in rows:
        reasons.setdefault(row["row"], set()).add(row["reason"])
    assert reasons == {
        1: {"skipped"},
        2: {"image_empty"},
        3: {"image_format"},
        4: {"image_truncated"},
        5: {"mask_format"},
        6: {"size_differs"},
        7: {"unnamed_id"},
        8: {"image_format", "skipped"},
    }
    assert report.tally.adds_up() and report.tally.images == 2  # the picture whose one id has no name stays, empty


def test_where_absence_is_stated_an_unknown_label_costs_the_picture(
    tmp_path: Path, make_picture: Callable[..., bytes]
) -> None:
    spoon = coat_and_shoes()
    spoon[30:40] = 4
    report = run(
        tmp_path, [png(coat_and_shoes()), png(spoon)], [make_picture(0), make_picture(1)], ", closed_categories: [coat]"
    )
    assert Catalog(tmp_path / "out").table("images")["image_id"].to_pylist() == ["n0"]
    assert report.tally.rejected == {"skipped": 2, "unmapped_category": 1, "incomplete_image": 2}


def folders(folder: Path, picture: Callable[..., bytes]) -> ImportReport:
    (folder / "pictures").mkdir()
    (folder / "masks").mkdir()
    for i in range(3):
        (folder / "pictures" / f"a{i}.jpg").write_bytes(picture(i))
        (folder / "masks" / f"a{i}.png").write_bytes(png(coat_and_shoes()))
    (folder / "pictures" / "readme.txt").write_text("no picture")
    (folder / "labels.csv").write_text("label_id,label\n0,null\n1,coat\n2,shoes\n3,skin\n")
    (folder / "m.yaml").write_text(FOLDER)
    (folder / "masks" / "a2.png").unlink()
    options = ImportOptions(workers=2, max_rejects=0.5)
    return import_catalog(folder, folder.parent / "out", folder / "m.yaml", options)


def test_folders_of_pictures_and_masks(tmp_path: Path, make_picture: Callable[..., bytes]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    report = folders(source, make_picture)
    catalog = Catalog(tmp_path / "out")
    assert catalog.table("images")["image_id"].to_pylist() == ["a0", "a1"]
    assert catalog.image_bytes(["a1"])["a1"] == (source / "pictures" / "a1.jpg").read_bytes()
    assert report.tally.rejected == {"skipped": 2, "image_missing": 1} and report.tally.adds_up()


@pytest.mark.parametrize("labels", ["label_id,label\n300,coat\n", "label_id,label\nx,coat\n", "label_id\n1\n"])
def test_bad_label_names(tmp_path: Path, make_picture: Callable[..., bytes], labels: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    folders(source, make_picture)
    (source / "labels.csv").write_text(labels)
    with pytest.raises(InputError):
        import_catalog(source, tmp_path / "o2", source / "m.yaml", ImportOptions())


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "labels.csv").write_text("label_id,label\n1,coat\n")
    (tmp_path / "m.yaml").write_text(FOLDER)
    with pytest.raises(InputError, match="no rows"):
        import_catalog(tmp_path, tmp_path / "out", tmp_path / "m.yaml", ImportOptions())


def test_the_catalogue_may_lie_in_the_source_folder(tmp_path: Path, make_picture: Callable[..., bytes]) -> None:
    (tmp_path / "s").mkdir()
    folders(tmp_path / "s", make_picture)
    inside = tmp_path / "s" / "out"
    options = ImportOptions(workers=1, max_rejects=0.5)
    for finished in (False, True):
        report = import_catalog(tmp_path / "s", inside, tmp_path / "s" / "m.yaml", options)
        assert report.was_finished is finished
