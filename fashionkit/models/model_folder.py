"""What folders of all shared models have in common: a configuration, tensors, and the care with which they are read.

    config.json ─► `read_config`: size, JSON, kind, format, keys ─► the model's own module
    *.safetensors ─► `filled`: built without memory, shapes compared, numbers finite ─► network

A folder may come from anybody: nothing in it is run, and what it says is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from fashionkit.tables import InputError, write_atomic
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.tensors import State, fill, read_tensors

FORMAT = 1
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
LARGEST = 16 << 20  # bytes of a configuration
# What there is to load: kind → what it does, and who loads it. Folders without a kind are the oldest.
VISION, ANSWERING = "vision", "answering"
KINDS = {
    VISION: ("gives vectors, attributes and styles", "`Embedder.load(FOLDER)` loads it"),
    ANSWERING: ("answers questions", "`VQAModel.load(FOLDER)` loads it, `fashionkit ask` asks it"),
}
Part = TypeVar("Part", bound=nn.Module)


def check_new(folder: Path) -> None:
    """Refuses a folder that a model cannot be written to.

    Raises:
        InputError: It holds something, or is a file.
    """
    if folder.is_file():
        raise InputError("there is something already, and it is a file", file=folder, hint="name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError("there is something already", file=folder, hint="name a new folder")


def read_config(folder: Path, kind: str, needed: Collection[str], keys: Collection[str]) -> dict[str, Any]:
    """The configuration of a model's folder, its keys checked.

    Args:
        folder: It. kind: One of KINDS. needed: Keys that must be there. keys: All that may be.

    Raises:
        InputError: There is none, or it is damaged, of another kind or a newer version, or has unknown keys.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise _no_model(folder)
    config = read_json(path)
    if config.get("format", FORMAT) != FORMAT:
        hint = "a newer fashionkit wrote it: pip install -U fashionkit"
        raise InputError("a model of another format", file=path, column="format", found=config["format"], hint=hint)
    _check_kind(config, kind, path)
    if any(key not in config for key in needed):
        raise InputError(f"the configuration is damaged: it needs {' and '.join(needed)}", file=path)
    for key in config:
        if key not in keys:
            raise InputError("unknown key of a model", file=path, column=key, found=key, allowed=keys)
    return config


def read_json(path: Path) -> dict[str, Any]:
    """The mapping that a JSON file holds.

    Raises:
        InputError: It is too large, damaged, or no mapping.
    """
    if path.stat().st_size > LARGEST:
        raise InputError(f"no configuration has more than {LARGEST >> 20} MiB", file=path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the configuration is damaged: {error}", file=path) from error
    if not isinstance(config, dict):
        raise InputError("the configuration is damaged: it is no mapping", file=path)
    return config


def read_backbone(folder: Path, config: dict[str, Any], size: int | None = None) -> Backbone:
    """The backbone of a folder, by its name and preprocessing in the configuration.

    Args:
        size: Side of the input in pixels, where not the model's own.

    Raises:
        InputError: It has no such name or preprocessing, or its tensors are missing, damaged or do not fit.
    """
    path = folder / CONFIG
    if not (folder / WEIGHTS).is_file():
        raise _no_model(folder)
    if not isinstance(config["backbone"], str):
        raise InputError("a backbone has a name", file=path, column="backbone", found=config["backbone"])
    try:
        how = Preprocess.from_dict(config["preprocess"])
    except InputError as error:
        raise InputError(f"the configuration is damaged: {error}", file=path) from error
    backbone = build_backbone(config["backbone"], folder / WEIGHTS, how.size if size is None else size)
    check_finite(folder / WEIGHTS, backbone.network.state_dict())
    return backbone


def filled(file: Path, build: Callable[[State], Part]) -> Part:
    """A network with the tensors of a file; see `fill`.

    Args:
        file: Safetensors. build: Makes the network, knowing the file's tensors; it is called where tensors have shapes
            and take no memory, so sizes that the file does not have cost nothing.

    Raises:
        InputError: The file is missing or damaged, does not fit, or holds numbers that are not finite.
    """
    if not file.is_file():
        raise InputError(f"{CONFIG} tells of this part, and its tensors are missing", file=file)
    state = check_finite(file, read_tensors(file))
    with torch.device("meta"):
        network = build(state)
    if {key: value.shape for key, value in network.state_dict().items()} == {k: v.shape for k, v in state.items()}:
        network.to_empty(device="cpu")
    fill(network, state, file)
    return network


def write_tensors(file: Path, module: nn.Module) -> None:
    """Writes a network's tensors, whole or not at all."""
    from safetensors.torch import save_file

    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)  # safetensors refuses shared memory
        for key, value in module.state_dict().items()
    }
    write_atomic(file, lambda path: save_file(state, path))


def check_finite(file: Path, state: State) -> State:
    """The tensors, if all numbers in them are finite.

    Raises:
        InputError: Some are not.
    """
    for key, tensor in state.items():
        # Masks of attention hold minus infinity.
        if tensor.is_floating_point() and (tensor.isnan() if "mask" in key else ~tensor.isfinite()).any():
            raise InputError("there are numbers in it that are not finite", file=file, column=key)
    return state


def _check_kind(config: dict[str, Any], kind: str, path: Path) -> None:
    there = config.get("kind", VISION)
    if there == kind:
        return
    if not isinstance(there, str) or there not in KINDS:
        hint = "a newer fashionkit may have written it: pip install -U fashionkit"
        raise InputError("a model of an unknown kind", file=path, column="kind", found=there, allowed=KINDS, hint=hint)
    does, loads = KINDS[there]
    raise InputError(f"this model {does}; one that {KINDS[kind][0]} is needed here", file=path, hint=loads)


def _no_model(folder: Path) -> InputError:
    hint = f"a model is a folder with {CONFIG} and {WEIGHTS}, as Embedder.save writes it"
    if next(folder.glob("*.ckpt"), None) or next(folder.glob("checkpoints/*.ckpt"), None):
        hint = f"it is of training: `fashionkit share {folder} --out FOLDER` makes a model's folder of it"
    return InputError("this folder holds no model", file=folder, hint=hint)
