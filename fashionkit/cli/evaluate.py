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
    catalog: str | None = arg("catalogue to run on, where the recipe needs one", default=None)
    labels: str | None = arg("table of labels by picture, where the recipe needs one", default=None)


def run(args: RunArgs) -> None:
    """Makes the runs of a comparison that are missing.

    Runs are kept one by one, so a long series may be stopped and started again, and `fashionkit eval table` can be
    asked at any time for what is there.

    Example:
        fashionkit eval run irsn --out out/irsn --workers 2
    """
    from fashionkit.eval.protocols import run_recipe

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    total = run_recipe(args.recipe, args.out, args.workers, say, catalog=args.catalog, labels=args.labels)
    print(f"{args.out}: {total} runs; `fashionkit eval table {args.out}` shows them")


@dataclass
class TableArgs(JsonArg):
    """Arguments of `fashionkit eval table`."""

    runs: str = arg("folder of the runs")
    page: str | None = arg("Markdown page to put the table in; without it, it is printed", default=None)
    name: str | None = arg("of the table on the page, between whose marks it goes", default=None)
    resamples: int = arg("draws of the bootstrap", default=1000)


def table(args: TableArgs) -> None:
    """Shows the finished runs of a comparison as a table, with intervals.

    Example:
        fashionkit eval table out/irsn --page eval/README.md --name irsn
    """
    from fashionkit.eval.protocols import table_of
    from fashionkit.eval.tables import put
    from fashionkit.tables import InputError

    if (args.page is None) != (args.name is None):
        raise InputError("a page needs the name of its table, and the name a page", column="--name", found=args.name)
    text, rows = table_of(args.runs, args.resamples)
    if args.page is None or args.name is None:
        print(text)
    else:
        put(args.page, args.name, f"fashionkit eval table RUNS --page {args.page} --name {args.name}", text)
        print(f"wrote the table {args.name!r} of {args.page}")
    write_json(args.json, {"rows": rows})


VERBS = {"eval run": run, "eval table": table}
