"""What all tasks share: a backbone, how its pixels are normalised, the optimizer, the schedule, seeded steps.

    batch ─► `features`: image ─► backbone ─► map, vector   (or both from the cache)  ─► the task's network ─► losses
    step  ─► seed of dropout                                                            AdamW, warm-up, cosine
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from fashionkit.vision.backbones import Backbone
from fashionkit.vision.preprocess import Preprocess


class Task(L.LightningModule):
    """A network with its loss, trained by AdamW.

    Args:
        lr: Of the new layers. backbone_lr: Its share for the backbone. weight_decay: Of matrices; vectors have none.
        warmup: Share of the steps in which the rate rises. seed: Of dropout, step by step.
    """

    backbone: Backbone | None
    preprocess: Preprocess

    def __init__(self, lr: float, backbone_lr: float, weight_decay: float, warmup: float, seed: int):
        super().__init__()
        self.lr, self.backbone_lr, self.weight_decay, self.warmup, self.seed = lr, backbone_lr, weight_decay, warmup, seed

    def features(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
        """(B, C, h, w) map and (B, D) vector of a batch: cached ones, or of its pixels."""
        if "map" in batch or "vector" in batch:
            return batch.get("map"), batch.get("vector")
        assert self.backbone is not None
        return self.backbone.both(normalised(batch["image"], self.preprocess))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout depends on the step and not on what was drawn before, so a run that goes on draws the same."""
        torch.manual_seed(step_seed(self.seed, self.global_step, self.global_rank))

    def configure_optimizers(self) -> Any:
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
        optimizer = torch.optim.AdamW(options, lr=self.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


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
