"""`fashionkit catalog check`: does a finished catalogue keep what its schema promises?

    tables ──► columns and types ──► ids unique and joined ──► words in the ontology ──► states ──► boxes, masks
           └─► splits: every picture once, no group in two ──► (asked for) checksums, every picture decodes

Importers write catalogues that pass; the check is for catalogues that were edited, copied or made by other programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import PictureError, measure, open_mask
from fashionkit.catalog.schema import PRESENT, SPLITS, STATES, TABLES
from fashionkit.tables import InputError, nearest, read_table, shorten, table_parts, verify

_SHOWN = 5  # examples of one kind of problem
_REQUIRED = ("images", "items", "splits")


def check_catalog(folder: Path, pictures: bool = False, checksums: bool = False) -> list[str]:
    """Looks for everything that is wrong with a catalogue.

    Args:
        folder: The catalogue.
        pictures: Decode every picture and mask, and compare sizes.
        checksums: Compare every file with the manifest.

    Returns:
        One line a problem, naming table, column and value; empty where all is well.

    Raises:
        InputError: No catalogue at all.
    """
    catalog = Catalog(folder)
    problems = verify(folder) if checksums else []
    shapes = list(_shapes(folder))
    if shapes:
        return problems + shapes
    checks = (_keys(catalog), _words(catalog), _states(catalog), _boxes(catalog), _splits(catalog), _facts(catalog))
    for check in checks:
        problems += check
    return problems + (list(_pictures(catalog)) if pictures else [])


def _shapes(folder: Path) -> Iterator[str]:
    for name, schema in TABLES.items():
        if not table_parts(folder, name):
            if name in _REQUIRED:
                yield f"{name}: the table is missing"
            continue
        try:
            found = read_table(folder, name).schema
        except (InputError, pa.ArrowInvalid) as error:
            yield f"{name}: {error}"
            continue
        for field in schema:
            if field.name not in found.names:
                yield f"{name}: column {field.name!r} is missing"
            elif found.field(field.name).type != field.type:
                yield f"{name}.{field.name}: is {found.field(field.name).type}, and must be {field.type}"


def _examples(what: str, found: list[Any]) -> Iterator[str]:
    """One line for a kind of problem, with a count and some of the values."""
    if found:
        some = ", ".join(shorten(str(value), 60) for value in found[:_SHOWN])
        yield f"{what}: {len(found):,}, e.g. {some}{', …' if len(found) > _SHOWN else ''}"


def _keys(catalog: Catalog) -> Iterator[str]:
    images, items = catalog.table("images", ["image_id"]), catalog.table("items", ["item_id", "image_id"])
    yield from _examples("images.image_id: stands twice", _twice(images["image_id"]))
    yield from _examples("items.item_id: stands twice", _twice(items["item_id"]))
    for table, column, known in (
        ("items", "image_id", images["image_id"]),
        ("labels", "image_id", images["image_id"]),
        ("attributes", "item_id", items["item_id"]),
    ):
        values = catalog.table(table, [column])[column]
        lost = pc.unique(values.filter(pc.invert(pc.is_in(values, known.combine_chunks())))).to_pylist()
        yield from _examples(f"{table}.{column}: no such id", lost)
    for table, columns in (("attributes", ("item_id", "attribute")), ("labels", ("image_id", "label"))):
        rows = catalog.table(table, list(columns))
        pairs = pc.binary_join_element_wise(rows[columns[0]], rows[columns[1]], " / ")
        yield from _examples(f"{table}: two rows for one {' and '.join(columns)}", _twice(pairs))


def _twice(column: pa.ChunkedArray) -> list[str]:
    counts = pc.value_counts(column.combine_chunks())
    return [entry["values"] for entry in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist()]


def _words(catalog: Catalog) -> Iterator[str]:
    onto = catalog.ontology
    items = catalog.table("items", ["item_id", "category", "region"])
    yield from _unknown("items.category", pc.unique(items["category"]).to_pylist(), list(onto.categories))
    regions = [region for region in pc.unique(items["region"]).to_pylist() if region is not None]
    yield from _unknown("items.region", regions, list(onto.regions))
    of_item = {key for key, a in onto.attributes.items() if a.scope == "item"}
    of_image = set(onto.attributes) - of_item
    for table, column, allowed in (("attributes", "attribute", of_item), ("labels", "label", of_image)):
        rows = catalog.table(table, [column, "values"])
        yield from _unknown(f"{table}.{column}", pc.unique(rows[column]).to_pylist(), sorted(allowed))
        for name in sorted(allowed & set(pc.unique(rows[column]).to_pylist())):
            lists = rows["values"].filter(pc.equal(rows[column], name))
            values = pc.unique(pc.list_flatten(lists)).to_pylist()
            yield from _unknown(f"{table}.values of {name}", values, list(onto.attributes[name].values))
    joined = catalog.table("attributes", ["item_id", "attribute"]).join(
        items.select(["item_id", "category"]), "item_id"
    )
    pairs = joined.group_by(["attribute", "category"]).aggregate([]).to_pylist()
    known = [p for p in pairs if p["attribute"] in of_item and p["category"] in onto.categories]
    odd = [f"{p['category']} / {p['attribute']}" for p in known if not onto.applies(p["attribute"], p["category"])]
    yield from _examples("attributes: the category cannot have the attribute", sorted(odd))


def _unknown(place: str, found: list[str], allowed: list[str]) -> Iterator[str]:
    for word in sorted(set(found) - set(allowed)):
        close = nearest(word, allowed)
        yield f"{place}: {word!r} is not in the ontology" + (f"; nearest: {close!r}" if close else "")


def _states(catalog: Catalog) -> Iterator[str]:
    for table in ("attributes", "labels"):
        rows = catalog.table(table, ["state", "values"])
        yield from _examples(f"{table}.state: no such state", sorted(set(rows["state"].to_pylist()) - set(STATES)))
        present = pc.equal(rows["state"], PRESENT)
        filled = pc.greater(pc.list_value_length(rows["values"]), 0)
        wrong = pc.sum(pc.xor(present, filled)).as_py() or 0
        if wrong:
            yield f"{table}: values must be there where the state is present, and only there: {wrong:,} rows"
    exclusive = [key for key, a in catalog.ontology.attributes.items() if a.exclusive]
    rows = catalog.table("attributes", ["item_id", "attribute", "values"])
    one = pc.and_(pc.is_in(rows["attribute"], pa.array(exclusive)), pc.greater(pc.list_value_length(rows["values"]), 1))
    for row in rows.filter(one).to_pylist():
        above = {a for v in row["values"] for a in _ancestors(catalog, row["attribute"], v)}
        if len(set(row["values"]) - above) > 1:
            yield f"attributes: item {row['item_id']!r} has several values of {row['attribute']}: {row['values']}"


def _ancestors(catalog: Catalog, attribute: str, value: str) -> tuple[str, ...]:
    known = catalog.ontology.attributes[attribute].values
    return catalog.ontology.value_ancestors(attribute, value) if value in known else ()


def _boxes(catalog: Catalog) -> Iterator[str]:
    sizes = {row["image_id"]: row for row in catalog.table("images", ["image_id", "width", "height"]).to_pylist()}
    items = catalog.table("items", ["item_id", "image_id", "box", "area", "visible"])
    wrong = []
    for row in items.filter(pc.is_valid(items["box"])).to_pylist():
        x, y, width, height = row["box"]
        size = sizes.get(row["image_id"], {"width": None, "height": None})
        inside = size["width"] is None or (x + width <= size["width"] + 1 and y + height <= size["height"] + 1)
        if x < 0 or y < 0 or width <= 0 or height <= 0 or not inside:
            wrong.append(f"{row['item_id']} {row['box']}")
    yield from _examples("items.box: outside its picture", wrong)
    for column in ("area", "visible"):
        share = items[column]
        bad = items["item_id"].filter(pc.or_(pc.less(share, 0), pc.greater(share, 1))).to_pylist()
        yield from _examples(f"items.{column}: not a share from 0 to 1", bad)


def _splits(catalog: Catalog) -> Iterator[str]:
    images, splits = catalog.table("images", ["image_id"])["image_id"], catalog.table("splits")
    yield from _examples("splits.image_id: stands twice", _twice(splits["image_id"]))
    there = pc.is_in(images, splits["image_id"].combine_chunks())
    yield from _examples("splits: pictures without a split", images.filter(pc.invert(there)).to_pylist())
    yield from _examples("splits.split: no such split", sorted(set(splits["split"].to_pylist()) - set(SPLITS)))
    pairs = splits.group_by(["split_group", "split"]).aggregate([])
    torn = pc.value_counts(pairs["split_group"].combine_chunks()).to_pylist()
    yield from _examples("splits: groups in two splits", [row["values"] for row in torn if row["counts"] > 1])


def _facts(catalog: Catalog) -> Iterator[str]:
    facts, onto = catalog.facts, catalog.ontology
    for name in ("closed_categories", "countable", "sole_categories", "alone_categories"):
        yield from _unknown(f"catalog.yaml, {name}", getattr(facts, name), list(onto.categories))
    yield from _unknown("catalog.yaml, complete_attributes", facts.complete_attributes, list(onto.attributes))


def _pictures(catalog: Catalog, batch: int = 256) -> Iterator[str]:
    """Decodes pictures and masks, some at a time."""
    images = catalog.table("images", ["image_id", "width", "height", "sha256"]).to_pylist()
    for start in range(0, len(images), batch):
        some = {row["image_id"]: row for row in images[start : start + batch] if row["sha256"] is not None}
        try:
            data = catalog.image_bytes(list(some))
        except InputError as error:
            yield f"images: {error}"
            continue
        for name, row in some.items():
            try:
                found = measure(data[name] or b"")
            except PictureError as error:
                yield f"images: picture {name!r}: {error}"
                continue
            if (found.width, found.height, found.sha256) != (row["width"], row["height"], row["sha256"]):
                yield f"images: picture {name!r} is not the one that was measured (size or checksum differ)"
    for row in catalog.table("items", ["item_id", "box", "mask"]).to_pylist():
        if row["mask"] is not None:
            yield from _mask(row)


def _mask(row: dict[str, Any]) -> Iterator[str]:
    try:
        height, width = open_mask(row["mask"]).shape
    except PictureError as error:
        yield f"items.mask: item {row['item_id']!r}: {error}"
        return
    x, y, w, h = row["box"] or (0, 0, 0, 0)
    if (width, height) != (int(-(-(x + w) // 1) - x // 1), int(-(-(y + h) // 1) - y // 1)):
        yield f"items.mask: item {row['item_id']!r}: the mask is {width} x {height}, and its box {w:g} x {h:g}"
