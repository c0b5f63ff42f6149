"""Networks that find regions, a few kB each: their answers are known by construction, or are random but repeatable.

Each function writes the files that users place; what it needs beside them is skipped over where it is missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.vision.foreground_models import MEAN, STD

SIDE = 32  # what the networks of transformers take
MIDDLE = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2, "size": {"height": SIDE, "width": SIDE}}


def write_onnx(path: Path, side: int | str = 16, gain: float = 1.0, channels: int = 3, batch: int = 1) -> Path:
    """U²-Net's ways: scores are the mean brightness as a share of the brightest value, times `gain`; a second output
    says 1 everywhere."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.asarray(value), name)

    kinds = {"std": STD.reshape(1, 3, 1, 1), "mean": MEAN.reshape(1, 3, 1, 1), "gain": np.float32(gain)}
    nodes = [
        helper.make_node("Mul", ["x", "std"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["plain"]),
        helper.make_node("ReduceMean", ["plain", "axes"], ["grey"], keepdims=1),
        helper.make_node("Mul", ["grey", "gain"], ["first"]),
        helper.make_node("Sub", ["grey", "grey"], ["zero"]),
        helper.make_node("Exp", ["zero"], ["second"]),
    ]
    shape = [batch, channels, side, side]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, 1, side, side]) for n in ("first", "second")]
    held = [*(constant(name, value) for name, value in kinds.items()), constant("axes", np.array([1], np.int64))]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, path)
    return path


def write_tflite(path: Path, weights: Sequence[float] = (0.5, 0.5, 0), side: int = 256, named: bool = True) -> Path:
    """A convolution of 1 x 1: scores are the weighted sum of red, green and blue in 0..1.

    Written with bare flatbuffers; the numbers of the slots are those of TensorFlow Lite's schema.
    """
    flatbuffers = pytest.importorskip("flatbuffers")
    b = flatbuffers.Builder(4096)

    def vector(values: Sequence[int], prepend: Any, width: int) -> int:
        b.StartVector(width, len(values), width)
        for value in reversed(values):
            prepend(value)
        return int(b.EndVector())

    def ints(values: Sequence[int]) -> int:
        return vector(values, b.PrependInt32, 4)

    def offsets(values: Sequence[int]) -> int:
        return vector(values, b.PrependUOffsetTRelative, 4)

    def table(slots: int, *fields: tuple[int, str, int]) -> int:
        b.StartObject(slots)
        for slot, kind, value in fields:
            getattr(b, f"Prepend{kind}Slot")(slot, value, 0)
        return int(b.EndObject())

    def buffer(values: Sequence[float]) -> int:
        return (
            table(1, (0, "UOffsetTRelative", b.CreateByteVector(np.float32(values).tobytes()))) if values else table(1)
        )

    def tensor(name: str, shape: Sequence[int], number: int) -> int:
        text, dims = b.CreateString(name), ints(shape)
        return table(4, (0, "UOffsetTRelative", dims), (2, "Uint32", number), (3, "UOffsetTRelative", text))

    buffers = offsets([buffer([]), buffer(list(weights)), buffer([0.0])])
    shapes = {"x": (1, side, side, 3), "w": (1, 1, 1, 3), "b": (1,), "y": (1, side, side, 1)}
    tensors = offsets([tensor(n, s, {"w": 1, "b": 2}.get(n, 0)) for n, s in shapes.items()])
    options = table(4, (1, "Int32", 1), (2, "Int32", 1))
    taken, given = ints([0, 1, 2]), ints([3])
    rows: list[tuple[int, str, int]] = [(1, "UOffsetTRelative", taken), (2, "UOffsetTRelative", given)]
    operators = offsets([table(5, *rows, (3, "Uint8", 1), (4, "UOffsetTRelative", options))])
    ends = {slot: ints([number]) for slot, number in ((1, 0), (2, 3))}
    graph = [(slot, "UOffsetTRelative", value) for slot, value in ((0, tensors), *ends.items(), (3, operators))]
    if named:
        graph.append((4, "UOffsetTRelative", b.CreateString("main")))
    graphs = offsets([table(5, *graph)])
    codes = offsets([table(4, (0, "Int8", 3), (2, "Int32", 1), (3, "Int32", 3))])  # CONV_2D
    made = [(slot, "UOffsetTRelative", value) for slot, value in ((1, codes), (2, graphs), (4, buffers))]
    b.Finish(table(5, (0, "Uint32", 3), *made), file_identifier=b"TFL3")
    path.write_bytes(bytes(b.Output()))
    return path


def write_clipseg(folder: Path) -> Path:
    """CLIPSeg of three layers with random weights, and a tokenizer that spells letter by letter."""
    transformers = pytest.importorskip("transformers")
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "preprocessor_config.json").write_text(json.dumps(MIDDLE))
    begin, end = len(names) - 2, len(names) - 1
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = {"vocab_size": len(names), "bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
    config = transformers.CLIPSegConfig(
        text_config={**tower, **text, "max_position_embeddings": 40},
        vision_config={**tower, "image_size": 48, "patch_size": 16},  # asked at another size, as the published one is
        projection_dim=12,
        extract_layers=[0, 1, 2],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        use_complex_transposed_convolution=True,
    )
    torch.manual_seed(0)
    transformers.CLIPSegForImageSegmentation(config).save_pretrained(folder)
    return folder


def write_segformer(folder: Path, labels: Sequence[str] = ("Background", "Hat", "Dress", "Pants", "Left-shoe")) -> Path:
    """SegFormer of one layer a stage with random weights."""
    transformers = pytest.importorskip("transformers")
    import torch

    config = transformers.SegformerConfig(
        id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)},
        hidden_sizes=[8] * 4,
        depths=[1] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
    )
    torch.manual_seed(0)
    network = transformers.SegformerForSemanticSegmentation(config)
    network.eval()
    with torch.no_grad():  # on noise the labels are level, so that each wins somewhere
        logits = network(pixel_values=torch.rand(4, 3, SIDE, SIDE) * 2 - 1).logits
        spread, middle = logits.std((0, 2, 3)), logits.mean((0, 2, 3))
        last = network.decode_head.classifier
        last.weight /= spread[:, None, None, None]
        last.bias.copy_((last.bias - middle) / spread)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(MIDDLE))
    return folder
