"""`fashionkit <verb>`: finds the verb, reads its arguments, runs it, and turns what went wrong into words and a code.

    argv ──► verb (a key of VERBS) ──► its dataclass of arguments ──► function(arguments) ──► exit code

    0    done
    1    failed: a check judged so, the disk is full, or an error of fashionkit itself
    2    bad input: the text says where and what would be right
    130  stopped with Ctrl-C; running the same command again continues

A new group of verbs is a module `fashionkit/cli/<group>.py` with a dict `VERBS` of name (one or two words) → plain
function of one dataclass (`fashionkit.cli.arguments`), and its name in `GROUPS` here. Such a module imports nothing
heavy at its top: `fashionkit --help` reads all of them for their first lines. A function's docstring is its help; what
follows a line `Example:` is shown at the end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, get_type_hints

import fashionkit
from fashionkit.cli import ask, catalog, datagen, embed, evaluate, explain, export, features, inspect, share, train

Verb = Callable[[Any], int | None]

GROUPS: tuple[ModuleType, ...] = (
    ask,
    catalog,
    datagen,
    embed,
    evaluate,
    explain,
    export,
    features,
    inspect,
    share,
    train,
)
VERBS: dict[str, Verb] = {name: verb for group in GROUPS for name, verb in group.VERBS.items()}
assert len(VERBS) == sum(len(group.VERBS) for group in GROUPS), "two groups have a verb of the same name"

_DEBUG = "--debug"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    words, debug = _take_debug(list(sys.argv[1:] if argv is None else argv))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a letter that the terminal lacks is no reason to fail
    try:
        code = _run(words)
        _flush_stdout()
        return code
    except BrokenPipeError:
        _drop_stdout()
        return 141  # what a shell reports for a program whose reader went away
    except KeyboardInterrupt:
        print("\nfashionkit: stopped; running the same command again continues where it stopped", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        return _explain(error)


def _take_debug(words: list[str]) -> tuple[list[str], bool]:
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != _DEBUG]
    return kept + words[end:], len(kept) < end


def _run(words: list[str]) -> int:
    if not words:
        print(_overview(), end="")
        return 2
    if words[0] in ("-h", "--help", "help"):
        print(_overview(), end="")
        return 0
    if words[0] in ("-V", "--version"):
        print(f"fashionkit {fashionkit.__version__}")
        return 0
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return _call(name, VERBS[name], words[length:])
    return _no_verb(words)


def _no_verb(words: list[str]) -> int:
    group = [name for name in VERBS if name.split()[0] == words[0]]
    rest = words[1:2]
    if group and (not rest or rest[0] in ("-h", "--help", "help")):
        print(_overview(group), end="")
        return 0 if rest else 2
    from difflib import get_close_matches  # here, so that --help does not wait for it

    said = " ".join(word for word in words[:2] if not word.startswith("-")) or words[0]
    close = get_close_matches(said, VERBS, n=1, cutoff=0.5) or get_close_matches(words[0], VERBS, n=1, cutoff=0.5)
    nearest = f" The nearest is {close[0]!r}." if close else ""
    print(f"fashionkit: there is no verb {said!r}.{nearest} `fashionkit --help` lists them.", file=sys.stderr)
    return 2


def _overview(names: Sequence[str] = ()) -> str:
    chosen = list(names or VERBS)
    width = max(map(len, chosen)) + 2
    lines = ["usage: fashionkit <verb> [arguments]", "", (fashionkit.__doc__ or "").splitlines()[0], ""]
    lines += [f"  {name:<{width}}{_first_line(VERBS[name])}" for name in chosen]
    example = f"fashionkit {chosen[0]} --help"
    lines += ["", f"`{example}` explains a verb and gives an example.", ""]
    lines += ["  --debug     show the traceback of an error", "  --version   print the version", ""]
    return "\n".join(lines)


def _first_line(verb: Verb) -> str:
    assert verb.__doc__, f"{verb.__name__} has no docstring, so --help could not explain it"
    return verb.__doc__.splitlines()[0]


def _call(name: str, verb: Verb, words: list[str]) -> int:
    from fashionkit.cli.parsing import parse  # jsonargparse takes longer than all above: only once the verb is known

    (arguments,) = (hint for key, hint in get_type_hints(verb).items() if key != "return")
    values = parse(name, verb.__doc__ or "", arguments, words)
    return 0 if values is None else verb(values) or 0


def _explain(error: Exception) -> int:
    """Says in words what went wrong; returns the exit code."""
    text, code = str(error) or type(error).__name__, 1
    if isinstance(error, ValueError):
        code = 2
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else text
    elif type(error).__name__ != "WorkerLost":  # by name: its module is loaded only where it can be raised
        text = f"unexpected error: {type(error).__name__}: {text}; run with --debug for the traceback"
    print("\n".join([f"fashionkit: {text}", *getattr(error, "__notes__", [])]), file=sys.stderr)
    return code


def _flush_stdout() -> None:
    """Sends out what was printed, for a full disk behind `> FILE` must not pass for success."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_stdout()
        if error.filename is None:
            error.filename = "standard output"
        raise


def _drop_stdout() -> None:
    """Sends what is still buffered nowhere, so that the interpreter's exit does not complain either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
