"""Attributes of items: heads on a backbone that is frozen, cached, or trained in its last stages.

    image (B, S, S, 3) ─┬─► backbone ─► vector (B, D) ─┐
                        └─► colour (B, Q) ─────────────┴─► scale ─► AttributeHeads ─► loss where targets are known
    features on disk: vector, colour ──────────────────────┘   │         │
                                 from the training pictures ───┘         └─► held-out pictures ─► temperatures, measures

Temperatures are fitted after each pass over the validation pictures, so every checkpoint holds those of its own
weights, in plain types beside its tensors (`attributes`). ECE of the validation pictures is therefore a little too low.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fashionkit.metrics.attributes import Row, attribute_measures, mean_measures
from fashionkit.models.attribute_loss import Balance, attribute_loss
from fashionkit.models.attribute_model import AttributeModel
from fashionkit.models.attributes import AttributeOutput, AttributeSpec
from fashionkit.models.calibration import Calibration, predict
from fashionkit.models.targets import Targets
from fashionkit.tables import InputError, write_text
from fashionkit.train.start import start_backbone
from fashionkit.train.task import Task
from fashionkit.vision.colour import COLOUR_DIM
from fashionkit.vision.feature_store import feature_key
from fashionkit.vision.preprocess import whole

SCALE_ROWS, SCALE_BATCH = 8192, 128  # training pictures that the scale of inputs is taken from
BALANCE = ("beta", "cap")
REPORT = "attributes_test.json"
PARTS = ("output.values", "output.state", "targets.values", "targets.state")  # what is kept of a batch, by attribute


class AttributeTask(Task):
    """Learns attributes of items.

    Args:
        backbone: `timm/<arch>` or `open_clip/<arch>`.
        facts: Of the data (`AttributeData.facts`): `specs` of the heads, and `features`, the kind of cached features,
            None where pictures are read. With features no backbone is held, so none is in the checkpoint.
        weights: Of the backbone (`fashionkit.vision.weights`), or a run's folder or checkpoint, to go on from its
            backbone. size: Side of its input, where not the weights' own.
        freeze: What of the backbone does not train (`Backbone.freeze`); a number: only so many last stages do.
        resize: How pictures are brought to that size, where not as the weights had it: `squash` shows all of them.
        colour: Which attributes read colour statistics (`AttributeModel`). hidden, dropout: See `AttributeHeads`.
        balance: `beta` and `cap` of the weights of classes (`class_weights`); None: all are 1.
        state_weight: See `attribute_loss`. lr, backbone_lr, weight_decay, warmup, seed: See `Task`.

    Raises:
        InputError: A value out of range, or facts of other data.
    """

    scaled: Tensor

    def __init__(
        self,
        backbone: str,
        facts: dict[str, Any],
        weights: str = "random",
        size: int | None = None,
        resize: str | None = None,
        freeze: str | int = "all",
        colour: bool | list[str] = True,
        hidden: int = 0,
        dropout: float = 0.1,
        balance: dict[str, float] | None = None,
        state_weight: float = 1.0,
        lr: float = 1e-3,
        backbone_lr: float = 0.1,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        seed: int = 0,
    ):
        super().__init__(lr, backbone_lr, weight_decay, warmup, seed)
        self.save_hyperparameters()
        if "specs" not in facts:
            raise InputError(
                "data without attributes", column="data", hint="fashionkit.train.data.AttributeData has them"
            )
        if balance is not None and set(balance) - set(BALANCE):
            raise InputError("no such setting", column="balance", found=", ".join(sorted(balance)), allowed=BALANCE)
        if not 0 <= state_weight < torch.inf:
            raise InputError("the weight of states is 0 or more", column="state_weight", found=state_weight)
        torch.manual_seed(seed)
        built = start_backbone(backbone, weights, size)
        if resize is not None:
            built.preprocess = whole(built.preprocess, resize)
        built.train().freeze(freeze)
        specs = [AttributeSpec(**spec) for spec in facts["specs"]]
        self.model = AttributeModel(built.dim, specs, colour, hidden, dropout)
        self.facts = check_features(facts.get("features"), self.model.reads_colour)
        self.fingerprint = feature_key(built) if self.facts else ""
        self.preprocess, self.backbone = built.preprocess, None if self.facts else built
        # A backbone that trains moves its vectors away from any scale that was taken at the start.
        self.still = bool(self.facts) or not any(value.requires_grad for value in built.parameters())
        self.register_buffer("scaled", torch.zeros(()))
        self.balance, self.state_weight = balance, state_weight
        self.class_weights: Balance | None = None

    def inputs(self, batch: dict[str, Any]) -> Tensor:
        """What the model reads of a batch: (B, D + Q)."""
        _, vector = self.features(batch)
        assert vector is not None, "attributes are read from the vector"
        return self.model.inputs(vector, batch.get("image"), batch.get("colour"))

    def forward(self, batch: dict[str, Any]) -> AttributeOutput:
        """Logits of a batch."""
        output: AttributeOutput = self.model(self.inputs(batch))
        return output

    def on_fit_start(self) -> None:
        """Takes class weights and scale from the training pictures; a run that goes on has its scale already.

        Raises:
            InputError: Cached features of other weights or another preparation.
        """
        train = self.trainer.datamodule.examples["train"]  # type: ignore[attr-defined]
        if self.balance is not None:
            targets = Targets(train.targets["values"], train.targets["state"])
            self.class_weights = Balance.of(self.model.specs, targets, **self.balance)
        if self.scaled:
            return
        if self.facts and self.facts["fingerprint"] != self.fingerprint:
            hint = "`fashionkit features` with the same model, weights, size and resize makes those that fit"
            raise InputError("cached features of other weights or another preparation", column="features", hint=hint)
        if self.trainer.is_global_zero:
            self._fit_scale(train)
        for part in (self.model.mean, self.model.std):
            part.copy_(self.trainer.strategy.broadcast(part.cpu()))
        self.scaled.fill_(1)

    @torch.no_grad()
    def _fit_scale(self, train: Any) -> None:
        if not self.still and not self.model.reads_colour:
            return
        rows = np.sort(np.random.default_rng([self.seed, 2]).permutation(len(train))[:SCALE_ROWS])
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        found = [self.inputs(batch).cpu() for batch in _batches(train, rows, self.device)]
        for module, mode in modes:
            module.training = mode
        self.model.fit_scale(torch.cat(found).to(self.device), whole=self.still)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        targets = Targets(batch["values"], batch["state"])
        parts = attribute_loss(self(batch), targets, self.model.specs, self.class_weights, self.state_weight)
        self.log("train/loss", parts["loss"].detach(), prog_bar=True, batch_size=len(batch["row"]))
        return parts["loss"]

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        output = self(batch)
        parts = dict(zip(PARTS, (output.values, output.state, batch["values"], batch["state"]), strict=True))
        flat = {f"{part}/{name}": value for part, by_name in parts.items() for name, value in by_name.items()}
        self.keep_rows(batch["row"], group=batch["group"], **flat)

    def on_validation_epoch_end(self) -> None:
        """Fits the temperatures, in training only, and measures."""
        output, targets, groups = self._all()
        specs = self.model.specs
        if self.trainer.state.fn == "fit":
            self.model.calibration = Calibration.fit(output, targets, specs, self.class_weights)
        rows = measures(output, targets, self.model)
        loss = attribute_loss(output, targets, specs, self.class_weights, self.state_weight)["loss"]
        each = {f"val/{key}/{row['attribute']}": row[key] for row in rows for key in ("accuracy", "macro_f1")}
        found = {name: value for name, value in each.items() if value is not None}
        self.log_dict(found, sync_dist=True, batch_size=len(groups))
        means = {f"val/{name}": value for name, value in mean_measures(rows).items()}
        self.log_dict({"val/loss": float(loss), **means}, prog_bar=True, sync_dist=True, batch_size=len(groups))

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Measures; those of each attribute, with intervals, go into the run's folder."""
        output, targets, groups = self._all()
        rows = measures(output, targets, self.model, groups)
        means = {f"test/{name}": value for name, value in mean_measures(rows).items()}
        self.log_dict(means, sync_dist=True, batch_size=len(groups))
        if self.trainer.is_global_zero:
            text = json.dumps(rows, indent=1, allow_nan=False) + "\n"
            write_text(Path(self.trainer.default_root_dir) / REPORT, text)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """(B,) rows, and of each attribute calibrated probabilities: `NAME` (B, V), `NAME.state` (B, 3)."""
        said = predict(self(batch), self.model.specs, self.model.calibration)
        found = {"row": batch["row"]}
        for name, prediction in said.items():
            found |= {name: prediction.probability, f"{name}.state": prediction.state_probability}
        return found

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["attributes"] = self.model.to_dict()
        checkpoint["features"] = self.facts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the temperatures.

        Raises:
            InputError: A checkpoint of other attributes, or of other cached features.
        """
        kept = AttributeModel.from_dict(checkpoint.get("attributes", {}))
        if kept.specs != self.model.specs:
            hint = "the catalogue, `attributes` and `least` decide them: use those of the training run"
            found = ", ".join(spec.name for spec in kept.specs)
            raise InputError("the checkpoint has heads of other attributes or values", found=found, hint=hint)
        if self.facts and self.facts != checkpoint.get("features"):
            hint = "use the features that it was trained on, or others of the same weights and preparation"
            raise InputError("the checkpoint was not trained on such features", column="features", hint=hint)
        self.model.calibration = kept.calibration

    def _all(self) -> tuple[AttributeOutput, Targets, np.ndarray[Any, Any]]:
        """What was kept of all pictures, in order; groups (n,)."""
        found = self.all_rows()
        parts = [{spec.name: found[f"{part}/{spec.name}"] for spec in self.model.specs} for part in PARTS]
        return AttributeOutput(*parts[:2]), Targets(*parts[2:]), found["group"].numpy()


def measures(
    output: AttributeOutput, targets: Targets, model: AttributeModel, groups: np.ndarray[Any, Any] | None = None
) -> list[Row]:
    """A row for each attribute; see `fashionkit.metrics.attributes.attribute_measures`.

    Args:
        output, targets: Of n pictures. model: Whose output it is. groups: (n,) for intervals; None: without.
    """
    said = predict(output, model.specs, model.calibration)
    return [
        attribute_measures(
            spec.name,
            targets.values[spec.name].cpu().numpy(),
            said[spec.name].probability.cpu().numpy(),
            targets.state[spec.name].cpu().numpy(),
            said[spec.name].state_probability.cpu().numpy(),
            groups,
        )
        for spec in model.specs
    ]


def check_features(features: Mapping[str, Any] | None, colour: bool) -> dict[str, Any]:
    """What is known of cached features, in plain types; empty where there are none.

    Args:
        features: `fingerprint` and `colour` (Q, 0 without) of a folder. colour: Colour statistics are read.

    Raises:
        InputError: They lack colour statistics that are read, or have others than this version makes.
    """
    if features is None:
        return {}
    if colour and features["colour"] != COLOUR_DIM:
        problem = f"the cached features hold {features['colour']} numbers of colour, and {COLOUR_DIM} are read"
        raise InputError(problem, column="features", hint="make them again, or say `colour: false`")
    return {**features, "colour": features["colour"] if colour else 0}


def _batches(examples: Any, rows: np.ndarray[Any, Any], device: torch.device) -> Iterator[dict[str, Any]]:
    """Training examples as the first epoch has them."""
    for lo in range(0, len(rows), SCALE_BATCH):
        batch = examples.__getitems__([(0, int(row)) for row in rows[lo : lo + SCALE_BATCH]])
        yield {name: batch[name].to(device) for name in ("image", "vector", "colour") if name in batch}
