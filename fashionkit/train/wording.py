"""What is wrong with a recipe or a command line of training, in plain words with file and line.

recipe ─► strict YAML ─► jsonargparse, which checks every key and type ─► its complaint ─► `explained` ─► InputError
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fashionkit.tables import InputError
from fashionkit.tables.yamls import Lines, load_yaml

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "dict": "a mapping, such as '{key: value}',",
    "list": "a list, such as '[one, two]',",
}
VERBS = ("fit", "validate", "test", "predict")


def explained(problem: str, files: Sequence[Path], words: Sequence[str] = ()) -> InputError:
    """The error for people.

    Args:
        problem: What jsonargparse says. files: The recipes that were read. words: The command line.
    """
    owner = re.search(r"given class_path '([\w.]+)'", problem)
    name = owner[1] if owner else None
    if missing := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", problem):
        return InputError("no such class", **_place(missing[2], files), found=f"{missing[1]}.{missing[2]}")
    if missing := re.search(r"No module named '([\w.]+)'", problem):
        return InputError("no such module", **_place(missing[1], files), found=name or missing[1])
    if unknown := re.search(r"Option '([\w.]+)' is not accepted", problem):
        return _unknown(unknown[1], name, files, words)
    if unknown := re.search(r"does not accept option '([\w.]+)'", problem):
        return _unknown(unknown[1], None, files, words)
    if unknown := re.search(r"unrecognized arguments: (\S+)", problem):
        return _unknown(unknown[1].split("=")[0].lstrip("-"), None, files, words)
    if needed := re.search(r"arguments are required: (.*)", problem):
        keys = ", ".join(re.sub(r"^(fit|validate|test|predict)\.", "", key) for key in needed[1].split(", "))
        hint = "`--config NAME` names a recipe that says it; `fashionkit train --help` lists them"
        of = f" of {_short(name)}" if name else ""
        return InputError(f"still needed{of}: {keys}", file=_only(files), hint=hint)
    if chosen := re.search(r"invalid choice: '(.*?)'|expected \"subcommand\"", problem):
        return InputError("say what to do", found=chosen[1], allowed=VERBS, hint="fashionkit train fit --config NAME")
    return _wrong_type(problem, files, words)


def as_setting(error: BaseException) -> BaseException:
    """An error of a setting's value, by the setting's name: who says it knows no columns."""
    if not isinstance(error, InputError) or error.column is None or error.file is not None or error.row is not None:
        return error
    name = error.column if error.column.startswith("--") else f"setting {error.column!r}"
    problem = f"{name}: {error.problem}"
    return InputError(problem, found=error.found, allowed=error.allowed, hint=error.hint)


def check_recipe(file: Path) -> None:
    """Refuses what our YAMLs never have: keys twice, anchors, tags.

    Raises:
        InputError: With the line.
    """
    data, _ = load_yaml(file)
    if not isinstance(data, dict):
        raise InputError("a recipe is a mapping with `data`, `model`, `trainer`", file=file, found=data)


def _unknown(key: str, owner: str | None, files: Sequence[Path], words: Sequence[str]) -> InputError:
    allowed = _settings(owner)
    files = () if _option(key, None, words) else files
    what = f"{_short(owner)} has no such setting" if owner else "no such setting"
    return InputError(what, **_place(key, files), found=key, allowed=allowed)


def _wrong_type(problem: str, files: Sequence[Path], words: Sequence[str]) -> InputError:
    keys = [key for key in re.findall(r'Parser key "([\w.]+)"', problem)]
    if not keys:
        return InputError(problem.strip().split("\n")[0], file=_only(files))
    expected = re.findall(r"Expected a <class '(\w+)'>", problem)
    wanted = " or ".join(TYPES.get(kind, kind) for kind in dict.fromkeys(expected) if kind != "NoneType")
    value = re.search(r"Got value: (.*)", problem) or re.search(r"Given value: (.*)", problem)
    found = value[1].strip() if value else None
    said = _option(keys[-1], found, words)
    name, place = (said, {}) if said else (keys[-1], _place(keys[-1], files))
    if not wanted:
        last = problem.strip().split("\n")[-1].strip(" -")
        return InputError(f"{name}: {last}", **place)
    return InputError(f"{name}: {wanted} is needed", **place, found=found)


def _option(key: str, value: str | None, words: Sequence[str]) -> str | None:
    """The option of the command line that gave this value (None: any) to this key, if one did."""
    for at, word in enumerate(words):
        name, given, behind = word.partition("=")
        said = behind if given else words[at + 1] if at + 1 < len(words) else None
        dotted = name.removeprefix("--").replace(".init_args.", ".")
        if name.startswith("--") and f".{dotted}".endswith(f".{key}") and value in (None, said):
            return name
    return None


def _place(key: str, files: Sequence[Path]) -> dict[str, Any]:
    """File and row of a key or of a value, as far as a recipe has it; none where the command line is to blame."""
    for file in files:
        data, lines = load_yaml(file)
        found = _row(key.split("."), lines) or _row_of_value(key, data, lines)
        if found is not None:
            return {"file": file, "row": found}
    return {}


def _row(parts: Sequence[str], lines: Lines) -> int | None:
    tail = tuple(parts)
    return next((row for path, row in lines.at.items() if path[-len(tail) :] == tail), None)


def _row_of_value(text: str, data: Any, lines: Lines, at: tuple[str | int, ...] = ()) -> int | None:
    """The row of the class path that has this text in it."""
    if isinstance(data, str):
        return lines.of(*at) if at and at[-1] == "class_path" and text in data else None
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return next((row for key, value in pairs if (row := _row_of_value(text, value, lines, (*at, key)))), None)


def _settings(owner: str | None) -> list[str] | None:
    """What a class takes, with what its base classes take."""
    if owner is None:
        return None
    module, _, name = owner.rpartition(".")
    found: dict[str, None] = {}
    for base in getattr(import_module(module), name).__mro__:
        if "__init__" in base.__dict__ and base.__module__.startswith("fashionkit."):
            found |= dict.fromkeys(inspect.signature(base.__init__).parameters)
    return [key for key in found if key not in ("self", "options", "facts", "seed")]


def _short(owner: str | None) -> str:
    return str(owner).rpartition(".")[2]


def _only(files: Sequence[Path]) -> Path | None:
    return files[0] if len(files) == 1 else None
