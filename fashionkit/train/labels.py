"""What a catalogue says of its pictures, as targets: one label of each picture, or the attributes of its items.

    labels  ──► `read_labels`      ──► ids, classes, (n,) class of each picture
    items, attributes ──► `read_statements` ──► ids, specs, what is stated of each picture, by attribute

In a catalogue of products a picture shows one product, and its attributes go by their own names, its category as
`category`. In one of outfits they go by the region they are worn in: `top.category`, `feet.colour`. Unknown stays
unknown: a region without an item is absent only where the catalogue lists every item that can be seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.schema import ABSENT, NOT_VISIBLE, PRESENT, SPLITS, UNKNOWN
from fashionkit.catalog.values import distinct
from fashionkit.models.attributes import AttributeSpec, Statement
from fashionkit.tables import InputError

CATEGORY = "category"


@dataclass(frozen=True)
class Labels:
    """One label of n pictures.

    Attributes:
        ids: n ids. classes: N keys, sorted. classes_of: (n,) int64, 0..N-1. splits: n of `train`, `val`, `test`.
    """

    ids: list[str]
    classes: list[str]
    classes_of: np.ndarray[Any, np.dtype[np.int64]]
    splits: list[str]


@dataclass(frozen=True)
class Statements:
    """What is stated of n pictures.

    Attributes:
        ids: n ids. specs: Of each attribute. rows: n mappings of attribute → statement. splits: As in `Labels`.
    """

    ids: list[str]
    specs: list[AttributeSpec]
    rows: list[dict[str, Statement]]
    splits: list[str]


def read_labels(catalog: Catalog, label: str) -> Labels:
    """The pictures of which one value of `label` is known.

    Raises:
        InputError: No picture has it, fewer than two values occur, or one picture has several.
    """
    splits, known = split_of(catalog), {}
    for row in catalog.table("labels", ["image_id", "label", "state", "values"]).to_pylist():
        if row["label"] != label or row["state"] != PRESENT or row["image_id"] not in splits:
            continue
        values = sorted(distinct(catalog.ontology, label, row["values"]))
        if len(values) != 1:
            problem = f"picture {row['image_id']!r} has {len(values)} values of {label}, and one is needed"
            raise InputError(problem, file=catalog.path, column=label, found=", ".join(values))
        known[row["image_id"]] = values[0]
    classes = sorted(set(known.values()))
    if len(classes) < 2:
        there = sorted(set(catalog.table("labels", ["label"])["label"].to_pylist()))
        raise InputError("too few values to learn from", file=catalog.path, column=label, found=classes, allowed=there)
    ids = sorted(known)
    place = {name: number for number, name in enumerate(classes)}
    return Labels(ids, classes, np.array([place[known[i]] for i in ids], np.int64), [splits[i] for i in ids])


def read_statements(catalog: Catalog, attributes: Sequence[str] = (), least: int = 10) -> Statements:
    """What a catalogue states of its pictures' items.

    Args:
        catalog: Where they are. attributes: Which; empty: all.
        least: A value with fewer training pictures is unknown to the heads, and an attribute with fewer than two
            such values is left out.

    Raises:
        InputError: No such attribute, or none with enough pictures.
    """
    splits = split_of(catalog)
    rows: dict[str, dict[str, Statement]] = {name: {} for name in sorted(splits)}
    named = _outfit_rows(catalog, rows) if catalog.facts.scene == "outfit" else _product_rows(catalog, rows)
    unknown = sorted(set(attributes) - set(named))
    if unknown:
        raise InputError("the catalogue states no such attribute", file=catalog.path, found=unknown, allowed=named)
    train = [rows[name] for name in rows if splits[name] == "train"]
    specs = [
        AttributeSpec(name, tuple(values), exclusive)
        for name, exclusive in sorted(named.items())
        if (not attributes or name in attributes) and len(values := _frequent(train, name, least)) >= 1 + exclusive
    ]
    if not specs:
        hint = f"`least` is {least}; fewer pictures teach little"
        raise InputError("no attribute has two values with enough pictures", file=catalog.path, hint=hint)
    kept = {spec.name: frozenset(spec.values) for spec in specs}
    reduced = [{n: _within(s, kept[n]) for n, s in row.items() if n in kept} for row in rows.values()]
    return Statements(list(rows), specs, reduced, [splits[name] for name in rows])


def split_of(catalog: Catalog) -> dict[str, str]:
    """Id → split.

    Raises:
        InputError: The catalogue has no splits.
    """
    table = catalog.table("splits", ["image_id", "split"])
    if not len(table):
        raise InputError("the catalogue has no splits", file=catalog.path, hint="`fashionkit catalog import` makes them")
    found = dict(zip(table["image_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert set(found.values()) <= set(SPLITS)
    return found


def _product_rows(catalog: Catalog, rows: dict[str, dict[str, Statement]]) -> dict[str, bool]:
    """Fills the rows; returns each name with whether its values exclude each other."""
    items = catalog.table("items", ["item_id", "image_id", "category"]).to_pylist()
    count = Counter(item["image_id"] for item in items)
    picture = {item["item_id"]: item["image_id"] for item in items if count[item["image_id"]] == 1}
    named = {CATEGORY: True}
    for item in items:
        if item["item_id"] in picture and item["image_id"] in rows:
            rows[item["image_id"]][CATEGORY] = Statement(PRESENT, (item["category"],), True)
            for name, attribute in catalog.ontology.attributes.items():
                if attribute.scope == "item" and not catalog.ontology.applies(name, item["category"]):
                    rows[item["image_id"]][name] = Statement(ABSENT)
    for row in catalog.table("attributes").to_pylist():
        if picture.get(row["item_id"]) in rows:
            named[row["attribute"]] = catalog.ontology.attributes[row["attribute"]].exclusive
            rows[picture[row["item_id"]]][row["attribute"]] = _statement(catalog, row)
    return named


def _outfit_rows(catalog: Catalog, rows: dict[str, dict[str, Statement]]) -> dict[str, bool]:
    """The same, by region; a region with several items is unknown."""
    items = catalog.table("items", ["item_id", "image_id", "category", "region"]).to_pylist()
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for item in items:
        region = item["region"] or catalog.ontology.region_of(item["category"])
        if region is not None and item["image_id"] in rows:
            places.setdefault((item["image_id"], region), []).append(item)
    regions = sorted({region for _, region in places})
    named, where = {f"{region}.{CATEGORY}": True for region in regions}, {}
    for (image, region), found in places.items():
        if len(found) == 1:
            where[found[0]["item_id"]] = (image, region)
            rows[image][f"{region}.{CATEGORY}"] = Statement(PRESENT, (found[0]["category"],), True)
    for row in catalog.table("attributes").to_pylist():
        if row["item_id"] in where:
            image, region = where[row["item_id"]]
            name = f"{region}.{row['attribute']}"
            named[name] = catalog.ontology.attributes[row["attribute"]].exclusive
            rows[image][name] = _statement(catalog, row)
    if "item" in catalog.facts.closed_categories:  # every item that can be seen is listed
        for image, row in rows.items():
            for name in named:
                region = name.split(".")[0]
                if (image, region) not in places:
                    row[name] = Statement(ABSENT)
    return named


def _statement(catalog: Catalog, row: dict[str, Any]) -> Statement:
    """One row of `attributes`; of values that imply each other the most specific."""
    if row["state"] != PRESENT:
        assert row["state"] in (ABSENT, NOT_VISIBLE, UNKNOWN)
        return Statement(row["state"])
    name = row["attribute"]
    if catalog.ontology.attributes[name].exclusive:
        values = sorted(distinct(catalog.ontology, name, row["values"]))
        return Statement(PRESENT, tuple(values[:1]) if len(values) == 1 else (), row["complete"])
    return Statement(PRESENT, tuple(row["values"]), row["complete"])


def _frequent(rows: Iterable[dict[str, Statement]], name: str, least: int) -> list[str]:
    count = Counter(value for row in rows if name in row for value in row[name].values)
    return sorted(value for value, number in count.items() if number >= least)


def _within(statement: Statement, values: frozenset[str]) -> Statement:
    """The statement as heads of these values can learn it: it applies, but a rare value is unknown."""
    kept = tuple(value for value in statement.values if value in values)
    return statement._replace(values=kept)
