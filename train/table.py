"""Writes the table of results of train/README.md from the folders of finished and tested runs.

python train/table.py attributes_products=runs/attributes_products style_backbone_small=runs/style_backbone_small

A run is tested by `fashionkit train test --out RUN`. Intervals are those of the attributes' own report (95 %, split
groups drawn again); where a task gives none, there is none.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from fashionkit.catalog.catalog import Catalog
from fashionkit.eval.tables import markdown, number, put
from fashionkit.tables import InputError

PAGE = Path(__file__).resolve().parent / "README.md"
HEAD = ("recipe", "data", "seed", "best epoch", "measure", "n", "value")


def rows(name: str, run: Path) -> list[list[str]]:
    """The cells of one run: a row for each measure, or for each attribute."""
    result, test = _read(run / "result.json"), _read(run / "test.json")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    catalog = Catalog(config["data"]["init_args"]["catalog"])
    splits = catalog.table("splits", ["split"])["split"].to_pylist()
    data = f"{catalog.facts.name}, {splits.count('train'):,} train, {splits.count('test'):,} test"
    begin = [f"`{name}`", data, str(config["seed_everything"]), f"{result['best_epoch']} of {result['epochs']}"]
    attributes = run / "attributes_test.json"
    if attributes.is_file():
        return [[*begin, f"accuracy of {r['attribute']}", f"{r['n']:,}", _value(r)] for r in _read(attributes)]
    measures = {key.partition("/")[2]: value for key, value in test.items() if key.startswith("test/")}
    return [[*begin, key, f"{splits.count('test'):,}", number(value)] for key, value in measures.items()]


def _value(row: dict[str, Any]) -> str:
    return "–" if row["accuracy"] is None else number(row["accuracy"], row["accuracy_low"], row["accuracy_high"])


def _read(path: Path) -> Any:
    if not path.is_file():
        hint = f"`fashionkit train test --out {path.parent}` tests a run that is finished"
        raise InputError("this run is not finished and tested", file=path, hint=hint)
    return json.loads(path.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> None:
    """Replaces the table on the page."""
    cells: list[list[str]] = []
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not folder:
            raise InputError("a recipe and its run are needed: irsn_small=runs/irsn_small", found=argument)
        cells += rows(name, Path(folder))
    put(PAGE, "results", "python train/table.py RECIPE=RUN …", markdown(HEAD, cells))


if __name__ == "__main__":
    main(sys.argv[1:])
