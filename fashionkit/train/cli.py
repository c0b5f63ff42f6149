"""`fashionkit train fit|validate|test|predict --config NAME …`: Lightning's command line over our recipes.

    --config irsn ──► train/irsn.yaml, or a file of one's own ──► classes by import path, every key checked ──► Trainer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from fashionkit.recipes import find
from fashionkit.train.data import PictureData
from fashionkit.train.task import Task


class TrainCLI(LightningCLI):
    """Sizes that follow from the data are handed to the task."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.facts", "model.init_args.facts", apply_on="instantiate")


def run(words: Sequence[str]) -> Any:
    """Runs one command line; see `TrainCLI`."""
    return TrainCLI(
        Task,
        PictureData,
        subclass_mode_model=True,
        subclass_mode_data=True,
        args=with_recipes(words),
        seed_everything_default=0,
        trainer_defaults={"use_distributed_sampler": False},
    )


def with_recipes(words: Sequence[str]) -> list[str]:
    """The words with the names of recipes replaced by their files.

    Raises:
        InputError: No such recipe.
    """
    found = list(words)
    for at, word in enumerate(found):
        if word in ("--config", "-c") and at + 1 < len(found):
            found[at + 1] = str(find("train", found[at + 1]))
        elif word.startswith("--config="):
            found[at] = f"--config={find('train', word.removeprefix('--config='))}"
    return found


