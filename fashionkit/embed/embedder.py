"""Pictures and texts as vectors, attributes and styles: the small API that applications import.

    images ──► `vision.pictures` (one preparation) ──► backbone ──┬──► pooled ──► unit norm ──► (N, D)
                            │                                     ├──► map x regions ──► (N, R, C), present (N, R)
                            └─► colours of the same pixels ──┐    └──► map, masks ──► style network ──► (N, C)
                                              pooled ────────┴──► attribute heads ──► state and values of each
    texts ───────────────────────────────────► text tower ──► unit norm ──► (N, D), where the backbone has one

A model on disk is a folder; `fashionkit.models.vision_model` says what is in it.

Letters: N pictures or texts, D width of a vector, R regions, C channels of the map or classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fashionkit.catalog.images import PictureError
from fashionkit.embed.answers import Answers, StyleAnswer, answers_of
from fashionkit.embed.names import check_name
from fashionkit.embed.picture_batches import batches, check_broken, listed, mask_of, read_picture
from fashionkit.embed.style_inputs import StyleInputs, as_provider, style_network
from fashionkit.models.calibration import predict
from fashionkit.models.model_card import Metrics
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.memory import keep_memory
from fashionkit.vision.pictures import as_tensor, sized, sized_masks
from fashionkit.vision.pooling import present, region_pool, shrink_masks
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.region_base import ITEMS, RegionProvider

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]


class Embedder:
    """Turns pictures into vectors of unit norm, and into what a model's heads say of them.

    Args:
        model: A model, or a backbone alone; it is put in evaluation mode. device: Where it runs.
        batch: Pictures of one pass.

    Attributes:
        dim: D. preprocess: How pictures are prepared.
        fingerprint: Of weights and preprocessing: equal for equal vectors.
    """

    def __init__(self, model: VisionModel | Backbone, device: str | torch.device = "cpu", batch: int = 32):
        if batch < 1:
            raise InputError("a batch has at least 1 picture", found=batch)
        self.device, self.batch = torch.device(device), batch
        self.model = (VisionModel(model) if isinstance(model, Backbone) else model).to(self.device)
        self.backbone = self.model.backbone
        if self.device.type == "cpu":
            keep_memory()
            self.backbone.to(memory_format=torch.channels_last)

    @classmethod
    def load(
        cls,
        model: str | Path,
        weights: str | Path | None = None,
        size: int | None = None,
        device: str | torch.device = "cpu",
        batch: int = 32,
        download: bool = False,
    ) -> Embedder:
        """An embedder by the name of its backbone, or from a folder that `save` or `fashionkit share` wrote.

        Args:
            model: `timm/<arch>`, `open_clip/<arch>`, or a folder. weights: Of a named backbone; see
                `fashionkit.vision.weights`. It must be said: random weights are never a default here.
            size: Side of the input in pixels, where not the weights' own. device, batch: As for the class.
            download: See `VisionModel.load`.

        Raises:
            InputError: No such model or weights, or a folder that holds something else.
        """
        folder = Path(model)
        if folder.is_dir():
            if weights is not None:
                raise InputError("a saved model has its own weights", file=folder, column="weights", found=str(weights))
            return cls(VisionModel.load(folder, size, download), device, batch)
        check_name(str(model), weights)
        return cls(build_backbone(str(model), weights, size), device, batch)

    def save(self, folder: str | Path, about: str = "", metrics: Metrics = ()) -> Path:
        """Writes the model for others: weights, configuration and a card; see `VisionModel.save`."""
        return self.model.save(folder, about, metrics)

    @property
    def name(self) -> str:
        """Of the backbone."""
        return self.backbone.name

    @property
    def dim(self) -> int:
        """D."""
        return self.backbone.dim

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are prepared."""
        return self.backbone.preprocess

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the backbone's weights and preprocessing."""
        return self.model.fingerprint

    def embed(self, images: Sequence[object] | object, on_error: str = "raise") -> Floats:
        """(N, D) float32 of unit norm, in the order of the pictures.

        Args:
            images: One picture or a sequence, each a path, bytes, a Pillow picture, an array `(H, W, 3)` uint8 or a
                tensor `(3, H, W)`; URLs are refused.
            on_error: `raise`, or `skip`: a broken picture's row is masked in a `numpy.ma.MaskedArray`.

        Raises:
            InputError: A picture cannot be read; the error names its index.
        """
        images = listed(images, on_error)
        found = np.zeros((len(images), self.dim), np.float32)
        broken: dict[int, PictureError] = {}
        for rows, pixels in batches(images, self.batch, self._sized, on_error, broken):
            found[rows] = self.embed_prepared(pixels)
        return _masked(found, broken) if on_error == "skip" else found

    @torch.inference_mode()
    def embed_prepared(self, pixels: Sequence[Pixels]) -> Floats:
        """(n, D) float32 of unit norm of pictures that `vision.pictures.sized` made, in one pass.

        Args:
            pixels: n of (S, S, 3) uint8.
        """
        return _unit(self.backbone.pooled(self.tensor(pixels)))

    @torch.inference_mode()
    def regions(
        self,
        images: Sequence[object] | object,
        provider: RegionProvider | str,
        ids: Sequence[str] | None = None,
        on_error: str = "raise",
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """(N, R, C) float32 vectors of the items of each picture, of unit norm, and (N, R) bool whether one is there.

        Args:
            images, on_error: As `embed`. provider: Finds the regions: an object of
                `vision.regions`, or the name of one that needs no more, e.g. `foreground`.
            ids: N picture ids, for providers that look them up.

        Raises:
            InputError: As `embed`; ids of another number; or no such provider.
        """
        images, provider = listed(images, on_error), as_provider(provider)
        ids = [str(number) for number in range(len(images))] if ids is None else ids
        if len(ids) != len(images):
            raise InputError("one id is needed for each picture", found=f"{len(ids)} ids, {len(images)} pictures")
        vectors: list[Floats] = []
        there: list[npt.NDArray[np.bool_]] = []
        broken: dict[int, PictureError] = {}
        order = []
        for number, image in enumerate(images):
            try:
                picture = read_picture(image)
            except PictureError as error:
                check_broken(number, error, on_error)
                broken[number] = error
                continue
            masks = torch.from_numpy(sized_masks(provider.regions(picture, ids[number]), self.preprocess))[None]
            x = self.backbone.spatial(self.tensor([sized(picture, self.preprocess)])).float().cpu()
            pooled = region_pool(x, shrink_masks(masks, (x.shape[2], x.shape[3])))  # 1 R C
            vectors.append(F.normalize(pooled[0], dim=1).numpy())
            there.append(present(masks)[0].numpy())
            order.append(number)
        shape = vectors[0].shape if vectors else (len(ITEMS), self.backbone.channels)
        found, seen = np.zeros((len(images), *shape), np.float32), np.zeros((len(images), shape[0]), bool)
        if order:
            found[order], seen[order] = np.stack(vectors), np.stack(there)
        return (_masked(found, broken) if on_error == "skip" else found), seen

    @torch.inference_mode()
    def attributes(self, images: Sequence[object] | object, on_error: str = "raise") -> list[Answers | None]:
        """What the model says of each attribute of each picture; N mappings in the order of the pictures.

        Args:
            images: As `embed`. on_error: `raise`, or `skip`: None stands for a broken picture.

        Raises:
            InputError: As `embed`; or the model has no attribute heads.
        """
        heads = self.model.attributes
        if heads is None:
            hint = "load a folder of a model that was trained on attributes (`fashionkit share` writes one)"
            raise InputError(f"this model names no attributes: it is {self.name} alone", hint=hint)
        images = listed(images, on_error)
        found: list[Answers | None] = [None] * len(images)
        for rows, pixels in batches(images, self.batch, self._sized, on_error, {}):
            vectors = self.backbone.pooled(self.tensor(pixels))
            output = heads(heads.inputs(vectors, torch.from_numpy(np.stack(pixels)).to(self.device)))
            answers = answers_of(predict(output, heads.specs, heads.calibration), heads.specs)
            for row, answer in zip(rows, answers, strict=True):
                found[row] = answer
        return found

    @torch.inference_mode()
    def style(
        self,
        images: Sequence[object] | object,
        ids: Sequence[str] | None = None,
        provider: RegionProvider | str | None = None,
        on_error: str = "raise",
    ) -> StyleAnswer:
        """The style of each picture, with how much each item counted.

        Args:
            images, on_error: As `embed`; rows of broken pictures are masked with `skip`.
            ids: N picture ids, for providers that look them up.
            provider: Finds the items, as for `regions`; None: the one that the model was trained with.

        Raises:
            InputError: As `embed`; or the model names no styles, or needs a provider that cannot be built here.
        """
        style, images = style_network(self.model), listed(images, on_error)
        inputs = StyleInputs(self.model, len(images), ids, provider)
        shape = (len(images), len(style.streams))
        broken: dict[int, PictureError] = {}
        probability, gates = np.zeros((len(images), len(style.classes)), np.float32), np.zeros(shape, np.float32)
        held = np.zeros(shape, bool)
        for rows, prepared in batches(images, self.batch, inputs, on_error, broken):
            cells = self.backbone.spatial(self.tensor([each.pixels for each in prepared]))
            output = style(cells, *inputs.beside(prepared, self.device))
            for whole, part in zip((probability, gates, held), output, strict=True):
                whole[rows] = part.cpu().numpy()
        if on_error == "skip":
            probability, gates = _masked(probability, broken), _masked(gates, broken)
        return StyleAnswer(style.classes, probability, style.streams, gates, held)

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Floats:
        """(N, D) float32 of unit norm, comparable with `embed` of the same model.

        Raises:
            InputError: The backbone has no text tower.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            return np.zeros((0, self.dim), np.float32)
        parts = [listed[lo : lo + self.batch] for lo in range(0, len(listed), self.batch)]
        return np.concatenate([_unit(self.backbone.text(part)) for part in parts])

    def _sized(self, rows: list[int], pictures: list[Image.Image]) -> list[Pixels]:
        return [sized(picture, self.preprocess) for picture in pictures]

    def tensor(self, pixels: Sequence[Pixels]) -> Tensor:
        """(n, 3, S, S) of n prepared pictures, normalised, on the device."""
        x = as_tensor(pixels, self.preprocess).to(self.device)
        return x.to(memory_format=torch.channels_last) if self.device.type == "cpu" else x


def _unit(vectors: Tensor) -> Floats:
    found: Floats = F.normalize(vectors.float(), dim=1).cpu().numpy()
    return found


def _masked(found: Floats, broken: dict[int, PictureError]) -> Floats:
    mask = np.broadcast_to(mask_of(broken, len(found)).reshape(-1, *[1] * (found.ndim - 1)), found.shape)
    masked: Any = np.ma.MaskedArray(found, mask=mask)
    return masked
