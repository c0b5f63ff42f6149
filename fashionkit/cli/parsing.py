"""Reads the words behind a verb into its dataclass: `fashionkit.cli.arguments` says what the fields may be.

The parser is jsonargparse, so a value is checked against its field's type; its complaints are put into plain words.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import jsonargparse


def parse(name: str, doc: str, arguments: type, words: Sequence[str]) -> Any:
    """The arguments of one verb, as its dataclass, or None where its help was asked for and printed.

    Args:
        name: The verb.
        doc: Its docstring; what follows `Example:` ends the help.
        arguments: Its dataclass.
        words: The command line behind the verb.

    Raises:
        ValueError: An unknown option, a missing argument, a value of another type.
    """
    for entry in fields(arguments):
        if entry.metadata.get("rest"):
            return arguments(**{entry.name: list(words)})
    about, _, example = doc.partition("Example:")
    parser = jsonargparse.ArgumentParser(
        prog=f"fashionkit {name}",
        description=_dedent(about),
        epilog="example:\n" + textwrap.indent(_dedent(example), "  ") if example else None,
        formatter_class=_Formatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    hints = get_type_hints(arguments)
    order = sorted(fields(arguments), key=lambda entry: (not _is_positional(entry), entry.name == "json"))
    for entry in order:
        _add(parser, entry, hints[entry.name])
    try:
        values = parser.parse_args(list(words))
    except SystemExit:  # --help was printed
        return None
    except jsonargparse.ArgumentError as error:
        problem = _plain_words(str(error), {_option(entry): _in_words(hints[entry.name]) for entry in order})
        raise ValueError(f"{problem}\n`fashionkit {name} --help` explains it") from error
    return arguments(**{entry.name: values[entry.name] for entry in order})


def _is_positional(entry: Field[Any]) -> bool:
    no_default = entry.default is MISSING and entry.default_factory is MISSING
    return no_default and not entry.metadata["required"]


def _add(parser: Any, entry: Field[Any], hint: Any) -> None:
    options: dict[str, Any] = {"help": entry.metadata["help"]}
    if get_origin(hint) is list:
        options |= {"type": get_args(hint)[0], "nargs": "+"}
    elif hint is not bool:
        options["type"] = hint
    if _is_positional(entry):
        parser.add_argument(entry.name, metavar=entry.name.upper(), **options)
        return
    if hint is bool:
        options["action"] = "store_true"
        assert entry.default is False, f"{entry.name}: a flag starts as False"
    if entry.metadata["required"]:
        options["required"] = True
    elif entry.default is not MISSING:
        options["default"] = entry.default
    else:
        assert entry.default_factory is not MISSING
        options["default"] = entry.default_factory()
    parser.add_argument(_option(entry), **options)


def _option(entry: Field[Any]) -> str:
    return entry.name.upper() if _is_positional(entry) else "--" + entry.name.replace("_", "-")


def _plain_words(problem: str, takes: dict[str, str]) -> str:
    """jsonargparse's complaint in one sentence; an unknown wording is passed on as it is.

    Args:
        problem: The text of its error.
        takes: Each argument as people write it → the values that it takes, in words.
    """
    by_key = {option.lstrip("-").replace("-", "_").lower(): option for option in takes}
    wrong = re.search(r'Parser key "(\w+)".*[Vv]alue: (.*)', problem, re.S)
    if wrong and wrong[1] in by_key:
        option = by_key[wrong[1]]
        return f"{option} takes {takes[option]}, not {wrong[2].strip()!r}"
    missing = re.search(r"arguments are required: (.*)", problem)
    if missing:
        return f"still needed: {', '.join(by_key.get(key, key) for key in missing[1].split(', '))}"
    unknown = re.search(r"unrecognized arguments: (\S+)", problem)
    if unknown:
        said = unknown[1].split("=")[0]
        longer = [option for option in takes if option.startswith(said)]
        close = longer or get_close_matches(said, takes, n=1, cutoff=0.7)
        return f"there is no argument {said}" + (f"; the nearest is {close[0]}" if close else "")
    return problem.strip()


def _in_words(hint: Any) -> str:
    """A field's type as a person would say it."""
    if get_origin(hint) in (Union, UnionType, list):
        return " or ".join(_in_words(kind) for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    return {int: "a whole number", float: "a number", Path: "a path", str: "a text"}.get(hint, str(hint))


class _Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of docstrings."""


def _dedent(text: str) -> str:
    """A docstring, or the part of one, without its indentation."""
    first, _, rest = text.partition("\n")
    return f"{first.strip()}\n{textwrap.dedent(rest)}".strip()
