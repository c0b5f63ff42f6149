"""All sources of weights, and files that are damaged, hostile or of another network."""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from fashionkit.tables import InputError
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.tensors import fingerprint
from fashionkit.vision.weights import Source, parse_source, read_weights

NAME = "timm/resnet10t"
HALF = Preprocess(96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)


@pytest.fixture(scope="module", autouse=True)
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A small ModifiedResNet with a text tower, known to open_clip by name."""
    folder = tmp_path_factory.mktemp("configs")
    tower = {"image_size": 224, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 48, "vision_cfg": tower, "text_cfg": text}
    (folder / "small-RN.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here may reach out, and nothing cached may help."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("the network is out of reach")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no-torch"))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A timm model with its classifier, as its authors would save it."""
    torch.manual_seed(5)
    return timm.create_model("resnet10t")


def test_random_is_the_default_and_seeded() -> None:
    prints = [build_backbone(NAME, source, 64).fingerprint() for source in (None, "random", "random:0", "random:1")]
    assert prints[0] == prints[1] == prints[2] != prints[3]


@pytest.mark.parametrize("form", ["safetensors", "pth", "wrapped", "parallel"])
def test_files_of_each_kind_fill_the_same_network(tmp_path: Path, network: torch.nn.Module, form: str) -> None:
    state, file = network.state_dict(), tmp_path / ("x.safetensors" if form == "safetensors" else "x.pth")
    if form == "safetensors":
        save_file(state, file)
    elif form == "pth":
        torch.save(state, file)
    elif form == "wrapped":
        torch.save({"epoch": 3, "state_dict": state}, file)
    else:
        torch.save({f"module.{key}": value for key, value in state.items()}, file)
    backbone = build_backbone(NAME, file, 64)
    bare = timm.create_model("resnet10t", num_classes=0)
    bare.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    assert backbone.fingerprint() == fingerprint(bare)
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64)
        assert torch.equal(backbone.pooled(x), bare.eval()(x))


def test_a_folder_brings_its_preprocessing(tmp_path: Path, network: torch.nn.Module) -> None:
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    assert build_backbone(NAME, tmp_path).preprocess.mean == (0.485, 0.456, 0.406)
    (tmp_path / "config.json").write_text(json.dumps({"preprocess": HALF.to_dict()}), encoding="utf-8")
    assert build_backbone(NAME, tmp_path).preprocess == HALF
    assert build_backbone(NAME, str(tmp_path / "model.safetensors"), 64).preprocess.mean == HALF.mean
    assert build_backbone(NAME, tmp_path, 64).preprocess.size == 64


@pytest.mark.parametrize(
    "name", ["timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224", "open_clip/small-RN"]
)
def test_a_backbone_saved_at_another_size_comes_back(tmp_path: Path, name: str) -> None:
    size = 64 if name != "timm/swin_tiny_patch4_window7_224" else 96
    backbone = build_backbone(name, "random:4", size)
    save_file(backbone.state_dict(), tmp_path / "model.safetensors")
    assert build_backbone(name, tmp_path, size).fingerprint() == backbone.fingerprint()
    (tmp_path / "config.json").write_text(json.dumps({"preprocess": backbone.preprocess.to_dict()}), encoding="utf-8")
    again = build_backbone(name, tmp_path)
    assert again.preprocess == backbone.preprocess and again.fingerprint() == backbone.fingerprint()


def test_positions_are_resampled_not_drawn_anew() -> None:
    """The mean over the table of positions survives another size, so it was resampled from the same weights."""
    for name, key in (("timm/vit_tiny_patch16_224", "pos_embed"), ("open_clip/small-RN", "positional_embedding")):
        native, small = (build_backbone(name, "random:2", size) for size in (None, 64))
        tables = []
        for backbone in (native, small):
            (table,) = (value for k, value in backbone._tower().state_dict().items() if k.endswith(key))
            tables.append(table.reshape(-1, table.shape[-1]))
        assert torch.equal(tables[0][0], tables[1][0]) and len(tables[0]) > len(tables[1])
        assert torch.allclose(tables[0][1:].mean(0), tables[1][1:].mean(0), atol=0.02)


def test_a_folder_has_one_file_of_weights(tmp_path: Path, network: torch.nn.Module) -> None:
    with pytest.raises(InputError, match=r"place model\.safetensors there"):
        build_backbone(NAME, tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"x": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(InputError, match=r"a\.safetensors, b\.safetensors"):
        build_backbone(NAME, tmp_path)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    assert read_weights(tmp_path).file.name == "model.safetensors"


class Hostile:
    """A pickle that would make a folder when it is loaded."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("form", ["torch", "pickle", "old torch"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
def test_code_in_a_file_is_not_run(tmp_path: Path, form: str, suffix: str) -> None:
    file, made = tmp_path / f"x{suffix}", tmp_path / "made"
    if form == "pickle":
        file.write_bytes(pickle.dumps({"fc.weight": Hostile(made)}))
    else:
        torch.save({"fc.weight": Hostile(made)}, file, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(InputError, match="cannot read the weights"):
        build_backbone(NAME, file)
    assert not made.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 100, 4000, -100])
def test_a_cut_file_is_named(tmp_path: Path, network: torch.nn.Module, suffix: str, keep: int) -> None:
    file = tmp_path / f"x{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), file)
    else:
        save_file(network.state_dict(), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"x{suffix}: cannot read the weights"):
        build_backbone(NAME, file)


@pytest.mark.parametrize(
    "content", [[1], {}, {"a": 1}, {1: torch.zeros(1)}, torch.zeros(3), {"state_dict": {"a": "b"}}]
)
def test_anything_but_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="named tensors in it"):
        build_backbone(NAME, tmp_path / "x.pth")


def test_a_file_of_another_network_names_what_differs(tmp_path: Path, network: torch.nn.Module) -> None:
    file = tmp_path / "x.safetensors"
    state = {key: value for key, value in network.state_dict().items() if key != "bn1.weight"}
    state["layer1.0.conv1.weight"] = torch.zeros(2, 2)
    save_file(state | {"extra.bias": torch.zeros(1)}, file)
    with pytest.raises(InputError) as caught:
        build_backbone(NAME, file, 64)
    said = str(caught.value)
    assert "missing bn1.weight;" in said and "unexpected extra.bias;" in said
    assert "layer1.0.conv1.weight 2×2, not 64×64×3×3" in said and str(file) in said


def test_sources_are_told_apart(tmp_path: Path) -> None:
    assert parse_source(None) == Source("random", "0")
    assert parse_source("hub:a/b") == Source("hub", "a/b")
    assert parse_source(tmp_path) == Source("file", str(tmp_path))
    for wrong in ("random:x", "random:-1", "nowhere/model.pth", "hubb", "", "a\0b", "offline:x", "C:"):
        with pytest.raises(InputError):
            parse_source(wrong)
    (tmp_path / "x.onnx").touch()
    with pytest.raises(InputError, match="not read"):
        read_weights(tmp_path / "x.onnx")
    with pytest.raises(InputError, match="no such file"):
        read_weights(tmp_path / "gone.pth")


@pytest.mark.parametrize(
    ("name", "weights", "file"),
    [
        ("timm/resnet18", "hub", "huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"),
        ("timm/resnet18.tv_in1k", "hub", "huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors"),
        ("timm/resnet18", "hub:fb_swsl_ig1b_ft_in1k", "timm/resnet18.fb_swsl_ig1b_ft_in1k/resolve/main/model"),
        ("timm/resnet18", "hub:someone/weights", "huggingface.co/someone/weights/resolve/main/model.safetensors"),
        ("open_clip/ViT-S-32-alt", "hub:someone/clip", "huggingface.co/someone/clip/resolve/main/model.safetensors"),
        ("open_clip/RN50", "hub:openai", "https://"),
    ],
)
def test_the_hub_out_of_reach_says_which_file_to_place(name: str, weights: str, file: str) -> None:
    with pytest.raises(InputError) as caught:
        build_backbone(name, weights)
    said = str(caught.value)
    assert file in said and "could not be fetched" in said and "weights: path/to/" in said


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("timm/resnet81", None, "nearest allowed: 'timm/resnet18'"),
        ("timm/mobilnetv2_050", None, "nearest allowed: 'timm/mobilenetv2_050'"),
        ("timm/", None, "no such backbone"),
        ("open_clip/vit-b32", None, "nearest allowed: 'open_clip/ViT-B-32'"),
        ("resnet18", None, "nearest allowed: 'timm/resnet18'"),
        ("timm/resnet18", "hub:tv_in2k", "nearest allowed: 'tv_in1k'"),
        ("open_clip/ViT-B-32", "hub", "several tags"),
        ("open_clip/ViT-B-32", "offline", "no package"),
        ("timm/resnet18", "offline", "timm/tf_efficientnet_lite0"),
        ("timm/test_vit", "hub:nothing", "no weights of this tag"),
        ("timm/resnet18.tv_in2k", None, "nearest allowed: 'tv_in1k'"),
    ],
)
def test_unknown_names_and_tags_name_the_nearest(name: str, weights: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_backbone(name, weights)


@pytest.mark.parametrize("size", [0, -1, 64.0, True, 10**6])
def test_wrong_sizes_are_refused(size: object) -> None:
    with pytest.raises(InputError, match="whole number of pixels"):
        build_backbone(NAME, size=size)  # type: ignore[arg-type]


def test_a_size_that_a_network_cannot_take_is_refused() -> None:
    for name in ("timm/vit_tiny_patch16_224", "open_clip/small-RN"):
        with pytest.raises(InputError, match="cannot take pictures of 8 px"):
            build_backbone(name, size=8)


def test_open_clip_leaves_logging_alone(caplog: pytest.LogCaptureFixture) -> None:
    before = list(logging.getLogger().handlers)
    build_backbone("open_clip/small-RN", size=64).text(["a red dress"])
    assert logging.getLogger().handlers == before and logging.root.manager.disable == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
