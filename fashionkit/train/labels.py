"""What a catalogue says of its pictures, as targets: one label of each picture, or the attributes of its items.

    labels  ──► `read_labels`      ──► ids, classes, (n,) class of each picture
    items, attributes ──► `read_statements` ──► ids, specs, what is stated of each picture, by attribute

In a catalogue of products a picture shows one product, and its attributes go by their own names, its category as
`category`. In one of outfits they go by the region they are worn in: `top.category`, `feet.colour`. Of a region with
several items nothing is known, since nobody says which of them is meant.

Unknown stays unknown. An attribute is absent where the catalogue says so, where the ontology says that such an item
cannot have it, and in a region without an item where the catalogue lists every item that can be seen there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import ABSENT, PRESENT, SPLITS
from fashionkit.catalog.values import distinct
from fashionkit.models.attributes import AttributeSpec
from fashionkit.models.targets import Statement
from fashionkit.tables import InputError

CATEGORY = "category"
Rows = dict[str, dict[str, Statement]]  # picture → attribute → what is stated
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Labels:
    """One label of n pictures.

    Attributes:
        ids: n ids. classes: N keys, sorted. classes_of: (n,) int64, 0..N-1. splits: n of `train`, `val`, `test`.
    """

    ids: list[str]
    classes: list[str]
    classes_of: Ints
    splits: list[str]


@dataclass(frozen=True)
class Statements:
    """What is stated of n pictures.

    Attributes:
        ids: n ids. specs: Of each attribute. rows: n mappings of attribute → statement. splits: As in `Labels`.
        groups: (n,) int64; pictures of one group, such as copies, are never in two splits.
    """

    ids: list[str]
    specs: list[AttributeSpec]
    rows: list[dict[str, Statement]]
    splits: list[str]
    groups: Ints


def read_labels(catalog: Catalog, label: str) -> Labels:
    """The pictures of which one value of `label` is known.

    Raises:
        InputError: The catalogue has no such label, fewer than two values occur, or one picture has several.
    """
    there = sorted(set(catalog.table("labels", ["label"])["label"].to_pylist()))
    if not there:
        hint = "AttributeData learns what items have; labels are given as the catalogue is made"
        raise InputError("the catalogue has no labels of pictures", file=catalog.path, found=label, hint=hint)
    if label not in there:
        raise InputError("no such label in the catalogue", file=catalog.path, found=label, allowed=there)
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
        problem = f"the label {label!r} has fewer than two values to learn from"
        raise InputError(problem, file=catalog.path, found=", ".join(classes) or "none")
    ids = sorted(known)
    place = {name: number for number, name in enumerate(classes)}
    return Labels(ids, classes, np.array([place[known[i]] for i in ids], np.int64), [splits[i] for i in ids])


def read_statements(catalog: Catalog, attributes: Sequence[str] = (), least: int = 10) -> Statements:
    """What a catalogue states of its pictures' items.

    Args:
        catalog: Where they are. attributes: Which; empty: all.
        least: Training pictures that a value needs. One with fewer becomes the nearest value that it implies (navy is
            blue), or else unknown. An attribute with too few values left is left out.

    Raises:
        InputError: No such attribute, one asked for that has too few values, or none with enough pictures.
    """
    if isinstance(attributes, str):
        raise InputError("attributes are a list of names", column="attributes", found=attributes)
    splits = split_of(catalog)
    rows: Rows = {name: {} for name in sorted(splits)}
    named = _outfit_rows(catalog, rows) if catalog.facts.scene == "outfit" else _product_rows(catalog, rows)
    for name in attributes:
        if name not in named:
            raise InputError("the catalogue states no such attribute", file=catalog.path, found=name, allowed=named)
    train = [rows[name] for name in rows if splits[name] == "train"]
    specs, reduced = [], {}
    for name, exclusive in sorted(named.items()):
        if attributes and name not in attributes:
            continue
        reduced[name] = _reduced(catalog.ontology, name, train, least)
        values = tuple(sorted({kept for kept in reduced[name].values() if kept is not None}))
        if len(values) >= 1 + exclusive:
            specs.append(AttributeSpec(name, values, exclusive))
        elif attributes:
            problem = f"too few values of {name} have enough pictures"
            raise InputError(problem, file=catalog.path, found=_frequent(train, [name]), hint=_hint(least))
    if not specs:
        problem = "no attribute has two values with enough pictures"
        raise InputError(problem, file=catalog.path, found=_frequent(train, named), hint=_hint(least))
    found = [{s.name: _within(row[s.name], reduced[s.name]) for s in specs if s.name in row} for row in rows.values()]
    groups = _column(catalog, "split_group")
    return Statements(
        list(rows), specs, found, [splits[name] for name in rows], np.array([groups[name] for name in rows], np.int64)
    )


def _frequent(rows: Sequence[Mapping[str, Statement]], names: Iterable[str]) -> str:
    """The attributes with the most to learn from, each with the pictures of its most frequent values."""
    found = {name: Counter(v for row in rows if name in row for v in row[name].values).most_common(2) for name in names}
    second = {name: values[-1][1] if len(values) > 1 else 0 for name, values in found.items()}
    shown = sorted(found, key=lambda name: (-second[name], name))[:3]
    return "; ".join(
        f"{name}: {', '.join(f'{value} {number}' for value, number in found[name]) or 'no value'}" for name in shown
    )


def _hint(least: int) -> str:
    return f"`--data.least`, the training pictures that a value needs, is {least}: say fewer, though they teach little"


def split_of(catalog: Catalog) -> dict[str, str]:
    """Id → split.

    Raises:
        InputError: The catalogue has no splits.
    """
    found = _column(catalog, "split")
    if not found:
        raise InputError(
            "the catalogue has no splits", file=catalog.path, hint="`fashionkit catalog import` makes them"
        )
    assert set(found.values()) <= set(SPLITS)
    return found


def _column(catalog: Catalog, name: str) -> dict[str, Any]:
    """Id → what a column of the splits says."""
    table = catalog.table("splits", ["image_id", name])
    return dict(zip(table["image_id"].to_pylist(), table[name].to_pylist(), strict=True))


def _product_rows(catalog: Catalog, rows: Rows) -> dict[str, bool]:
    """Fills the rows; returns each name with whether its values exclude each other."""
    items = catalog.table("items", ["item_id", "image_id", "category"]).to_pylist()
    count = Counter(item["image_id"] for item in items)
    where = {}
    for item in items:
        if count[item["image_id"]] == 1 and item["image_id"] in rows:
            where[item["item_id"]] = (item["image_id"], "")
            rows[item["image_id"]] |= _of_category(catalog.ontology, item["category"])
    return {CATEGORY: True, **_state_attributes(catalog, rows, where)}


def _outfit_rows(catalog: Catalog, rows: Rows) -> dict[str, bool]:
    """The same, by region."""
    places: dict[tuple[str, str], list[dict[str, Any]]] = {}
    unplaced = set()  # pictures with an item of which nobody says where it is worn
    for item in catalog.table("items", ["item_id", "image_id", "category", "region"]).to_pylist():
        region = item["region"] or catalog.ontology.region_of(item["category"])
        if region is None:
            unplaced.add(item["image_id"])
        elif item["image_id"] in rows:
            places.setdefault((item["image_id"], region), []).append(item)
    regions, where = sorted({region for _, region in places}), {}
    for (image, region), found in places.items():
        if len(found) == 1:
            where[found[0]["item_id"]] = (image, f"{region}.")
            rows[image] |= _of_category(catalog.ontology, found[0]["category"], f"{region}.")
    named = {f"{region}.{CATEGORY}": True for region in regions} | _state_attributes(catalog, rows, where)
    closed = _closed_regions(catalog)
    for name in named:
        region = name.partition(".")[0]
        for image in rows if region in closed else ():
            if (image, region) not in places and image not in unplaced:
                rows[image][name] = Statement(ABSENT)
    return named


def _of_category(ontology: Ontology, category: str, prefix: str = "") -> dict[str, Statement]:
    """The category of an item, and the attributes that such an item cannot have."""
    missing = [
        name for name, a in ontology.attributes.items() if a.scope == "item" and not ontology.applies(name, category)
    ]
    stated = {f"{prefix}{name}": Statement(ABSENT) for name in missing}
    return {f"{prefix}{CATEGORY}": Statement(PRESENT, (category,), True), **stated}


def _state_attributes(catalog: Catalog, rows: Rows, where: Mapping[str, tuple[str, str]]) -> dict[str, bool]:
    """Adds the attributes of the items in `where` (item → picture, prefix of the name); returns the names as above."""
    named: dict[str, bool] = {}
    for row in catalog.table("attributes").to_pylist():
        if row["item_id"] in where:
            image, prefix = where[row["item_id"]]
            name = f"{prefix}{row['attribute']}"
            named[name] = catalog.ontology.attributes[row["attribute"]].exclusive
            rows[image][name] = _statement(catalog.ontology, row)
    return named


def _closed_regions(catalog: Catalog) -> set[str]:
    """Regions of which every item that can be seen is listed."""
    ontology, closed = catalog.ontology, set(catalog.facts.closed_categories)
    listed: dict[str, bool] = {}
    for key, category in ontology.categories.items():
        region = ontology.region_of(key)
        if region is not None and not category.abstract:
            listed[region] = listed.get(region, True) and bool(closed & {key, *ontology.ancestors(key)})
    return {region for region, whole in listed.items() if whole}


def _statement(ontology: Ontology, row: dict[str, Any]) -> Statement:
    """One row of `attributes`: of values that imply each other the most specific one, or all where several can hold."""
    if row["state"] != PRESENT:
        return Statement(row["state"])
    name = row["attribute"]
    if ontology.attributes[name].exclusive:
        values = distinct(ontology, name, row["values"])
        return Statement(PRESENT, tuple(values) if len(values) == 1 else (), row["complete"])
    implied = {above for value in row["values"] for above in ontology.value_ancestors(name, value)}
    return Statement(PRESENT, tuple(sorted({*row["values"], *implied})), row["complete"])


def _reduced(
    ontology: Ontology, name: str, rows: Iterable[Mapping[str, Statement]], least: int
) -> dict[str, str | None]:
    """Each value that rows state → itself, or where fewer than `least` do, the nearest one that it implies, or None."""
    count = Counter(value for row in rows if name in row for value in row[name].values)
    plain = name.rpartition(".")[2]
    above = {
        value: ontology.ancestors(value) if plain == CATEGORY else ontology.value_ancestors(plain, value)
        for value in count
    }
    found: dict[str, str | None] = {}
    exclusive = plain == CATEGORY or ontology.attributes[plain].exclusive
    for value in sorted(count, key=lambda value: (-len(above[value]), value)):  # from the most specific on
        near = next((key for key in above[value] if key in count), None) if exclusive else None
        found[value] = value
        if count[value] < least:
            found[value] = near
            if near is not None:
                count[near] += count[value]
    return {value: _last(found, value) for value in found}


def _last(found: Mapping[str, str | None], value: str) -> str | None:
    """Where the chain of a value ends."""
    kept = found[value]
    return kept if kept is None or kept == value else _last(found, kept)


def _within(statement: Statement, kept: Mapping[str, str | None]) -> Statement:
    """The statement in the values that the heads know; of any other the value is unknown."""
    values = {kept.get(value) for value in statement.values} - {None}
    return statement._replace(values=tuple(sorted(value for value in values if value is not None)))
