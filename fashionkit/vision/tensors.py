"""Named tensors: read from a file without running code, put into a network all or none, hashed.

file ─► {name: tensor} ─► without wrappers' prefixes ─► names and shapes compared ─► network ─► SHA-256
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fashionkit.tables import InputError

State = dict[str, Tensor]
PICKLED = (".pth", ".pt", ".bin")
WRAPPED = ("state_dict", "model")  # where training tools put the tensors inside a checkpoint


def read_tensors(file: Path) -> State:
    """The tensors of a file; pickled files are read with weights_only=True.

    Raises:
        InputError: The file is damaged or holds anything but tensors.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    # A damaged pickle can raise almost anything, and safetensors has an error of its own.
    except Exception as error:
        hint = "it is damaged, or holds code, which is never run; files of weights hold tensors only"
        said = str(error).split("\n")[0]
        raise InputError(
            "cannot read the weights", file=file, found=f"{type(error).__name__}: {said}", hint=hint
        ) from error
    for key in WRAPPED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not found:
        raise InputError("there are no named tensors in it", file=file, found=type(found).__name__)
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                "there is more than named tensors in it", file=file, column=str(key), found=type(value).__name__
            )
    return dict(found)


def tidied(state: State) -> State:
    """Tensors without what training tools wrap around names: `module.` of parallel training, `network.` of ours."""
    for prefix in ("module.", "network."):
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def fits(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether every tensor that both have has the same shape."""
    own = network.state_dict()
    return all(own[key].shape == tensor.shape for key, tensor in state.items() if key in own)


def fill(network: nn.Module, state: Mapping[str, Tensor], file: Path, ignored: tuple[str, ...] = ()) -> None:
    """Puts tensors into a network, all or none.

    Args:
        network: What to fill. state: Tensors by name. file: Where they came from, for the error.
        ignored: Beginnings of names that the file may have and the network lacks, as the classifier's.

    Raises:
        InputError: Names are missing or unexpected, or a shape differs.
    """
    own = network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own and not key.startswith(ignored)]
    shapes = [key for key, tensor in state.items() if key in own and own[key].shape != tensor.shape]
    differing = [f"{key} {_shape(state[key])}, not {_shape(own[key])}" for key in shapes]
    problems = [f"{word} {_some(names)}" for word, names in (("missing", missing), ("unexpected", extra)) if names]
    if differing:
        problems.append(f"of another shape {_some(differing)}")
    if problems:
        hint = "the file belongs to another architecture or input size"
        raise InputError(f"the weights do not fit: {'; '.join(problems)}", file=file, hint=hint)
    network.load_state_dict({key: tensor for key, tensor in state.items() if key in own}, strict=False)


def fingerprint(network: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of all tensors; counters of training steps are left out."""
    digest = hashlib.sha256()
    for key, tensor in sorted(network.state_dict().items()):
        if key.endswith("num_batches_tracked"):
            continue
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _some(names: list[str]) -> str:
    """The first names and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
