"""Style of pictures: IRSN on a backbone, or the backbone alone, with the same head, loss and measures."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fashionkit.metrics.classification import accuracy, macro_f1
from fashionkit.models.irsn import Irsn, IrsnConfig, IrsnOutput, irsn_loss
from fashionkit.tables import InputError
from fashionkit.train.task import Task
from fashionkit.vision.backbones import build_backbone

SIZES = ("classes", "channels", "general")  # of `IrsnConfig`; known here from the data and the backbone


class StyleTask(Task):
    """Learns the style of pictures.

    Args:
        backbone: `timm/<arch>` or `open_clip/<arch>`. facts: Of the data (`StyleData.facts`): `classes`, the names of
            the styles in the order of the logits, and `general`, the width of the general vector, 0 without one.
        weights: Of the backbone (`fashionkit.vision.weights`). size: Side of its input, where not the weights' own.
        freeze: What of the backbone does not train (`Backbone.freeze`).
        network: The switches of `fashionkit.models.irsn.IrsnConfig` but for its sizes.
        cached: Features come from a cache, so no backbone is held.
        smoothing, aux_items, aux_map: See `irsn_loss`. lr, backbone_lr, weight_decay, warmup, seed: See `Task`.
    """

    def __init__(
        self,
        backbone: str,
        facts: dict[str, Any],
        weights: str = "random",
        size: int | None = None,
        freeze: str | int = "none",
        network: dict[str, Any] | None = None,
        cached: bool = False,
        smoothing: float = 0.1,
        aux_items: float = 0.3,
        aux_map: float = 0.3,
        lr: float = 1e-3,
        backbone_lr: float = 0.1,
        weight_decay: float = 0.05,
        warmup: float = 0.05,
        seed: int = 0,
    ):
        super().__init__(lr, backbone_lr, weight_decay, warmup, seed)
        self.save_hyperparameters()
        torch.manual_seed(seed)
        built = build_backbone(backbone, weights, size)
        built.train().freeze(freeze)
        self.preprocess, self.classes = built.preprocess, list(facts["classes"])
        self.backbone = None if cached else built
        self.network = Irsn(irsn_config(network or {}, len(self.classes), built.channels, facts["general"]))
        self.losses = {"smoothing": smoothing, "aux_items": aux_items, "aux_map": aux_map}
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, batch: dict[str, Any]) -> IrsnOutput:
        """What the network says of a batch."""
        cells, _ = self.features(batch)
        return self.network(cells, batch.get("masks"), batch.get("general"))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        parts = irsn_loss(self(batch), batch["style"], **self.losses)
        self.log_dict({f"train/{name}": value.detach() for name, value in parts.items()}, batch_size=len(batch["row"]))
        return parts["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._seen.append((self(batch).logits, batch["style"]))

    def on_validation_epoch_end(self) -> None:
        self._judge("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._judge("test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """(B, N) probabilities."""
        return self(batch).logits.softmax(1)

    def _judge(self, split: str) -> None:
        """Measures over all rows of all processes."""
        logits, truth = (torch.cat(part) for part in zip(*self._seen, strict=True))
        self._seen.clear()
        if self.trainer.world_size > 1:
            logits, truth = self.all_gather(logits).flatten(0, 1), self.all_gather(truth).flatten()
        found, true = logits.argmax(1).cpu().numpy(), np.asarray(truth.cpu())
        loss = nn.functional.cross_entropy(logits.float(), truth)
        measures = {"accuracy": accuracy(true, found), "macro_f1": macro_f1(true, found), "loss": float(loss)}
        self.log_dict({f"{split}/{name}": value for name, value in measures.items()}, prog_bar=True)


def irsn_config(switches: dict[str, Any], classes: int, channels: int, general: int) -> IrsnConfig:
    """The network's configuration from its switches and sizes.

    Raises:
        InputError: An unknown switch, or a value out of range.
    """
    known = [field.name for field in fields(IrsnConfig) if field.name not in SIZES]
    for name in switches:
        if name not in known:
            raise InputError("no such switch of the network", column="network", found=name, allowed=known)
    try:
        return IrsnConfig(classes=classes, channels=channels, general=general, **switches)
    except (TypeError, ValueError) as error:
        raise InputError(f"the network cannot be: {error}", column="network", found=switches) from error
