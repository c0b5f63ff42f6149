"""A backbone learns items where they are: what each looks like, from the cells under its mask, and which those are.

    image (B, S, S, 3) ─► backbone ─► map (B, C, h, w) ─┬─► each cell: which regions lie there (B, R, h, w)
    masks (B, R, 32, 32) ───────────────────────────────┴─► mean under each mask (B, R, C) ─► values of its attributes

Whoever later reads the map (a question-answer network, IRSN) finds in each cell what is there. A backbone that learns
the same attributes from one vector of the whole picture needs many times as many pictures for small items: the colour
of shoes is a few cells of the map. The heads are thrown away; the design is ours.

Letters: B pictures, S side in pixels, C channels and h x w cells of the map, R regions of the ontology.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.models.attributes import AttributeSpec
from fashionkit.models.targets import MASKED, Targets
from fashionkit.tables import InputError
from fashionkit.train.data import PictureData
from fashionkit.train.labels import read_statements
from fashionkit.train.start import start_backbone, trains_for_maps
from fashionkit.train.task import Task, normalised
from fashionkit.vision.pictures import sized_masks
from fashionkit.vision.pooling import region_pool, shrink_masks
from fashionkit.vision.preprocess import Preprocess, whole
from fashionkit.vision.region_catalog import CatalogRegions

CELLS = 32  # side of the kept masks
WHERE = "where"


class ItemData(PictureData):
    """Pictures with the attributes of their items, and where these are.

    Args:
        catalog: Of outfits whose items have masks or boxes. attributes, least: See `read_statements`. options: Of
            `PictureData`; neither `augment` (mirroring is the task's) nor cached features go with masks of items.

    Raises:
        InputError: A catalogue of products, one whose items are nowhere, or see `PictureData` and `read_statements`.
    """

    def __init__(self, catalog: str, attributes: list[str] | None = None, least: int = 20, **options: Any):
        super().__init__(catalog, **options)
        for name in ("augment", "features", "regions"):
            if getattr(self, name) is not None:
                raise InputError("items are learnt from whole pictures as they are", column=name, hint="leave it out")
        if self.source.facts.scene != "outfit":
            hint = "a product fills its picture: `fashionkit.train.data.AttributeData` learns it from the whole of it"
            raise InputError("items are learnt from a catalogue of outfits", file=self.source.path, hint=hint)
        self._statements = read_statements(self.source, attributes or [], least)
        self._regions = sorted({spec.name.partition(".")[0] for spec in self._statements.specs})
        self._preprocess: Preprocess | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """With `specs` of the attributes, named `region.attribute`, and `regions`, in the order of the masks."""
        specs = [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in self._statements.specs]
        return {**super().facts, "specs": specs, "regions": self._regions}

    def prepare(self, preprocess: Preprocess) -> None:
        self._preprocess = preprocess
        super().prepare(preprocess)

    def rows(self, split: str) -> tuple[list[str], Mapping[str, Any]]:
        found = self._statements
        at = [row for row, name in enumerate(found.splits) if name == split]
        ids, targets = [found.ids[row] for row in at], Targets.encode(found.specs, [found.rows[row] for row in at])
        where = self._where(ids)
        if split == "train" and not where.any():
            hint = "`fashionkit.train.data.AttributeData` needs none"
            raise InputError("no item has a mask or a box", file=self.source.path, hint=hint)
        return ids, {"values": targets.values, WHERE: where}

    def _where(self, ids: list[str]) -> Tensor:
        """(n, R, 32, 32) uint8: shares of 255 of each cell, of the picture as the network sees it."""
        assert self._preprocess is not None, "`prepare` says how pictures are brought to their size"
        provider = CatalogRegions(self.source, {name: (name,) for name in self._regions}, self._regions)
        shares = torch.zeros(len(ids), len(self._regions), CELLS, CELLS, dtype=torch.uint8)
        for row, name in enumerate(ids):
            masks = torch.from_numpy(sized_masks(provider.regions(provider.canvas(name), name), self._preprocess))
            shares[row] = (shrink_masks(masks[None], (CELLS, CELLS), None)[0] * 255).round().to(torch.uint8)
        return shares


class ItemTask(Task):
    """Learns items from maps.

    Args:
        backbone: `timm/<arch>` or `open_clip/<arch>`. facts: Of `ItemData`.
        weights, size, resize: See `AttributeTask`. freeze: What of the backbone does not train (`Backbone.freeze`).
        place_weight: Of the loss of places, beside that of values. mirror: Share of training pictures that are
            mirrored. lr, backbone_lr, weight_decay, warmup, seed: See `Task`.

    Raises:
        InputError: Facts of other data, or a value out of range.
    """

    monitor = "val/accuracy"

    def __init__(
        self,
        backbone: str,
        facts: dict[str, Any],
        weights: str = "random",
        size: int | None = None,
        resize: str | None = "squash",
        freeze: str | int = "none",
        place_weight: float = 2.0,
        mirror: float = 0.5,
        lr: float = 2e-3,
        backbone_lr: float = 1.0,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        seed: int = 0,
    ):
        super().__init__(lr, backbone_lr, weight_decay, warmup, seed)
        self.save_hyperparameters()
        if "regions" not in facts:
            hint = "fashionkit.train.items.ItemData has them"
            raise InputError("data without places of items", column="data", hint=hint)
        for name, value, most in (("place_weight", place_weight, torch.inf), ("mirror", mirror, 1.0)):
            if not 0 <= value <= most or value == torch.inf:
                raise InputError("a number out of range", column=name, found=value)
        torch.manual_seed(seed)
        self.backbone = start_backbone(backbone, weights, size)
        if resize is not None:
            self.backbone.preprocess = whole(self.backbone.preprocess, resize)
        self.preprocess = self.backbone.preprocess
        self.backbone.train().freeze(freeze)
        trains_for_maps(self.backbone)
        self.specs, self.regions = [AttributeSpec(**spec) for spec in facts["specs"]], list(facts["regions"])
        self.region_of = [self.regions.index(spec.name.partition(".")[0]) for spec in self.specs]
        self.heads = nn.ModuleList(nn.Linear(self.backbone.channels, len(spec.values)) for spec in self.specs)
        self.places = nn.Conv2d(self.backbone.channels, len(self.regions), 1)
        self.place_weight, self.mirror = place_weight, mirror

    def forward(self, batch: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Logits of each attribute (B, V), of places (B, R, h, w), and the share of each cell that a region covers."""
        assert self.backbone is not None
        cells = self.backbone.spatial(normalised(batch["image"], self.preprocess))
        share = shrink_masks(batch[WHERE].float() / 255, (cells.shape[2], cells.shape[3]), None)
        pooled = region_pool(cells, share)  # (B, R, C)
        named = zip(self.specs, self.heads, self.region_of, strict=True)
        values = {spec.name: head(pooled[:, region]) for spec, head, region in named}
        return values, self.places(cells), share

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        values, places, share = self(self._mirrored(batch))
        known = self._known(batch, share)
        losses = [
            (_losses(values[spec.name][rows], batch["values"][spec.name][rows], spec.exclusive), int(rows.sum()))
            for spec, rows in zip(self.specs, known, strict=True)
        ]
        of_values = torch.stack([loss for loss, _ in losses]).sum() / max(1, sum(n for _, n in losses))
        of_places = F.binary_cross_entropy_with_logits(places, share)
        self.log_dict(
            {"train/values": of_values.detach(), "train/places": of_places.detach()}, batch_size=len(batch["row"])
        )
        loss: Tensor = of_values + self.place_weight * of_places
        self.log("train/loss", loss.detach(), batch_size=len(batch["row"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        values, places, share = self(batch)
        found = {}
        for spec, rows in zip(self.specs, self._known(batch, share), strict=True):
            if spec.exclusive:
                right = values[spec.name].argmax(1) == batch["values"][spec.name]
                found[spec.name] = torch.where(rows, right.long(), MASKED)
        both = ((places > 0) & (share >= 0.5)).sum((1, 2, 3))
        either = ((places > 0) | (share >= 0.5)).sum((1, 2, 3))
        self.keep_rows(batch["row"], both=both, either=either, **found)

    def on_validation_epoch_end(self) -> None:
        self._judge("val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._judge("test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        """Raises InputError: the heads need to be told where items are."""
        hint = "`fashionkit share` makes a model of its backbone"
        raise InputError("heads of items are for training only", column="predict", hint=hint)

    def _judge(self, split: str) -> None:
        """`accuracy`, the mean over exclusive attributes, each alone, and `places`, the overlap of all cells."""
        kept = self.all_rows()
        each = {spec.name: kept[spec.name][kept[spec.name] != MASKED] for spec in self.specs if spec.exclusive}
        found = {f"{split}/{name}": float(right.float().mean()) for name, right in each.items() if len(right)}
        found[f"{split}/accuracy"] = float(np.mean(list(found.values()))) if found else 0.0
        found[f"{split}/places"] = float(kept["both"].sum() / kept["either"].sum().clamp(min=1))
        self.log_dict(found, prog_bar=False, sync_dist=True, batch_size=len(kept["row"]))

    def _known(self, batch: dict[str, Any], share: Tensor) -> list[Tensor]:
        """(B,) of each attribute: its value is known, and its item is to be seen."""
        seen = share.flatten(2).sum(2) > 0  # (B, R)
        found = []
        for spec, region in zip(self.specs, self.region_of, strict=True):
            target = batch["values"][spec.name]
            known = target != MASKED if spec.exclusive else (target != MASKED).any(1)
            found.append(known & seen[:, region])
        return found

    def _mirrored(self, batch: dict[str, Any]) -> dict[str, Any]:
        """With some pictures, and their masks, mirrored; torch's generator is set for each step."""
        flip = torch.rand(len(batch["row"])).to(batch["image"].device) < self.mirror
        image = torch.where(flip[:, None, None, None], batch["image"].flip(2), batch["image"])
        where = torch.where(flip[:, None, None, None], batch[WHERE].flip(3), batch[WHERE])
        return {**batch, "image": image, WHERE: where}


def _losses(logits: Tensor, target: Tensor, exclusive: bool) -> Tensor:
    """Sum over (n,) or (n, V) targets; unknown values of several cost nothing."""
    if exclusive:
        return F.cross_entropy(logits, target, reduction="sum")
    known = target != MASKED
    loss = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0).to(logits.dtype), reduction="none")
    return (loss * known).sum() / max(1, logits.shape[1])
