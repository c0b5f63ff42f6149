"""Checkpoints as files: written whole or not at all, read without running code.

    trainer ─► `CheckpointFiles.save_checkpoint` ─► temporary file, flushed, renamed ─► <run>/checkpoints/last.ckpt
    file or folder of a run ─► `read_checkpoint` ─► tensors and plain values ─► a task, or a backbone's weights

Lightning writes to its temporary folder first, which may lie on another disk, and a kill there leaves half a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from fashionkit.tables import InputError, write_atomic

FOLDER, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"
SLIM = "slim"  # storage option: only what judging and further training need
RESUMES = ("optimizer_states", "lr_schedulers", "current_model_state", "averaging_state", "loops", "callbacks")
BACKBONE = "backbone.network."


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning reads and writes checkpoints in our runs."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint; with the option SLIM, without what only resuming needs."""
        if storage_options == SLIM:
            checkpoint = {key: value for key, value in checkpoint.items() if key not in RESUMES}
        write_atomic(Path(path), lambda temporary: torch.save(checkpoint, temporary))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads one, whatever is asked for, with weights_only=True."""
        return read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors on the CPU and plain values.

    Args:
        path: A `.ckpt`, or the folder of a run, of which the best one is taken.

    Raises:
        InputError: No such file, damaged, holding code, or not written by this project's training.
    """
    file = checkpoint_of(path)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        said = str(error).split("\n")[0]
        hint = "it is damaged, or holds code, which is never run"
        raise InputError(
            "cannot read the checkpoint", file=file, found=f"{type(error).__name__}: {said}", hint=hint
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("state_dict"), dict) or "preprocess" not in found:
        raise InputError("no checkpoint of `fashionkit train`", file=file, found=type(found).__name__)
    return found


def checkpoint_of(path: str | Path) -> Path:
    """The file itself, or the best (without one, the last) checkpoint of a run's folder.

    Raises:
        InputError: There is none.
    """
    path = Path(path)
    for file in (path, path / FOLDER / BEST, path / FOLDER / LAST):
        if file.is_file():
            return file
    hint = f"a .ckpt, or the folder of a run with {FOLDER}/{BEST} in it"
    raise InputError("no such checkpoint", file=path, hint=hint)


def is_checkpoint(path: str | Path) -> bool:
    """Whether weights are named by a checkpoint of ours rather than in another way."""
    return str(path).endswith(".ckpt") or (Path(path) / FOLDER).is_dir()


def backbone_tensors(saved: dict[str, Any], file: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's backbone, under its library's names.

    Raises:
        InputError: It holds no backbone, as where features came from a cache.
    """
    state = saved["state_dict"]
    found = {key.removeprefix(BACKBONE): value for key, value in state.items() if key.startswith(BACKBONE)}
    if not found:
        raise InputError("there is no backbone in this checkpoint", file=file)
    return found
