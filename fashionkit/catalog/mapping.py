"""How a source's words become a catalogue: one YAML file (`fashionkit.mapping/1`), checked when it is loaded.

    schema: fashionkit.mapping/1
    format: table | coco | fashionpedia | maskset | folders
    ontology: a recipe's name or a path; its keys are what everything below maps to
    catalog:                      what holds for the whole (see `schema.Facts`): name, scene, noun, licence, source,
                                  notes, closed_categories, countable, sole_categories, alone_categories,
                                  complete_attributes
    image:    {id, path | bytes, folder, group, embed}       columns; `folder` starts where the source file lies
    table:    {delimiter, encoding, missing}                 how a CSV is written, what spellings mean "empty"
    item:     {id, box, region, region_values, merge}        columns; `merge`: source categories that are one item a
                                                             picture although each piece is annotated (shoes)
    category: {column, values, skip, refine, words, source, confidence}   `refine` (fashionpedia): attributes that name
                                                             a narrower category than the annotation's own
    attributes:                   a list, a column may be mapped twice
      - {attribute, column, values, unknown, absent, not_visible, not_for, separator, complete, words, source,
         confidence}
    labels:                       the same with `label` in place of `attribute`: image-level attributes
    leave_out:                    rows of a table that are left out on purpose: a list of
      - {column, contains, reason}                           `contains`: pieces of text, regardless of case
    drop:     {source attribute: reason}                     fashionpedia: attributes that are left out
    mask:     {bytes | path | folder, suffix, names, names_file}   maskset only

A cell is looked up in this order: `values` (as written, then regardless of case), `unknown` / `absent` /
`not_visible`, the spellings of `table.missing`, and, unless `words: false`, the ontology's own names and synonyms
(those of values also with a plural s). What is found nowhere goes to the rejects with the nearest word. An empty cell
is *unknown*, never *absent*.
`complete` says that a column lists every value that holds: `true`, or a list of categories for which it does.
`not_for` are categories for which a column is not to be trusted, with the reason: the attribute stays unknown.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import Facts
from fashionkit.recipes import find
from fashionkit.tables import InputError
from fashionkit.tables.yamls import load_yaml

MAPPING_SCHEMA = "fashionkit.mapping/1"
FORMATS = ("table", "coco", "fashionpedia", "maskset", "folders")
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")
MISSING_WORDS = ("", "na", "n/a", "nan", "null", "none", "-", "?", "unknown", "not available", "not specified")

Reasons = dict[str, str]
Values = dict[str, str | None]
_AS_LIST = {"list": True}  # a plain list of spellings is allowed where no reasons are given


@dataclass(frozen=True)
class ImageSpec:
    """Where pictures are and what they are called."""

    id: str | None = None
    path: str | None = None
    bytes: str | None = None
    folder: str = "."
    group: str | None = None
    embed: bool = False


@dataclass(frozen=True)
class TableSpec:
    """How a text table is written."""

    delimiter: str | None = None
    encoding: str = "utf-8"
    missing: list[str] = field(default_factory=lambda: list(MISSING_WORDS))


@dataclass(frozen=True)
class ItemSpec:
    """Columns of an item beyond its category; `box` names the columns of x, y, width and height in pixels."""

    id: str | None = None
    box: list[str] = field(default_factory=list)
    region: str | None = None
    region_values: Values = field(default_factory=dict)
    merge: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CategorySpec:
    """Source words → category keys; `skip` are words whose rows are left out on purpose, with the reason."""

    column: str | None = None
    values: Values = field(default_factory=dict)
    skip: Reasons = field(default_factory=dict, metadata=_AS_LIST)
    refine: Values = field(default_factory=dict)
    words: bool = True
    source: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class ValueSpec:
    """Source words → values of one attribute (of items) or label (of images)."""

    attribute: str
    column: str | None = None
    values: Values = field(default_factory=dict)
    unknown: Reasons = field(default_factory=dict, metadata=_AS_LIST)
    absent: list[str] = field(default_factory=list)
    not_visible: list[str] = field(default_factory=list)
    not_for: Reasons = field(default_factory=dict, metadata=_AS_LIST)
    separator: str | None = None
    complete: bool | list[str] = False
    words: bool = True
    source: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class LeaveOut:
    """Rows to leave out: those whose cell in `column` holds one of the texts."""

    column: str
    contains: list[str]
    reason: str


@dataclass(frozen=True)
class MaskSpec:
    """Where a maskset's masks are, and what their ids mean: `names` here or in a CSV of (id, label) by the source."""

    bytes: str | None = None
    path: str | None = None
    folder: str | None = None
    suffix: str = ".png"
    names: dict[str, str] = field(default_factory=dict)
    names_file: str | None = None


@dataclass(frozen=True)
class Mapping:
    """A loaded mapping. `path` and `ontology_path` are the files it came from."""

    path: Path
    format: str
    ontology_path: Path
    ontology: Ontology
    facts: Facts
    image: ImageSpec
    table: TableSpec
    item: ItemSpec
    category: CategorySpec
    attributes: tuple[ValueSpec, ...]
    labels: tuple[ValueSpec, ...]
    leave_out: tuple[LeaveOut, ...]
    drop: Reasons
    mask: MaskSpec

    def columns(self) -> list[str]:
        """Text columns that the source must have, each once, in the order in which the mapping names them."""
        return list(dict.fromkeys(name for name, at in self._named() if at[-1] != "bytes"))

    def binary_columns(self) -> list[str]:
        """Columns of encoded pictures and masks."""
        return [name for name, at in self._named() if at[-1] == "bytes"]

    def asks_for(self, column: str) -> str:
        """Where the mapping names a column: file, line and key, for a message."""
        at = next(at for name, at in self._named() if name == column)
        line = load_yaml(self.path)[1].of(*at)
        return f"{self.path}, line {line} (`{'.'.join(map(str, at))}`), asks for it"

    def _named(self) -> list[tuple[str, tuple[str | int, ...]]]:
        """Each column that is named, and the keys that lead to it."""
        image, item, mask = self.image, self.item, self.mask
        named: list[tuple[str | None, tuple[str | int, ...]]] = [
            (image.id, ("image", "id")),
            (image.path, ("image", "path")),
            (image.bytes, ("image", "bytes")),
            (image.group, ("image", "group")),
            (item.id, ("item", "id")),
            *((name, ("item", "box", i)) for i, name in enumerate(item.box)),
            (item.region, ("item", "region")),
            (self.category.column, ("category", "column")),
            *((spec.column, ("attributes", i, "column")) for i, spec in enumerate(self.attributes)),
            *((spec.column, ("labels", i, "column")) for i, spec in enumerate(self.labels)),
            (mask.path, ("mask", "path")),
            (mask.bytes, ("mask", "bytes")),
            *((rule.column, ("leave_out", i, "column")) for i, rule in enumerate(self.leave_out)),
        ]
        return [(name, at) for name, at in named if name is not None]


def load_mapping(path: str | Path) -> Mapping:
    """Reads and checks a mapping together with its ontology.

    Raises:
        InputError: Naming file, line and key of the first thing that is wrong.
    """
    return _Reader(Path(path)).read()


T = TypeVar("T")


class _Reader:
    """Turns the YAML into a `Mapping`, checking each key on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data, self.lines = load_yaml(path)
        if not isinstance(data, dict):
            self.fail("a mapping is needed", found=data)
        self.data: dict[Any, Any] = data

    def fail(self, problem: str, *at: str | int, **more: Any) -> NoReturn:
        column = ".".join(map(str, at)) or None
        raise InputError(problem, file=self.path, row=self.lines.of(*at), column=column, **more)

    def read(self) -> Mapping:
        allowed = {"schema", "catalog", *(f.name for f in fields(Mapping))} - {"path", "ontology_path", "facts"}
        self._only(self.data, allowed)
        self._choice(self.data.get("schema"), [MAPPING_SCHEMA], "schema")
        self._choice(self.data.get("format"), FORMATS, "format")
        ontology_path = self._ontology()
        mapping = Mapping(
            path=self.path,
            format=self.data["format"],
            ontology_path=ontology_path,
            facts=self._facts(),
            image=self.build(ImageSpec, "image"),
            table=self.build(TableSpec, "table"),
            item=self.build(ItemSpec, "item"),
            category=self.build(CategorySpec, "category"),
            attributes=self._specs(ValueSpec, "attributes", {"attribute": "attribute"}),
            labels=self._specs(ValueSpec, "labels", {"label": "attribute"}),
            leave_out=self._specs(LeaveOut, "leave_out", {}),
            drop=self.typed(Reasons, self.data.get("drop", {}), ("drop",), True),
            mask=self.build(MaskSpec, "mask"),
            ontology=Ontology.load(ontology_path),  # last, for it takes longest
        )
        _Checker(self, mapping).check()
        return mapping

    def _ontology(self) -> Path:
        name = self.data.get("ontology")
        if not isinstance(name, str):
            self.fail("the name or path of an ontology is needed", "ontology", found=name)
        return find("datagen/ontologies", name, relative_to=self.path.parent)

    def _facts(self) -> Facts:
        raw = self.data.get("catalog")
        if isinstance(raw, dict) and "image_root" in raw:
            self.fail("`image_root` follows from `image.folder`", "catalog", "image_root")
        facts = self.build(Facts, "catalog")
        self._choice(facts.scene, ["product", "outfit"], "catalog", "scene")
        return facts

    def _specs(self, cls: type[T], section: str, rename: dict[str, str]) -> tuple[T, ...]:
        raw = self.data.get(section) or []
        if not isinstance(raw, list):
            self.fail("a list of entries is needed", section, found=raw)
        return tuple(self._from(cls, entry, (section, i), rename) for i, entry in enumerate(raw))

    def build(self, cls: type[T], section: str) -> T:
        """A dataclass from one top-level section; a missing section gives the defaults."""
        return self._from(cls, self.data.get(section) or {}, (section,), {})

    def _from(self, cls: type[T], raw: Any, at: tuple[str | int, ...], rename: dict[str, str]) -> T:
        if not isinstance(raw, dict):
            self.fail("a mapping is needed here", *at, found=raw)
        assert is_dataclass(cls)
        hints, known = typing.get_type_hints(cls), {f.name: f for f in fields(cls)}
        names = {ours: theirs for theirs, ours in rename.items()}
        self._only(raw, [names.get(name, name) for name in known], *at)
        given: dict[str, Any] = {}
        for key, value in raw.items():
            name = rename[key] if key in rename else str(key)
            given[name] = self.typed(hints[name], value, (*at, key), bool(known[name].metadata.get("list")))
        for name, f in known.items():
            if name not in given and f.default is MISSING and f.default_factory is MISSING:
                self.fail(f"`{names.get(name, name)}` is missing", *at)
        return typing.cast(T, cls(**given))

    def typed(self, hint: Any, value: Any, at: tuple[str | int, ...], as_list: bool = False) -> Any:
        """`value` as the type of a field; an int is a number and a word too, since YAML cannot tell."""
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for option in options:
            if option is type(None) and value is None:
                return None
            if option is str and isinstance(value, str | int) and not isinstance(value, bool):
                return str(value)
            if option is bool and isinstance(value, bool):
                return value
            if option is float and isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            origin, inner = typing.get_origin(option), typing.get_args(option)
            if origin is list and isinstance(value, list):
                return [self.typed(inner[0], entry, (*at, i)) for i, entry in enumerate(value)]
            if origin is dict and isinstance(value, dict):
                return {str(k): self.typed(inner[1], v, (*at, k)) for k, v in value.items()}
            if origin is dict and as_list and isinstance(value, list):
                return {self.typed(str, entry, (*at, i)): "" for i, entry in enumerate(value)}
        self.fail(f"{_said(hint)} is needed here", *at, found=value)

    def _only(self, raw: dict[Any, Any], allowed: Iterable[str], *at: str | int) -> None:
        allowed = list(allowed)
        for key in raw:
            if key not in allowed:
                self.fail("unknown key", *at, key, found=key, allowed=allowed)

    def _choice(self, value: Any, allowed: Iterable[str], *at: str | int) -> None:
        if value not in allowed:
            self.fail("not one of the choices", *at, found=value, allowed=allowed)


def _said(hint: Any) -> str:
    words = {str: "a word", bool: "true or false", float: "a number", type(None): "null"}
    if isinstance(hint, types.UnionType):
        return " or ".join(_said(option) for option in typing.get_args(hint))
    origin = typing.get_origin(hint)
    return words.get(hint) or {list: "a list of words", dict: "a mapping of words"}[origin or dict]


class _Checker:
    """Checks a mapping against its ontology and its format."""

    def __init__(self, reader: _Reader, mapping: Mapping) -> None:
        self.reader, self.mapping, self.fail = reader, mapping, reader.fail

    def check(self) -> None:
        m, onto = self.mapping, self.mapping.ontology
        usable = [c.key for c in onto.categories.values() if not c.abstract]
        self._keys(m.category.values, usable, "category", "values")
        self._keys(m.category.refine, usable, "category", "refine")
        self._folded([*m.category.values, *m.category.skip], "category", "values")
        self._keys(m.item.region_values, onto.regions, "item", "region_values")
        for section, scope, specs in (("attributes", "item", m.attributes), ("labels", "image", m.labels)):
            for i, spec in enumerate(specs):
                self._spec(spec, scope, (section, i))
        for name in ("closed_categories", "countable", "sole_categories", "alone_categories"):
            self._known(getattr(m.facts, name), onto.categories, "catalog", name)
        self._known(m.facts.complete_attributes, onto.attributes, "catalog", "complete_attributes")
        self._format()

    def _spec(self, spec: ValueSpec, scope: str, at: tuple[str | int, ...]) -> None:
        onto, name = self.mapping.ontology, "attribute" if scope == "item" else "label"
        of_scope = [a.key for a in onto.attributes.values() if a.scope == scope]
        self._known([spec.attribute], of_scope, *at, name)
        self._keys(spec.values, onto.attributes[spec.attribute].values, *at, "values")
        self._folded([*spec.values, *spec.unknown, *spec.absent, *spec.not_visible], *at)
        self._known(spec.not_for, onto.categories, *at, "not_for")
        if not isinstance(spec.complete, bool):
            self._known(spec.complete, onto.categories, *at, "complete")
        if spec.confidence is not None and not 0 <= spec.confidence <= 1:
            self.fail("a share from 0 to 1 is needed", *at, "confidence", found=spec.confidence)
        if self.mapping.format in ("table", "folders") and spec.column is None:
            self.fail("`column` is missing", *at)

    def _keys(self, values: Values, allowed: Iterable[str], *at: str | int) -> None:
        allowed = list(allowed)
        for word, key in values.items():
            if key is not None and key not in allowed:
                self.fail("names something that the ontology does not have", *at, word, found=key, allowed=allowed)

    def _known(self, keys: Iterable[str], allowed: Iterable[str], *at: str | int) -> None:
        allowed = list(allowed)
        for key in keys:
            if key not in allowed:
                self.fail("names something that the ontology does not have", *at, found=key, allowed=allowed)

    def _folded(self, words: list[str], *at: str | int) -> None:
        """One spelling may not stand in two places; case alone makes no difference unless both are written out."""
        seen: set[str] = set()
        for word in words:
            if word in seen:
                self.fail("this spelling stands here twice, with two meanings", *at, found=word)
            seen.add(word)

    def _format(self) -> None:
        m = self.mapping
        if m.table.encoding not in ENCODINGS:
            self.fail("not an encoding that is read", "table", "encoding", found=m.table.encoding, allowed=ENCODINGS)
        if m.table.delimiter is not None and len(m.table.delimiter) != 1:
            self.fail("one character is needed", "table", "delimiter", found=m.table.delimiter)
        if m.format in ("table", "folders") and (m.image.id is None or m.category.column is None):
            problem = f"the format `{m.format}` needs `image.id` and `category.column`"
            self.fail(problem, "image" if m.image.id is None else "category")
        if m.image.path is not None and m.image.bytes is not None:
            self.fail("`path` and `bytes` exclude each other", "image", "bytes")
        if m.item.box and len(m.item.box) != 4:
            self.fail("four columns are needed: x, y, width, height", "item", "box", found=m.item.box)
        if m.format == "maskset":
            self._maskset()

    def _maskset(self) -> None:
        m = self.mapping
        if sum(v is not None for v in (m.mask.bytes, m.mask.path, m.mask.folder)) != 1:
            self.fail("one of `bytes`, `path` and `folder` says where the masks are", "mask")
        if bool(m.mask.names) == (m.mask.names_file is not None):
            self.fail("either `names` or `names_file` says what the ids mean", "mask")
        for number in m.mask.names:
            if not (number.isdecimal() and int(number) < 256):
                self.fail("an id of an 8-bit mask is needed", "mask", "names", found=number)
