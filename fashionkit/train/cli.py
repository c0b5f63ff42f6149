"""`fashionkit train fit|validate|test|predict --config NAME …`: Lightning's command line over our recipes.

    --config irsn ──► train/irsn.yaml, or a file of one's own ──► classes by import path, every key checked ──► Trainer
    --out runs/irsn ─► begins, goes on, or was finished before (`fashionkit.train.runs`)

All that a run has by default stands here: its folder, callbacks, logger and checkpoints.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from lightning.pytorch.callbacks import EarlyStopping, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from fashionkit.recipes import find
from fashionkit.tables import InputError
from fashionkit.train.callbacks import Checkpoints, Ema, Lines, MetricsTable, is_loss
from fashionkit.train.checkpoints import CheckpointFiles, checkpoint_of, read_checkpoint
from fashionkit.train.data import TrainData
from fashionkit.train.predictions import write_measures, write_predictions
from fashionkit.train.quiet import quiet
from fashionkit.train.runs import CONFIG, Finished, RunFolder, said
from fashionkit.train.task import Task, as_saved
from fashionkit.train.wording import as_setting, check_recipe, explained
from fashionkit.vision.preprocess import Preprocess

RUNS = "runs"
NOT_KEPT = ("config", "out", "overwrite", "ckpt_path")  # in config.yaml: they say where, not what
DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # our batches know their process
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}


@dataclass
class RunOptions:
    """How a run is kept, judged and ended.

    Args:
        ema: Decay of averaged weights, which are then judged and kept; without it there is no average.
        patience: Validations without a better measure until training stops; without it, it does not stop early.
        monitor: The measure that picks the best weights; without it, the task's own. Larger is better unless its name
            ends in `loss`.
        save_every: Steps between checkpoints within an epoch: what a kill costs at most.
        tensorboard: Log for TensorBoard as well.
    """

    ema: float | None = None
    patience: int | None = None
    monitor: str | None = None
    save_every: int = 100
    tensorboard: bool = False


class TrainCLI(LightningCLI):
    """One command line.

    Args:
        words: What stands behind `fashionkit train`; recipes as files.
    """

    def __init__(self, words: Sequence[str]):
        self._words = list(words)
        self.files = [Path(word) for word in _configs(self._words)]
        super().__init__(
            Task,
            TrainData,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=self._words,
            seed_everything_default=0,
            trainer_defaults=DEFAULTS,
            save_config_callback=None,  # the folder of the run has it
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # it would put class paths into checkpoints
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """What people may not say: our code does."""
        given = {"model", "datamodule", "weights_only"}
        return {
            "fit": given | {"train_dataloaders", "val_dataloaders", "ckpt_path"},
            "validate": given | {"dataloaders", "verbose"},
            "test": given | {"dataloaders", "verbose"},
            "predict": given | {"dataloaders", "return_predictions"},
        }

    def init_parser(self, **options: Any) -> LightningArgumentParser:
        return super().init_parser(**options, exit_on_error=False)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        # Not Lightning's own, which warns wherever a program has words of its own and passes others.
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Lightning would take settings from a checkpoint; here the recipe has them."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str | None, help="folder of the run; without it, runs/<name of the recipe>")
        parser.add_argument("--overwrite", action="store_true", help="begin anew in a folder that holds a run")
        parser.add_class_arguments(RunOptions, "run")
        parser.link_arguments("data.facts", "model.init_args.facts", apply_on="instantiate")
        for target in ("data.init_args.seed", "model.init_args.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=int)

    def before_instantiate_classes(self) -> None:
        chosen = self.config[self.subcommand]
        self.options = RunOptions(**chosen.run.as_dict())
        self.folder = RunFolder(chosen.out or default_out(self.files))
        if chosen.data is None or chosen.model is None:
            raise InputError("still needed: data and model", hint="`--config NAME` names a recipe that says both")
        self.checkpoint: Path | None = None
        self._trial = bool(chosen.trainer.fast_dev_run)  # leaves nothing behind
        if self.subcommand == "fit":
            self._asked = self._kept()
            if _is_first() and not self._trial:
                self.folder.check(self._asked, chosen.overwrite)
            if self.folder.last.is_file() and not chosen.overwrite and not self._trial:
                self.checkpoint = self.folder.last
        else:
            self.checkpoint = checkpoint_of(chosen.ckpt_path or self.folder.path)
        if self.checkpoint is not None:
            saved = read_checkpoint(self.checkpoint)
            self._preprocess = Preprocess.from_dict(saved["preprocess"])
            for name, value in as_saved(chosen.model.init_args, saved).items():
                chosen.model.init_args[name] = value

    def after_instantiate_classes(self) -> None:
        if self.checkpoint is not None:
            self.model.preprocess = self._preprocess

    def instantiate_trainer(self, **options: Any) -> Any:
        given, fitting = self._get(self.config_init, "trainer"), self.subcommand == "fit"
        monitor = self.options.monitor or self.model.monitor
        self.keeper = Checkpoints(self.folder.path, monitor, self.options.save_every)
        shown = sys.stdout.isatty() if given.enable_progress_bar is None else given.enable_progress_bar
        callbacks = [*(given.callbacks or []), *(self._callbacks(monitor) if fitting else [])]
        callbacks += [TQDMProgressBar(refresh_rate=5)] if shown else []
        return super().instantiate_trainer(
            default_root_dir=str(self.folder.path),
            callbacks=callbacks,
            logger=self._loggers(given.logger) if fitting else False,
            plugins=[*(given.plugins or []), CheckpointFiles()],
            enable_progress_bar=shown,
            enable_checkpointing=fitting,
            **options,
        )

    def fit(self, **options: Any) -> None:
        """Trains, from the last checkpoint if there is one; only now, when all could be built, the folder changes."""
        if _is_first() and not self._trial:
            self.folder.begin(self._asked, self.config[self.subcommand].overwrite)
        self._announce()
        self.trainer.fit(**options, ckpt_path=self.checkpoint, weights_only=True)
        if self.trainer.is_global_zero and not self._trial:
            best = self.keeper.best
            epoch = None if best is None else self.keeper.best_epoch + 1  # from 1, as people count
            result = {"monitor": self.keeper.monitor, "best": best, "best_epoch": epoch}
            result |= {"epochs": self.trainer.current_epoch, "steps": self.trainer.global_step}
            self.folder.finish(result)
            print(f"{self.folder.path}: finished; {said(result)}", flush=True)

    def validate(self, **options: Any) -> None:
        """Measures on the validation pictures."""
        self._measured("validate", options)

    def test(self, **options: Any) -> None:
        """Measures on the test pictures."""
        self._measured("test", options)

    def predict(self, **options: Any) -> None:
        """Writes what the network says of each picture."""
        options["ckpt_path"] = self.checkpoint
        if self.trainer.world_size > 1:
            raise InputError("predictions are made in one process", column="trainer.devices", hint="say 1")
        batches = self.trainer.predict(**options, weights_only=True)
        ids = self.datamodule.ids(self.datamodule.predict)
        file = write_predictions(self.folder.path, self.datamodule.predict, ids, self.model, batches)
        print(f"{file}: {len(ids):,} pictures", flush=True)

    def _measured(self, verb: str, options: dict[str, Any]) -> None:
        options["ckpt_path"] = self.checkpoint
        (found,) = getattr(self.trainer, verb)(**options, weights_only=True, verbose=False)
        if self.trainer.is_global_zero:
            file = write_measures(self.folder.path, verb, found, self.checkpoint)
            print("\n".join([*(f"{name} {value:.4f}" for name, value in found.items()), str(file)]), flush=True)

    def _callbacks(self, monitor: str) -> list[Any]:
        found: list[Any] = [Lines(), self.keeper]
        if self.options.ema is not None:
            found.insert(0, Ema(self.options.ema))
        if self.options.patience is not None:
            mode = "min" if is_loss(monitor) else "max"
            found.insert(0, EarlyStopping(monitor, mode=mode, patience=self.options.patience))
        return found

    def _loggers(self, given: Any) -> Any:
        if given is False:
            return False
        found: list[Any] = [MetricsTable(self.folder.path)]
        if self.options.tensorboard:
            from lightning.pytorch.loggers import TensorBoardLogger

            try:
                found.append(TensorBoardLogger(str(self.folder.path), name="", version="tensorboard"))
            except ModuleNotFoundError as error:
                hint = 'pip install "fashionkit[tensorboard]"'
                raise InputError("TensorBoard is not installed", column="run.tensorboard", hint=hint) from error
        return found + (list(given) if isinstance(given, list) else [given] if given else [])

    def _kept(self) -> dict[str, Any]:
        """The configuration that makes a run what it is, in plain types."""
        text = self._parser(self.subcommand).dump(self.config[self.subcommand])
        return {key: value for key, value in yaml.safe_load(text).items() if key not in NOT_KEPT}

    def _announce(self) -> None:
        number = sum(value.numel() for value in self.model.parameters())
        free = sum(value.numel() for value in self.model.parameters() if value.requires_grad)
        state = "begins" if self.checkpoint is None else "goes on from its last checkpoint"
        if _is_first():
            what = f"{type(self.model).__name__}, {number / 1e6:.2f} M parameters, {free / 1e6:.2f} M train"
            print(f"{self.folder.path}: {state}; {what}", flush=True)


def run(words: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; see `TrainCLI`.

    Raises:
        InputError: What is wrong with the words, a recipe, the data or the folder of the run.
    """
    given = with_recipes(["--help" if word == "--help-all" else word for word in words])
    files = [Path(word) for word in _configs(given)]
    for file in files:
        check_recipe(file)
    with quiet():
        try:
            TrainCLI(given)
        except Finished as finished:
            print(finished)
        except jsonargparse.ArgumentError as error:
            raise explained(str(error), files, given) from error
        except SystemExit as error:  # help was printed; or Lightning has put away an interrupt
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            if isinstance(error, SIGTERMException):
                print("fashionkit: ended; running the same command again continues where it stopped", file=sys.stderr)
                return 143
            return int(error.code or 0)
        except ValueError as error:
            raise as_setting(_first_cause(error)) from None
    return 0


def with_recipes(words: Sequence[str]) -> list[str]:
    """The words with recipes' names replaced by their files; without one, a run's folder says what it was.

    Raises:
        InputError: No such recipe.
    """
    found = list(words)
    for at, word in enumerate(found):
        if word in ("--config", "-c") and at + 1 < len(found):
            found[at + 1] = str(find("train", found[at + 1]))
        elif word.startswith("--config="):
            found[at] = f"--config={find('train', word.removeprefix('--config='))}"
    out = _value(found, "--out")
    if found and found[0] in ("validate", "test", "predict") and out and not _configs(found):
        kept = Path(out) / CONFIG
        if not kept.is_file():
            raise InputError("no run in this folder", file=out, hint=f"a run has a {CONFIG}")
        found[1:1] = ["--config", str(kept)]
    return found


def default_out(files: Sequence[Path]) -> Path:
    """Where a run of these recipes goes."""
    if not files:
        raise InputError("the run needs a folder", column="--out", hint="or a recipe: --config NAME")
    return Path(RUNS) / files[0].stem


def _configs(words: Sequence[str]) -> list[str]:
    """The files of `--config`."""
    behind = [words[at + 1] for at, word in enumerate(words[:-1]) if word in ("--config", "-c")]
    return behind + [word.removeprefix("--config=") for word in words if word.startswith("--config=")]


def _value(words: Sequence[str], option: str) -> str | None:
    for at, word in enumerate(words):
        if word == option and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None


def _first_cause(error: BaseException) -> BaseException:
    """What a class raised as it was built: jsonargparse wraps it into what it says of types."""
    while not isinstance(error, InputError) and "any of the Union subtypes" in str(error) and error.__cause__:
        error = error.__cause__
    return error


def _is_first() -> bool:
    """Whether this is the first of the processes that train together, as far as is known before they meet."""
    rank: Any = rank_zero_only
    return int(rank.rank or 0) == 0
