"""From a checkpoint of training to a model that answers questions.

    .ckpt ─► hyper-parameters: backbone, weights, network; facts: tokenizer, known answers ──┐
         ├─► state_dict: `network.`, and `backbone.network.` where pixels were read ─────────┼─► AnsweringModel
         └─► `temperature`, `preprocess` ────────────────────────────────────────────────────┘

Where training read cached features, the backbone gets the weights that made them. Where it read no pictures at all
(a blind network, or facts of the catalogue in place of maps), the model has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashionkit.models.answering import AnsweringModel, map_shape
from fashionkit.models.checkpoint import HINT, Checkpoint, answers_questions, part_of, read_checkpoint, trained_backbone
from fashionkit.models.tokenizer import Tokenizer
from fashionkit.models.vqa import build_vqa
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.tables import InputError
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.feature_store import feature_key
from fashionkit.vision.tensors import fill

NETWORK = "network."


def answering_from_checkpoint(file: str | Path, weights: str | Path | None = None) -> AnsweringModel:
    """The model that a task of answering had when it wrote a checkpoint.

    Args:
        file: The .ckpt. weights: Of the backbone, where they lie elsewhere than in training.

    Raises:
        InputError: The file is damaged, holds code, or is no checkpoint of such a task; or what it needs is not there.
    """
    file = Path(file)
    found = read_checkpoint(file)
    if not answers_questions(found):
        hint = "`fashionkit share` makes a model's folder of it, and `Embedder.load` loads that"
        raise InputError("this run learned to answer no questions", file=file, hint=hint)
    try:
        hyper, facts = found["hyper_parameters"], found["hyper_parameters"]["facts"]
        tokenizer = Tokenizer.from_text(facts["tokenizer"])
        backbone, licence = _backbone(found, weights, file)
        network = build_vqa(_config(hyper, len(tokenizer), backbone))
        fill(network, part_of(found["state_dict"], NETWORK), file)
        temperature = found["temperature"]
        return AnsweringModel(network, tokenizer, facts["answers"], backbone, temperature, licence=licence)
    except (KeyError, TypeError, AttributeError) as error:
        problem = f"this checkpoint lacks what its task should have written: {type(error).__name__}: {error}"
        raise InputError(problem, file=file, hint=HINT) from error


def _backbone(found: Checkpoint, weights: str | Path | None, file: Path) -> tuple[Backbone | None, str]:
    """The backbone that training had or whose features it read, and the licence of its weights; None without pictures.

    Raises:
        InputError: The weights are not those that made the features.
    """
    hyper, facts = found["hyper_parameters"], found["hyper_parameters"]["facts"]
    if facts["truth"] or (hyper["network"] or {}).get("blind"):
        return None, ""
    backbone, licence = trained_backbone(found, weights, file)
    if facts["features"] not in (None, feature_key(backbone)):
        problem = "training read features of other weights or another preparation than these"
        hint = "`weights` says where the weights that made them lie now"
        raise InputError(problem, file=file, column="features", found=backbone.name, hint=hint)
    return backbone, licence


def _config(hyper: Mapping[str, Any], words: int, backbone: Backbone | None) -> VqaConfig:
    """The network's settings: those of the run, with the sizes of its data."""
    facts, chosen = hyper["facts"], dict(hyper["network"] or {})
    channels, cells = facts["channels"], facts["cells"]
    if channels is None and backbone is not None:
        channels, *cells = map_shape(backbone)
    elif channels is None:  # a blind network, which is the same for maps of any size
        channels, cells = 1, [chosen.get("fold", 1)] * 2
    sizes = {"kind": hyper["kind"], "channels": channels, "cells": cells, "words": words}
    return VqaConfig.from_dict({**chosen, **sizes, "answers": len(facts["answers"])})
