"""Whole models with random weights, small enough for tests: backbone, attribute heads, style network, answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from fashionkit.models.answering import AnsweringModel
from fashionkit.models.attribute_model import AttributeModel
from fashionkit.models.attributes import AttributeSpec
from fashionkit.models.calibration import Calibration
from fashionkit.models.irsn import Irsn, IrsnConfig
from fashionkit.models.style_model import StyleModel
from fashionkit.models.tokenizer import Tokenizer
from fashionkit.models.vision_model import General, VisionModel
from fashionkit.models.vqa import build_vqa
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.vision.backbones import Backbone, build_backbone

SIZE = 64
ARCH, OTHER = "timm/test_efficientnet", "timm/test_vit"
CLASSES = ("casual", "formal", "sporty")
SPECS = (AttributeSpec("colour", ("red", "green", "blue")), AttributeSpec("detail", ("lace", "zip"), exclusive=False))

ANSWERS = ("yes", "no", "not present", "2", "red", "dark red", "light red", "v-neck", "blue")
QUESTIONS = ("what colour is the dress?", "is there a hat?", "how many pockets has the coat?", "kleid größe?")


def tiny_backbone(name: str = ARCH, seed: int = 1, size: int = SIZE) -> Backbone:
    """A backbone of random weights."""
    return build_backbone(name, f"random:{seed}", size)


def tiny_attributes(dim: int, **options: Any) -> AttributeModel:
    """Heads whose calibration is not the identity."""
    torch.manual_seed(3)
    model = AttributeModel(dim, SPECS, **options)
    shift = {"values/colour": [0.2, 0.0, -0.1], "state/detail": [0.5, 0.0, 0.0]}
    model.calibration = Calibration({"values/colour": 1.7, "state/colour": 0.6, "values/detail": 2.0}, shift)
    return model


def tiny_style(channels: int, general: int = 0, temperature: float = 1.5, **switches: Any) -> StyleModel:
    """A style network that looks at bands."""
    torch.manual_seed(4)
    options = {"width": 16, "heads": 2, **switches}
    return StyleModel(Irsn(IrsnConfig(len(CLASSES), channels, general, **options)), CLASSES, "bands", temperature)


def tiny_model(general: str | None = None, **switches: Any) -> VisionModel:
    """All parts. general: `copy`, or where anybody gets the general backbone's weights; None: without one."""
    backbone = tiny_backbone()
    beside = None
    if general is not None:
        other = build_backbone(OTHER, "random:2" if general == "copy" else general, SIZE)
        beside = General(other, None if general == "copy" else general)
    style = tiny_style(backbone.channels, 0 if beside is None else beside.backbone.dim, **switches)
    return VisionModel(backbone, tiny_attributes(backbone.dim), style, beside, "Apache-2.0")


def tiny_tokenizer() -> Tokenizer:
    """Of a few questions and the known answers; it knows the letters of German."""
    return Tokenizer.train([*QUESTIONS, *ANSWERS] * 3, 320)


def tiny_answering(kind: str = "vlm", *, sharp: float = 20.0, eyes: bool = True, **settings: Any) -> AnsweringModel:
    """A model that answers questions; `sharp`: how many times its weights are those of the start, so that it chooses.

    Args:
        kind: Of the network. eyes: It has a backbone. settings: Of the network, else `temperature` and so on.
    """
    others = {key: settings.pop(key) for key in ("temperature", "cannot_tell", "licence") if key in settings}
    backbone, tokenizer = tiny_backbone(), tiny_tokenizer()
    sizes = {"channels": backbone.channels, "cells": (2, 2), "words": len(tokenizer), "answers": len(ANSWERS)}
    small = {"width": 16, "layers": 2, "decoder_layers": 1, "heads": 2, "feed": 32, "embedding": 12, "answer_length": 8}
    torch.manual_seed(5)
    network = build_vqa(VqaConfig.from_dict({"kind": kind, **sizes, **small, **settings}))
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1 and "position" not in name:
                value *= sharp
    return AnsweringModel(network, tokenizer, ANSWERS, backbone if eyes else None, **others)


def made_up(n: int, seed: int = 0) -> list[Image.Image]:
    """Pictures of some structure, of several sizes."""
    rng = np.random.default_rng(seed)
    small = [rng.integers(0, 256, (6, 5, 3), dtype=np.uint8) for _ in range(n)]
    return [Image.fromarray(s).resize((70 + 9 * i, 90 + 5 * i), Image.Resampling.BICUBIC) for i, s in enumerate(small)]
