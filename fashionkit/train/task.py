"""What all tasks share: a backbone and its preparation of pixels, optimizer, schedule, seeded steps, gathering.

batch ─► `features`: image ─► backbone ─► map, vector   (or both from the cache)  ─► the task's network ─► losses
step  ─► seed of dropout                                                            AdamW, warm-up, cosine
validation: `keep_rows` of each batch ─► `all_rows`: of all processes, each row once ─► measures
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, Self

import lightning as L
import torch
from torch import Tensor, nn

from fashionkit.tables import InputError
from fashionkit.train.checkpoints import read_checkpoint
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.preprocess import Preprocess


class Task(L.LightningModule):
    """A network with its loss, trained by AdamW.

    Args:
        lr: Of the new layers. backbone_lr: Its share for the backbone. weight_decay: Of matrices; vectors have none.
        warmup: Share of the steps in which the rate rises. seed: Of dropout, step by step.

    Attributes:
        monitor: The measure of validation that picks the best weights; larger is better unless it ends in `loss`.
    """

    monitor = "val/macro_f1"
    backbone: Backbone | None
    preprocess: Preprocess

    def __init__(self, lr: float, backbone_lr: float, weight_decay: float, warmup: float, seed: int):
        super().__init__()
        self.lr, self.backbone_lr, self.weight_decay, self.warmup, self.seed = (
            lr,
            backbone_lr,
            weight_decay,
            warmup,
            seed,
        )
        self._kept: list[dict[str, Tensor]] = []

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The task of a checkpoint or a run's folder, in evaluation mode; no other file is read, nothing is fetched.

        Raises:
            InputError: See `read_checkpoint`.
        """
        saved = read_checkpoint(path)
        options = dict(saved["hyper_parameters"])
        task = cls(**(options | as_saved(options, saved)))
        task.preprocess = Preprocess.from_dict(saved["preprocess"])
        task.load_state_dict(saved["state_dict"])
        task.on_load_checkpoint(saved)
        return task.eval()

    def features(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        """(B, C, h, w) map and (B, D) vector of a batch: cached ones, or of its pixels."""
        if "map" in batch or "vector" in batch:
            return batch.get("map"), batch.get("vector")
        assert self.backbone is not None
        return self.backbone.both(normalised(batch["image"], self.preprocess))

    def counts(self, batch: dict[str, Any]) -> dict[str, int]:
        """How much of what a batch holds; training's speed is told in these."""
        return {"pictures": len(batch["row"])}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout depends on the batch and not on what was drawn before, so a run that goes on draws the same."""
        torch.manual_seed(step_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def on_validation_epoch_start(self) -> None:
        """All processes judge the same network: BatchNorm's statistics are each process's own while they train."""
        if self.trainer.world_size > 1:
            for value in self.buffers():
                torch.distributed.broadcast(value, 0)

    def keep_rows(self, row: Tensor, **parts: Tensor) -> None:
        """Remembers what was found of a batch. row: (B,) of the split; parts: (B, …) each."""
        self._kept.append({"row": row, **{name: part.detach() for name, part in parts.items()}})

    def all_rows(self) -> dict[str, Tensor]:
        """What `keep_rows` remembered in all processes: each row once, in order, on the CPU; forgets it."""
        kept, self._kept = self._kept, []
        parts = {name: torch.cat([batch[name] for batch in kept]) for name in kept[0]}
        if self.trainer.world_size > 1:
            parts = {name: self._across(part) for name, part in parts.items()}
        rows = parts["row"].cpu()
        order = torch.argsort(rows, stable=True)
        first = torch.ones(len(rows), dtype=torch.bool)
        first[1:] = rows[order][1:] != rows[order][:-1]
        return {name: part.cpu()[order[first]] for name, part in parts.items()}

    def _across(self, part: Tensor) -> Tensor:
        """The rows of all processes, which may have different numbers of them."""
        lengths: Any = self.all_gather(torch.tensor(len(part), device=self.device))
        counts = lengths.tolist()
        padded = part.new_zeros(max(counts), *part.shape[1:])
        padded[: len(part)] = part
        gathered: Any = self.all_gather(padded)  # (processes, most rows, …)
        return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])

    def configure_optimizers(self) -> Any:
        """AdamW in four groups: backbone or not, matrices or vectors; the rate follows `rate`, step by step."""
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, value in self.named_parameters():
            if value.requires_grad:
                groups.setdefault((name.startswith("backbone."), value.ndim > 1), []).append(value)
        options = [
            {
                "params": values,
                "lr": self.lr * (self.backbone_lr if of_backbone else 1),
                "weight_decay": self.weight_decay if matrix else 0.0,
            }
            for (of_backbone, matrix), values in groups.items()
        ]
        if not math.isfinite(self.trainer.estimated_stepping_batches):
            raise InputError("the schedule needs an end", column="trainer", hint="say max_epochs or max_steps")
        optimizer = torch.optim.AdamW(options, lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def as_saved(options: Any, saved: dict[str, Any]) -> dict[str, Any]:
    """Options of a task whose tensors come from a checkpoint: no weights are read or fetched, and the size is known.

    A task on cached features has no backbone in its checkpoint, so where its weights came from must not be forgotten.
    """
    if not any(name.startswith("backbone.") for name in saved["state_dict"]):
        return {}
    known = {"weights": "random", "size": saved["preprocess"]["size"]}
    return {name: value for name, value in known.items() if name in options}


def normalised(pixels: Tensor, preprocess: Preprocess) -> Tensor:
    """(B, 3, S, S) float32 of (B, S, S, 3) uint8: what `vision.pictures.as_tensor` gives, on the pixels' device."""
    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    x = pixels.permute(0, 3, 1, 2).float().mul_(1 / (255 * std)).sub_(mean / std)
    return x.contiguous(memory_format=torch.channels_last)


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate: a straight rise, then half a cosine down to 0."""
    first = max(1, round(warmup * steps))
    if step < first:
        return (step + 1) / first if warmup > 0 else 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - first) / max(1, steps - first))))


def step_seed(*numbers: int) -> int:
    """63 bits that depend on all of the numbers."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little") >> 1
