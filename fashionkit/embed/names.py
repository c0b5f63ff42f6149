"""What may stand where a model is asked for, when no folder is there: the name of a backbone, with weights."""

from __future__ import annotations

from pathlib import Path

from fashionkit.tables import InputError

LIBRARIES = ("timm", "open_clip")  # that backbones are named by


def check_name(model: str, weights: object) -> None:
    """Tells the name of a backbone from a folder that is not there.

    A bare word with weights passes: who looks it up knows the names that are near.

    Args:
        model: What is no folder. weights: None where none were named.

    Raises:
        InputError: It begins like no backbone; or it does, and no weights were named.
    """
    if model.partition("/")[0] in LIBRARIES:
        if weights is None:
            hint = "say which: `offline`, `hub`, a file, or `random` to try things out"
            raise InputError("a backbone by name needs weights", column="weights", found=model, hint=hint)
        return
    if weights is not None and not any(letter in model for letter in "/\\"):
        return
    path = Path(model)
    if path.suffix == ".ckpt" and path.is_file():
        hint = f"`fashionkit share {model} --out FOLDER` makes a model's folder of it"
        raise InputError("this is a checkpoint of training", file=model, hint=hint)
    problem = "this is a file; name its folder" if path.is_file() else "there is no such folder"
    hint = "a model is a folder that `fashionkit share` wrote, or a name: timm/<arch> or open_clip/<arch>, with weights"
    raise InputError(problem, file=model, hint=hint)
