"""The folder of a run, and whether it begins, goes on, or was finished before.

runs/irsn/config.yaml             what was asked for; the same command goes on, another one is refused
                                  (without a checkpoint or a result it is no run yet, and any command may replace it)
          metrics.csv             what was logged
          checkpoints/last.ckpt   where a killed run goes on; best.ckpt: the weights to use
          result.json             the run is finished; its best epoch, from 1
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from fashionkit.tables import InputError, write_text
from fashionkit.train.checkpoints import BEST, FOLDER, LAST

CONFIG, METRICS, RESULT = "config.yaml", "metrics.csv", "result.json"
# What may be changed while a run is under way: it changes speed, or what is shown, never the result.
FREE = (
    "data.init_args.workers",
    "data.init_args.memory",
    "data.init_args.masks",
    "data.init_args.predict",
    "run.save_every",
    "run.tensorboard",
    "trainer.enable_progress_bar",
    "trainer.logger",
    "trainer.profiler",
)
LENGTH = "trainer.max_epochs"


class Finished(Exception):
    """The run was finished before; its text says how well."""


class RunFolder:
    """The folder of one run.

    Args:
        path: It is made when the run begins.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.last, self.best = self.path / FOLDER / LAST, self.path / FOLDER / BEST

    @property
    def holds_run(self) -> bool:
        """Whether there is anything to lose: a command that failed at once leaves a configuration at most."""
        return any(path.is_file() for path in (self.last, self.best, self.path / RESULT))

    def check(self, config: Mapping[str, Any], overwrite: bool = False) -> None:
        """Whether a run of `config` may begin here, or go on; changes nothing.

        Raises:
            Finished: The same run was finished before.
            InputError: It holds another run, or something else.
        """
        kept = self.path / CONFIG
        if not kept.is_file():
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise InputError("the folder holds something else", file=self.path, hint="name another one with --out")
        elif self.holds_run and not overwrite:
            self._compare(yaml.safe_load(kept.read_text(encoding="utf-8")) or {}, config)
            if (self.path / RESULT).is_file():
                raise Finished(f"{self.path}: finished before; {said(self.result())}")

    def begin(self, config: Mapping[str, Any], overwrite: bool = False) -> None:
        """Makes the folder ready for a run of `config` that `check` has let pass."""
        if overwrite or not self.holds_run:
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Marks the run as finished."""
        write_text(self.path / RESULT, json.dumps(dict(result), indent=1, sort_keys=True) + "\n")

    def result(self) -> dict[str, Any]:
        """What `finish` wrote."""
        found: dict[str, Any] = json.loads((self.path / RESULT).read_text(encoding="utf-8"))
        return found

    def _clear(self) -> None:
        """Removes what a run writes, and nothing else."""
        for path in (self.path / RESULT, self.last, self.best, self.path / METRICS, self.path / CONFIG):
            path.unlink(missing_ok=True)

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        one, two = dict(flat(before)), dict(flat(now))
        changed = [key for key in sorted(one.keys() | two.keys()) if one.get(key) != two.get(key) and not _is_free(key)]
        if changed:
            lines = [f"{key}: {one.get(key)!r} there, {two.get(key)!r} now" for key in changed[:5]]
            more = f", and {len(changed) - 5} more" if len(changed) > 5 else ""
            hint = "--overwrite begins anew, --out names another folder"
            if LENGTH in changed and (self.path / RESULT).is_file():
                hint += f"; a finished run grows no longer: `--model.weights {self.path}` with another --out starts a"
                hint += " new one from its backbone"
            raise InputError(
                "the folder holds a run of another configuration",
                file=self.path,
                found="; ".join(lines) + more,
                hint=hint,
            )


def flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as (dotted key, value); an empty mapping is a value."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def said(result: Mapping[str, Any]) -> str:
    """A result in words."""
    if result.get("best") is None:
        return f"{result['steps']:,} steps"
    return f"best {result['monitor']} {result['best']:.4f} in epoch {result['best_epoch']} of {result['epochs']}"


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE)
