"""Maps made of facts: each bit is known from a small catalogue that is written here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fashionkit.catalog.catalog import write_facts, write_rows
from fashionkit.catalog.schema import ABSENT, KIND, NOT_VISIBLE, PRESENT, SCHEMA, Facts
from fashionkit.tables import InputError, Manifest, write_manifest
from fashionkit.train.truth import TruthMaps

ONTOLOGY = """
schema: fashionkit.ontology/1
regions: {top: {}, feet: {}}
categories:
  item: {abstract: true}
  topwear: {parent: item, region: top, abstract: true}
  shirt: {parent: topwear}
  shoes: {parent: item, region: feet}
attributes:
  colour: {values: {blue: {}, navy: {parent: blue}, red: {}}}
  sleeve: {applies_to: [topwear], values: {long: {}, short: {}}}
  detail: {exclusive: false, values: {bow: {}, zip: {}}}
  style: {scope: image, values: {casual: {}, formal: {}}}
"""
ITEMS = [  # id, picture, category, region, area
    ("a", "one", "shirt", "top", 0.1),
    ("b", "one", "shoes", "feet", 0.3),
    ("c", "two", "shirt", None, 0.2),
]
SAID = [
    ("a", "colour", PRESENT, ["navy"]),
    ("a", "sleeve", NOT_VISIBLE, []),
    ("a", "detail", PRESENT, ["bow", "zip"]),
    ("b", "colour", PRESENT, ["red"]),
    ("b", "detail", ABSENT, []),
    ("c", "sleeve", PRESENT, ["long"]),
]


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> TruthMaps:
    """Three pictures: two items, one item, none; their pixels are not there at all."""
    folder = tmp_path_factory.mktemp("facts")
    names = ("one", "two", "three")
    rows: dict[str, list[dict[str, Any]]] = {
        "images": [{"image_id": name} for name in names],
        "items": [
            {"item_id": i, "image_id": p, "category": c, "region": r, "area": a} for i, p, c, r, a in ITEMS
        ],
        "attributes": [
            {"item_id": i, "attribute": a, "state": s, "values": v, "complete": True} for i, a, s, v in SAID
        ],
        "labels": [{"image_id": "one", "label": "style", "state": PRESENT, "values": ["formal"]}],
        "splits": [{"image_id": name, "split_group": n, "split": "train"} for n, name in enumerate(names)],
    }  # fmt: skip
    for table, found in rows.items():
        write_rows(folder, table, 0, found)
    write_facts(folder, Facts("facts"))
    (folder / "ontology.yaml").write_text(ONTOLOGY)
    write_manifest(folder, Manifest(KIND, SCHEMA))
    return TruthMaps(folder)


def said(maps: TruthMaps, cells: np.ndarray) -> list[set[str]]:
    """Names of the facts of each cell of a map (F, S, 1)."""
    assert cells.shape == maps.shape and set(np.unique(cells)) <= {0, 1}
    return [{name for name, bit in zip(maps.facts, cells[:, s, 0], strict=True) if bit} for s in range(cells.shape[1])]


def test_every_bit_is_what_the_tables_say(maps: TruthMaps) -> None:
    shoes = {"item", "category/shoes", "category/item", "region/feet", "colour/red", "detail: absent"}
    shirt = {"item", "category/shirt", "category/topwear", "category/item", "region/top", "colour/navy", "colour/blue"}
    other = {"item", "category/shirt", "category/topwear", "category/item", "colour: unknown", "sleeve/long"}
    assert said(maps, maps.rows(["one"])[:][0]) == [
        {"picture", "style/formal"},
        shoes,  # the larger one first
        shirt | {"sleeve: not visible", "detail/bow", "detail/zip"},
    ]
    assert said(maps, maps.rows(["two"])[:][0]) == [{"picture", "style: unknown"}, other | {"detail: unknown"}, set()]
    assert said(maps, maps.rows(["three"])[:][0]) == [{"picture", "style: unknown"}, set(), set()]


def test_rows_come_by_id_in_any_order(maps: TruthMaps) -> None:
    rows = maps.rows(["three", "one", "two", "one"])
    whole = rows[:]
    assert whole.shape == (4, *maps.shape) and len(rows) == 4
    assert np.array_equal(whole[1], whole[3]) and np.array_equal(rows[np.array([2, 0])], whole[[2, 0]])
    with pytest.raises(InputError, match="no such picture"):
        maps.rows(["one", "four"])


def test_what_the_channels_mean_has_a_fingerprint(maps: TruthMaps) -> None:
    before, maps.facts[3] = maps.facts[3], "another"
    changed = maps.fingerprint
    maps.facts[3] = before
    assert changed != maps.fingerprint and len(maps.fingerprint) == 64
