"""The comparisons there are, by the word `protocol` of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from fashionkit import recipes
from fashionkit.eval.runs import RunFolder
from fashionkit.tables import InputError
from fashionkit.tables.yamls import load_yaml

Say = Callable[[str], None]


class Comparison(Protocol):
    """What a recipe describes, ready to run."""

    def run(self, out: str | Path, workers: int, say: Say) -> int:
        """Makes the missing runs; returns how many there are in all."""

    def table(self, out: str | Path, resamples: int) -> tuple[str, list[dict[str, Any]]]:
        """Markdown of the finished runs, and its rows in plain types."""


@dataclass(frozen=True)
class _Irsn:
    spec: Any

    def run(self, out: str | Path, workers: int, say: Say) -> int:
        from fashionkit.eval.irsn import run_irsn

        return run_irsn(self.spec, out, workers, say)

    def table(self, out: str | Path, resamples: int) -> tuple[str, list[dict[str, Any]]]:
        from fashionkit.eval.irsn_table import irsn_rows, irsn_table

        runs = finished(out, asdict(self.spec))
        rows = irsn_rows(self.spec, runs, resamples)
        return irsn_table(self.spec, rows, resamples), rows


def load_protocol(name: str) -> Comparison:
    """The comparison of a recipe by name or path.

    Raises:
        InputError: No such recipe, or it names no protocol that is known.
    """
    path = recipes.find("eval", name)
    data, lines = load_yaml(path)
    kind = data.get("protocol") if isinstance(data, dict) else None
    if kind not in PROTOCOLS:
        raise InputError("no such protocol", file=path, row=lines.of("protocol"), found=kind, allowed=PROTOCOLS)
    return PROTOCOLS[kind](name)


def finished(out: str | Path, spec: dict[str, Any]) -> Sequence[Any]:
    """The finished runs of a folder.

    Raises:
        InputError: No such folder, runs of another spec, or none yet.
    """
    if not Path(out).is_dir():
        raise InputError("no such folder", file=out, hint="`fashionkit eval run` makes it")
    runs = RunFolder(out, spec).runs()
    if not runs:
        raise InputError("no run is finished yet", file=out)
    return runs


def _load_irsn(name: str) -> Comparison:
    from fashionkit.eval.irsn import load_irsn

    return _Irsn(load_irsn(name))


PROTOCOLS: dict[str, Callable[[str], Comparison]] = {"irsn": _load_irsn}
