"""A folder of finished runs, to which a long series adds one at a time, over as many days as it takes.

    <folder>/spec.json                 the settings that runs share, and the arms; other settings are refused
    <folder>/runs/<key>.parquet        what a run said of each test example
    <folder>/runs/<key>.json           its figures; written last, so a run is there as a whole or not at all

A run goes by a key made of its settings. Whoever starts the series again makes the runs that are missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.tables import InputError, sweep_temporary, write_table, write_text

PREDICTIONS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),  # what is drawn again together in a bootstrap
        pa.field("truth", pa.int64(), nullable=False),
        pa.field("predicted", pa.int64(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),  # probability of what was predicted
    ]
)


@dataclass(frozen=True)
class Run:
    """One finished run: its settings, its figures, and its predictions (id, group, truth, predicted, confidence).

    `folder` is that of the whole series.
    """

    settings: dict[str, Any]
    figures: dict[str, Any]
    predictions: pa.Table
    folder: Path = Path()


GROWING = ("arms", "backbones", "seeds")  # of a spec: more of them may come later; those there must stay as they are
# Of a spec: where inputs lie. What counts is their hash, in `inputs`; of weights it is in the features they made.
PLACES = ("catalog", "labels", "questions", "features", "weights")


class RunFolder:
    """Runs on disk.

    Args:
        folder: New, or one of the same `spec`. spec: Settings that runs share, in plain types; arms, backbones and
            seeds may be added later. sweep: Remove what killed runs left half-written; nobody else may be writing then.

    Raises:
        InputError: The folder holds runs of another spec, or something else.
    """

    def __init__(self, folder: str | Path, spec: Mapping[str, Any], sweep: bool = True):
        self.folder = Path(folder)
        text = json.dumps(spec, indent=1, sort_keys=True) + "\n"
        path = self.folder / "spec.json"
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            changed = _changed(before, json.loads(text))
            if changed:
                hint = "name a new folder; what is there was made with other settings"
                raise InputError("the folder holds runs of another spec", file=path, found=changed, hint=hint)
            if before != json.loads(text):
                write_text(path, text)
            if sweep:
                sweep_temporary(self.folder)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise InputError("the folder holds something else", file=self.folder, hint="name a new one")
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, text)

    @classmethod
    def open(cls, folder: str | Path) -> tuple[RunFolder, dict[str, Any]]:
        """The runs of a folder, and their spec; others may be adding to it.

        Raises:
            InputError: No such folder.
        """
        path = Path(folder) / "spec.json"
        if not path.is_file():
            raise InputError("no runs of a comparison are here", file=folder, hint="`fashionkit eval run` makes them")
        spec = json.loads(path.read_text(encoding="utf-8"))
        return cls(folder, spec, sweep=False), spec

    def has(self, key: str) -> bool:
        """Whether a run is finished."""
        return self._path(key, ".json").exists()

    def add(
        self,
        key: str,
        settings: Mapping[str, Any],
        figures: Mapping[str, Any],
        predictions: pa.Table,
        schema: pa.Schema = PREDICTIONS,
    ) -> None:
        """Keeps a finished run; comparisons of another kind than naming give the schema of what they say."""
        write_table(self._path(key, ".parquet"), predictions.cast(schema))
        body = {"settings": dict(settings), "figures": dict(figures)}
        write_text(self._path(key, ".json"), json.dumps(body, indent=1, sort_keys=True) + "\n")

    def runs(self) -> list[Run]:
        """All finished runs, sorted by key."""
        found = []
        for path in sorted((self.folder / "runs").glob("*.json")):
            body = json.loads(path.read_text(encoding="utf-8"))
            predictions = pq.read_table(path.with_suffix(".parquet"))
            found.append(Run(body["settings"], body["figures"], predictions, self.folder))
        return found

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / "runs" / f"{file_name(key)}{suffix}"


def file_name(key: str) -> str:
    """What the files of a run are called."""
    name = re.sub(r"[^A-Za-z0-9_.@=,-]+", "-", key)
    assert 0 < len(name) <= 180 and not name.startswith("."), f"no key of a run: {key!r}"
    return name


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two specs, in words; empty where runs of both go together."""
    found = []
    for key in sorted({*before, *now} - set(PLACES)):
        one, two = before.get(key), now.get(key)
        if key in GROWING and isinstance(one, list) and isinstance(two, list):
            found += _changed_entries(key, one, two)
        elif isinstance(one, dict) and isinstance(two, dict) and one != two:
            found.append(f"{key}: {_differing(one, two)}")
        elif one != two:
            found.append(f"{key}: {one} there, {two} here")
    return "; ".join(found)


def _changed_entries(key: str, before: list[Any], now: list[Any]) -> list[str]:
    """Entries of one name that are not the same."""
    named = {entry["name"]: entry for entry in before if isinstance(entry, dict)}
    both = [(named[entry["name"]], entry) for entry in now if isinstance(entry, dict) and entry["name"] in named]
    return [f"{key}, {one['name']}: {_differing(one, two)}" for one, two in both if one != two]


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    keys = [*one, *(two.keys() - one.keys())]
    return ", ".join(f"{k} {one.get(k)} there, {two.get(k)} here" for k in keys if one.get(k) != two.get(k))
