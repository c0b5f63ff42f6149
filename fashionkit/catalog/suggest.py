"""`fashionkit catalog suggest`: a first mapping for an unknown table, for a person to edit.

    profiles ──► roles: id, picture, group, category, attributes, labels, left out (each with its reason)
    words    ──► ontology keys ──► `values` with counts; words found nowhere ──► left out, with the nearest key
                                               └──► (asked for) new entries in a copy of the ontology

What it writes can be imported as it is. Words that the ontology lacks are left out by name, never guessed at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from fashionkit.catalog.mapping import load_mapping
from fashionkit.catalog.ontology import Attribute, Ontology, fold
from fashionkit.catalog.profile import Profile, few, profiles
from fashionkit.catalog.tabular import open_table
from fashionkit.catalog.words import value_words
from fashionkit.tables import InputError, shorten, write_text

_ID = re.compile(r"(^|[_ ])(id|sku|asin|article|uuid|code|no|number)$", re.IGNORECASE)
_GROUP = re.compile(r"(product|style|item|session|sender|seller|user|contributor|look|outfit|model)", re.IGNORECASE)
_SEPARATORS = ",;|/"
_ENOUGH = 0.6  # share of the filled cells whose words the ontology must know
CLOSE = 0.8  # likeness (of difflib) from which a word is offered as what another one may mean
_HIDDEN_BUT_KEPT = frozenset({"gender"})  # a picture cannot show it, yet the catalogue states it as the shop's label


@dataclass
class Words:
    """The words of one column against one attribute (or the categories): found ones with their keys, and the rest."""

    found: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    near: dict[str, str] = field(default_factory=dict)  # lost word → the found or lost word it may be a slip of
    share: float = 0.0


@dataclass
class Column:
    """What a column is taken for; `reason` says why, or why it is left out."""

    profile: Profile
    role: str = "left out"
    reason: str = ""
    attribute: str | None = None
    separator: str | None = None
    words: Words = field(default_factory=Words)


@dataclass
class Suggestion:
    """A reading of a whole table."""

    source: Path
    ontology: Ontology
    columns: list[Column]
    folder: str = "."
    notes: list[str] = field(default_factory=list)

    def of(self, role: str) -> list[Column]:
        """The columns of a role, in table order."""
        return [column for column in self.columns if column.role == role]


def suggest_mapping(
    source: Path, out: Path, ontology_path: Path, ontology_name: str, ontology_out: Path | None, overwrite: bool = False
) -> list[str]:
    """Writes a mapping (and an extended ontology) for a table.

    Args:
        source: CSV, JSONL or Parquet.
        out: The mapping to write.
        ontology_path: The ontology whose words are looked for.
        ontology_name: How the mapping names it.
        ontology_out: Where to write a copy of it with the table's new words; None: no such copy.
        overwrite: Replace files that are there.

    Returns:
        What was found, as lines for a person.

    Raises:
        InputError: The table cannot be read, no column can be an id or a category, or a file is there already.
    """
    from fashionkit.catalog.suggest_yaml import extended_ontology, mapping_yaml

    for path in (out, ontology_out):
        if path is not None and path.exists() and not overwrite:
            raise InputError("the file is there already", file=path, hint="--overwrite replaces it")
    found = read_table_roles(source, Ontology.load(ontology_path))
    if ontology_out is not None:
        text, added = extended_ontology(found, ontology_path)
        write_text(ontology_out, text)
        Ontology.load(ontology_out)
        ontology_name = _relative(ontology_out, out.parent)
    else:
        added = {}
    write_text(out, mapping_yaml(found, ontology_name, added))
    load_mapping(out)
    return _lines(found, out, ontology_out, added)


def _relative(path: Path, folder: Path) -> str:
    import os

    relative = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    return relative if "/" in relative or relative.endswith(".yaml") else f"./{relative}"


def _lines(found: Suggestion, out: Path, ontology_out: Path | None, added: dict[tuple[str, str], str]) -> list[str]:
    text = []
    for column in found.columns:
        what = column.role if column.attribute is None else f"{column.role} {column.attribute}"
        lost = [word for word in column.words.lost if (column.attribute or "category", word) not in added]
        some = ", ".join(shorten(word, 60) for word in lost[:5]) + (", …" if len(lost) > 5 else "")
        missing = f"; not in the ontology: {some}" if lost else ""
        text.append(f"  {shorten(column.profile.name, 60)}: {what} ({column.reason}){missing}")
    text += [f"note: {shorten(note, 300)}" for note in found.notes]
    if ontology_out is not None:
        text.append(f"{ontology_out}: the ontology with {len(added)} new words")
    return [*text, f"{out}: read it, mend it, then: fashionkit catalog import {found.source} OUT --mapping {out}"]


def read_table_roles(source: Path, ontology: Ontology) -> Suggestion:
    """Decides what each column of a table is.

    Raises:
        InputError: No rows, nothing that can be an id, or no column of categories.
    """
    table = open_table(source)
    columns = [Column(profile) for profile in profiles(table)]
    if not columns or not max(column.profile.rows for column in columns):
        raise InputError("the table has no rows", file=source)
    found = Suggestion(source, ontology, columns)
    _pictures(found)
    _category(found)
    _ids(found)
    for column in columns:
        if column.role == "left out":
            _attribute(found, column)
    if table.broken:
        row, why = table.broken[0]
        found.notes.append(f"{len(table.broken)} rows cannot be read; the first is row {row}: {why.detail}")
    return found


def _pictures(found: Suggestion) -> None:
    bytes_columns = [c for c in found.columns if c.profile.binary]
    if bytes_columns:
        bytes_columns[0].role, bytes_columns[0].reason = "picture bytes", "holds bytes"
    paths = [c for c in found.columns if c.profile.paths]
    if paths and not bytes_columns:
        best = max(paths, key=lambda c: (_existing(found.source.parent, c.profile)[1], c.profile.filled))
        best.role, best.reason = "picture path", "names picture files"
        found.folder, hits = _existing(found.source.parent, best.profile)
        if not hits:
            found.notes.append(f"no file of column {best.profile.name!r} was found; set `image.folder`")
    if not paths and not bytes_columns:
        found.notes.append("no column of pictures was found; the catalogue will have tables only")


def _existing(base: Path, profile: Profile) -> tuple[str, int]:
    """The folder below `base` in which most of the first paths exist, and how many do."""
    words = list(profile.words)[:20]
    folders = [".", *sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))[:50]]
    counts = {folder: sum((base / folder / word).is_file() for word in words) for folder in folders}
    best = max(folders, key=lambda folder: counts[folder])
    return best, counts[best]


def _ids(found: Suggestion) -> None:
    """A column of unique words is the id; a path that many rows share makes it an item's, and the path the picture's.

    Ids that stand twice are the commonest slip of real tables, and the import refuses just those rows. So a column
    that is named like an id is one despite a few of them, and a few shared photos do not make a catalogue of outfits.
    """
    free = [c for c in found.columns if c.role == "left out" and not c.profile.list]
    path = next(iter(found.of("picture path")), None)
    best = _best_id(free, path)
    if best is None and (path is None or not path.profile.nearly_unique):
        names = [c.profile.name for c in found.columns]
        hint = "add a column with a word of its own in each row"
        raise InputError("no column can be the id", file=found.source, found=names, hint=hint)
    if best is not None:
        nearly = "" if best.profile.unique else "nearly "
        best.role, best.reason = "id", f"a word of its own in {nearly}each row"
    if best is not None and path is not None and not few(path.profile.repeated, path.profile.rows):
        best.role = "item id"
        path.reason += ", some of them in several rows: several items a picture"
    elif best is not None and path is not None and path.profile.repeated > best.profile.repeated:
        what = f"column {path.profile.name!r} repeats a picture (rows: {path.profile.repeated:,})"
        found.notes.append(f"{what}; each row counts as a picture of its own, unless `item.id` is set")
    _note_slips(found, best or path)
    groups = [c for c in free if c.role == "left out" and _ID.search(c.profile.name) and _GROUP.search(c.profile.name)]
    if groups:
        groups[0].role, groups[0].reason = "group", "an id that several rows share: they go to one split"


def _best_id(free: list[Column], path: Column | None) -> Column | None:
    """The column that is the id; None where it is the picture's path, or where there is none."""
    words = [c for c in free if not c.profile.text]
    named = [c for c in words if _ID.search(c.profile.name)]
    files_do = path is not None and path.profile.unique
    # where each row has a photo of its own, a repeated `product_id` means several photos of a product: a group
    slips = [c for c in named if c.profile.nearly_unique and not (files_do and _GROUP.search(c.profile.name))]
    best = next(iter([*(c for c in named if c.profile.unique), *slips]), None)
    if best is None and not files_do:
        rest = [c for c in words if c.profile.unique and not c.profile.numbers]
        numbers = [] if path is not None and path.profile.nearly_unique else [c for c in words if c.profile.unique]
        best = next(iter([*rest, *numbers]), None)  # a number may be a price: the last resort
    return best


def _note_slips(found: Suggestion, column: Column | None) -> None:
    """Says which rows the import will refuse for their id."""
    assert column is not None, "some column is the id"
    profile = column.profile
    counts = (("repeat an earlier id", profile.repeated), ("have none", profile.rows - profile.filled))
    refused = " or ".join(f"{what} ({count:,})" for what, count in counts if count)
    if refused:
        found.notes.append(f"column {profile.name!r} is the id; the import will refuse the rows that {refused}")


def _category(found: Suggestion) -> None:
    onto = found.ontology
    usable = {word: key for word, key in onto.category_words.items() if not onto.categories[key].abstract}
    best, words, highest = None, Words(), 0.0
    for column in found.columns:
        if column.role == "left out" and not column.profile.numbers and not column.profile.text:
            matched = match(column.profile.words, usable)
            score = matched.share * min(len(matched.found), 40) ** 0.25  # of two columns, the one that tells more apart
            if score > highest:
                best, words, highest = column, matched, score
    if best is None or words.share < 0.3:
        names = [c.profile.name for c in found.columns]
        hint = "write the mapping by hand, or give the ontology the words of the column first"
        raise InputError(
            "no column holds categories that the ontology knows", file=found.source, found=names, hint=hint
        )
    best.role, best.words = "category", words
    best.reason = f"the ontology knows {words.share:.0%} of it"


def _attribute(found: Suggestion, column: Column) -> None:
    """An attribute or label by its values, else the reason why the column is left out."""
    profile = column.profile
    column.reason = _useless(profile)
    if column.reason:
        return
    best: tuple[float, Attribute, str | None, Words] | None = None
    for attribute in found.ontology.attributes.values():
        table = value_words(found.ontology, attribute.key)
        for separator, counts in _parted(profile):
            words = match(counts, table)
            score = words.share + 0.3 * _named(profile.name, attribute) - (0.01 if separator else 0)
            if words.found and (best is None or score > best[0]):
                best = (score, attribute, separator, words)
    if best is None or best[0] < _ENOUGH:
        things = match(profile.words, found.ontology.category_words).share > 0.3
        finer = found.of("category")[0].profile.name
        column.reason = f"kinds of things, of which {finer!r} tells more" if things else "no values of the ontology"
        return
    _, attribute, column.separator, column.words = best
    if not attribute.visible and attribute.key not in _HIDDEN_BUT_KEPT:
        column.reason = f"{attribute.name}: a picture cannot show it"
        column.words = Words()
        return
    column.role = "attribute" if attribute.scope == "item" else "label"
    column.attribute = attribute.key
    column.reason = f"the ontology knows {column.words.share:.0%} of it"


def _useless(profile: Profile) -> str:
    if profile.binary or profile.nested:
        return "holds no words"
    if not profile.filled:
        return "is empty"
    if profile.urls:
        return "addresses in the web: download the pictures and name the files"
    if profile.paths:
        return "names picture files, and another column does already"
    if profile.numbers:
        return "numbers (a price, a year, a rank): a picture cannot show them"
    if profile.text:
        return "free text, which often gives the answer away"
    if profile.distinct > 0.9 * profile.filled and profile.filled > 20:
        return "a different word in nearly every row"
    if {fold(word) for word in profile.words} <= {"true", "false", "yes", "no", "y", "n", "t", "f"}:
        return 'yes or no: map it by hand, e.g. values: {"true": ...}'
    return ""


def _parted(profile: Profile) -> Iterable[tuple[str | None, Counter[str]]]:
    """The column's words whole, and cut at each separator that most of it holds in some cell."""
    yield None, profile.words
    for separator in _SEPARATORS if not profile.list else "":
        if any(separator in word for word in profile.words):
            parts: Counter[str] = Counter()
            for word, count in profile.words.items():
                for part in word.split(separator):
                    parts[part.strip()] += count if part.strip() else 0
            yield separator, +parts


def _named(name: str, attribute: Attribute) -> bool:
    """The column's name holds the attribute's."""
    plain = fold(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).replace("color", "colour")
    return fold(attribute.name) in plain or fold(attribute.key) in plain


def match(counts: Counter[str], table: dict[str, str]) -> Words:
    """Looks up the words of a column.

    Args:
        counts: Word → rows.
        table: Folded word → key.
    """
    words = Words(counts=counts)
    for word, _ in counts.most_common():
        key = table.get(fold(word))
        if key is None:
            words.lost.append(word)
        else:
            words.found[word] = key
    total = counts.total()
    words.share = sum(counts[word] for word in words.found) / total if total else 0.0
    words.near = _slips(words)
    return words


def _slips(words: Words) -> dict[str, str]:
    """Lost words that look like slips of a more common word of the column: the same letters, or nearly."""
    if len(words.counts) > 1_000:
        return {}
    near = {}
    for word in words.lost:
        others = {
            fold(o): o for o in words.counts if o != word and (words.counts[o] > words.counts[word] or o in words.found)
        }
        close = get_close_matches(fold(word), others, n=1, cutoff=CLOSE)
        if close:
            near[word] = others[close[0]]
    return near
