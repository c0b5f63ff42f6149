"""What goes along with every run: averaged weights, checkpoints, lines for people, a table of measures.

step ──► `Ema` ──► `Lines`: pictures a second ──► `Checkpoints`: last.ckpt every N steps
validation, of the averaged weights ──► best.ckpt where it is the best so far ──► early stopping ──► last.ckpt
all that tasks log ──► `MetricsTable` ──► metrics.csv, cut back to the checkpoint where a run goes on
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from fashionkit.tables import InputError, write_text
from fashionkit.train.checkpoints import BEST, FOLDER, LAST, SLIM

FEW = 30  # validation pictures, below which one more or less right moves a share by 3 % and more
WINDOW = 20  # steps over which speed is taken
FLUSH_SECONDS = 5.0
SPEED = "train/{}_per_s"


class Ema(WeightAveraging):
    """Lightning's averaged weights with a decay that begins low: a short run's average must not be its first steps.

    Validation sees the averaged weights, and so does who loads a checkpoint. The rise of the decay is timm's and
    TensorFlow's. BatchNorm's statistics are averaged, too.

    Args:
        decay: Of the average, 0..1, reached after about 10 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise InputError("a decay lies from 0 to below 1", column="ema", found=decay)
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], number: Tensor | int) -> None:
        # Lightning's own count of steps, since `number` lies on the device and reading it would wait for the GPU.
        steps = self._latest_update_step
        decay = min(self.decay, (1 + steps) / (10 + steps))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)  # counters


class Checkpoints(Checkpoint):
    """Keeps the best and the last state of a run.

    Args:
        folder: Of the run. monitor: Measure of validation. every: Steps between checkpoints within an epoch.

    Attributes:
        best: Of the measure so far, None before the first. best_epoch: When that was, from 0.
    """

    def __init__(self, folder: Path, monitor: str, every: int):
        if every < 1:
            raise InputError("at least 1 step lies between two checkpoints", column="save_every", found=every)
        self.folder, self.monitor, self.every = folder / FOLDER, monitor, every
        self.best: float | None = None
        self.best_epoch, self._stop, self._saved = -1, False, -1
        self._place: dict[str, int] | None = None

    @property
    def least(self) -> bool:
        """Whether a smaller measure is the better one."""
        return is_loss(self.monitor)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """A run that ends by steps goes on as one that ends by epochs does."""
        # Lightning would go through the end of the epoch again, and count it twice.
        trainer.fit_loop._iteration_based_training = lambda: False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Puts the data where the checkpoint says, and cuts the table there."""
        self._saved = trainer.global_step
        # Lightning forgets to do so where the schedule has asked for the number of steps before.
        if self._place is not None:
            trainer.train_dataloader.load_state_dict(self._place)
            self._place = None
        cut_tables(trainer)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """What a run ends with is judged, whatever its epochs are divided by."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        due = step % self.every == 0 and step != self._saved
        # At the end of an epoch, `on_train_epoch_end` saves what validation has added.
        if due and not trainer.is_last_batch and not 0 < trainer.max_steps <= step:
            # Lightning logs this step only after this hook; the table must have it before the checkpoint says so.
            trainer._logger_connector.update_train_step_metrics()
            self._save_last(trainer)
        if 0 < trainer.max_steps <= step:  # such a run ends anywhere in an epoch, and what it ends with is judged
            trainer.check_val_every_n_epoch, trainer.should_stop = 1, True

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Keeps the best weights."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        measures = trainer.callback_metrics
        if self.monitor not in measures:
            problem = "validation gives no such measure"
            raise InputError(problem, column="monitor", found=self.monitor, allowed=measures)
        value = float(measures[self.monitor])
        better = self.best is None or (value <= self.best if self.least else value >= self.best)
        if better and not math.isnan(value):
            self.best, self.best_epoch = value, trainer.current_epoch
            self._save(trainer, BEST, SLIM)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._stop = trainer.should_stop
        self._save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "stop": self._stop}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch, self._stop = (state_dict[key] for key in ("best", "best_epoch", "stop"))

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Adds how pictures are prepared, which the weights alone would not tell."""
        checkpoint["preprocess"] = pl_module.preprocess.to_dict()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Takes the place in the data; a run that was stopped early, and killed before it said so, must not go on."""
        if trainer.state.fn == "fit":
            (self._place,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
            trainer.should_stop = checkpoint["callbacks"][self.state_key]["stop"]

    def _save_last(self, trainer: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.flush()
        self._save(trainer, LAST)
        self._saved = trainer.global_step

    def _save(self, trainer: Any, name: str, storage: str | None = None) -> None:
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(self.folder / name, storage_options=storage)


class Lines(Callback):
    """Tells people, and the table, how it goes."""

    def __init__(self) -> None:
        self._times: deque[tuple[float, dict[str, int]]] = deque(maxlen=WINDOW)
        self._loss: Any = None
        self._judged = False  # in this epoch

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """A warning where there is little to judge by."""
        number = len(getattr(trainer.datamodule, "examples", {}).get("val", range(FEW)))
        if number < FEW and trainer.is_global_zero:
            print(f"warning: {number} pictures for validation are few: its measures say little", flush=True)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._times.clear()
        self._judged = False

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._judged = True

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        counts = {unit: number * trainer.world_size for unit, number in pl_module.counts(batch).items()}
        self._times.append((time.perf_counter(), counts))
        self._loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        pl_module.log_dict({SPEED.format(unit): speed for unit, speed in self.speeds().items()}, batch_size=1)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """One line an epoch."""
        keeper = next((c for c in trainer.callbacks if isinstance(c, Checkpoints)), None)
        of = f"/{trainer.max_epochs}" if trainer.max_epochs > 0 else ""  # -1: steps end the run
        parts = [f"epoch {trainer.current_epoch + 1}{of}, step {trainer.global_step}"]
        parts += [] if self._loss is None else [f"loss {float(self._loss):.4f}"]
        if self._judged and keeper is not None and keeper.monitor in trainer.callback_metrics:
            best = "" if keeper.best is None else f" (best {keeper.best:.4f})"
            parts.append(f"{keeper.monitor} {float(trainer.callback_metrics[keeper.monitor]):.4f}{best}")
        parts += [f"{speed:,.0f} {unit}/s" for unit, speed in self.speeds().items()]
        pl_module.print(": ".join((parts[0], ", ".join(parts[1:]))))  # above the bar, where there is one
        sys.stdout.flush()

    def speeds(self) -> dict[str, float]:
        """What the task counts, a second, over the last steps of this epoch, in all processes; 0 before the second."""
        if not self._times:
            return {}
        span = max(self._times[-1][0] - self._times[0][0], 1e-9)
        later = [counts for _, counts in list(self._times)[1:]]
        return {unit: sum(counts[unit] for counts in later) / span for unit in self._times[0][1]}


class MetricsTable(Logger):
    """`metrics.csv` of a run: a row for what is logged together, with its step (from 0) and epoch (from 1).

    Lightning's CSVLogger deletes the table of a run that goes on. This one continues it: rows from the checkpoint's
    step on are dropped, since they come again.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.path = folder / "metrics.csv"
        self._rows: list[dict[str, Any]] = read_metrics(self.path)
        self._written = 0.0

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def log_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"step": 0 if step is None else step, **{key: float(value) for key, value in metrics.items()}}
        if "epoch" in row:
            row["epoch"] = int(row["epoch"]) + 1  # as lines and result.json count
        last = self._rows[-1] if self._rows else {}
        if last.get("step") == row["step"] and last.keys() == row.keys():
            self._rows.pop()  # the same, once more
        self._rows.append(row)

    def keep_before(self, step: int) -> None:
        """Forgets what was logged at a step or later."""
        self._rows = [row for row in self._rows if row["step"] < step]

    @rank_zero_only
    def save(self) -> None:
        """Lightning calls it often; the file is written at times."""
        if time.monotonic() - self._written > FLUSH_SECONDS:
            self.flush()

    @rank_zero_only
    def flush(self) -> None:
        """Writes the table, whole or not at all."""
        if not self._rows:
            return
        names = sorted({key for row in self._rows for key in row} - {"step", "epoch"})
        out = io.StringIO()
        writer = csv.DictWriter(out, ["step", "epoch", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.path, out.getvalue())
        self._written = time.monotonic()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.flush()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.csv`, without what is empty in them; none where there is no file."""
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {key: float(value) for key, value in row.items() if value}
            rows.append({**values, **{key: int(values[key]) for key in ("step", "epoch") if key in values}})
    return rows


def cut_tables(trainer: Any) -> None:
    """Drops rows that come again, as a run goes on from its checkpoint."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsTable):
            logger.keep_before(trainer.global_step)


def is_loss(measure: str) -> bool:
    """Whether smaller is better."""
    return measure.endswith("loss")
