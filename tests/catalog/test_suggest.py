"""A first mapping for an unknown table: what it takes columns for, and that it can be imported as it is."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fashionkit import recipes
from fashionkit.catalog.importer import ImportOptions, import_catalog
from fashionkit.catalog.mapping import Mapping, load_mapping
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.suggest import suggest_mapping
from fashionkit.catalog.suggest_yaml import quoted
from fashionkit.tables import InputError
from fashionkit.tables.yamls import parse_yaml

FASHION = recipes.find("datagen/ontologies", "fashion")


def write(folder: Path, rows: list[dict[str, Any]], name: str = "shop.csv") -> Path:
    with (folder / name).open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def suggest(source: Path, extend: bool = False) -> tuple[Mapping, str, list[str]]:
    out, onto = source.with_suffix(".yaml"), source.parent / "words.yaml" if extend else None
    lines = suggest_mapping(source, out, FASHION, "fashion", onto, overwrite=True)
    return load_mapping(out), out.read_text(encoding="utf-8"), lines


def rich(shop: Any) -> list[dict[str, Any]]:
    """The made-up shop with the columns that shops have."""
    for i, row in enumerate(shop.rows):
        row["Category"] = row.pop("type")
        row["base color"] = row.pop("colour")
        row["name"] = f"Acme men's very nice thing number {i} in a box"
        row["season"] = ["Summer", "Winter"][i % 2]
        row["trims"] = ["pockets|logo", "bow", "", "fringe|bow", "logo"][i % 5]
        row["usage"] = ["Casual", "Formal", "Party"][i % 3]
        row["stock"] = ["yes", "no"][i % 2]
        row["link"] = f"https://shop.example/{i}.jpg"
        row["code"] = f"X{i}Y"
        row["empty"] = ""
        row["mood"] = ["zorp", "blag", "quux"][i % 3]
    shop.rows[3]["Category"] = "Sneakrs"
    shop.rows[9]["Category"] = "Flurbs"
    shop.rows[4]["base color"] = "Gren"
    return list(shop.rows)


def test_it_finds_the_roles(shop: Any) -> None:
    mapping, text, _ = suggest(write(shop.folder, rich(shop)))
    assert (mapping.image.id, mapping.image.path, mapping.image.folder) == ("sku", "file", "photos")
    assert mapping.category.column == "Category" and mapping.category.values["T-Shirts"] == "t_shirt"
    found = {spec.column: (spec.attribute, spec.separator) for spec in mapping.attributes}
    assert found == {"base color": ("colour", None), "trims": ("details", "|"), "usage": ("occasion", None)}
    for column, reason in (
        ("name", "free text"),
        ("season", "cannot show it"),
        ("price", "numbers"),
        ("stock", "yes or no"),
        ("link", "addresses"),
        ("code", "different word"),
        ("empty", "is empty"),
        ("mood", "no values"),
    ):
        (line,) = (line for line in text.splitlines() if line.startswith(f"#   {column}:"))
        assert reason in line


def test_it_counts_values_and_names_slips_and_neighbours(shop: Any) -> None:
    mapping, text, lines = suggest(write(shop.folder, rich(shop)))
    assert "    Jeans: jeans   # 5" in text.splitlines()
    assert set(mapping.category.skip) == {"Sneakrs", "Flurbs"}
    assert 'Sneakrs: not in the ontology yet   # 1; written like "Sneakers", so perhaps Sneakrs: sneakers' in text
    assert 'Gren: not in the ontology yet   # 1; written like "Green", so perhaps Gren: green' in text
    assert any("Flurbs" in line for line in lines)


@pytest.mark.parametrize("extend", [False, True])
def test_what_it_writes_can_be_imported_as_it_is(shop: Any, extend: bool) -> None:
    source = write(shop.folder, rich(shop))
    suggest(source, extend)
    report = import_catalog(source, shop.out, source.with_suffix(".yaml"), ImportOptions(workers=1))
    assert report.failure is None and report.tally.rejected == ({"skipped": 1} if extend else {"skipped": 2})
    assert report.tally.cells["base color as colour"] == {"present": 28 if extend else 27, "unknown": 1}


def test_the_extended_ontology_holds_the_new_words(shop: Any) -> None:
    rows = rich(shop)
    rows[10]["Category"], rows[11]["usage"] = "Cargo Trousers 2000", "Moon landing"
    mapping, _, _ = suggest(write(shop.folder, rows), extend=True)
    assert mapping.ontology_path.name == "words.yaml"
    assert mapping.ontology.categories["flurbs"].parent == "item"
    assert mapping.category.values["Flurbs"] == "flurbs" and "Sneakrs" in mapping.category.skip
    assert mapping.ontology.attributes["occasion"].values["moon_landing"].name == "moon landing"
    shipped = Ontology.load(FASHION)
    assert set(shipped.categories) < set(mapping.ontology.categories)


def test_several_items_a_picture(shop: Any) -> None:
    for i, row in enumerate(shop.rows):
        row["file"] = f"{i // 3}.jpg"
        row["look_id"] = i // 6
    mapping, _, _ = suggest(write(shop.folder, shop.rows))
    assert (mapping.image.id, mapping.item.id, mapping.facts.scene) == ("file", "sku", "outfit")
    assert mapping.image.group == "look_id"


def test_an_id_that_stands_twice_stays_the_id(shop: Any) -> None:
    shop.rows[7]["sku"] = shop.rows[6]["sku"]
    for doubled in (False, True):  # the whole row, too
        shop.rows[7]["file"] = shop.rows[6]["file"] if doubled else shop.rows[7]["file"]
        source = write(shop.folder, shop.rows)
        mapping, text, lines = suggest(source)
        assert (mapping.image.id, mapping.item.id, mapping.facts.scene) == ("sku", None, "product")
        assert "will refuse the rows that repeat an earlier id (1)" in text
        assert sum(line.startswith("note: ") for line in lines) == 1
        report = import_catalog(source, shop.out, source.with_suffix(".yaml"), ImportOptions(workers=1, overwrite=True))
        assert report.failure is None and report.tally.rejected == {"duplicate_id": 1}


def test_one_shared_photo_makes_no_outfits(shop: Any) -> None:
    shop.rows[7]["file"] = shop.rows[20]["file"]
    mapping, text, _ = suggest(write(shop.folder, shop.rows))
    assert (mapping.image.id, mapping.item.id, mapping.facts.scene) == ("sku", None, "product")
    assert mapping.facts.noun == "product" and "repeats a picture (rows: 1)" in text
    for row in shop.rows[:3]:  # now it is more than a slip
        row["file"] = shop.rows[20]["file"]
    mapping, _, _ = suggest(write(shop.folder, shop.rows))
    assert (mapping.item.id, mapping.facts.scene, mapping.facts.noun) == ("sku", "outfit", "item")


def test_many_repeats_are_no_ids(shop: Any) -> None:
    for number in (3, 9, 15):
        shop.rows[number]["sku"] = shop.rows[number - 1]["sku"]
    mapping, _, _ = suggest(write(shop.folder, shop.rows))
    assert mapping.image.id == "file"


def test_photos_of_one_product_are_a_group_not_slips(shop: Any) -> None:
    for row in shop.rows:
        row["product_id"] = row.pop("sku")
    shop.rows[7]["product_id"] = shop.rows[6]["product_id"]
    mapping, _, _ = suggest(write(shop.folder, shop.rows))
    assert (mapping.image.id, mapping.image.group) == ("file", "product_id")


def test_an_unnamed_column_serves_where_a_photo_is_shared(shop: Any) -> None:
    for number, row in enumerate(shop.rows):
        row["sku"], row["ean"] = "all", f"x{number}"
    shop.rows[7]["file"] = shop.rows[6]["file"]
    mapping, _, _ = suggest(write(shop.folder, shop.rows))
    assert mapping.image.id == "ean"
    for row in shop.rows:
        del row["ean"]
    mapping, text, _ = suggest(write(shop.folder, shop.rows))
    assert mapping.image.id == "file" and "column 'file' is the id" in text


def test_a_plural_s_makes_no_new_word(shop: Any) -> None:
    shop.rows[3]["colour"], shop.rows[4]["colour"] = "Reds", "Bright Shorts"
    mapping, _, _ = suggest(write(shop.folder, shop.rows))
    (spec,) = mapping.attributes
    assert spec.values["Reds"] == "red" and list(spec.unknown) == ["Bright Shorts"]


def test_only_near_words_are_offered(shop: Any) -> None:
    shop.rows[3]["type"], shop.rows[4]["type"] = "Gift Card", "Trousres"
    _, text, _ = suggest(write(shop.folder, shop.rows))
    assert "    Gift Card: not in the ontology yet   # 1\n" in text
    assert "    Trousres: not in the ontology yet   # 1; nearest: trousers\n" in text


def test_control_characters_do_not_reach_the_terminal(shop: Any) -> None:
    shop.rows[3]["colour"] = "A\x1b[31mRED"
    for row in shop.rows:
        row["x\x1b[0m"] = 1
    _, _, lines = suggest(write(shop.folder, shop.rows))
    assert any("x\\x1b[0m" in line for line in lines) and "\x1b" not in "".join(lines)


def test_names_of_files_can_be_the_ids(shop: Any) -> None:
    for row in shop.rows:
        row["sku"] = "all"
    mapping, _, _ = suggest(write(shop.folder, shop.rows))
    assert mapping.image.id == mapping.image.path == "file"


def test_a_parquet_with_pictures(shop: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [(shop.folder / "photos" / row["file"]).read_bytes() for row in shop.rows]
    rows = pa.Table.from_pylist(shop.rows).drop_columns(["file"]).append_column("img", pa.array(pictures))
    pq.write_table(rows.append_column("s", pa.array([{"a": 1}] * 30)), shop.folder / "shop.parquet")
    mapping, text, _ = suggest(shop.folder / "shop.parquet")
    assert mapping.image.bytes == "img" and "#   s: holds no words" in text
    report = import_catalog(shop.folder / "shop.parquet", shop.out, shop.folder / "shop.yaml", ImportOptions(workers=1))
    assert report.tally.images == 30


def test_tables_that_it_cannot_read(shop: Any) -> None:
    words = [{"id": i, "thing": f"w{i % 4}"} for i in range(20)]
    with pytest.raises(InputError, match="no column holds categories"):
        suggest(write(shop.folder, words))
    with pytest.raises(InputError, match="no column can be the id"):
        suggest(write(shop.folder, [{"n": 1, "thing": "jeans"}] * 5))
    with pytest.raises(InputError, match="no rows"):
        (shop.folder / "shop.csv").write_text("id,type\n")
        suggest(shop.folder / "shop.csv")


def test_files_that_are_there_are_kept(shop: Any) -> None:
    source = write(shop.folder, shop.rows)
    (shop.folder / "mine.yaml").write_text("years of work")
    for out, onto in ((shop.folder / "mine.yaml", None), (shop.folder / "new.yaml", shop.folder / "mine.yaml")):
        with pytest.raises(InputError, match="there already"):
            suggest_mapping(source, out, FASHION, "fashion", onto)
    assert (shop.folder / "mine.yaml").read_text() == "years of work"


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_any_word_can_be_a_key(word: str) -> None:
    data, _ = parse_yaml(f"{quoted(word)}: {quoted(word)}\n", "test")
    assert data == {word: word}


NASTY = [
    "a: b",
    "# c",
    "'q'",
    '"q"',
    "{x}",
    "[y]",
    "- z",
    "no",
    "null",
    "1",
    "é\u2028ü",
    "a\tb",
    "\x7f",
    "😀",
    "*a",
    "&b",
]


def test_nasty_words_survive(shop: Any, make_picture: Callable[..., bytes]) -> None:
    for row, word in zip(shop.rows, NASTY, strict=False):
        row["colour"] = word
    for row in shop.rows:
        row["a: #{b}\n"] = row["colour"]
    for extend in (False, True):
        mapping, _, _ = suggest(write(shop.folder, shop.rows), extend)
        assert {"a: b", "- z"} <= {
            *mapping.attributes[0].unknown,
            *mapping.attributes[0].values,
        } or mapping.attributes == ()
