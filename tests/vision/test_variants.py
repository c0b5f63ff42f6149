"""What may stand behind a backbone's name: a stride, and its stages beside the vector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from fashionkit.tables import InputError
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.feature_store import feature_key

DILATED = ("mobilenetv3_small_050", "mobilenetv2_050", "tf_efficientnet_lite0", "resnet18")


@torch.no_grad()
@pytest.mark.parametrize("arch", DILATED)
def test_a_finer_map_holds_the_coarse_one(arch: str) -> None:
    coarse, fine = build_backbone(f"timm/{arch}", size=64), build_backbone(f"timm/{arch}@16", size=64)
    assert (coarse.stride, fine.stride) == (32, 16)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    one, two = coarse.spatial(x), fine.spatial(x)
    assert one.shape[2:] == (2, 2) and two.shape[2:] == (4, 4)
    # Of plain chains of convolutions every second cell is the same, whatever the padding at the edges adds; squeezing
    # layers look at all cells, and one-sided padding moves the grid, so there it is only alike.
    away = min(float((one - two[:, :, i::2, j::2]).abs().mean()) for i in (0, 1) for j in (0, 1))
    assert away < 0.6 * float(one.abs().mean())
    if arch in ("resnet18", "mobilenetv2_050"):
        torch.testing.assert_close(one, two[:, :, ::2, ::2], rtol=1e-3, atol=1e-5)


def test_the_same_weights_fit_both_strides_but_features_are_not_the_same(tmp_path: Path) -> None:
    coarse = build_backbone("timm/mobilenetv3_small_050", "random:3", 64)
    save_file(coarse.network.state_dict(), tmp_path / "w.safetensors")
    fine = build_backbone("timm/mobilenetv3_small_050@16", tmp_path / "w.safetensors", 64)
    for key, value in coarse.network.state_dict().items():
        assert torch.equal(value, fine.network.state_dict()[key])
    assert fine.name.endswith("@16") and feature_key(coarse) != feature_key(fine)


@torch.no_grad()
@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_stages_stand_beside_the_vector(arch: str) -> None:
    plain, wide = (build_backbone(f"timm/{arch}{variant}", "random:1", 64) for variant in ("", "+stages"))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    cells, vector = wide.both(x)
    assert torch.equal(cells, plain.spatial(x)) and wide.dim == vector.shape[1] > plain.dim
    torch.testing.assert_close(vector[:, : plain.dim], F.normalize(plain.pooled(x), dim=1))
    torch.testing.assert_close(vector.norm(dim=1), torch.full((2,), 3**0.5))
    assert feature_key(plain) != feature_key(wide)


@torch.no_grad()
def test_stages_are_mean_and_deviation_over_cells() -> None:
    wide = build_backbone("timm/resnet18+stages", "random:1", 64)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    last = wide.spatial(x)[0].flatten(1)  # of a ResNet the map is its last stage
    expected = torch.cat([last.mean(1), last.std(1, correction=0)])
    torch.testing.assert_close(wide.pooled(x)[0, -1024:], expected / expected.norm(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18@5", "resnet18@", "resnet18@16@16", "resnet18+all", "resnet18+stages@16"])
def test_other_variants_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no such variant"):
        build_backbone(f"timm/{name}", size=64)


def test_networks_of_tokens_cannot_be_dilated() -> None:
    with pytest.raises(InputError, match="cannot be dilated"):
        build_backbone("timm/vit_tiny_patch16_224@16", size=64)
