"""Style of pictures: IRSN on a backbone, or the backbone alone, with the same head, loss and measures.

image ──────────► backbone ─► map ─┐
masks ─┬─(channels of the input)   ├─► Irsn ─► logits ─► loss; accuracy, macro F1 over all rows
       └───────────────────────────┤
general vector ────────────────────┘
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from fashionkit.metrics.classification import accuracy, calibration_error, macro_f1
from fashionkit.models.calibration import fit_temperature
from fashionkit.models.irsn import Irsn, IrsnConfig, IrsnOutput, irsn_loss
from fashionkit.tables import InputError
from fashionkit.train.start import start_backbone, trains_for_maps, widened, with_masks
from fashionkit.train.task import Task, normalised
from fashionkit.vision.preprocess import whole

SIZES = ("classes", "channels", "general")  # of `IrsnConfig`; known here from the data and the backbone


class StyleTask(Task):
    """Learns the style of pictures.

    Args:
        backbone: `timm/<arch>` or `open_clip/<arch>`. facts: Of the data (`StyleData.facts`): `classes`, the names of
            the styles in the order of the logits, and `general`, the width of the general vector, 0 without one.
        weights: Of the backbone (`fashionkit.vision.weights`), or a run's folder or checkpoint, to go on from its
            backbone. size: Side of its input, where not the weights' own.
        resize: How pictures are brought to that size, where not as the weights had it: `squash` shows all of them.
        freeze: What of the backbone does not train (`Backbone.freeze`).
        network: The switches of `fashionkit.models.irsn.IrsnConfig` but for its sizes.
        mask_channels: The backbone sees the masks as channels beside the colours: an arm to compare with.
        cached: Features come from a cache, so no backbone is held.
        smoothing, aux_items, aux_map: See `irsn_loss`. lr, backbone_lr, weight_decay, warmup, seed: See `Task`.
    """

    def __init__(
        self,
        backbone: str,
        facts: dict[str, Any],
        weights: str = "random",
        size: int | None = None,
        resize: str | None = None,
        freeze: int | str = "none",
        network: dict[str, Any] | None = None,
        mask_channels: bool = False,
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
        built = start_backbone(backbone, weights, size)
        if resize is not None:
            built.preprocess = whole(built.preprocess, resize)
        self.preprocess, self.classes = built.preprocess, list(facts["classes"])
        config = irsn_config(network or {}, len(self.classes), built.channels, facts["general"])
        self.network, self.mask_channels = Irsn(config), mask_channels
        if mask_channels and cached:
            raise InputError("cached features have seen no masks", column="mask_channels")
        if not cached:
            built.train().freeze(freeze)
            trains_for_maps(built)
            if mask_channels:
                widened(built, config.items)
        self.backbone = None if cached else built
        self.temperature = 1.0
        self.losses = {"smoothing": smoothing, "aux_items": aux_items, "aux_map": aux_map}

    def forward(self, batch: dict[str, Any]) -> IrsnOutput:
        """What the network says of a batch."""
        masks = batch.get("masks")
        if masks is None and (self.network.config.use_regions or self.mask_channels):
            hint = "say `data.init_args.regions`, e.g. catalog or bands"
            raise InputError("the network looks at regions, and the data has none", column="regions", hint=hint)
        return self.network(self.cells(batch, masks), masks, batch.get("general"))

    def cells(self, batch: dict[str, Any], masks: Tensor | None = None) -> Tensor:
        """(B, C, h, w) map."""
        if "map" in batch:
            cells: Tensor = batch["map"]
            return cells
        assert self.backbone is not None
        pixels = normalised(batch["image"], self.preprocess)
        if self.mask_channels:
            assert masks is not None
            pixels = with_masks(pixels, masks)
        return self.backbone.spatial(pixels)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        parts = irsn_loss(self(batch), batch["style"], **self.losses)
        self.log_dict({f"train/{name}": value.detach() for name, value in parts.items()}, batch_size=len(batch["row"]))
        return parts["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.keep_rows(batch["row"], logits=self(batch).logits.float(), style=batch["style"])

    def on_validation_epoch_end(self) -> None:
        self._judge("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._judge("test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """(B,) rows and (B, N) calibrated probabilities."""
        return {"row": batch["row"], "probability": (self(batch).logits.float() / self.temperature).softmax(1)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["temperature"] = self.temperature

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.temperature = float(checkpoint.get("temperature", 1.0))

    def _judge(self, split: str) -> None:
        """Measures over all rows of all processes; in training, the temperature is fitted before (so that ECE of the
        validation pictures is a little too low)."""
        found = self.all_rows()
        if self.trainer.state.fn == "fit":
            self.temperature = fit_temperature(found["logits"].double(), found["style"], "style")
        probability = (found["logits"] / self.temperature).softmax(1)
        true, said = found["style"].numpy(), found["logits"].argmax(1).numpy()
        loss = nn.functional.cross_entropy(found["logits"], found["style"])
        measures = {"accuracy": accuracy(true, said), "macro_f1": macro_f1(true, said), "loss": float(loss)}
        measures["ece"] = calibration_error(probability.amax(1).clamp(0, 1).numpy(), said == true)
        values = {f"{split}/{name}": value for name, value in measures.items()}
        self.log_dict(values, sync_dist=True, batch_size=len(true))


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
