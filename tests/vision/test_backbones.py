"""The contract of backbones, over one architecture of each kind: tiny pictures, random weights, no network.

A new kind of backbone is added to KINDS, and has to pass everything below.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

import open_clip
import pytest
import torch
from torch import Tensor, nn

from fashionkit.tables import InputError
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.preprocess import Preprocess


class Kind(NamedTuple):
    """What an architecture gives: channels of the map, width of the vector, pixels of a cell, stages."""

    size: int
    channels: int
    dim: int
    stride: int
    stages: int


TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TINY = {
    "tiny-ViT": {"embed_dim": 48, "vision_cfg": {"image_size": 96, "layers": 2, "width": 64, "patch_size": 32}},
    "tiny-RN": {
        "embed_dim": 48,
        "vision_cfg": {"image_size": 96, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
    },
    "tiny-sigmoid": {
        "embed_dim": 192,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": TEXT | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    },
    "tiny-CoCa": {
        "embed_dim": 48,
        "custom_text": True,
        "multimodal_cfg": TEXT | {"mlp_ratio": 4, "dim_head": 64, "n_queries": 8, "attn_pooler_heads": 2},
        "vision_cfg": {
            "image_size": 96,
            "layers": 1,
            "width": 64,
            "patch_size": 32,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
    },
}
KINDS = {
    "timm/resnet18": Kind(64, 512, 512, 32, 5),
    "timm/convnext_atto": Kind(64, 320, 320, 32, 5),
    "timm/tf_efficientnet_lite0": Kind(128, 1280, 1280, 32, 8),
    "timm/mobilenetv2_050": Kind(64, 1280, 1280, 32, 8),
    "timm/mobilenetv3_small_050": Kind(64, 288, 1024, 32, 7),
    "timm/swin_tiny_patch4_window7_224": Kind(96, 768, 768, 32, 5),
    "timm/vit_tiny_patch16_224": Kind(64, 192, 192, 16, 13),
    "timm/vit_wee_patch16_reg1_gap_256": Kind(64, 256, 256, 16, 15),
    "timm/mambaout_femto": Kind(64, 288, 1152, 32, 5),
    "timm/poolformerv2_s12": Kind(128, 512, 512, 32, 5),
    "timm/coat_lite_tiny": Kind(224, 320, 320, 32, 12),
    "open_clip/tiny-ViT": Kind(64, 64, 48, 32, 3),
    "open_clip/tiny-RN": Kind(64, 256, 48, 32, 5),
    "open_clip/tiny-sigmoid": Kind(64, 192, 192, 16, 13),
    "open_clip/tiny-CoCa": Kind(64, 64, 48, 32, 2),
}


@pytest.fixture(scope="module", autouse=True)
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Small models of each kind of open_clip's towers, known to it by name."""
    folder = tmp_path_factory.mktemp("configs")
    for name, config in TINY.items():
        (folder / f"{name}.json").write_text(json.dumps({"text_cfg": TEXT} | config), encoding="utf-8")
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module", params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def backbone(name: str, tiny_models: None) -> Backbone:
    return build_backbone(name, "random:3", size=KINDS[name].size)


@pytest.fixture(autouse=True)
def thawed(backbone: Backbone) -> Iterator[None]:
    """Every test finds the backbone in evaluation mode with all of it trainable."""
    yield
    backbone.eval()
    backbone.freeze("none")


def pictures(backbone: Backbone, count: int = 2) -> Tensor:
    size = backbone.preprocess.size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def state(backbone: Backbone) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in backbone.state_dict().items()}


@torch.no_grad()
def test_shapes_are_what_the_contract_says(name: str, backbone: Backbone) -> None:
    kind = KINDS[name]
    x = pictures(backbone)
    cells, vector = backbone.both(x)
    side = kind.size // kind.stride
    assert backbone.name == name and isinstance(backbone.preprocess, Preprocess)
    assert backbone.preprocess.size == kind.size
    assert (backbone.channels, backbone.dim, backbone.stride, backbone.stages) == kind[1:]
    assert cells.shape == (2, backbone.channels, side, side)
    assert vector.shape == (2, backbone.dim)
    assert cells.isfinite().all() and vector.isfinite().all()
    assert not backbone.training


@torch.no_grad()
def test_one_pass_gives_the_same_as_two(backbone: Backbone) -> None:
    x = pictures(backbone)
    cells, vector = backbone.both(x)
    assert torch.equal(backbone.spatial(x), cells) and torch.equal(backbone.pooled(x), vector)
    assert torch.equal(backbone(x)[0], cells)


@torch.no_grad()
def test_a_batch_gives_the_same_as_single_pictures(backbone: Backbone) -> None:
    x = pictures(backbone, 3)
    together = backbone.both(x)
    for row in range(3):
        alone = backbone.both(x[row : row + 1])
        assert torch.allclose(alone[0][0], together[0][row], atol=1e-4)
        assert torch.allclose(alone[1][0], together[1][row], atol=1e-4)


def test_cells_lie_where_their_pixels_are(name: str, backbone: Backbone) -> None:
    """The map is not transposed, and class tokens do not shift it: the gradient of a cell is largest at its pixels."""
    x = pictures(backbone, 1).requires_grad_()
    cells = backbone.spatial(x)
    last = cells.shape[-1] - 1
    found = []
    for row, column in ((0, last), (last, 0)):
        weights = torch.randn(cells.shape[1], generator=torch.Generator().manual_seed(1))
        (grad,) = torch.autograd.grad((cells[0, :, row, column] * weights).sum(), x, retain_graph=True)
        half = grad.shape[-1] // 2
        quarter = grad.abs()[0].sum(0)
        found.append(float(quarter[:half, half:].sum() - quarter[half:, :half].sum()))
    assert found[0] > 0 > found[1]


def test_the_same_seed_gives_the_same_weights(name: str, backbone: Backbone) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    again = build_backbone(name, "random:3", size=KINDS[name].size)
    assert torch.rand(1) == expected, "building a backbone drew from the caller's generator"
    assert again.fingerprint() == backbone.fingerprint()
    with torch.no_grad():
        next(iter(again._tower().parameters())).add_(1e-3)
    assert again.fingerprint() != backbone.fingerprint()


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


@pytest.mark.parametrize("level", ["none", "stem", 1, "all"])
def test_a_step_changes_only_what_is_not_frozen(backbone: Backbone, level: str | int) -> None:
    backbone.freeze(level)
    backbone.train()
    before = state(backbone)
    free = [value for value in backbone.parameters() if value.requires_grad]
    assert bool(free) is (level != "all")
    cells, vector = backbone.both(pictures(backbone))
    if free:
        (cells.square().mean() + vector.square().mean()).backward()
        torch.optim.SGD(free, lr=1e-3, weight_decay=0.1).step()
    frozen = {key for key, value in backbone.named_parameters() if not value.requires_grad}
    stages = [{f"network.{key}" for key in stage} for stage in backbone._stages()]
    last = {"none": len(stages), "stem": len(stages) - 1, "all": 0}[level] if isinstance(level, str) else level
    assert not frozen & set().union(*stages[len(stages) - last :])
    assert set().union(*stages[: len(stages) - last]) <= frozen
    after = state(backbone)
    quiet = set(frozen)
    for key, part in backbone.named_modules():
        if isinstance(part, nn.BatchNorm2d) and f"{key}.weight" in frozen:
            assert not part.training
            quiet |= {f"{key}.running_mean", f"{key}.running_var", f"{key}.num_batches_tracked"}
        elif isinstance(part, nn.BatchNorm2d):
            assert part.training and not torch.equal(before[f"{key}.running_mean"], after[f"{key}.running_mean"])
    assert all(torch.equal(before[key], after[key]) for key in quiet)
    backbone.zero_grad(set_to_none=True)
    backbone.load_state_dict(before)


def test_stages_hold_every_parameter_of_the_tower_once(backbone: Backbone) -> None:
    names = [key for stage in backbone._stages() for key in stage]
    tower = {id(value) for value in backbone._tower().parameters()}
    assert sorted(names) == sorted(key for key, value in backbone.network.named_parameters() if id(value) in tower)
    assert all(backbone._stages())


@pytest.mark.parametrize("level", ["half", -1, 99, True, None, 1.0])
def test_other_levels_are_refused(backbone: Backbone, level: object) -> None:
    with pytest.raises(InputError, match=r"level of freezing|stages to leave"):
        backbone.freeze(level)  # type: ignore[arg-type]


@torch.no_grad()
def test_texts_share_the_space_of_vectors_where_there_are_any(name: str, backbone: Backbone) -> None:
    assert backbone.has_text is name.startswith("open_clip/")
    if not backbone.has_text:
        with pytest.raises(InputError, match="no text tower"):
            backbone.text(["a red dress"])
        return
    vectors = backbone.text(["a red dress", "blue shoes"])
    assert vectors.shape == (2, backbone.dim) and not torch.equal(vectors[0], vectors[1])
    assert backbone.text([]).shape == (0, backbone.dim)
    with pytest.raises(InputError, match="list of strings"):
        backbone.text("a red dress")
    backbone.freeze(backbone.stages)
    assert not any(value.requires_grad for key, value in backbone.network.named_parameters() if "visual" not in key)
