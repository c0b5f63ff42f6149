"""Targets of a catalogue: unknown stays unknown, and a "no" is said only where the catalogue or ontology does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fashionkit.catalog.catalog import Catalog, write_facts, write_rows
from fashionkit.catalog.schema import ABSENT, KIND, NOT_VISIBLE, PRESENT, SCHEMA, Facts
from fashionkit.models.targets import Statement, Targets
from fashionkit.tables import InputError, Manifest, write_manifest
from fashionkit.train.labels import read_labels, read_statements, split_of

ONTOLOGY = """
schema: fashionkit.ontology/1
regions: {top: {}, feet: {}, head: {}}
categories:
  item: {abstract: true}
  topwear: {parent: item, region: top, abstract: true}
  shirt: {parent: topwear}
  dress_shirt: {parent: shirt}
  jacket: {parent: topwear}
  shoes: {parent: item, region: feet}
  hat: {parent: item, region: head}
  brooch: {parent: item}
attributes:
  colour:
    values: {blue: {}, navy: {parent: blue}, midnight: {parent: navy}, red: {}, green: {}}
  sleeve: {applies_to: [topwear], values: {long: {}, short: {}}}
  details:
    exclusive: false
    values: {trim: {}, lace: {parent: trim}, zip: {}, bow: {}}
  style: {scope: image, values: {casual: {}, formal: {}, sporty: {}}}
"""
Stated = tuple[str, Sequence[str]]


@dataclass
class Made:
    """A catalogue in the making; `put` adds a picture with its items."""

    folder: Path
    facts: Facts
    images: list[dict[str, Any]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)
    attributes: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    splits: list[dict[str, Any]] = field(default_factory=list)

    def put(self, *items: tuple[str, dict[str, Any]], split: str = "train", times: int = 1, **style: Any) -> str:
        """A picture, `times` over; an item is its category and attribute → values, a state, or (values, complete)."""
        for _ in range(times):
            name = f"p{len(self.images):03d}"
            self.images.append({"image_id": name})
            self.splits.append({"image_id": name, "split_group": len(self.images) // 2, "split": split})
            for number, (category, stated) in enumerate(items):
                item = f"{name}/{number}"
                self.items.append({"item_id": item, "image_id": name, "category": category})
                for attribute, said in stated.items():
                    self.attributes.append({"item_id": item, "attribute": attribute, **_row(said)})
            for label, values in style.items():
                row = {"image_id": name, "label": label, "state": PRESENT, "values": values}
                self.labels.append(row)
        return name

    def made(self) -> Catalog:
        for table in ("images", "items", "attributes", "labels", "splits"):
            rows = getattr(self, table)
            if rows:
                write_rows(self.folder, table, 0, rows)
        write_facts(self.folder, self.facts)
        (self.folder / "ontology.yaml").write_text(ONTOLOGY)
        write_manifest(self.folder, Manifest(KIND, SCHEMA))
        return Catalog(self.folder)


def _row(said: Any) -> dict[str, Any]:
    if isinstance(said, str):
        return {"state": said, "values": [], "complete": False}
    values, complete = said if isinstance(said, tuple) else (said, False)
    return {"state": PRESENT, "values": values, "complete": complete}


def products(folder: Path) -> Made:
    return Made(folder, Facts("made", scene="product"))


def outfits(folder: Path, *closed: str) -> Made:
    return Made(folder, Facts("made", scene="outfit", closed_categories=list(closed)))


def stated(catalog: Catalog, least: int = 1, attributes: Sequence[str] = ()) -> dict[str, dict[str, Statement]]:
    found = read_statements(catalog, attributes, least)
    return dict(zip(found.ids, found.rows, strict=True))


def test_a_product_states_its_category_and_attributes(tmp_path: Path) -> None:
    made = products(tmp_path)
    made.put(("shirt", {"colour": ["red"], "sleeve": ["long"]}), ("shoes", {"colour": ["blue"]}))
    one = made.put(("shirt", {"colour": ["red"], "sleeve": NOT_VISIBLE}))
    two = made.put(("shoes", {"colour": ["blue"]}))
    made.put(("shirt", {"sleeve": ["short"]}), split="val")
    three = made.put(("shirt", {"sleeve": ["long"], "colour": ABSENT}))
    made.put(("shirt", {"sleeve": ["short"]}))
    found = read_statements(made.made(), least=1)
    assert [(spec.name, spec.values, spec.exclusive) for spec in found.specs] == [
        ("category", ("shirt", "shoes"), True),
        ("colour", ("blue", "red"), True),
        ("sleeve", ("long", "short"), True),
    ]
    rows = dict(zip(found.ids, found.rows, strict=True))
    assert rows["p000"] == {}, "nobody says which of two items is meant"
    assert rows[one]["sleeve"] == Statement(NOT_VISIBLE)
    assert rows[one]["category"] == Statement(PRESENT, ("shirt",), True)
    assert rows[two]["sleeve"] == Statement(ABSENT), "shoes have no sleeves, says the ontology"
    assert rows[three]["colour"] == Statement(ABSENT), "and here the catalogue says so"
    assert "colour" not in rows["p003"], "what nobody states is not there at all"
    assert found.splits[3] == "val" and found.groups.tolist() == [0, 1, 1, 2, 2, 3]
    targets = Targets.encode(found.specs, found.rows)
    assert targets.values["sleeve"].tolist() == [-1, -1, -1, 1, 0, 1]
    assert targets.state["sleeve"].tolist() == [-1, 1, 2, 0, 0, 0]


def test_of_values_that_imply_each_other_the_most_specific_one_holds(tmp_path: Path) -> None:
    made = products(tmp_path)
    made.put(("shirt", {"colour": ["blue", "navy"]}))
    made.put(("shirt", {"colour": ["red", "navy"]}))
    made.put(("shirt", {"colour": ["red"]}))
    made.put(("shoes", {"colour": ["blue"]}))
    rows = stated(made.made())
    assert rows["p000"]["colour"].values == ("navy",)
    assert rows["p001"]["colour"] == Statement(PRESENT, ()), "it has a colour, and nobody knows which"


def test_a_rare_value_becomes_what_it_implies_or_is_unknown(tmp_path: Path) -> None:
    made = products(tmp_path)
    made.put(("shirt", {"colour": ["blue"]}), times=2)
    made.put(("shirt", {"colour": ["navy"]}))
    made.put(("shirt", {"colour": ["midnight"]}))
    made.put(("dress_shirt", {"colour": ["red"]}), times=3)
    made.put(("shoes", {"colour": ["green"]}), times=2)
    late = made.put(("shirt", {"colour": ["green"]}), split="test")
    found = read_statements(made.made(), least=3)
    assert {spec.name: spec.values for spec in found.specs} == {
        "category": ("dress_shirt", "shirt"),
        "colour": ("blue", "red"),
    }
    rows = dict(zip(found.ids, found.rows, strict=True))
    assert [rows[f"p{row:03d}"]["colour"].values for row in range(5)] == [("blue",)] * 4 + [("red",)]
    assert rows["p007"] == {"category": Statement(PRESENT, (), True), "colour": Statement(PRESENT, ())}
    assert rows[late]["colour"] == Statement(PRESENT, ()), "a value of held-out pictures alone is unknown, too"
    twos = read_statements(made.made(), ["colour"], least=2)
    assert twos.specs[0].values == ("blue", "green", "navy", "red"), "midnight counts as navy"


def test_several_values_bring_what_they_imply(tmp_path: Path) -> None:
    made = products(tmp_path)
    made.put(("shirt", {"details": (["lace"], True)}))
    made.put(("shirt", {"details": ["zip"]}))
    found = read_statements(made.made(), ["details"], least=1)
    assert found.specs[0].values == ("lace", "trim", "zip") and not found.specs[0].exclusive
    targets = Targets.encode(found.specs, found.rows)
    assert targets.values["details"].tolist() == [[1, 1, 0], [-1, -1, 1]]


def outfit(made: Made) -> Made:
    made.put(("shirt", {"colour": ["red"], "sleeve": ["long"]}), ("shoes", {"colour": ["blue"]}))
    made.put(("jacket", {"colour": ["blue"], "sleeve": ["short"]}))
    made.put(("shirt", {"colour": ["red"]}), ("jacket", {"colour": ["blue"]}), ("shoes", {"colour": ["red"]}))
    made.put(("hat", {"colour": ["red"]}), ("brooch", {"colour": ["green"]}))
    return made


def test_outfits_go_by_region(tmp_path: Path) -> None:
    rows = stated(outfit(outfits(tmp_path)).made())
    assert rows["p000"] == {
        "feet.colour": Statement(PRESENT, ("blue",)),
        "top.category": Statement(PRESENT, ("shirt",), True),
        "top.colour": Statement(PRESENT, ("red",)),
        "top.sleeve": Statement(PRESENT, ("long",)),
    }, "the head has one value only, so it has no head of a network"
    assert set(rows["p001"]) == {"top.category", "top.colour", "top.sleeve"}, "no shoes are listed: that is not none"
    assert set(rows["p002"]) == {"feet.colour"}, "a region with two items is unknown"
    assert rows["p003"] == {}


def test_only_a_closed_catalogue_knows_what_is_absent(tmp_path: Path) -> None:
    rows = stated(outfit(outfits(tmp_path / "all", "item")).made())
    assert rows["p001"]["feet.colour"] == Statement(ABSENT)
    assert "top.colour" not in rows["p002"], "two items are not none"
    assert rows["p003"] == {}, "the brooch may be anywhere"
    partly = stated(outfit(outfits(tmp_path / "feet", "shoes")).made())
    assert partly["p001"]["feet.colour"] == Statement(ABSENT)
    other = outfits(tmp_path / "top", "shirt")
    outfit(other).put(("shoes", {"colour": ["red"]}))
    assert "top.colour" not in stated(other.made())["p004"], "jackets need not be listed there"


def test_an_attribute_that_such_an_item_cannot_have_is_absent_in_its_region(tmp_path: Path) -> None:
    made = outfits(tmp_path)
    made.put(("shirt", {"sleeve": ["long"]}))
    made.put(("shirt", {"sleeve": ["short"]}))
    made.put(("shoes", {}))
    made.items = [{"region": None, **row} for row in made.items]
    made.items[2]["region"] = "top"  # whatever the category says
    assert stated(made.made())["p002"]["top.sleeve"] == Statement(ABSENT)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"attributes": ["collar"]}, "states no such attribute"),
        (
            {"attributes": ["sleeve"], "least": 2},
            r"too few values of sleeve (.|\n)*found: sleeve: long 2, short 1\n.*`--data.least`.* is 2",
        ),
        (
            {"least": 9},
            r"no attribute has two values(.|\n)*colour: red 2, blue 1; sleeve: long 2, short 1; category: shirt 3\n",
        ),
        ({"attributes": "colour"}, "a list of names"),
    ],
)
def test_misuse_raises(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    made = products(tmp_path)
    made.put(("shirt", {"colour": ["red"], "sleeve": ["long"]}), times=2)
    made.put(("shirt", {"colour": ["blue"], "sleeve": ["short"]}))
    with pytest.raises(InputError, match=words):
        read_statements(made.made(), **arguments)


def test_labels_of_pictures(tmp_path: Path) -> None:
    made = outfits(tmp_path)
    for style in (["formal"], ["casual"], ["formal"]):
        made.put(("shirt", {}), style=style)
    made.put(("shirt", {}), split="test")
    catalog = made.made()
    found = read_labels(catalog, "style")
    assert (found.ids, found.classes) == (["p000", "p001", "p002"], ["casual", "formal"])
    assert found.classes_of.tolist() == [1, 0, 1] and found.splits == ["train"] * 3
    assert split_of(catalog)["p003"] == "test"
    with pytest.raises(InputError, match=r"no such label in the catalogue\n  found: colour\n  allowed: style$"):
        read_labels(catalog, "colour")


def test_a_label_of_one_value_and_a_catalogue_without_labels_are_named(tmp_path: Path) -> None:
    one = outfits(tmp_path / "one")
    one.put(("shirt", {}), times=2, style=["formal"])
    with pytest.raises(InputError, match=r"the label 'style' has fewer than two values(.|\n)*found: formal"):
        read_labels(one.made(), "style")
    none = outfits(tmp_path / "none")
    none.put(("shirt", {}))
    with pytest.raises(InputError, match="the catalogue has no labels of pictures"):
        read_labels(none.made(), "style")


def test_labels_with_several_values_and_catalogues_without_splits_are_refused(tmp_path: Path) -> None:
    made = outfits(tmp_path / "several")
    made.put(("shirt", {}), style=["formal", "casual"])
    with pytest.raises(InputError, match="has 2 values of style"):
        read_labels(made.made(), "style")
    bare = products(tmp_path / "bare")
    bare.put(("shirt", {"colour": ["red"]}))
    bare.splits.clear()
    with pytest.raises(InputError, match="has no splits"):
        read_statements(bare.made())
