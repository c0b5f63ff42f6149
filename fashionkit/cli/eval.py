"""`fashionkit eval …`: comparisons by recipe, and their tables."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from fashionkit.cli.arguments import JsonArg, arg, write_json


@dataclass
class RunArgs:
    """Arguments of `fashionkit eval run`."""

    recipe: str = arg("what to compare: a YAML of eval/ by name or path, e.g. irsn")
    out: str = arg("folder of the runs; a series that was stopped goes on in it", required=True)
    workers: int = arg("processes, of one thread each", default=1)


def run(args: RunArgs) -> None:
    """Makes the runs of a comparison that are missing.

    Runs are kept one by one, so a long series may be stopped and started again, and `fashionkit eval table` can be
    asked at any time for what is there.

    Example:
        fashionkit eval run irsn --out out/irsn --workers 2
    """
    from fashionkit.eval.protocols import load_protocol

    protocol = load_protocol(args.recipe)
    total = protocol.run(args.out, args.workers, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{args.out}: {total} runs are there; `fashionkit eval table {args.recipe} --out {args.out}` shows them")


@dataclass
class TableArgs(JsonArg):
    """Arguments of `fashionkit eval table`."""

    recipe: str = arg("the recipe that was run")
    out: str = arg("folder of its runs", required=True)
    page: str | None = arg("Markdown page to put the table in, between its marks; without it, it is printed", default=None)
    resamples: int = arg("draws of the bootstrap", default=1000)


def table(args: TableArgs) -> None:
    """Shows the finished runs of a comparison as a table, with intervals.

    Example:
        fashionkit eval table irsn --out out/irsn --page eval/README.md
    """
    from fashionkit.eval.protocols import load_protocol
    from fashionkit.eval.tables import put

    protocol = load_protocol(args.recipe)
    text, figures = protocol.table(args.out, args.resamples)
    if args.page is None:
        print(text)
    else:
        put(args.page, args.recipe, f"fashionkit eval table {args.recipe} --out OUT --page {args.page}", text)
        print(f"wrote the table {args.recipe!r} of {args.page}")
    write_json(args.json, {"rows": figures})


VERBS = {"eval run": run, "eval table": table}
