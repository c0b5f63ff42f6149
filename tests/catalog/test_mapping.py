"""Mappings: the shipped ones load, and a wrong one says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit import recipes
from fashionkit.catalog.mapping import Mapping, load_mapping
from fashionkit.catalog.words import CategoryWords, Found, Refused, ValueWords
from fashionkit.tables import InputError

GOOD = """schema: fashionkit.mapping/1
format: table
ontology: fashion
catalog:
  name: shop
image: {id: sku}
category: {column: type, values: {Tees: t_shirt}}
attributes:
  - column: colour
    attribute: colour
    values: {Rosso: red, Noir: black}
    unknown: {Metallic: a finish}
    absent: [without]
    not_visible: [hidden]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "m.yaml"
    path.write_text(text)
    return path


def fails(folder: Path, old: str, new: str) -> InputError:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        load_mapping(write(folder, GOOD.replace(old, new)))
    return caught.value


def good(folder: Path) -> Mapping:
    return load_mapping(write(folder, GOOD))


@pytest.mark.parametrize("name", recipes.names("datagen/mappings"))
def test_shipped_mappings_load_and_state_their_licence(name: str) -> None:
    mapping = load_mapping(recipes.find("datagen/mappings", name))
    assert mapping.facts.name == name
    assert mapping.facts.source != "not stated"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("image: {id: sku}", "imgae: {id: sku}", 6, "nearest allowed: 'image'"),
        ("{id: sku}", "{id: sku, embedd: true}", 6, "nearest allowed: 'embed'"),
        ("Tees: t_shirt", "Tees: tshirt", 7, "nearest allowed: 't_shirt'"),
        ("Tees: t_shirt", "Tees: one_piece", 7, "does not have"),  # a grouping that no item is labelled with
        ("attribute: colour", "attribute: color", 10, "nearest allowed: 'colour'"),
        ("attribute: colour", "attribute: style", 10, "does not have"),  # of images, so a label
        ("Rosso: red", "Rosso: rd", 11, "nearest allowed: 'red'"),
        ("    absent: [without]", "    absent: without", 13, "a list of words"),
        ("    absent: [without]", "    absent: [Rosso]", 9, "twice"),
        ("    absent: [without]", "    not_for: {shose: why}", 13, "nearest allowed: 'shoes'"),
        ("    absent: [without]", "    complete: [shose]", 13, "nearest allowed: 'shoes'"),
        ("    absent: [without]", "    confidence: 2", 13, "0 to 1"),
        ("  - column: colour\n    attribute", "  - attribute", 9, "`column` is missing"),
        ("  name: shop", "  name: shop\n  scene: outfits", 6, "nearest allowed: 'outfit'"),
        ("  name: shop", "  name: shop\n  countable: [shose]", 6, "nearest allowed: 'shoes'"),
        ("  name: shop", "  name: shop\n  image_root: /", 6, "image.folder"),
        ("  name: shop", "  noun: item", 4, "`name` is missing"),
        ("format: table", "format: csv", 2, "choices"),
        ("schema: fashionkit.mapping/1", "schema: fashionkit.mapping/2", 1, "choices"),
        ("{id: sku}", "{id: sku, path: a, bytes: b}", 6, "exclude"),
        ("{id: sku}", "{path: a}", 6, "image.id"),
        ("image: {id: sku}", "image: {id: sku}\nitem: {box: [x, y]}", 7, "four columns"),
        ("image: {id: sku}", "image: {id: sku}\ntable: {encoding: utf8}", 7, "nearest allowed: 'utf-8'"),
        ("image: {id: sku}", "image: {id: sku}\ntable: {delimiter: ab}", 7, "one character"),
        ("format: table", "format: maskset", None, "where the masks are"),
    ],
)
def test_a_wrong_mapping_says_where(tmp_path: Path, old: str, new: str, line: int | None, words: str) -> None:
    error = fails(tmp_path, old, new)
    assert words in str(error) and error.file == tmp_path / "m.yaml"
    if line is not None:
        assert error.row == line


def test_no_such_ontology(tmp_path: Path) -> None:
    assert "fashion" in str(fails(tmp_path, "ontology: fashion", "ontology: fasion"))


def test_an_ontology_beside_the_mapping(tmp_path: Path) -> None:
    text = recipes.find("datagen/ontologies", "fashion").read_text()
    (tmp_path / "mine.yaml").write_text(text)
    write(tmp_path, GOOD.replace("ontology: fashion", "ontology: mine.yaml"))
    assert load_mapping(tmp_path / "m.yaml").ontology_path == tmp_path / "mine.yaml"


def test_columns_are_named_once(tmp_path: Path) -> None:
    text = GOOD + "labels:\n  - {column: colour, label: outfit_occasion}\n"
    assert load_mapping(write(tmp_path, text)).columns() == ["sku", "type", "colour"]


def test_numbers_are_words_too(tmp_path: Path) -> None:
    text = GOOD.replace("{Rosso: red, Noir: black}", "{1: red, 2: black}").replace("Metallic:", "0:")
    mapping = load_mapping(write(tmp_path, text))
    assert mapping.attributes[0].values == {"1": "red", "2": "black"}
    assert mapping.attributes[0].unknown == {"0": "a finish"}


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("Rosso", Found("present", "red")),
        ("ROSSO", Found("present", "red")),
        ("navy-blue", Found("present", "navy")),  # the ontology's own name
        ("Metallic", Found("unknown", None, "a finish")),
        ("without", Found("absent")),
        ("Hidden", Found("not_visible")),
        ("N/A", Found("unknown")),
        ("", Found("unknown")),
        (None, Found("unknown")),
    ],
)
def test_words_of_an_attribute(tmp_path: Path, word: str | None, found: Found) -> None:
    mapping = good(tmp_path)
    assert ValueWords(mapping.attributes[0], mapping.ontology, mapping.table.missing).look(word) == found


def test_a_word_found_nowhere_names_the_nearest(tmp_path: Path) -> None:
    mapping = good(tmp_path)
    found = ValueWords(mapping.attributes[0], mapping.ontology, mapping.table.missing).look("rossso")
    assert found.state == "unmapped" and "'Rosso'" in found.why


def test_case_matters_only_where_both_are_written_out(tmp_path: Path) -> None:
    text = GOOD.replace("{Rosso: red, Noir: black}", "{B: black, b: blue}")
    mapping = load_mapping(write(tmp_path, text))
    words = ValueWords(mapping.attributes[0], mapping.ontology, [])
    assert (words.look("B").key, words.look("b").key) == ("black", "blue")


def test_words_can_be_switched_off(tmp_path: Path) -> None:
    text = GOOD.replace("    absent: [without]", "    words: false")
    mapping = load_mapping(write(tmp_path, text))
    assert ValueWords(mapping.attributes[0], mapping.ontology, []).look("blue").state == "unmapped"


def test_words_of_the_category(tmp_path: Path) -> None:
    text = GOOD.replace("values: {Tees: t_shirt}", "values: {Tees: t_shirt, Odds: null}, skip: {Soap: no garment}")
    mapping = load_mapping(write(tmp_path, text))
    words = CategoryWords(mapping.category, mapping.ontology, mapping.table.missing)
    assert [words.look(w) for w in ("Tees", "tees", "JEANS", "Polo")] == ["t_shirt", "t_shirt", "jeans", "polo_shirt"]
    for word, reason, detail in (
        ("soap", "skipped", "no garment"),
        ("Odds", "skipped", "mapped to nothing"),
        ("", "missing_category", "empty"),
        (None, "missing_category", "empty"),
        ("nan", "missing_category", "empty"),
        ("jeanz", "unmapped_category", "nearest: 'jeans'"),
    ):
        with pytest.raises(Refused) as caught:
            words.look(word)
        assert (caught.value.reason, detail in caught.value.detail) == (reason, True)


def test_odd_types_are_errors_not_crashes(tmp_path: Path) -> None:
    for key in ("catalog", "image", "table", "item", "category", "attributes", "labels", "drop", "mask", "leave_out"):
        for value in ("[1, [2]]", "words", "7", "{a: {b: c}}", "true"):
            with pytest.raises(InputError):
                load_mapping(
                    write(tmp_path, f"schema: fashionkit.mapping/1\nformat: table\nontology: fashion\n{key}: {value}\n")
                )
