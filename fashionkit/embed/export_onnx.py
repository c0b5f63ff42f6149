"""A model as one ONNX file (onnx.ai), for applications without torch: normalisation, heads and calibration inside.

    pixels (B, S, S, 3) uint8 ─► (x - mean) / std ─► backbone ─┬─► vector (B, D), unit norm; norm (B,)
              │                                                ├─► attribute.NAME.values (B, V)
              └─► colours ─────────────────────────────────────┴─► attribute.NAME.state (B, 3)
    masks (B, K, S, S) bool, general (B, G) ─► style network ─► style (B, C), gates (B, streams)

What stays outside is decoding and resizing, which ONNX has no equal of: `vision.pictures.sized` makes `pixels`, and
`preprocess` in the file's metadata says how. `general` is what the general backbone gives: export that one, too, and
take its `vector`, times its `norm` unless `general` in the metadata says `unit`. The file is compared with torch before
it takes its place.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fashionkit
from fashionkit.models.attributes import STATE_NAMES
from fashionkit.models.vision_model import VisionModel
from fashionkit.tables import InputError, write_atomic
from fashionkit.vision.region_base import ITEMS

OPSET = 18
NEEDED = ("onnx", "onnxscript")
LARGEST = 1_900_000_000  # bytes of weights; one protobuf ends at 2 GiB
CLOSE = 1e-4  # how far the file's numbers may lie from torch's: unit vectors and probabilities
INSTALL = "pip install 'fashionkit[onnx]'"


@dataclass(frozen=True)
class OnnxFile:
    """What was written.

    Attributes:
        path: The file. inputs, outputs: Names. difference: The largest from torch's numbers, over all outputs; None
            where onnxruntime is not installed, so that nobody compared.
    """

    path: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float | None


def export_onnx(model: VisionModel, out: str | Path, overwrite: bool = False) -> OnnxFile:
    """Writes a model as ONNX with a free number of pictures.

    Args:
        model: It is moved to the CPU. out: The file. overwrite: It may be there already.

    Raises:
        InputError: The file is there, the exporter is not installed, or the network cannot be expressed or differs.
    """
    out = Path(out)
    if out.is_dir():
        raise InputError("this is a folder; name the file", file=out, hint=f"e.g. {out / 'model.onnx'}")
    if out.exists() and not overwrite:
        raise InputError("there is a file already", file=out, hint="name a new file, or say overwrite")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX export needs {' and '.join(missing)}", hint=INSTALL)
    graph = Graph(model.to("cpu")).eval().to(memory_format=torch.contiguous_format)
    program = _exported(graph, model.backbone.name)
    program.model.metadata_props.update(metadata(model))
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values() if value.const_value)
    if size > LARGEST:
        raise InputError("the weights do not fit into one ONNX file of 2 GiB", found=f"{size:,} bytes")
    compare = _comparison(graph)
    found: list[float] = []

    def write(path: Path) -> None:
        program.save(path, external_data=False)
        if compare is not None:
            found.append(compare(path))

    write_atomic(out, write)
    return OnnxFile(out, graph.inputs, graph.outputs, found[0] if found else None)


class Graph(nn.Module):
    """All that the file computes.

    Attributes:
        inputs, outputs: Names in their order.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: VisionModel):
        super().__init__()
        how, self.backbone, self.attributes, self.style = (
            model.preprocess,
            model.backbone,
            model.attributes,
            model.style,
        )
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (how.mean, how.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", mean / std)
        self.size = how.size
        masks = self.style is not None and self.style.needs_masks
        general = self.style is not None and self.style.general > 0
        self.inputs = ("pixels", *["masks"] * masks, *["general"] * general)
        names = [] if self.attributes is None else [spec.name for spec in self.attributes.specs]
        heads = [f"attribute.{name}.{part}" for name in names for part in ("values", "state")]
        self.outputs = ("vector", "norm", *heads, *(("style", "gates") if self.style is not None else ()))

    def forward(self, pixels: Tensor, masks: Tensor | None = None, general: Tensor | None = None) -> tuple[Tensor, ...]:
        """Tensors in the order of `outputs`, of (B, S, S, 3) uint8 and what else `inputs` names."""
        x = pixels.permute(0, 3, 1, 2).float() * self.scale - self.shift  # (B, 3, S, S)
        cells, pooled = self.backbone.both(x)
        found = [F.normalize(pooled.float(), dim=1), pooled.float().norm(dim=1)]
        if self.attributes is not None:
            logits = self.attributes(self.attributes.inputs(pooled, pixels))
            calibration = self.attributes.calibration
            for spec in self.attributes.specs:
                values = calibration.apply(f"values/{spec.name}", logits.values[spec.name].float())
                state = calibration.apply(f"state/{spec.name}", logits.state[spec.name].float())
                found += [values.softmax(1) if spec.exclusive else values.sigmoid(), state.softmax(1)]
        if self.style is not None:
            output = self.style(cells, masks, general)
            found += [output.probability, output.gates]
        return tuple(found)

    def examples(self, count: int, seed: int = 0) -> dict[str, Tensor]:
        """Inputs of `count` made-up pictures."""
        drawn = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (count, self.size, self.size, 3), dtype=torch.uint8, generator=drawn)
        found = {"pixels": pixels}
        if "masks" in self.inputs:
            found["masks"] = torch.zeros(count, len(ITEMS), self.size, self.size, dtype=torch.bool)
            for number, rows in enumerate(torch.arange(self.size).chunk(len(ITEMS))):
                found["masks"][:, number, rows] = True
        if "general" in self.inputs:
            assert self.style is not None
            found["general"] = torch.randn(count, self.style.general, generator=drawn)
        return found


def metadata(model: VisionModel) -> dict[str, str]:
    """What travels in the file: texts, lists and mappings as JSON."""
    found: dict[str, Any] = {"preprocess": model.preprocess.to_dict(), "fingerprint": model.fingerprint}
    found |= {"version": fashionkit.__version__, "backbone": model.backbone.name, "licence": model.licence}
    if model.attributes is not None:
        found["attributes"] = model.attributes.to_dict()["specs"]
        found["states"] = list(STATE_NAMES)
    if model.style is not None:
        found |= {"classes": list(model.style.classes), "streams": list(model.style.streams)}
        if model.general is not None:
            found["general"] = {"backbone": model.general.backbone.name, "unit": model.general.unit}
        found |= {"regions": model.style.regions or "", "items": list(ITEMS)}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}


def _exported(graph: Graph, name: str) -> Any:
    """torch's program, traced with two pictures, so that the number is free."""
    examples = graph.examples(2)
    batch = torch.export.Dim("batch")
    free = {key: {0: batch} for key in examples}
    try:
        with torch.no_grad():
            traced = torch.export.export(graph, (), examples, dynamic_shapes=free)
            return torch.onnx.export(
                traced,
                # It gives the axis its name in the file; said of several inputs, it would warn.
                dynamic_shapes={key: {0: batch} if key == "pixels" else None for key in examples},
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    # What torch raises where a network cannot be traced has no common parent.
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        said = str(error.__cause__ or error).strip().splitlines()
        raise InputError(
            f"{name} cannot be expressed in ONNX", found=said[0] if said else type(error).__name__
        ) from error


def _comparison(graph: Graph) -> Callable[[Path], float] | None:
    """What tells how far a file's numbers lie from torch's; None without onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    wanted = []
    with torch.no_grad():
        for count in (1, 3):
            examples = graph.examples(count, seed=count)
            wanted.append((examples, [value.numpy() for value in graph(**examples)]))

    def compare(path: Path) -> float:
        import onnxruntime  # type: ignore[import-untyped]

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        most = 0.0
        for examples, values in wanted:
            given = session.run(list(graph.outputs), {key: value.numpy() for key, value in examples.items()})
            for name, one, two in zip(graph.outputs, given, values, strict=True):
                off = float(np.abs(one - two).max()) / (float(np.abs(two).max()) if name == "norm" else 1.0)
                if not off <= CLOSE:
                    raise InputError(f"in ONNX the network gives another {name}", found=f"{off:.2g} off")
                most = max(most, off)
        return most

    return compare
