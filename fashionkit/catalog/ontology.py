"""The words of fashion: categories, attributes and values, how they relate, and how they are said.

One YAML file (`fashionkit.ontology/1`) drives question texts, attribute heads and prompts alike:

    regions:     key → {name, phrase, place}
    categories:  key → {name, plural, parent, region, pair, mass, unit, synonyms, overlaps, abstract, spoken, an}
    attributes:  key → {name, scope, exclusive, visible, verb, order, applies_to, ask, open_on, values: key → {...}}

Keys are ids; names are what a person reads. `overlaps` between categories and `compatible` between values say what an
honest annotator could have chosen instead: such pairs are never used as a "no" or as each other's alternative.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fashionkit.tables.errors import InputError
from fashionkit.tables.yamls import load_yaml

ONTOLOGY_SCHEMA = "fashionkit.ontology/1"
KEY = re.compile(r"[a-z][a-z0-9_]*\Z")
NAME = re.compile(r"[^\W_][^\n\r\t{}<>]*\Z")


@dataclass(frozen=True)
class Region:
    """Where an item is worn: `name` answers "where", `phrase` completes "what is worn ...".

    Attributes:
        place: Whether it is a part of the body, so that "where is it worn" can be asked of its items.
    """

    key: str
    name: str = ""
    phrase: str = ""
    worn: str = ""
    place: bool = True


@dataclass(frozen=True)
class Category:
    """A kind of garment or accessory, and the features its noun needs to be used in a sentence.

    Attributes:
        pair: Grammatically plural ("the jeans are", "a pair of jeans").
        mass: No article and no plural ("swimwear"); `unit` counts it ("a piece of swimwear").
        overlaps: Categories an annotator could have used for the same thing.
        abstract: A grouping that no item is labelled with.
        spoken: Whether a question may use its name; false for groupings nobody names ("bag or wallet").
        an: Forces the article where spelling misleads.
    """

    key: str
    name: str = ""
    plural: str = ""
    parent: str | None = None
    region: str | None = None
    pair: bool = False
    mass: bool = False
    unit: str = ""
    unit_plural: str = ""
    synonyms: tuple[str, ...] = ()
    overlaps: tuple[str, ...] = ()
    abstract: bool = False
    spoken: bool = True
    an: bool | None = None


@dataclass(frozen=True)
class Value:
    """A value of an attribute and its forms: before the noun, after the verb, after the noun."""

    key: str
    attribute: str
    name: str = ""
    adj: str | None = None
    pred: str = ""
    post: str | None = None
    synonyms: tuple[str, ...] = ()
    parent: str | None = None
    compatible: tuple[str, ...] = ()
    rgb: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Attribute:
    """A property of items (`scope: item`) or of whole pictures (`scope: image`).

    Attributes:
        exclusive: An item has at most one value (and its ancestors).
        visible: A picture can show it; where false it is never asked about.
        verb: `be` ("is striped") or `have` ("has long sleeves").
        order: Place in a row of adjectives, low stands first.
        applies_to: Categories (descendants included) that can have it.
        ask: Openings of a question for its value, with {is}, {does} and {the}.
        open_on: "attribute/value" of an item on which the stated value is not all that holds: the colour of a striped
            shirt excludes no other colour.
    """

    key: str
    name: str = ""
    plural: str = ""
    scope: str = "item"
    exclusive: bool = True
    visible: bool = True
    verb: str = "be"
    order: int = 50
    applies_to: tuple[str, ...] = ("item",)
    ask: tuple[str, ...] = ()
    open_on: tuple[str, ...] = ()
    values: dict[str, Value] = field(default_factory=dict)


T = TypeVar("T", Region, Category, Attribute, Value)


class Ontology:
    """Look-ups over one ontology file. Build it with `load`."""

    def __init__(self, name: str, regions: list[Region], categories: list[Category], attributes: list[Attribute]):
        self.name = name
        self.regions = {r.key: r for r in regions}
        self.categories = {c.key: c for c in categories}
        self.attributes = {a.key: a for a in attributes}

    @staticmethod
    def load(path: str | Path) -> Ontology:
        """Reads and checks an ontology.

        Raises:
            InputError: Naming file, line and key of the first thing that is wrong.
        """
        return _Reader(Path(path)).read()

    def ancestors(self, category: str) -> tuple[str, ...]:
        """The category's parents from near to far, without itself."""
        return self._ancestors[category]

    def descendants(self, category: str) -> frozenset[str]:
        """Every category below this one, and itself."""
        return self._descendants[category]

    def region_of(self, category: str) -> str | None:
        """The region of the category, or of its nearest ancestor that states one."""
        for key in (category, *self.ancestors(category)):
            if self.categories[key].region is not None:
                return self.categories[key].region
        return None

    def applies(self, attribute: str, category: str) -> bool:
        """Whether items of the category can have the attribute."""
        return bool({category, *self.ancestors(category)} & set(self.attributes[attribute].applies_to))

    def overlapping(self, category: str) -> frozenset[str]:
        """Categories that could name the same thing: stated overlaps (both ways, with what is below them), lineage."""
        return self._overlapping[category]

    def value_ancestors(self, attribute: str, value: str) -> tuple[str, ...]:
        """The value's parents from near to far, without itself."""
        values, found, key = self.attributes[attribute].values, [], value
        while (parent := values[key].parent) is not None:
            found.append(parent)
            key = parent
        return tuple(found)

    def compatible(self, attribute: str, value: str) -> frozenset[str]:
        """Values that may hold together with `value`: itself, its lineage, stated neighbours (both ways)."""
        return self._compatible[attribute][value]

    @cached_property
    def _ancestors(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for key in self.categories:
            chain, at = [], self.categories[key].parent
            while at is not None:
                chain.append(at)
                at = self.categories[at].parent
            found[key] = tuple(chain)
        return found

    @cached_property
    def _descendants(self) -> dict[str, frozenset[str]]:
        below: dict[str, set[str]] = {key: {key} for key in self.categories}
        for key, chain in self._ancestors.items():
            for ancestor in chain:
                below[ancestor].add(key)
        return {key: frozenset(keys) for key, keys in below.items()}

    @cached_property
    def _overlapping(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {
            key: {key, *self.ancestors(key), *self.descendants(key)} for key in self.categories
        }
        for category in self.categories.values():
            for other in category.overlaps:
                for one in self.descendants(category.key):
                    for two in self.descendants(other):
                        found[one].add(two)
                        found[two].add(one)
        return {key: frozenset(keys) for key, keys in found.items()}

    @cached_property
    def _compatible(self) -> dict[str, dict[str, frozenset[str]]]:
        result: dict[str, dict[str, frozenset[str]]] = {}
        for attribute in self.attributes.values():
            found: dict[str, set[str]] = {key: {key} for key in attribute.values}
            for key, value in attribute.values.items():
                for other in (*value.compatible, *self.value_ancestors(attribute.key, key)):
                    found[key].add(other)
                    found[other].add(key)
            result[attribute.key] = {key: frozenset(keys) for key, keys in found.items()}
        return result

    @cached_property
    def category_words(self) -> dict[str, str]:
        """Folded name, plural, key or synonym → category key (`fold` the word before looking it up)."""
        return _words(self.categories.values())

    @cached_property
    def value_words(self) -> dict[str, dict[str, str]]:
        """Attribute → folded word → value key."""
        return {a.key: _words(a.values.values()) for a in self.attributes.values()}


def fold(word: str) -> str:
    """A word as it is compared: lower case, runs of space, hyphen and underscore as one space."""
    return re.sub(r"[\s_\-]+", " ", word.strip().lower())


def _words(entries: Iterable[Category | Value]) -> dict[str, str]:
    found: dict[str, str] = {}
    entries = list(entries)
    for entry in entries:
        for word in (entry.key, entry.name):
            found.setdefault(fold(word), entry.key)
    for entry in entries:
        more = (entry.plural,) if isinstance(entry, Category) else (entry.adj or "", entry.pred)
        for word in (*entry.synonyms, *more):
            if word:
                found.setdefault(fold(word), entry.key)
    return found


class _Reader:
    """Turns the YAML into an `Ontology`, checking each key on the way."""

    def __init__(self, path: Path):
        self.path = path
        data, self.lines = load_yaml(path)
        self.data: dict[str, Any] = self._mapping(data, ())

    def fail(self, problem: str, *at: str | int, **more: Any) -> InputError:
        return InputError(
            problem, file=self.path, row=self.lines.of(*at), column=".".join(map(str, at)) or None, **more
        )

    def read(self) -> Ontology:
        allowed = {"schema", "name", "regions", "categories", "attributes"}
        for key in self.data:
            if key not in allowed:
                raise self.fail("unknown key", key, found=key, allowed=allowed)
        if self.data.get("schema") != ONTOLOGY_SCHEMA:
            raise self.fail(
                "not an ontology of this version", "schema", found=self.data.get("schema"), allowed=[ONTOLOGY_SCHEMA]
            )
        regions = [self._region(key, raw) for key, raw in self._section("regions")]
        categories = [self._category(key, raw) for key, raw in self._section("categories")]
        attributes = [self._attribute(key, raw) for key, raw in self._section("attributes")]
        ontology = Ontology(str(self.data.get("name", self.path.stem)), regions, categories, attributes)
        self._check(ontology)
        return ontology

    def _section(self, name: str) -> Iterable[tuple[str, Any]]:
        return self._mapping(self.data.get(name), (name,)).items()

    def _mapping(self, raw: Any, at: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(raw, dict) or not raw:
            raise self.fail("a mapping with at least one entry is needed here", *at, found=raw)
        for key in raw:
            if at and (not isinstance(key, str) or not KEY.match(key)):
                raise self.fail("a key must be lower-case letters, digits and _", *at, found=key)
        return raw

    def _entry(
        self, cls: type[T], key: str, raw: Any, at: tuple[str, ...], rename: dict[str, str] | None = None, **given: Any
    ) -> T:
        raw = {} if raw is None else raw
        if not isinstance(raw, dict):
            raise self.fail("a mapping is needed here", *at, found=raw)
        rename = rename or {}
        types = {f.name: f for f in fields(cls)}
        allowed = (set(types) - {"key", "attribute"} - set(rename.values())) | set(rename)
        values: dict[str, Any] = {}
        for name, value in raw.items():
            if name not in allowed:
                raise self.fail("unknown key", *at, name, found=name, allowed=allowed)
            if name not in given:
                target = str(rename.get(name, name))
                values[target] = self._typed(str(types[target].type), value, (*at, name))
        return cls(key=key, **{**values, **given})

    def _typed(self, kind: str, value: Any, at: tuple[str, ...]) -> Any:
        if kind.startswith("tuple[str"):
            value = [value] if isinstance(value, str) else value
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise self.fail("a list of words is needed", *at, found=value)
            return tuple(value)
        if kind.startswith("tuple[int"):
            if not (
                isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value)
            ):
                raise self.fail("three numbers from 0 to 255 are needed", *at, found=value)
            return tuple(value)
        wanted: Any = {
            "str": str,
            "str | None": (str, type(None)),
            "bool": bool,
            "bool | None": (bool, type(None)),
            "int": int,
        }[kind]
        if not isinstance(value, wanted) or (kind == "int" and isinstance(value, bool)):
            raise self.fail(f"{kind} is needed", *at, found=value)
        if isinstance(value, str) and not NAME.match(value):
            raise self.fail("words may not be empty, start with a sign, or hold braces, < or >", *at, found=value)
        return value

    def _region(self, key: str, raw: Any) -> Region:
        entry = self._entry(Region, key, raw, ("regions", key))
        name = entry.name or key.replace("_", " ")
        phrase = entry.phrase or f"on the {name}"
        return Region(key, name, phrase, entry.worn or phrase, entry.place)

    def _category(self, key: str, raw: Any) -> Category:
        entry = self._entry(Category, key, raw, ("categories", key))
        name = entry.name or key.replace("_", " ")
        plural = entry.plural or (name if entry.pair or entry.mass else plural_of(name))
        unit = entry.unit or (f"pair of {name}" if entry.pair else f"piece of {name}" if entry.mass else "")
        unit_plural = entry.unit_plural or (re.sub(r"^(\w+)", r"\1s", unit) if unit else "")
        return _replace(entry, name=name, plural=plural, unit=unit, unit_plural=unit_plural)

    def _attribute(self, key: str, raw: Any) -> Attribute:
        at = ("attributes", key)
        entry = self._entry(Attribute, key, raw, at, values={})
        if entry.verb not in ("be", "have"):
            raise self.fail("no such verb", *at, "verb", found=entry.verb, allowed=["be", "have"])
        if entry.scope not in ("item", "image"):
            raise self.fail("no such scope", *at, "scope", found=entry.scope, allowed=["item", "image"])
        raw_values = self._mapping(raw.get("values") if isinstance(raw, dict) else None, (*at, "values"))
        values = {name: self._value(entry, name, value) for name, value in raw_values.items()}
        name = entry.name or key.replace("_", " ")
        return _replace(entry, name=name, plural=entry.plural or plural_of(name), values=values)

    def _value(self, attribute: Attribute, key: str, raw: Any) -> Value:
        at = ("attributes", attribute.key, "values", key)
        entry = self._entry(Value, key, raw, at, rename={"with": "post"}, attribute=attribute.key)
        given = raw or {}
        name = entry.name or key.replace("_", " ")
        pred = entry.pred or name
        adj = entry.adj if "adj" in given else (name if attribute.verb == "be" else None)
        post = entry.post if "with" in given else (f"with {pred}" if attribute.verb == "have" else None)
        return _replace(entry, name=name, pred=pred, adj=adj, post=post)

    def _check(self, onto: Ontology) -> None:
        for c in onto.categories.values():
            at = ("categories", c.key)
            for name, keys, allowed in (
                ("parent", (c.parent,), onto.categories),
                ("region", (c.region,), onto.regions),
                ("overlaps", c.overlaps, onto.categories),
            ):
                self._known(keys, allowed, *at, name)
            self._no_cycle(c.key, {k: v.parent for k, v in onto.categories.items()}, at)
        for a in onto.attributes.values():
            self._known(a.applies_to, onto.categories, "attributes", a.key, "applies_to")
            pairs = [f"{b.key}/{v}" for b in onto.attributes.values() for v in b.values]
            self._known(a.open_on, pairs if a.open_on else (), "attributes", a.key, "open_on")
            for v in a.values.values():
                here = ("attributes", a.key, "values", v.key)
                self._known((v.parent,), a.values, *here, "parent")
                self._known(v.compatible, a.values, *here, "compatible")
                self._no_cycle(v.key, {k: w.parent for k, w in a.values.items()}, here)

    def _known(self, keys: Iterable[str | None], allowed: Iterable[str], *at: str) -> None:
        allowed = set(allowed)
        for key in keys:
            if key is not None and key not in allowed:
                raise self.fail("names something that is not defined", *at, found=key, allowed=allowed)

    def _no_cycle(self, key: str, parents: dict[str, str | None], at: tuple[str, ...]) -> None:
        seen, walk = {key}, parents[key]
        while walk is not None:
            if walk in seen:
                raise self.fail("is its own ancestor", *at, "parent", found=key)
            seen.add(walk)
            walk = parents.get(walk)


def plural_of(name: str) -> str:
    """The regular English plural of a noun phrase's last word."""
    if re.search(r"(s|x|z|ch|sh)\Z", name):
        return name + "es"
    if re.search(r"[^aeiou]y\Z", name):
        return name[:-1] + "ies"
    return name + "s"


def _replace(entry: T, **changes: Any) -> T:
    values = {
        f.name: getattr(entry, f.name) for f in fields(entry) if f.default is not MISSING or hasattr(entry, f.name)
    }
    return type(entry)(**{**values, **changes})
