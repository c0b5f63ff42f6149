"""The folder in which a model is shared: a backbone, heads for attributes and style, and what they need.

    config.json              which backbone, how pictures are prepared, what the heads are; plain types, no paths
    model.safetensors        the backbone
    attributes.safetensors   heads of attributes, where the model has them
    style.safetensors        the style network, where the model has one
    general/                 the frozen backbone of its general vector, a folder of the same kind, where it is not named
    README.md                the model's card

Nothing that can run code is loaded: JSON and safetensors. A folder may come from anybody, so keys, sizes, names and
numbers are checked before they are used, and it names no files outside itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fashionkit
from fashionkit.models import model_folder
from fashionkit.models.attribute_model import AttributeModel
from fashionkit.models.model_card import Metrics, model_card
from fashionkit.models.model_folder import CARD, CONFIG, FORMAT, WEIGHTS, check_new, write_tensors
from fashionkit.models.style_model import StyleModel
from fashionkit.tables import InputError, write_text
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.feature_store import feature_key
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.weights import parse_source

GENERAL = "general"
HEADS = {"attributes": "attributes.safetensors", "style": "style.safetensors"}
NEEDED = ("backbone", "preprocess")
KEYS = (*NEEDED, "format", "dim", "fingerprint", "made_by", "licence", "general", *HEADS)
GENERAL_KEYS = ("backbone", "weights", "size", "unit", "fingerprint")


@dataclass(frozen=True)
class General:
    """The frozen backbone whose vector a style network takes beside the map.

    Attributes:
        backbone: It. weights: Where anybody gets its weights: `offline`, `hub`, `hub:TAG` or `random:SEED`; None: they
            are copied into the model's folder.
        unit: The network takes its vectors at unit norm, as `fashionkit embed` writes them, and not as they are.
    """

    backbone: Backbone
    weights: str | None = None
    unit: bool = False

    def vectors(self, x: Tensor) -> Tensor:
        """(B, G) of (B, 3, S, S) prepared pictures."""
        found = self.backbone.pooled(x).float()
        return F.normalize(found, dim=1) if self.unit else found


class VisionModel:
    """A backbone with what was trained on it.

    Args:
        backbone: Its tensors and preprocessing are the model's. attributes: Heads on its vector. style: A network on
            its map. general: For a style network that takes a general vector. licence: Of the weights.

    Raises:
        InputError: Parts that do not fit each other.
    """

    def __init__(
        self,
        backbone: Backbone,
        attributes: AttributeModel | None = None,
        style: StyleModel | None = None,
        general: General | None = None,
        licence: str = "",
    ):
        if attributes is not None and attributes.dim != backbone.dim:
            raise InputError(f"the vector has {backbone.dim} numbers, the heads take {attributes.dim}", column="dim")
        if style is not None and style.irsn.config.channels != backbone.channels:
            problem = f"the map has {backbone.channels} channels, the style network takes {style.irsn.config.channels}"
            raise InputError(problem, column="channels")
        wanted, there = 0 if style is None else style.general, 0 if general is None else general.backbone.dim
        if wanted != there:
            problem = (
                f"the style network takes a general vector of {wanted} numbers, and the general backbone gives {there}"
            )
            raise InputError(problem, column="general", hint="0 is none")
        self.backbone, self.attributes, self.style, self.general = backbone, attributes, style, general
        self.licence = licence
        for part in self._parts():
            part.eval()

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are prepared."""
        return self.backbone.preprocess

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the backbone's weights and preprocessing."""
        return feature_key(self.backbone)

    def to(self, device: str | torch.device) -> VisionModel:
        """Moves all parts."""
        for part in self._parts():
            part.to(device)
        return self

    def _parts(self) -> list[nn.Module]:
        parts = [self.backbone, self.attributes, self.style, None if self.general is None else self.general.backbone]
        return [part for part in parts if part is not None]

    def save(self, folder: str | Path, about: str = "", metrics: Metrics = ()) -> Path:
        """Writes the model for others.

        Args:
            folder: New, or empty. about: What it was trained on, for the card.
            metrics: For the card: name → number, or rows of a table.

        Raises:
            InputError: The folder holds something, or is a file.
        """
        folder = Path(folder)
        check_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {"format": FORMAT, "backbone": self.backbone.name}
        config |= {"preprocess": self.preprocess.to_dict(), "dim": self.backbone.dim, "fingerprint": self.fingerprint}
        write_tensors(folder / WEIGHTS, self.backbone.network)
        for name, file in HEADS.items():
            part = getattr(self, name)
            if part is not None:
                config[name] = part.to_dict()
                write_tensors(folder / file, part)
        if self.general is not None:
            config["general"] = _general_config(self.general)
            if self.general.weights is None:
                VisionModel(self.general.backbone).save(folder / GENERAL, "The frozen backbone of a style network.")
        config |= {"licence": self.licence, "made_by": f"fashionkit {fashionkit.__version__}"}
        write_text(folder / CARD, model_card(self, about, metrics, self.licence))
        write_text(
            folder / CONFIG, json.dumps(config, indent=1, allow_nan=False) + "\n"
        )  # last: it makes a model of it
        return folder

    @classmethod
    def load(cls, folder: str | Path, size: int | None = None, download: bool = False) -> VisionModel:
        """The model that `save` wrote, or a folder of a backbone alone.

        Args:
            folder: It. size: Side of the input in pixels, where not the model's own.
            download: The hub may be asked for a general backbone that the folder names but does not hold.

        Raises:
            InputError: The folder holds no model, or something in it is damaged, does not fit or is not allowed.
        """
        folder = Path(folder)
        config = read_config(folder)
        backbone = model_folder.read_backbone(folder, config, size)
        if config.get("dim", backbone.dim) != backbone.dim:
            problem = f"{config['backbone']} gives vectors of {backbone.dim} numbers"
            raise InputError(problem, file=folder / CONFIG, column="dim", found=config["dim"])
        try:
            general = _read_general(folder, config.get("general"), download)
            return cls(
                backbone,
                _read_head(folder, "attributes", AttributeModel, config),
                _read_head(folder, "style", StyleModel, config),
                general,
                str(config.get("licence", "")),
            )
        except InputError as error:
            if error.file is None:
                error.add_note(f"  in {folder / CONFIG}")
            raise


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a model's folder, its keys checked; raises as `model_folder.read_config`."""
    return model_folder.read_config(folder, model_folder.VISION, NEEDED, KEYS)


def _read_head(folder: Path, name: str, kind: type[Any], config: Mapping[str, Any]) -> Any:
    """A head filled with its tensors; None where the model has none."""
    file = folder / HEADS[name]
    if config.get(name) is None:
        if file.exists():
            raise InputError(f"{CONFIG} says nothing of this file", file=file, column=name)
        return None
    if not isinstance(config[name], dict):
        raise InputError("no configuration of a head", file=folder / CONFIG, column=name, found=config[name])
    return model_folder.filled(file, lambda _: kind.from_dict(config[name]))


def _read_general(folder: Path, config: Any, download: bool) -> General | None:
    """The frozen backbone beside the style network: from its subfolder, or from where its weights come from."""
    if config is None:
        return None
    path = folder / CONFIG
    if not isinstance(config, dict) or set(config) != set(GENERAL_KEYS) or not isinstance(config["unit"], bool):
        raise InputError("no configuration of a general backbone", file=path, column="general", found=config)
    weights = config["weights"]
    if weights is None:
        found = General(VisionModel.load(folder / GENERAL).backbone, unit=config["unit"])
    else:
        _check_source(weights, path)
        if weights.partition(":")[0] == "hub" and not download:
            hint = "say download=True (on the command line: --download)"
            raise InputError("the general backbone comes from the hub", file=path, found=config["backbone"], hint=hint)
        found = General(build_backbone(config["backbone"], weights, config["size"]), weights, config["unit"])
    if feature_key(found.backbone) != config["fingerprint"]:
        problem = "the general backbone has other weights than the one that this model was trained with"
        raise InputError(problem, file=path, column="general", found=config["backbone"])
    return found


def _general_config(general: General) -> dict[str, Any]:
    backbone = general.backbone
    if general.weights is not None:
        _check_source(general.weights, None)
    values = (backbone.name, general.weights, backbone.preprocess.size, general.unit, feature_key(backbone))
    return dict(zip(GENERAL_KEYS, values, strict=True))


def _check_source(weights: object, file: Path | None) -> None:
    """Weights that a folder names are those that anybody can get: never a path."""
    if not isinstance(weights, str) or (weights != "offline" and weights.partition(":")[0] not in ("hub", "random")):
        hint = "offline, hub, hub:TAG or random:SEED; weights of a file are copied into the folder (None)"
        raise InputError("a shared model names no files", file=file, column="weights", found=weights, hint=hint)
    parse_source(weights)
