"""The folder in which a model that answers questions is shared.

    config.json           which backbone, how pictures are prepared, the network's settings, known answers, temperature
    model.safetensors     the backbone; not there where the network is blind
    network.safetensors   the network
    tokenizer.json        the tokenizer
    README.md             the model's card

Nothing that can run code is loaded. A folder may come from anybody, so keys, sizes, texts and numbers are checked
before they are used, and it names no files outside itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fashionkit
from fashionkit.models.answering_card import answering_card
from fashionkit.models.model_card import Metrics
from fashionkit.models.model_folder import (
    ANSWERING,
    CARD,
    CONFIG,
    FORMAT,
    LARGEST,
    WEIGHTS,
    check_new,
    filled,
    read_backbone,
    read_config,
    write_tensors,
)
from fashionkit.models.tokenizer import Tokenizer
from fashionkit.models.vqa import VqaNetwork, build_vqa
from fashionkit.models.vqa_config import VqaConfig
from fashionkit.tables import InputError, write_text
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.tensors import State

if TYPE_CHECKING:
    from fashionkit.models.answering import AnsweringModel

NETWORK, TOKENIZER = "network.safetensors", "tokenizer.json"
NEEDED = ("kind", "network", "answers", "temperature", "cannot_tell")
KEYS = (*NEEDED, "backbone", "preprocess", "fingerprint", "format", "licence", "made_by")


class Parts(NamedTuple):
    """What a folder holds, in the order of the arguments of `AnsweringModel`, which checks it further."""

    network: VqaNetwork
    tokenizer: Tokenizer
    answers: list[str]
    backbone: Backbone | None
    temperature: float
    cannot_tell: float
    licence: str


def write_answering(model: AnsweringModel, folder: Path, about: str, metrics: Metrics) -> None:
    """Writes a model; arguments as for `AnsweringModel.save`, which says what is raised."""
    check_new(folder)
    if model.backbone is None and not model.config.blind:
        hint = "models of cached features are shared with the weights that made them"
        raise InputError("this model has no backbone, so nobody could show it pictures", hint=hint)
    network: object = model.network
    if not isinstance(network, VqaNetwork):  # one on a language tower may stand in for them
        raise InputError("a network of this kind is not shared as a folder", found=type(network).__name__)
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"format": FORMAT, "kind": ANSWERING}
    if model.backbone is not None:
        config |= {"backbone": model.backbone.name, "preprocess": model.backbone.preprocess.to_dict()}
        config["fingerprint"] = model.fingerprint
        write_tensors(folder / WEIGHTS, model.backbone.network)
    config |= {"network": model.config.to_dict(), "answers": model.answers, "temperature": model.temperature}
    config |= {"cannot_tell": model.cannot_tell, "licence": model.licence}
    config["made_by"] = f"fashionkit {fashionkit.__version__}"
    write_tensors(folder / NETWORK, model.network)
    write_text(folder / TOKENIZER, model.tokenizer.to_text())
    write_text(folder / CARD, answering_card(model, about, metrics))
    text = json.dumps(config, indent=1, allow_nan=False) + "\n"
    write_text(folder / CONFIG, text)  # last: it makes a model of the folder


def read_answering(folder: Path) -> Parts:
    """What a folder holds.

    Raises:
        InputError: It holds no such model, or something in it is damaged, does not fit or is not allowed.
    """
    config = read_config(folder, ANSWERING, NEEDED, KEYS)
    if not isinstance(config["answers"], list):
        raise InputError("answers are a list of texts", file=folder / CONFIG, column="answers", found=config["answers"])
    network = _read_network(folder, config["network"])
    return Parts(
        network,
        _read_tokenizer(folder),
        config["answers"],
        _read_backbone(folder, config, network.config.blind),
        config["temperature"],
        config["cannot_tell"],
        str(config.get("licence", "")),
    )


def _read_network(folder: Path, values: Any) -> VqaNetwork:
    if not isinstance(values, dict):
        raise InputError("no settings of a network", file=folder / CONFIG, column="network", found=values)
    config = VqaConfig.from_dict(values)

    def build(state: State) -> VqaNetwork:
        if config.layers + config.decoder_layers > len(state):  # layers cost time and memory even without tensors
            raise InputError(f"there are {len(state)} tensors", column="layers", found=config.layers)
        return build_vqa(config)

    try:
        return filled(folder / NETWORK, build)
    except (RuntimeError, TypeError, OverflowError) as error:  # what torch raises of a size that cannot be
        problem = f"the network cannot be built: {str(error).splitlines()[0]}"
        raise InputError(problem, file=folder / CONFIG, column="network") from error


def _read_backbone(folder: Path, config: dict[str, Any], blind: bool) -> Backbone | None:
    there = [key for key in ("backbone", "preprocess") if key in config]
    if len(there) != (0 if blind else 2) or (blind and (folder / WEIGHTS).exists()):
        problem = "a blind network has no backbone" if blind else "a network that looks needs `backbone`, `preprocess`"
        raise InputError(problem, file=folder / CONFIG, column="backbone", found=config.get("backbone"))
    return read_backbone(folder, config) if there else None


def _read_tokenizer(folder: Path) -> Tokenizer:
    file = folder / TOKENIZER
    if not file.is_file():
        raise InputError("the tokenizer is missing", file=file)
    if file.stat().st_size > LARGEST:
        raise InputError(f"no tokenizer has more than {LARGEST >> 20} MiB", file=file)
    try:
        return Tokenizer.from_text(file.read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"the tokenizer is damaged: {error}", file=file) from error
    except UnicodeDecodeError as error:
        raise InputError("the tokenizer is damaged: it is no text", file=file) from error
