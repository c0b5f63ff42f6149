"""The comparisons there are, by the word `protocol` of a recipe.

recipe (YAML) ─► its spec, every key checked ─► `run`: the runs that are missing ─► folder of runs
folder of runs ─► its spec ─► `rows`: figures with intervals ─► `text`: a Markdown table
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fashionkit import recipes
from fashionkit.eval.runs import Run, RunFolder
from fashionkit.tables import InputError, read_manifest, sha256_file
from fashionkit.tables.typed import build
from fashionkit.tables.yamls import Lines, load_yaml

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Protocol:
    """One kind of comparison.

    Attributes:
        spec: Dataclass of its recipes. check: Refuses what the types allow and cannot be.
        run: Makes the missing runs, returns how many there are. rows, text: Of its finished runs.
    """

    spec: type
    check: Callable[[Any, Path, Lines], None]
    run: Callable[[Any, RunFolder, int, Callable[[str], None]], int]
    rows: Callable[[Any, Sequence[Run], int], Rows]
    text: Callable[[Any, Rows, int], str]


def _irsn() -> Protocol:
    spec, table = (importlib.import_module(f"fashionkit.eval.{name}") for name in ("irsn", "irsn_table"))
    return Protocol(spec.IrsnSpec, spec.check_irsn, spec.run_irsn, table.irsn_rows, table.irsn_table)


def _attributes() -> Protocol:
    spec = importlib.import_module("fashionkit.eval.attributes")
    table = importlib.import_module("fashionkit.eval.attributes_table")
    return Protocol(
        spec.AttributesSpec, spec.check_attributes, spec.run_attributes, table.attribute_rows, table.attribute_table
    )


def _regions() -> Protocol:
    spec, table = (importlib.import_module(f"fashionkit.eval.{name}") for name in ("regions", "regions_table"))
    return Protocol(spec.RegionsSpec, spec.check_regions, spec.run_regions, table.region_rows, table.region_table)


def _retrieval() -> Protocol:
    spec, table = (importlib.import_module(f"fashionkit.eval.{name}") for name in ("retrieval", "retrieval_table"))
    return Protocol(
        spec.RetrievalSpec, spec.check_retrieval, spec.run_retrieval, table.retrieval_rows, table.retrieval_table
    )


def _vqa() -> Protocol:
    spec, table = (importlib.import_module(f"fashionkit.eval.{name}") for name in ("vqa", "vqa_table"))
    return Protocol(spec.VqaSpec, spec.check_vqa, spec.run_vqa_series, table.vqa_rows, table.vqa_text)


FOLDERS = {"catalog": "catalog", "questions": "questions", "features": "features"}  # that specs name → their kinds

# Each loads its modules when it is asked for.
PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "irsn": _irsn,
    "attributes": _attributes,
    "regions": _regions,
    "retrieval": _retrieval,
    "vqa": _vqa,
}


def run_recipe(
    name: str, out: str | Path, workers: int = 1, say: Callable[[str], None] = lambda line: None, **overrides: Any
) -> int:
    """Makes the missing runs of a recipe; returns how many there are in all.

    Args:
        name: Recipe of `eval/`, or a file. out: Folder of the runs. workers: Processes. say: Told what is being done.
        overrides: Keys of the recipe's spec; None leaves a key as it is.

    Raises:
        InputError: No such recipe or protocol, a wrong key or value, or a folder of another spec.
    """
    path = recipes.find("eval", name)
    data, lines = load_yaml(path)
    protocol = _protocol(data, path, lines)
    body = {key: value for key, value in data.items() if key != "protocol"}
    body |= {key: value for key, value in overrides.items() if value is not None}
    spec = build(protocol.spec, body, path, lines)
    protocol.check(spec, path, lines)
    kept = {"protocol": data["protocol"], "inputs": _hashes(spec), **asdict(spec)}
    return protocol.run(spec, RunFolder(out, kept), workers, say)


def table_of(out: str | Path, resamples: int = 1000) -> tuple[str, Rows]:
    """Markdown of the finished runs of a folder, and its rows in plain types.

    Raises:
        InputError: No runs are there.
    """
    runs, data = RunFolder.open(out)
    path = runs.folder / "spec.json"
    protocol = _protocol(data, path, Lines())
    found = runs.runs()
    if not found:
        raise InputError("no run is finished yet", file=out)
    body = {key: value for key, value in data.items() if key not in ("protocol", "inputs")}
    spec = build(protocol.spec, body, path, Lines())
    rows = protocol.rows(spec, found, resamples)
    return protocol.text(spec, rows, resamples), rows


def _hashes(spec: Any) -> dict[str, str]:
    """Content of the catalogue, the labels and whatever else a spec runs on, wherever they lie."""
    found = {}
    for name, kind in FOLDERS.items():
        if getattr(spec, name, ""):
            found[name] = read_manifest(Path(getattr(spec, name)), kind).content_hash()
    for name, place in (("labels", Path()), ("human", recipes.root() / "eval")):
        if getattr(spec, name, ""):
            found[name] = sha256_file(place / getattr(spec, name))
    return found


def _protocol(data: Any, path: Path, lines: Lines) -> Protocol:
    kind = data.get("protocol") if isinstance(data, dict) else None
    if kind not in PROTOCOLS:
        raise InputError("no such protocol", file=path, row=lines.of("protocol"), found=kind, allowed=PROTOCOLS)
    return PROTOCOLS[kind]()
