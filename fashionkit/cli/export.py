"""`fashionkit export`: a shared model for applications without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fashionkit.cli.arguments import JsonArg, arg, write_json


@dataclass
class ExportArgs(JsonArg):
    """Arguments of `fashionkit export`."""

    model: str = arg("folder of a model")
    out: str = arg("the file to write, e.g. model.onnx", required=True)
    format: Literal["onnx"] = arg("what to write", default="onnx")
    size: int | None = arg("side of the network's input in pixels; without it, the model's own", default=None)
    overwrite: bool = arg("the file may be there already", default=False)
    download: bool = arg("let the hub be asked for what the model names and does not hold", default=False)


def export(args: ExportArgs) -> None:
    """Writes a shared model as one ONNX file, with normalisation, heads and calibration inside.

    It takes pixels (B, S, S, 3) uint8 of any number of pictures, resized as `preprocess` in its metadata says, and
    gives vectors of unit norm, and probabilities of attributes and styles where the model has them. Where onnxruntime
    is installed, the file's numbers are compared with torch's before the file takes its place.

    Example:
        fashionkit export models/style --format onnx --out style.onnx
    """
    from pathlib import Path

    from fashionkit.embed.export_onnx import export_onnx
    from fashionkit.models.vision_model import VisionModel
    from fashionkit.tables import InputError

    out = Path(args.out)
    if out.is_dir():
        raise InputError("this is a folder; name the file", file=out, hint=f"e.g. {out / 'model.onnx'}")
    if out.exists() and not args.overwrite:
        raise InputError("there is a file already", file=out, hint="name a new file, or say --overwrite")
    if not Path(args.model).is_dir():
        raise InputError("there is no such folder", file=args.model, hint="`fashionkit share` makes a model's folder")
    made = export_onnx(VisionModel.load(args.model, args.size, args.download), out, args.overwrite)
    checked = "not compared with torch, as onnxruntime is not installed"
    if made.difference is not None:
        checked = f"at most {made.difference:.1e} from torch's numbers"
    print(f"{made.path}: {', '.join(made.inputs)} → {', '.join(made.outputs[:8])}{', …' * (len(made.outputs) > 8)}")
    print(f"  {made.path.stat().st_size:,} bytes, {checked}")
    write_json(args.json, {"inputs": made.inputs, "outputs": made.outputs, "difference": made.difference})


VERBS = {"export": export}
