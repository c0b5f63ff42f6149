"""The work of the IRSN comparison in one process: pictures in memory, fine-tuning, maps, one head after another.

    <folder>/pictures.safetensors      image (n, S, S, 3) uint8; masks (n, K, 32, 32) uint8 shares of each provider
    <folder>/general.safetensors       vector (n, G) float16 of the frozen general backbone
    <folder>/pretrained/<name>.safetensors, tuned/<backbone, size, seed>.safetensors
    <folder>/runs/…                    see `RunFolder`

All arms of a group train through `fashionkit.train.style.StyleTask`, for as many steps, on the same batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pyarrow as pa
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file as save_tensors

from fashionkit.catalog.catalog import Catalog
from fashionkit.engine.threads import one_thread
from fashionkit.eval.irsn import Arm, BackboneSpec, Group, IrsnSpec, Training, arms_of
from fashionkit.eval.memory import BATCH, CELLS, Array, Arrays, fit, loader, settle
from fashionkit.eval.runs import RunFolder
from fashionkit.metrics.classification import accuracy, macro_f1
from fashionkit.models.targets import Targets
from fashionkit.tables import write_atomic
from fashionkit.train.attributes import AttributeTask
from fashionkit.train.labels import Labels, read_labels, read_statements
from fashionkit.train.pictures import CatalogPictures
from fashionkit.train.style import StyleTask
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.pictures import as_tensor
from fashionkit.vision.pooling import shrink_masks
from fashionkit.vision.regions import ITEMS, CatalogRegions, ForegroundBands, RegionProvider


def make_shared(spec: IrsnSpec, folder: Path, what: str, backbone: BackboneSpec | None) -> str:
    """Makes one of the things that all groups share, unless it is there; returns its name."""
    with one_thread():
        settle()
        if what == "outfits":
            _once(folder / "pictures.safetensors", lambda path: save_file(_pictures(folder / "outfits"), path))
        elif what == "general":
            _once(folder / "general.safetensors", lambda path: save_file({"vector": _general(spec, folder)}, path))
        else:
            assert backbone is not None
            file = _pretrained(folder, backbone)
            _once(file, lambda path: save_tensors(_pretrain(spec, folder, backbone), path))
            return f"pretrained {backbone.name}"
    return what


def run_group(spec: IrsnSpec, folder: Path, group: Group) -> int:
    """Makes the missing arms of a group; returns how many."""
    with one_thread():
        settle()
        (runs, _), work = RunFolder.open(folder), _Work(spec, folder, group)
        missing = [(arm, masks) for arm, masks in arms_of(spec, group) if not runs.has(group.key(arm.name, masks))]
        for arm, masks in missing:
            probability = work.run(arm, masks)
            truth, found = work.truth, probability.argmax(1)
            figures = {"accuracy": accuracy(truth, found), "macro_f1": macro_f1(truth, found), "n": len(truth)}
            settings = {"backbone": group.backbone.name, "weights": group.backbone.weights, "size": group.size}
            settings |= {"seed": group.seed, "arm": arm.name, "masks": masks}
            table = pa.table(
                {
                    "id": work.ids,
                    "group": work.ids,
                    "truth": truth,
                    "predicted": found,
                    "confidence": probability.max(1).astype(np.float32),
                }
            )
            runs.add(group.key(arm.name, masks), settings, figures, table)
    return len(missing)


class _Work:
    """Pictures, maps and fine-tuned weights of one group."""

    def __init__(self, spec: IrsnSpec, folder: Path, group: Group):
        self.spec, self.folder, self.group = spec, folder, group
        labels = read_labels(Catalog(folder / "outfits"), "style")
        train, val, test = (np.flatnonzero(np.array(labels.splits) == name) for name in ("train", "val", "test"))
        # All seeds learn from the same pictures, and a larger set holds the smaller ones.
        order = np.random.default_rng([spec.outfits.seed, 1]).permutation(len(train))
        self.rows = {"train": np.sort(train[order[: group.size]]), "val": val, "test": test}
        self.classes, self._labels = labels.classes, labels
        self.truth, self.ids = labels.classes_of[test], [labels.ids[row] for row in test]
        self.pictures = load_file(folder / "pictures.safetensors")
        self.general = load_file(folder / "general.safetensors")["vector"]
        self._maps: dict[str, Array] = {}
        self._of = ""
        ours = group.backbone.weights == "pretrained"
        self.start = str(_pretrained(folder, group.backbone)) if ours else group.backbone.weights

    def run(self, arm: Arm, masks: str) -> Array:
        """(n, N) probabilities of the test pictures, after training what the arm asks for."""
        if arm.kind == "tuned":
            return self._predicted(self._tuned(), self._images("test"))
        if arm.kind == "head":
            return self._head(arm, masks)
        if arm.kind == "masks_in":
            network = {**self._plain(), **arm.network}
            task = self._task(network, mask_channels=True, weights=self.start, freeze=self._freeze())
        else:
            task = self._task(arm.network, weights=self.start, backbone_lr=0.1)
            assert task.backbone is not None
            tuned = {k.removeprefix("backbone."): v for k, v in self._weights().items() if k.startswith("backbone.")}
            task.backbone.load_state_dict(tuned)
        self._fit(task, self._images("train", masks, flip=True), self.spec.finetuning)
        return self._predicted(task, self._images("test", masks))

    def _head(self, arm: Arm, masks: str) -> Array:
        if self._of != arm.maps:  # one pair of maps at a time: they are large
            self._maps, self._of = {}, arm.maps
            self._maps = {split: self._mapped(split) for split in ("train", "val", "test")}
        examples = {split: self._examples(split, masks, map=self._maps[split]) for split in self._maps}
        best, found = -1.0, np.zeros(0)
        for training in self.spec.heads:
            task = self._task(arm.network, training, cached=True, weights=self.start)
            self._fit(task, examples["train"], training)
            right = accuracy(
                self._labels.classes_of[self.rows["val"]], self._predicted(task, examples["val"]).argmax(1)
            )
            if right > best:
                best, found = right, self._predicted(task, examples["test"])
        return found

    def _plain(self) -> dict[str, Any]:
        """Switches of the backbone alone."""
        return {"use_regions": False, "use_general": False, "encoder": "none", "gate": "mean", "auxiliary": False}

    def _freeze(self) -> str | int:
        level = self.group.backbone.freeze or "none"
        return int(level) if level.isdigit() else level

    def _task(self, network: Mapping[str, Any], training: Training | None = None, **options: Any) -> StyleTask:
        uses_general = network.get("use_general", True)
        facts = {"classes": self.classes, "general": self.general.shape[1] if uses_general else 0}
        training = training or self.spec.finetuning
        return StyleTask(
            self.group.backbone.name,
            facts,
            size=self.spec.outfits.size,
            network={"dropout": training.dropout, **self.spec.network, **network},
            lr=training.lr,
            weight_decay=training.weight_decay,
            seed=self.group.seed,
            **{"backbone_lr": 1.0, **options},
        )

    def _weights(self) -> dict[str, torch.Tensor]:
        """Tensors of the fine-tuned backbone with its head; trained once."""
        group = self.group
        file = self.folder / "tuned" / f"{group.key('tuned', 'none')}.safetensors"

        def train(path: Path) -> None:
            task = self._task(self._plain(), weights=self.start, freeze=self._freeze())
            self._fit(task, self._images("train", flip=True), self.spec.finetuning)
            save_tensors({name: value.contiguous() for name, value in task.state_dict().items()}, path)

        _once(file, train)
        return load_tensors(file)

    def _tuned(self) -> StyleTask:
        task = self._task(self._plain(), weights=self.start)
        task.load_state_dict(self._weights())
        return task

    def _mapped(self, split: str) -> Array:
        """(n, C, h, w) float16."""
        task = self._tuned() if self._of == "tuned" else self._task(self._plain(), weights=self.start)
        task.eval()
        with torch.inference_mode():
            return np.concatenate([task.cells(batch).half().numpy() for batch in loader(self._images(split))])

    def _examples(self, split: str, masks: str = "none", flip: bool = False, **parts: Array) -> Arrays:
        rows = self.rows[split]
        if masks != "none":
            parts["masks"] = self._masks(masks)[rows]
        parts["general"] = self.general[rows]
        style = torch.from_numpy(self._labels.classes_of[rows])
        return Arrays(parts, {"style": style}, flip, self.group.seed)

    def _images(self, split: str, masks: str = "none", flip: bool = False) -> Arrays:
        return self._examples(split, masks, flip, image=self.pictures["image"][self.rows[split]])

    def _masks(self, name: str) -> Array:
        """(n, K, 32, 32) uint8 shares; `random-` moves each item's mask, `shuffled-` takes another picture's."""
        control, dash, provider = name.rpartition("-")
        masks = self.pictures[provider]
        if not dash:
            return masks
        rng = np.random.default_rng([self.group.seed, 2])
        if control == "shuffled":
            circle = rng.permutation(len(masks))
            found = np.empty_like(masks)
            found[circle] = masks[np.roll(circle, 1)]
            return found
        assert control == "random", f"no such control: {control}"
        found = np.empty_like(masks)
        for at in np.ndindex(masks.shape[:2]):
            found[at] = np.roll(masks[at], rng.integers(CELLS, size=2), axis=(0, 1))
        return found

    def _fit(self, task: L.LightningModule, examples: Arrays, training: Training) -> None:
        fit(task, loader(examples, training.batch, self.group.seed, shuffle=True), training.epochs)

    @torch.inference_mode()
    def _predicted(self, task: StyleTask, examples: Arrays) -> Array:
        task.eval()
        return np.concatenate([task(batch).logits.softmax(1).numpy() for batch in loader(examples)])


def _once(file: Path, write: Any) -> None:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, write)


def _pretrained(folder: Path, backbone: BackboneSpec) -> Path:
    return folder / "pretrained" / f"{backbone.name.split('/')[1]}.safetensors"


def _pictures(folder: Path) -> dict[str, Array]:
    """Images, and masks of each provider as shares of 32 x 32 cells."""
    catalog = Catalog(folder)
    labels: Labels = read_labels(catalog, "style")
    pictures = CatalogPictures(catalog, labels.ids)
    providers: dict[str, RegionProvider] = {"catalog": CatalogRegions(catalog), "bands": ForegroundBands()}
    images: list[Array] = []
    masks: dict[str, list[Array]] = {name: [] for name in providers}
    for row, name in enumerate(labels.ids):
        pixels = pictures.pixels(row)
        images.append(pixels)
        for provider, found in masks.items():
            whole = torch.from_numpy(providers[provider].regions(pixels, name))[None]
            share = shrink_masks(whole, (CELLS, CELLS), None)[0]
            found.append((share * 255).round().to(torch.uint8).numpy())
    assert all(m.shape == (len(ITEMS), CELLS, CELLS) for m in masks["catalog"])
    return {"image": np.stack(images), **{name: np.stack(found) for name, found in masks.items()}}


@torch.inference_mode()
def _general(spec: IrsnSpec, folder: Path) -> Array:
    """(n, G) float16 vectors of all outfits, not normed."""
    images = _pictures_of(folder)
    backbone = build_backbone(spec.general.name, spec.general.weights, spec.outfits.size)
    backbone.to(memory_format=torch.channels_last)
    found = []
    for lo in range(0, len(images), BATCH):
        x = as_tensor(images[lo : lo + BATCH], backbone.preprocess).to(memory_format=torch.channels_last)
        found.append(backbone.pooled(x).half().numpy())
    return np.concatenate(found)


def _pictures_of(folder: Path) -> Array:
    """(n, S, S, 3) uint8 of the outfits, straight from the catalogue."""
    catalog = Catalog(folder / "outfits")
    pictures = CatalogPictures(catalog, read_labels(catalog, "style").ids)
    return np.stack([pictures.pixels(row) for row in range(len(pictures))])


def _pretrain(spec: IrsnSpec, folder: Path, backbone: BackboneSpec) -> dict[str, torch.Tensor]:
    """Weights of a backbone that has learnt the attributes of other outfits: what ImageNet is to photos."""
    catalog = Catalog(folder / "others")
    statements = read_statements(catalog, least=min(20, 1 + spec.others.images // 20))
    train = [row for row, split in enumerate(statements.splits) if split == "train"]
    pictures = CatalogPictures(catalog, [statements.ids[row] for row in train])
    targets = Targets.encode(statements.specs, [statements.rows[row] for row in train])
    images = np.stack([pictures.pixels(row) for row in range(len(pictures))])
    specs = [{"name": s.name, "values": list(s.values), "exclusive": s.exclusive} for s in statements.specs]
    task = AttributeTask(
        backbone.name,
        {"specs": specs, "features": None},
        size=spec.outfits.size,
        freeze="none",
        colour=False,
        lr=spec.pretraining.lr,
        backbone_lr=1.0,
        weight_decay=spec.pretraining.weight_decay,
        seed=spec.others.seed,
    )
    examples = Arrays({"image": images}, {"values": targets.values, "state": targets.state}, True, spec.others.seed)
    fit(task, loader(examples, spec.pretraining.batch, spec.others.seed, shuffle=True), spec.pretraining.epochs)
    assert task.backbone is not None
    return {name: value.contiguous() for name, value in task.backbone.network.state_dict().items()}
