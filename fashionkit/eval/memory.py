"""Training and judging on examples that fit into memory, without logs and checkpoints: what comparisons do often.

arrays (n, …) ─► `Arrays` ─► `ResumableLoader` ─► `fit`: a task of `fashionkit.train` ─► `outputs` of other arrays
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from fashionkit.train.loader import Batches, Key, ResumableLoader
from fashionkit.train.pictures import collated
from fashionkit.vision.memory import keep_memory

Array = npt.NDArray[Any]
CELLS = 32  # side of the kept masks; every map's side divides it, so shares of cells stay exact
BATCH = 64


class Arrays(Dataset[dict[str, Any]]):
    """Examples in memory, by (epoch, row).

    Args:
        parts: Name → (n, …) arrays; float16 becomes float32. targets: Name → tensors, or mappings of those.
        flip: Half of the rows are mirrored, by (seed, epoch, row).
    """

    def __init__(self, parts: Mapping[str, Array], targets: Mapping[str, Any], flip: bool = False, seed: int = 0):
        self.parts, self.targets, self.flip, self.seed = parts, targets, flip, seed

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Any]:
        rows = np.array([row for _, row in keys])
        batch: dict[str, Any] = {"row": torch.from_numpy(rows)}
        batch |= {name: _taken(values, batch["row"]) for name, values in self.targets.items()}
        mirrored = np.zeros(len(rows), bool)
        if self.flip:
            mirrored = np.random.default_rng([self.seed, keys[0][0]]).random(len(self))[rows] < 0.5
        for name, values in self.parts.items():
            found = values[rows]
            if name in ("image", "masks"):
                axis = 2 if name == "image" else 3
                found[mirrored] = np.flip(found[mirrored], axis)
            if name == "masks":
                found = found.astype(np.float32) / 255
                if "image" in self.parts:  # where masks go in beside the colours they have the picture's size
                    times = self.parts["image"].shape[1] // CELLS
                    found = found.repeat(times, axis=2).repeat(times, axis=3)
            tensor = torch.from_numpy(found)
            batch[name] = tensor.float() if found.dtype == np.float16 else tensor  # torch is quicker at it
        return batch


def loader(examples: Arrays, batch: int = BATCH, seed: int = 0, shuffle: bool = False) -> ResumableLoader:
    """Batches of arrays."""
    return ResumableLoader(examples, Batches(len(examples), batch, seed, shuffle), collate_fn=collated)


def fit(task: L.LightningModule, loader: ResumableLoader, epochs: int) -> None:
    """Trains without logs, checkpoints or validation."""
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    task.train()
    trainer.fit(task, datamodule=_InMemory(loader))


class _InMemory(L.LightningDataModule):
    """Training examples as tasks look for them."""

    def __init__(self, loader: ResumableLoader):
        super().__init__()
        self.examples, self._loader = {"train": loader.dataset}, loader

    def train_dataloader(self) -> ResumableLoader:
        return self._loader


def settle() -> None:
    """Makes a process quiet, and quick on a CPU."""
    keep_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def _taken(values: Any, rows: torch.Tensor) -> Any:
    return {k: _taken(v, rows) for k, v in values.items()} if isinstance(values, Mapping) else values[rows]
