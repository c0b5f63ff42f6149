"""Why a model says what it says of a picture: which items counted, where in them, and what changes without each.

    picture ─► map (1, C, h, w) ─► style network ─► logit of the likeliest class
                 ▲                                        │
                 └──────── gradient, within each item ◄───┘ ─► heat of each item
    masks, one of them emptied ─► style network again ─► probabilities without that item

Heat is Grad-CAM (Selvaraju et al., arXiv 1610.02391) with weights of channels averaged over the cells of one item
instead of the whole map; that, and leaving out one item after the other, are our own.

Letters: C channels of the map or classes, K items, S side of the input in pixels, h × w cells of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fashionkit.catalog.images import PictureError
from fashionkit.embed.answers import Answers, StyleAnswer
from fashionkit.embed.embedder import Embedder
from fashionkit.embed.picture_batches import ON_ERROR, read_picture
from fashionkit.embed.style_inputs import StyleInput, StyleInputs, style_network
from fashionkit.models.style_model import StyleModel
from fashionkit.tables import InputError
from fashionkit.vision.pictures import sized
from fashionkit.vision.pooling import shrink_masks
from fashionkit.vision.region_base import ITEMS, RegionProvider

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ItemEvidence:
    """What one item does for the likeliest class.

    Attributes:
        name: One of `ITEMS`. there: Whether the network sees it. share: Of the picture, 0..1. gate: Mean over channels.
        mask: (S, S) bool. heat: (S, S) float32, 0..1 within the mask; 1 is the most of all items of the picture.
        without: (C,) probabilities with the item's mask emptied.
    """

    name: str
    there: bool
    share: float
    gate: float
    mask: npt.NDArray[np.bool_]
    heat: Floats
    without: Floats


@dataclass(frozen=True)
class Explanation:
    """What a model says of one picture, and why.

    Attributes:
        name: Of the picture. pixels: (S, S, 3) uint8, what the network sees. style: Of this picture alone; None where
            the model names no styles. items: K; none where the network looks at no items.
        attributes: None where the model names none.
        problem: Why the picture could not be read, and then there is nothing else; empty where it could.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    style: StyleAnswer | None
    items: tuple[ItemEvidence, ...]
    attributes: Answers | None
    problem: str = ""


def explain(
    model: Embedder,
    images: Sequence[object],
    names: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    provider: RegionProvider | str | None = None,
    on_error: str = "raise",
) -> list[Explanation]:
    """Explains pictures one by one.

    Args:
        model: With a style network, attribute heads, or both.
        images: As `Embedder.embed`; a `PictureError` stands for one that could not be had.
        names: What they are called; their numbers without it. ids, provider: As `Embedder.style`.
        on_error: `raise`, or `skip`: of a broken picture the explanation has a `problem` and nothing else.

    Raises:
        InputError: The model says nothing that could be explained, or a picture cannot be read.
    """
    if model.model.style is None and model.model.attributes is None:
        hint = "a model with a style network or attribute heads is needed; `fashionkit share` writes one"
        raise InputError(f"{model.name} gives vectors alone, and there is nothing to explain", hint=hint)
    if on_error not in ON_ERROR:
        raise InputError("cannot treat broken pictures so", found=on_error, allowed=ON_ERROR)
    names = [f"picture {number}" for number in range(len(images))] if names is None else names
    found = []
    inputs = None if model.model.style is None else StyleInputs(model.model, len(images), ids, provider)
    for row, (image, name) in enumerate(zip(images, names, strict=True)):
        try:
            found.append(_explained(model, inputs, row, image, name))
        except PictureError as error:
            if on_error == "raise":
                raise InputError(f"{name}: {error}") from error
            found.append(Explanation(name, np.zeros((0, 0, 3), np.uint8), None, (), None, str(error)))
    return found


def _explained(model: Embedder, inputs: StyleInputs | None, row: int, image: object, name: str) -> Explanation:
    """One picture; raises PictureError where it cannot be read."""
    if isinstance(image, PictureError):
        raise image
    picture, style = read_picture(image), None
    items: tuple[ItemEvidence, ...] = ()
    if inputs is not None:
        style, items = _style(model, inputs, inputs([row], [picture])[0])
    answers = None if model.model.attributes is None else model.attributes([picture])[0]
    return Explanation(name, sized(picture, model.preprocess), style, items, answers)


def _style(model: Embedder, inputs: StyleInputs, prepared: StyleInput) -> tuple[StyleAnswer, tuple[ItemEvidence, ...]]:
    network = style_network(model.model)
    with torch.no_grad():
        cells = model.backbone.spatial(model.tensor([prepared.pixels]))  # (1, C, h, w)
        masks, general = inputs.beside([prepared], model.device)
        output = network(cells, masks, general)
    probability, gates, held = (part.cpu().numpy() for part in output)
    answer = StyleAnswer(network.classes, probability, network.streams, gates, held)
    if masks is None:
        return answer, ()
    heat = _heat(network, cells, masks, general, int(probability[0].argmax()))
    without = _without(network, cells, masks, general)
    first = len(network.streams) - len(ITEMS)  # items come last
    plain = masks[0].cpu().numpy()
    rows = zip(ITEMS, held[0, first:], gates[0, first:], plain, heat, without, strict=True)
    return answer, tuple(
        ItemEvidence(name, bool(there), float(mask.mean()), float(gate), mask, part, others)
        for name, there, gate, mask, part, others in rows
    )


def _heat(network: StyleModel, cells: Tensor, masks: Tensor, general: Tensor | None, best: int) -> Floats:
    """(K, S, S): where in each item the map speaks for a class."""
    config = network.irsn.config
    with torch.enable_grad():
        leaf = cells.detach().clone().requires_grad_()
        logit = network.irsn(leaf, masks, general).logits[0, best]
        (gradient,) = torch.autograd.grad(logit, leaf)  # (1, C, h, w)
    within = shrink_masks(masks, (cells.shape[2], cells.shape[3]), None if config.soft_masks else config.threshold)
    within = within.to(cells)  # (1, K, h, w)
    area = within.sum((2, 3)).clamp(min=1e-6)  # (1, K)
    weights = torch.einsum("bchw,bkhw->bkc", gradient, within) / area[:, :, None]
    heat = torch.einsum("bkc,bchw->bkhw", weights, cells).relu()  # (1, K, h, w)
    heat = F.interpolate(heat, masks.shape[2:], mode="bilinear", align_corners=False) * masks
    found: Floats = (heat / heat.amax().clamp(min=1e-12))[0].cpu().numpy()
    return found


@torch.no_grad()
def _without(network: StyleModel, cells: Tensor, masks: Tensor, general: Tensor | None) -> Floats:
    """(K, C): probabilities with the mask of each item emptied in its turn."""
    k = masks.shape[1]
    emptied = masks.repeat(k, 1, 1, 1)  # (K, K, S, S)
    emptied[torch.arange(k), torch.arange(k)] = False
    several: Any = None if general is None else general.expand(k, -1)
    found: Floats = network(cells.expand(k, -1, -1, -1), emptied, several).probability.cpu().numpy()
    return found


def heated(pixels: npt.NDArray[np.uint8], heat: Floats) -> Image.Image:
    """The picture in grey, with heat over it.

    Args:
        pixels: (S, S, 3) uint8. heat: (S, S), 0..1.
    """
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[:, :, None]
    grey = 70 + 0.6 * grey  # pale, so that the colours stand out
    at, stops = np.array([stop for stop, _ in HEAT]), np.array([colour for _, colour in HEAT], np.float32)
    colour = np.stack([np.interp(heat, at, stops[:, channel]) for channel in range(3)], axis=2)
    cover = 0.85 * np.minimum(1, 2.5 * heat)[:, :, None]
    return Image.fromarray(np.rint(grey * (1 - cover) + colour * cover).astype(np.uint8))


# From little to much; brightness rises all the way, so that the order is seen without colours, too.
HEAT = (
    (0.0, (70, 20, 110)),
    (0.35, (165, 40, 110)),
    (0.65, (235, 95, 50)),
    (0.85, (250, 175, 40)),
    (1.0, (252, 250, 150)),
)
