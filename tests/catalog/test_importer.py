"""Importing tables end to end: states, rejects, pictures, several items a picture, tables of all formats."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.catalog import staging
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.validate import check_catalog
from fashionkit.tables import MANIFEST, InputError, verify


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "SHARD", 4)


def test_a_shop_becomes_a_catalogue(shop: Any) -> None:
    report = shop.run()
    assert report.failure is None and report.tally.adds_up()
    assert (report.tally.images, report.tally.items, report.tally.entries) == (30, 30, 30)
    items = shop.table("items")
    assert [(i["item_id"], i["category"], i["region"]) for i in items[:2]] == [
        ("p00.1", "t_shirt", "top"),
        ("p01.1", "jeans", "bottom"),
    ]
    found = shop.attribute("p01", "colour")
    assert (found["state"], found["values"], found["complete"], found["source"]) == (
        "present",
        ["navy"],
        True,
        "colour",
    )
    assert check_catalog(shop.out, pictures=True, checksums=True) == []


def test_pictures_stay_where_they_are_unless_embedded(shop: Any) -> None:
    shop.run()
    catalog = shop.catalog()
    assert catalog.facts.image_root == "../photos"
    want = (shop.folder / "photos" / "3.jpg").read_bytes()
    assert catalog.image_bytes(["p03"]) == {"p03": want}
    shop.run(out=shop.folder / "b", embed=True)
    shutil.rmtree(shop.folder / "photos")
    assert Catalog(shop.folder / "b").image_bytes(["p03"]) == {"p03": want}
    assert Catalog(shop.folder / "b").facts.image_root == "."


def test_a_missing_cell_is_unknown_and_never_absent(shop: Any) -> None:
    for i, cell in enumerate(["", "NaN", "N/A", "none", "-"]):
        shop.rows[i]["colour"] = cell
    shop.run()
    assert [shop.attribute(f"p{i:02d}", "colour") for i in range(5)] == [None] * 5
    assert len(shop.table("attributes")) == 25
    assert not any(row["state"] == "absent" for row in shop.table("attributes"))


def test_absent_and_not_visible_are_what_the_mapping_calls_so(shop: Any) -> None:
    shop.mapping += "  - {column: clasp, attribute: closure, absent: [none], not_visible: [hidden], unknown: ['?']}\n"
    for row, cell in zip(shop.rows, ["none", "hidden", "?", "zip", ""] * 6, strict=True):
        row["clasp"] = cell
    shop.run()
    found = [shop.attribute(f"p{i:02d}", "closure") for i in range(5)]
    assert [f and (f["state"], f["values"]) for f in found] == [
        ("absent", []),
        ("not_visible", []),
        None,
        ("present", ["zip"]),
        None,
    ]


def test_lists_and_separators(shop: Any) -> None:
    shop.mapping += "  - {column: trims, attribute: details, separator: /}\n"
    for row, cell in zip(shop.rows, ["pockets / logo", "bow", "", "/", "pockets/odd"] * 6, strict=True):
        row["trims"] = cell
    report = shop.run(max_rejects=1)
    found = [shop.attribute(f"p{i:02d}", "details") for i in range(5)]
    assert [f and (f["values"], f["complete"]) for f in found] == [
        (["logo", "pockets"], False),
        (["bow"], False),
        None,
        None,
        (["pockets"], False),
    ]
    assert shop.reasons() == {"unmapped_value": 6} and report.tally.items == 30


def test_completeness_is_declared_for_columns_and_categories(shop: Any) -> None:
    shop.mapping += "  - {column: trims, attribute: details, separator: /, complete: [trousers]}\n"
    for row in shop.rows:
        row["trims"] = "pockets/logo"
    shop.rows[7]["trims"] = "pockets/?"  # a part that is unknown: no longer all that holds
    shop.run()
    complete = {row["item_id"]: row["complete"] for row in shop.table("attributes") if row["attribute"] == "details"}
    assert (complete["p00.1"], complete["p01.1"], complete["p07.1"]) == (False, True, False)


def test_two_values_of_an_exclusive_attribute_leave_it_unknown(shop: Any) -> None:
    shop.mapping = shop.mapping.replace("attribute: colour}", "attribute: colour, separator: /}")
    shop.rows[0]["colour"], shop.rows[1]["colour"] = "Red/Blue", "Blue/Navy Blue"  # navy is a blue
    shop.run()
    assert shop.attribute("p00", "colour") is None
    assert shop.attribute("p01", "colour")["values"] == ["blue", "navy"]
    assert shop.reasons() == {"conflicting_values": 1}


def test_two_columns_of_one_attribute_are_put_together(shop: Any) -> None:
    shop.mapping += "  - {column: more, attribute: colour}\n"
    for row, cell in zip(shop.rows, ["Black", "", "Blue"] * 10, strict=True):
        row["more"] = cell
    shop.run()
    assert shop.attribute("p00", "colour")["values"] == ["black"]
    assert shop.attribute("p01", "colour")["values"] == ["navy"]
    assert shop.attribute("p02", "colour") is None  # red and blue
    assert shop.reasons()["conflicting_values"] == sum(
        row["more"] not in ("", row["colour"]) and (row["more"], row["colour"]) != ("Blue", "Navy Blue")
        for row in shop.rows
    )


def test_an_attribute_that_the_category_cannot_have(shop: Any) -> None:
    shop.mapping += "  - {column: neck, attribute: neckline}\n"
    for row in shop.rows:
        row["neck"] = "v-neck"
    shop.run(max_rejects=1)
    assert shop.attribute("p00", "neckline")["values"] == ["v_neck"]
    assert shop.attribute("p01", "neckline") is None  # jeans
    assert set(shop.reasons()) == {"does_not_apply"}


def test_a_column_that_is_not_to_be_trusted_for_a_category(shop: Any) -> None:
    shop.mapping = shop.mapping.replace("attribute: colour}", "attribute: colour, not_for: {bag: names the lining}}")
    report = shop.run()
    assert shop.attribute("p05", "colour") is None and shop.attribute("p04", "colour") is not None
    assert report.tally.cells["colour as colour"]["left_out"] == 5 and not shop.reasons()


def test_one_column_as_attribute_and_label(shop: Any) -> None:
    shop.mapping += "  - {column: use, attribute: occasion}\nlabels:\n  - {column: use, label: outfit_occasion}\n"
    for row, cell in zip(shop.rows, ["Casual", "Formal", ""] * 10, strict=True):
        row["use"] = cell
    shop.run()
    labels = {row["image_id"]: (row["label"], row["state"], row["values"]) for row in shop.table("labels")}
    assert len(labels) == 20 and labels["p01"] == ("outfit_occasion", "present", ["formal"])
    assert shop.attribute("p01", "occasion")["values"] == ["formal"]


def test_bad_rows_are_refused_with_place_and_nearest(shop: Any) -> None:
    shop.rows[3]["type"] = "Sneakerz"
    shop.rows[4]["type"] = ""
    report = shop.run()
    first, second = shop.table("rejects")
    assert (first["file"], first["row"], first["column"], first["found"]) == ("shop.csv", 5, "type", "Sneakerz")
    assert first["reason"] == "unmapped_category" and "nearest: 'sneaker'" in first["detail"]
    assert second["reason"] == "missing_category"
    assert report.tally.adds_up() and report.tally.items == 28
    assert any("unmapped_category: 1, e.g. row 5" in line for line in report.lines())


def test_an_unmapped_value_costs_the_cell_only(shop: Any) -> None:
    shop.rows[2]["colour"] = "Ultra"
    report = shop.run()
    assert shop.attribute("p02", "colour") is None and report.tally.items == 30
    (row,) = shop.table("rejects")
    assert (row["reason"], row["row"], row["column"], row["found"]) == ("unmapped_value", 4, "colour", "Ultra")


def test_rows_that_are_left_out_on_purpose(shop: Any) -> None:
    shop.mapping = shop.mapping.replace("{column: type}", "{column: type, skip: {Coats: too few}}")
    shop.mapping += "leave_out:\n  - {column: sku, contains: [P01, x], reason: a pack}\n"
    report = shop.run(max_rejects=0)
    assert report.failure is None  # leaving out on purpose is no failure
    assert shop.reasons() == {"skipped": 6} and report.tally.items == 24
    assert {row["detail"] for row in shop.table("rejects")} == {"Coats: too few", "a pack"}


def test_duplicate_and_missing_ids(shop: Any) -> None:
    shop.rows[5]["sku"] = "p02"
    shop.rows[6]["sku"] = "  "
    report = shop.run()
    rejects = {row["row"]: (row["reason"], row["found"]) for row in shop.table("rejects")}
    assert rejects == {7: ("duplicate_id", "p02"), 8: ("missing_id", None)}
    assert report.tally.adds_up() and report.tally.items == 28
    assert {i["item_id"]: i["category"] for i in shop.table("items")}["p02.1"] == "dress"  # the earlier row stays


def test_bad_pictures(shop: Any, make_picture: Callable[..., bytes]) -> None:
    photos = shop.folder / "photos"
    (photos / "0.jpg").write_bytes(make_picture(0)[:300])
    (photos / "1.jpg").write_bytes(b"")
    (photos / "2.jpg").write_bytes(b"hello")
    (photos / "3.jpg").write_bytes(make_picture(3, size=(200, 200)))
    (photos / "4.jpg").unlink()
    (shop.folder / "secret.jpg").write_bytes(make_picture(5))
    (photos / "7.jpg").unlink()
    (photos / "7.jpg").symlink_to(shop.folder / "secret.jpg")
    shop.rows[5]["file"], shop.rows[6]["file"] = "../secret.jpg", str(shop.folder / "secret.jpg")
    shop.rows[8]["file"] = ""
    report = shop.run(max_pixels=10_000, max_rejects=0.5)
    assert {row["row"]: row["reason"] for row in shop.table("rejects")} == {
        2: "image_truncated",
        3: "image_empty",
        4: "image_format",
        5: "image_too_large",
        6: "image_missing",
        7: "path_outside",
        8: "path_outside",
        9: "path_outside",
        10: "path_outside",
    }
    assert report.tally.adds_up() and report.tally.images == 21


OUTFITS = """
schema: fashionkit.mapping/1
format: table
ontology: fashion
catalog: {name: looks, scene: outfit%s}
image: {id: look, path: file, folder: photos, group: who}
item: {id: sku, box: [x, y, w, h]}
category: {column: type}
"""


def outfits(shop: Any, facts: str = "") -> None:
    """Three rows a picture."""
    shop.mapping = OUTFITS % facts
    for i, row in enumerate(shop.rows):
        row |= {"look": f"L{i // 3}", "file": f"{i // 3}.jpg", "who": f"w{i // 6}", "x": 1, "y": 2.5, "w": 10, "h": 20}


def test_rows_of_one_picture_are_its_items(shop: Any) -> None:
    outfits(shop)
    report = shop.run()
    assert (report.tally.images, report.tally.items) == (10, 30)
    assert [i["item_id"] for i in shop.table("items") if i["image_id"] == "L1"] == ["p03", "p04", "p05"]
    assert shop.table("items")[0]["box"] == [1, 2.5, 10, 20]
    assert shop.table("images")[0]["group"] == "w0"
    groups = {row["image_id"]: row["split_group"] for row in shop.table("splits")}
    assert groups["L0"] == groups["L1"] != groups["L2"]


@pytest.mark.usefixtures("small_shards")
def test_rows_of_one_picture_may_lie_apart(shop: Any, contents: Callable[[Path], dict[str, str]]) -> None:
    outfits(shop)
    shop.run()
    together = shop.table("items")
    shop.rows.sort(key=lambda row: int(row["sku"][1:]) % 3)
    shop.run(shop.write("apart.csv"), out=shop.folder / "apart")
    apart = Catalog(shop.folder / "apart").table("items").to_pylist()
    assert sorted(i["item_id"] for i in apart) == sorted(i["item_id"] for i in together)
    assert Catalog(shop.folder / "apart").table("images").num_rows == 10


def test_rows_that_disagree_about_their_picture(shop: Any) -> None:
    outfits(shop)
    shop.rows[1]["file"] = "9.jpg"
    shop.rows[5]["who"] = "someone"
    shop.run()
    assert shop.reasons() == {"image_differs": 2} and len(shop.table("items")) == 28


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 0, 5), ("a", 0, 5, 5), ("nan", 0, 5, 5), (1, 2, 3, "")])
def test_bad_boxes(shop: Any, box: tuple[Any, ...]) -> None:
    outfits(shop)
    shop.rows[4] |= dict(zip("xywh", box, strict=True))
    shop.run()
    assert shop.reasons() == {"bad_box": 1}


def test_where_absence_is_stated_a_refused_item_costs_its_picture(shop: Any) -> None:
    outfits(shop, ", closed_categories: [clothing]")
    shop.rows[4]["type"] = "Coatz"
    shop.rows[10]["sku"] = "p00"  # a second p00: the item of picture L3 is lost
    report = shop.run(max_rejects=0.5)
    assert {i["image_id"] for i in shop.table("images")} == {f"L{i}" for i in range(10)} - {"L1", "L3"}
    assert shop.reasons() == {"unmapped_category": 1, "duplicate_id": 1, "incomplete_image": 4}
    assert report.tally.adds_up() and "under `closed_categories` a picture is taken whole" in "".join(report.lines())


def test_where_absence_is_stated_an_unreadable_row_is_an_error(shop: Any) -> None:
    outfits(shop, ", closed_categories: [clothing]")
    source = shop.write()
    source.write_bytes(source.read_bytes() + b"p99,\xff\n")
    with pytest.raises(InputError, match="none is complete"):
        shop.run(source)


def test_too_many_rejects_leave_no_manifest(shop: Any) -> None:
    for row in shop.rows[:5]:
        row["type"] = "Spoon"
    report = shop.run()
    assert report.failure is not None and "17%" in report.failure
    assert not (shop.out / MANIFEST).exists() and len(shop.table("rejects")) == 5
    with pytest.raises(InputError, match="not finished"):
        Catalog(shop.out)
    assert shop.run(max_rejects=0.2).failure is None  # the same import, taken up again
    assert verify(shop.out) == []


def test_a_column_that_means_nothing_fails_the_import(shop: Any) -> None:
    shop.mapping += "  - {column: price, attribute: pattern}\n"
    report = shop.run()
    assert report.failure is not None and "'price as pattern'" in report.failure


def test_a_mended_mapping_starts_the_unfinished_import_again(shop: Any) -> None:
    for row in shop.rows[:5]:
        row["type"] = "Spoon"
    assert shop.run().failure is not None
    shop.mapping = shop.mapping.replace("{column: type}", "{column: type, values: {Spoon: hat}}")
    assert shop.run().failure is None
    assert shop.table("rejects") == [] and len(shop.table("items")) == 30


def test_no_picture_left(shop: Any) -> None:
    shop.mapping = shop.mapping.replace("folder: photos", "folder: .")
    report = shop.run(max_rejects=1)
    assert report.failure is not None and "no picture is left" in report.failure


def test_sources_that_cannot_be_used(shop: Any) -> None:
    empty = shop.folder / "empty.csv"
    empty.write_text("sku,file,type,colour\n")
    with pytest.raises(InputError, match="no rows"):
        shop.run(empty)
    with pytest.raises(InputError, match="no such file"):
        shop.run(shop.folder / "none.csv")
    narrow = shop.folder / "narrow.csv"
    narrow.write_text("sku,file,typ,colour\n1,1.jpg,Jeans,Red\n")
    with pytest.raises(InputError, match="nearest allowed: 'typ'"):
        shop.run(narrow)
    shop.mapping = shop.mapping.replace("folder: photos", "folder: fotos")
    with pytest.raises(InputError, match="no such folder of pictures"):
        shop.run()


def test_tables_only(shop: Any) -> None:
    shop.mapping = shop.mapping.replace("{id: sku, path: file, folder: photos}", "{id: sku}")
    assert shop.run().tally.images == 30
    assert {row["thumb"] for row in shop.table("images")} == {None}
    assert check_catalog(shop.out, pictures=True) == []


def as_parquet(shop: Any) -> Path:
    pictures = [(shop.folder / "photos" / row["file"]).read_bytes() for row in shop.rows]
    table = pa.Table.from_pylist(shop.rows).append_column("image", pa.array(pictures))
    pq.write_table(table, shop.folder / "shop.parquet")
    shop.mapping = shop.mapping.replace("path: file, folder: photos", "bytes: image")
    return Path(shop.folder / "shop.parquet")


def test_parquet_with_pictures_and_json_lines_say_the_same(shop: Any) -> None:
    shop.run(shop.write("shop.jsonl"))
    lines = shop.table("items"), shop.table("attributes")
    shop.run(as_parquet(shop), out=shop.folder / "b")
    other = Catalog(shop.folder / "b")
    assert (other.table("items").to_pylist(), other.table("attributes").to_pylist()) == lines
    assert other.table("images").drop_columns(["path", "bytes"]) == shop.catalog().table("images").drop_columns(
        ["path", "bytes"]
    )


def test_a_null_picture_is_refused(shop: Any) -> None:
    source = as_parquet(shop)
    table = pq.read_table(source)
    images = [None if i == 3 else data for i, data in enumerate(table["image"].to_pylist())]
    pq.write_table(table.set_column(table.column_names.index("image"), "image", pa.array(images)), source)
    shop.run(source)
    assert shop.reasons() == {"image_empty": 1}
