"""Writes what `suggest` found: the mapping as YAML with counts and reasons as comments, and the extended ontology."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from fashionkit.catalog.mapping import MAPPING_SCHEMA
from fashionkit.catalog.ontology import KEY, NAME, Ontology, fold
from fashionkit.catalog.profile import file_name
from fashionkit.catalog.suggest import CLOSE, Column, Suggestion, Words
from fashionkit.tables import shorten
from fashionkit.tables.yamls import load_yaml

Added = dict[tuple[str, str], str]  # (attribute or "category", word) → new key
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*( [A-Za-z0-9_]+)*\Z")
_SPECIAL = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_NOT_YET = "not in the ontology yet"
_NEW_VALUES = 60  # an attribute with more new words than that is something else


def quoted(word: str) -> str:
    """A word as it may stand anywhere in YAML."""
    if _PLAIN.match(word) and word.lower() not in _SPECIAL:
        return word
    return str(yaml.safe_dump(word, default_style='"', allow_unicode=True, width=sys.maxsize)).rstrip("\n")


def _comment(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in shorten(text, 200))


def mapping_yaml(found: Suggestion, ontology_name: str, added: Added) -> str:
    """The mapping's text."""
    name = file_name(found.source)
    head = [
        f"# A first mapping for {_comment(found.source.name)}, made by `catalog suggest`: read it and mend it.",
        "# Numbers behind # are rows. Nothing is declared complete; see `closed_categories` and `complete` when it is.",
        *(f"# Note: {_comment(note)}" for note in found.notes),
        f"schema: {MAPPING_SCHEMA}",
        "format: table",
        f"ontology: {quoted(ontology_name)}",
        "",
        "catalog:",
        f"  name: {quoted(name)}",
        f"  scene: {'outfit' if found.of('item id') else 'product'}",
        f"  noun: {'item' if found.of('item id') else 'product'}",
        "  licence: not stated   # say what you may do with the pictures",
        f"  source: {quoted(found.source.name)}",
        "",
    ]
    body = [*_image(found), *_category(found.of("category")[0], found, added)]
    for role, section, key in (("attribute", "attributes", "attribute"), ("label", "labels", "label")):
        columns = found.of(role)
        if columns:
            body += ["", f"{section}:"]
            for column in columns:
                body += _values(column, key, found.ontology, added)
    left = [f"#   {_comment(c.profile.name)}: {_comment(c.reason)}" for c in found.of("left out")]
    return "\n".join([*head, *body, "", "# Columns that are left out:" if left else "", *left]).rstrip("\n") + "\n"


def _image(found: Suggestion) -> list[str]:
    path = next(iter(found.of("picture path")), None)
    data = next(iter(found.of("picture bytes")), None)
    key = next(iter(found.of("id")), None) or path
    assert key is not None, "read_table_roles found an id"
    lines = ["image:", f"  id: {quoted(key.profile.name)}"]
    if path is not None:
        lines += [f"  path: {quoted(path.profile.name)}", f"  folder: {quoted(found.folder)}"]
    if data is not None:
        lines.append(f"  bytes: {quoted(data.profile.name)}")
    lines += [f"  group: {quoted(c.profile.name)}" for c in found.of("group")]
    lines += [line for c in found.of("item id") for line in ("", "item:", f"  id: {quoted(c.profile.name)}")]
    return [*lines, ""]


def _category(column: Column, found: Suggestion, added: Added) -> list[str]:
    lines = ["category:", f"  column: {quoted(column.profile.name)}", "  values:"]
    lines += _found(column.words, {w: k for (a, w), k in added.items() if a == "category"}, "    ")
    lost = [word for word in column.words.lost if ("category", word) not in added]
    if lost:
        lines.append("  skip:")
        lines += _lost(column.words, lost, found.ontology.category_words, "    ")
    return lines


def _values(column: Column, key: str, ontology: Ontology, added: Added) -> list[str]:
    assert column.attribute is not None, "an attribute's column names it"
    lines = [
        f"  - column: {quoted(column.profile.name)}   # {_comment(column.reason)}",
        f"    {key}: {column.attribute}",
    ]
    if column.separator is not None:
        lines.append(f"    separator: {quoted(column.separator)}")
    lines.append("    values:")
    lines += _found(column.words, {w: k for (a, w), k in added.items() if a == column.attribute}, "      ")
    lost = [word for word in column.words.lost if (column.attribute, word) not in added]
    if lost:
        lines.append("    unknown:")
        lines += _lost(column.words, lost, ontology.value_words[column.attribute], "      ")
    return lines


def _found(words: Words, added: dict[str, str], indent: str) -> list[str]:
    lines = [f"{indent}{quoted(word)}: {key}   # {words.counts[word]:,}" for word, key in words.found.items()]
    return lines + [
        f"{indent}{quoted(w)}: {key}   # {words.counts[w]:,}, new in the ontology" for w, key in added.items()
    ]


def _lost(words: Words, lost: list[str], table: dict[str, str], indent: str) -> list[str]:
    lines = []
    for word in lost:
        slip = words.near.get(word)
        close = get_close_matches(fold(word), table, n=1, cutoff=CLOSE)
        if slip is not None and slip in words.found:
            hint = f'; written like "{slip}", so perhaps {quoted(word)}: {words.found[slip]}'
        elif slip is not None:
            hint = f'; written like "{slip}"'
        else:
            hint = f"; nearest: {table[close[0]]}" if close else ""
        lines.append(f"{indent}{quoted(word)}: {_NOT_YET}   # {words.counts[word]:,}{_comment(hint)}")
    return lines


def extended_ontology(found: Suggestion, path: Path) -> tuple[str, Added]:
    """A copy of the ontology with an entry for each word it lacks, and which word became which key."""
    data, _ = load_yaml(path)
    added: Added = {}
    for column in (*found.of("category"), *found.of("attribute"), *found.of("label")):
        if len(column.words.lost) > _NEW_VALUES:
            continue
        for word in column.words.lost:
            if word not in column.words.near and NAME.match(word):
                added |= _add(data, column.attribute, word)
    listed = [f"#   {a}: {_comment(word)} -> {key}" for (a, word), key in added.items()]
    head = [f"# A copy of {path.name} with new words of {_comment(found.source.name)}: give them parents and regions."]
    data["name"] = file_name(found.source)
    return "\n".join([*head, *listed, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)]), added


def _add(data: dict[str, Any], attribute: str | None, word: str) -> Added:
    entries = data["categories"] if attribute is None else data["attributes"][attribute]["values"]
    key = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    key = key if KEY.match(key) else f"x_{key}".rstrip("_")
    if key in entries or not KEY.match(key):
        return {}
    entry: dict[str, Any] = {"name": fold(word)}
    if attribute is None:
        last = fold(word).split()[-1]
        parent = next((k for k in entries if k in (last, last.rstrip("s"))), "item")
        entry |= {"parent": parent} if parent in entries else {}
        entry |= {"pair": True} if (entries.get(parent) or {}).get("pair") else {}
    if not NAME.match(entry["name"]):
        return {}
    entries[key] = entry
    return {(attribute or "category", word): key}
