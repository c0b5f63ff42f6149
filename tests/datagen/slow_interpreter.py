"""An independent, slow interpreter of question programs, written from docs/programs.md; it shares no engine code.

    items, attributes, labels, splits ─► Pictures ─┐
    ontology.yaml ─► Words ────────────────────────┴─► Interpreter.answer(tree, slots, image)

Plain dicts and sets, one item at a time; clarity over speed. Nothing of the package is imported.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import yaml

Id = tuple[
    str, str
]  # (kind, key) of a vocabulary entry: ("category", "jeans"), ("value", "colour/navy"), ("answer", "yes")
Tree = tuple[Any, ...]  # ("filter", ("scene",), "cat"): a function and its arguments; a slot is its name
YES, NO, NOT_PRESENT = ("answer", "yes"), ("answer", "no"), ("answer", "not_present")
MISSING = "missing"  # what `unique` gives where nothing of the kind is in the picture
MAX_COUNT = 32


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    """All rows of a table of Parquet parts; none where the table is not there."""
    return [
        r
        for part in sorted((folder / table).glob("part-*.parquet"))
        for r in pq.read_table(part, partitioning=None).to_pylist()
    ]


def parse(text: str) -> Tree | str:
    """The tree of a program; a bare name is a slot, unless it is `scene`."""
    tokens = re.findall(r"[a-z0-9_]+|[(),]", text)

    def node() -> Tree | str:
        name = tokens.pop(0)
        if not tokens or tokens[0] != "(":
            return ("scene",) if name == "scene" else name
        arguments = []
        while tokens.pop(0) != ")":
            arguments.append(node())
        return (name, *arguments)

    tree = node()
    assert not tokens, f"left over in {text!r}: {tokens}"
    return tree


def without_one_filter(tree: Tree | str) -> Iterator[Tree | str]:
    """The trees that leave out one `filter` of this one."""
    if isinstance(tree, str):
        return
    if tree[0] == "filter":
        yield tree[1]
    for place in range(1, len(tree)):
        for shorter in without_one_filter(tree[place]):
            yield (*tree[:place], shorter, *tree[place + 1 :])


class Words:
    """Closures over ontology.yaml: what stands above and below, and what may be said beside what."""

    def __init__(self, path: Path) -> None:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.regions: dict[str, Any] = data["regions"]
        self.categories = {k: v or {} for k, v in data["categories"].items()}
        self.attributes = {k: v or {} for k, v in data["attributes"].items()}
        for attribute in self.attributes.values():
            attribute["values"] = {k: v or {} for k, v in (attribute.get("values") or {}).items()}
        self.root = next(k for k, c in self.categories.items() if not c.get("parent"))
        self.saying: dict[str, set[str]] = {}

    def up(self, key: str) -> list[str]:
        """A category and its ancestors."""
        parent = self.categories[key].get("parent")
        return [key, *(self.up(parent) if parent else [])]

    def region_of(self, key: str) -> str | None:
        """The region of a category, inherited."""
        return next((r for k in self.up(key) if (r := self.categories[k].get("region"))), None)

    def said_of(self, leaf: str) -> set[str]:
        """Categories that could be said of an item with this leaf."""
        if leaf not in self.saying:
            lineage = set(self.up(leaf))
            same = {c for c in self.categories if c in lineage or leaf in self.up(c)}
            for c in self.categories:
                mine = {o for k in self.up(c) for o in self.categories[k].get("overlaps", ())}
                theirs = {o for k in lineage for o in self.categories[k].get("overlaps", ())}
                if mine & lineage or theirs & set(self.up(c)):
                    same.add(c)
            self.saying[leaf] = {k for c in same for k in self.up(c)}
        return self.saying[leaf]

    def value_up(self, attribute: str, key: str) -> list[str]:
        """A value and its ancestors."""
        parent = self.attributes[attribute]["values"][key].get("parent")
        return [key, *(self.value_up(attribute, parent) if parent else [])]

    def said_beside(self, attribute: str, key: str) -> set[str]:
        """Values that could be said beside a listed one."""
        values = self.attributes[attribute]["values"]
        near = set(self.value_up(attribute, key)) | {v for v in values if key in self.value_up(attribute, v)}
        near |= set(values[key].get("compatible", ())) | {
            v for v, d in values.items() if key in d.get("compatible", ())
        }
        return {u for v in near for u in self.value_up(attribute, v)}

    def compatible(self, attribute: str, one: str, two: str) -> bool:
        """Whether two values are stated to go together, in either direction, or one stands above the other."""
        values = self.attributes[attribute]["values"]
        stated = two in values[one].get("compatible", ()) or one in values[two].get("compatible", ())
        return stated or two in self.value_up(attribute, one) or one in self.value_up(attribute, two)

    def applies(self, attribute: str, category: str) -> bool:
        """Whether an attribute is for a category or any below it."""
        wide = self.attributes[attribute].get("applies_to", [self.root])
        wide = {wide} if isinstance(wide, str) else set(wide)
        below = [c for c in self.categories if category in self.up(c)]
        return any(wide & set(self.up(c)) for c in below)

    def exclusive(self, attribute: str) -> bool:
        """Whether an item has at most one value of it."""
        return bool(self.attributes[attribute].get("exclusive", True))


class Row(NamedTuple):
    """What is stated of one attribute of an item, or of one label of a picture."""

    state: str
    values: tuple[str, ...]
    complete: bool


class Item(NamedTuple):
    """An item row."""

    item_id: str
    category: str
    region: str | None
    stated: dict[str, Row]


class Pictures:
    """The tables of a catalogue, by picture."""

    def __init__(self, folder: Path) -> None:
        self.words = Words(folder / "ontology.yaml")
        facts = yaml.safe_load((folder / "catalog.yaml").read_text(encoding="utf-8"))
        self.product = facts.get("scene") == "product"
        names = ("closed_categories", "countable", "sole_categories", "alone_categories")
        self.closed, self.countable, self.sole, self.alone = (set(facts.get(name) or ()) for name in names)
        stated: dict[str, dict[str, Row]] = defaultdict(dict)
        for r in rows(folder, "attributes"):
            stated[r["item_id"]][r["attribute"]] = self._row(r["attribute"], r, r["complete"])
        self.items: dict[str, list[Item]] = defaultdict(list)
        for r in rows(folder, "items"):
            mine = self._opened(stated.get(r["item_id"], {}))
            self.items[r["image_id"]].append(Item(r["item_id"], r["category"], r["region"], mine))
        self.labels: dict[str, dict[str, Row]] = defaultdict(dict)
        for r in rows(folder, "labels"):
            self.labels[r["image_id"]][r["label"]] = self._row(r["label"], r, True)
        self.splits = {r["image_id"]: (r["split"], r["split_group"]) for r in rows(folder, "splits")}
        self.kept_apart = {(r["category"], f"{r['attribute']}/{r['value']}") for r in rows(folder, "compositions")}

    def _opened(self, stated: dict[str, Row]) -> dict[str, Row]:
        """The rows of an item; what is `open_on` a value that it has may have further values."""
        found = {}
        for attribute, row in stated.items():
            pairs = [pair.split("/") for pair in self.words.attributes[attribute].get("open_on", ())]
            more = any(v in self.words.value_up(a, u) for a, v in pairs if a in stated for u in stated[a].values)
            found[attribute] = row._replace(complete=row.complete and not more)
        return found

    def _row(self, attribute: str, r: dict[str, Any], complete: bool) -> Row:
        """An exclusive attribute with several values is unknown, unless one of them stands below all the others."""
        values = tuple(r["values"])
        if r["state"] != "present":
            return Row(r["state"], (), complete)
        if self.words.exclusive(attribute) and len(values) > 1:
            values = tuple(v for v in values if set(values) <= set(self.words.value_up(attribute, v)))[:1]
        return (
            Row("present", values, complete or self.words.exclusive(attribute))
            if values
            else Row("unknown", (), complete)
        )


class Picked(NamedTuple):
    """Items under clauses: the rows that satisfy them for sure, those that may, and the clauses, outermost first."""

    sure: list[Item]
    may: list[Item]
    clauses: tuple[Id, ...]


class Interpreter:
    """Runs programs as docs/programs.md says; None is a result that is not settled."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures, self.words = pictures, pictures.words
        self.meant: list[Item] = []  # what `unique` found in the last program

    def answer(self, tree: Tree | str, slots: dict[str, Id], image: str) -> Any:
        """The answer as a vocabulary entry, ("set", keys) for a list, None where it is not settled."""
        self.meant = []
        result = self.run(tree, slots, image)
        return result if not isinstance(result, bool) else (YES if result else NO)

    def run(self, tree: Tree | str, slots: dict[str, Id], image: str) -> Any:
        """The result of a tree: a slot's id, `Picked`, an item, True / False / None, or an answer."""
        if isinstance(tree, str):
            return slots[tree]
        function, *rest = tree
        if function == "label":
            return self.label(slots[rest[0]], image)
        if function == "label_is":
            return self.label_is(slots[rest[0]], image)
        if function == "scene":
            items = self.pictures.items[image]
            return Picked(items, items, ())
        return getattr(self, f"do_{function}")(*(self.run(a, slots, image) for a in rest))

    # What is known about an item and a picture.

    def holds(self, item: Item, said: Id) -> bool | None:
        """Whether a category, value or region is true of an item."""
        kind, key = said
        if kind == "category":
            return (
                True
                if key in self.words.up(item.category)
                else None
                if key in self.words.said_of(item.category)
                else False
            )
        if kind == "region":
            return None if item.region is None else item.region == key
        return self.has_value(item, *key.split("/", 1))

    def has_value(self, item: Item, attribute: str, value: str) -> bool | None:
        """Whether an item has a value, by the three ways in which it may be known not to."""
        row = item.stated.get(attribute)
        if row is None:
            return None if self.words.applies(attribute, item.category) else False
        if row.state == "absent":
            return False
        if row.state != "present":
            return None
        if any(value in self.words.value_up(attribute, listed) for listed in row.values):
            return True
        beside = any(value in self.words.said_beside(attribute, listed) for listed in row.values)
        return False if row.complete and not beside else None

    def is_closed(self, said: Id) -> bool:
        """Whether every visible item that satisfies a clause has a row."""
        kind, key = said
        if kind == "category":
            return bool(self.pictures.closed & set(self.words.up(key)))
        if kind == "region":
            worn = [
                c for c, d in self.words.categories.items() if not d.get("abstract") and self.words.region_of(c) == key
            ]
            return all(self.is_closed(("category", c)) for c in worn)
        return False

    def closed(self, clauses: Iterable[Id]) -> bool:
        """Whether nothing unlisted can satisfy all clauses."""
        return self.words.root in self.pictures.closed or any(self.is_closed(c) for c in clauses)

    def referred_to(self, item: Item, clauses: tuple[Id, ...]) -> bool:
        """Whether the words can only mean this item, though other things of the picture may have no row."""
        if self.closed(clauses):
            return True
        named = [key for kind, key in clauses if kind == "category"]
        if named and named[0] == item.category:
            return True
        if not self.pictures.product:
            return False
        if named and named[0] != self.words.root:
            return bool(self.pictures.sole & set(self.words.up(named[0])))
        bare = all(kind == "category" for kind, _ in clauses)  # "the product", not "the blue product"
        return bare or bool(self.pictures.alone & set(self.words.up(item.category)))

    # The functions.

    def do_filter(self, items: Picked, said: Id) -> Picked:
        sure = [i for i in items.sure if self.holds(i, said) is True]
        return Picked(sure, [i for i in items.may if self.holds(i, said) is not False], (said, *items.clauses))

    def do_unique(self, items: Picked) -> Item | str | None:
        if not items.may:
            return MISSING if self.closed(items.clauses) else None
        if len(items.sure) == 1 == len(items.may) and self.referred_to(items.sure[0], items.clauses):
            self.meant.append(items.sure[0])
            return items.sure[0]
        return None

    def do_exist(self, items: Picked) -> bool | None:
        return True if items.sure else False if not items.may and self.closed(items.clauses) else None

    def do_count(self, items: Picked) -> Id | None:
        named = [key for kind, key in items.clauses if kind == "category"]
        countable = bool(named) and bool(self.pictures.countable & set(self.words.up(named[0])))
        settled = countable and self.closed(items.clauses) and len(items.sure) == len(items.may) <= MAX_COUNT
        return ("int", str(len(items.sure))) if settled else None

    def do_verify(self, item: Item | str | None, said: Id) -> bool | None:
        if not isinstance(item, Item):
            return None
        if said[0] == "value" and item.stated.get(said[1].split("/")[0], Row("unknown", (), False)).state != "present":
            return None
        return self.holds(item, said)

    def listed(self, item: Item | str | None, attribute: Id) -> Row | None:
        """The row of an attribute whose state is present."""
        row = item.stated.get(attribute[1]) if isinstance(item, Item) else None
        return row if row and row.state == "present" else None

    def do_query(self, item: Item | str | None, attribute: Id) -> Id | None:
        row = self.listed(item, attribute)
        if row and len(row.values) == 1:
            return ("value", f"{attribute[1]}/{row.values[0]}")
        return NOT_PRESENT if item == MISSING else None

    def do_list(self, item: Item | str | None, attribute: Id) -> Any:
        row = self.listed(item, attribute)
        return ("set", frozenset(f"{attribute[1]}/{v}" for v in row.values)) if row and row.complete else None

    def do_category(self, item: Item | str | None) -> Id | None:
        return NOT_PRESENT if item == MISSING else ("category", item.category) if isinstance(item, Item) else None

    def do_region(self, item: Item | str | None) -> Id | None:
        if not isinstance(item, Item):
            return NOT_PRESENT if item == MISSING else None
        return ("region", item.region) if item.region else None

    def do_same(self, one: Item | str | None, two: Item | str | None, attribute: Id) -> bool | None:
        first, second = self.listed(one, attribute), self.listed(two, attribute)
        if not first or not second or one == two:
            return None
        if set(first.values) == set(second.values):
            return True
        near = any(self.words.compatible(attribute[1], a, b) for a in first.values for b in second.values)
        return False if first.complete and second.complete and not near else None

    def do_not(self, one: bool | None) -> bool | None:
        return None if one is None else not one

    def do_and(self, one: bool | None, two: bool | None) -> bool | None:
        return False if False in (one, two) else None if None in (one, two) else True

    def do_or(self, one: bool | None, two: bool | None) -> bool | None:
        return True if True in (one, two) else None if None in (one, two) else False

    def do_which(self, one: bool | None, first: Id, two: bool | None, second: Id) -> Id | None:
        return {(True, False): first, (False, True): second}.get((one, two))  # type: ignore[arg-type]

    def label(self, attribute: Id, image: str) -> Id | None:
        row = self.pictures.labels[image].get(attribute[1])
        return ("value", f"{attribute[1]}/{row.values[0]}") if row and len(row.values) == 1 else None

    def label_is(self, said: Id, image: str) -> bool | None:
        attribute, value = said[1].split("/", 1)
        row = self.pictures.labels[image].get(attribute)
        if not row or len(row.values) != 1:
            return None
        if value in self.words.value_up(attribute, row.values[0]):
            return True
        return None if self.words.compatible(attribute, value, row.values[0]) else False
