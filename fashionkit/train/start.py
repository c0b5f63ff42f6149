"""The backbone that a run starts from.

weights: words and files of `fashionkit.vision.weights` ─┐
         a run's folder or .ckpt of ours ────────────────┴─► `start_backbone` ─► `trains_for_maps` ─► (`widened`)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fashionkit.tables import InputError
from fashionkit.train.checkpoints import backbone_tensors, checkpoint_of, is_checkpoint, read_checkpoint
from fashionkit.vision.backbones import Backbone, build_backbone, sized
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.tensors import fill


def start_backbone(name: str, weights: str, size: int | None = None) -> Backbone:
    """A backbone in evaluation mode.

    Args:
        name: See `build_backbone`. size: Of its input; None: the weights' own.
        weights: What `build_backbone` takes, or a checkpoint of `fashionkit train`, or the folder of its run.

    Raises:
        InputError: See `build_backbone`, `read_checkpoint`; or the checkpoint's backbone is another one.
    """
    if not is_checkpoint(weights):
        return build_backbone(name, weights, size)
    saved, file = read_checkpoint(weights), checkpoint_of(weights)
    of = saved.get("hyper_parameters", {}).get("backbone")
    if of != name:
        raise InputError("the checkpoint is of another backbone", file=file, found=of, hint=f"{name} was asked for")
    preprocess = Preprocess.from_dict(saved["preprocess"])
    built = build_backbone(name, "random", size or preprocess.size)
    fill(built.network, backbone_tensors(saved, file), file)
    built.preprocess = sized(preprocess, built.preprocess.size)
    return built


def trains_for_maps(backbone: Backbone) -> None:
    """Freezes what lies behind the map, such as the layers that make a vector: no gradient ever reaches it.

    Several processes would wait for its gradients, and weight decay would wear it down.
    """
    size = backbone.preprocess.size
    free = [value for value in backbone.network.parameters() if value.requires_grad]
    if not free:
        return
    was = backbone.training
    backbone.eval()  # BatchNorm refuses a single cell in training
    with torch.enable_grad():
        cells = backbone.spatial(torch.zeros(1, 3, size, size))
        reached = torch.autograd.grad(cells.sum(), free, allow_unused=True)
    for value, gradient in zip(free, reached, strict=True):
        value.requires_grad_(gradient is not None)
    backbone.train(was)


def widened(backbone: Backbone, extra: int) -> None:
    """Lets the first convolution look at more channels, of which it makes nothing at first.

    Args:
        backbone: Any with a plain convolution as its first layer. extra: Channels behind the three colours.

    Raises:
        InputError: Its first layer is no such convolution.
    """
    first = next((layer for layer in backbone.network.modules() if isinstance(layer, nn.Conv2d)), None)
    problem = InputError("this backbone cannot take masks as channels", column="mask_channels", found=backbone.name)
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise problem
    side = max(*first.kernel_size, *first.stride) * 4
    x = torch.rand(1, 3 + extra, side, side)
    with torch.no_grad():
        before = first(x[:, :3])
        weight = first.weight
        zeros = weight.new_zeros(weight.shape[0], extra, *weight.shape[2:])
        first.weight = nn.Parameter(torch.cat([weight, zeros], dim=1), requires_grad=weight.requires_grad)
        first.in_channels += extra
        if not torch.allclose(first(x), before, atol=1e-5):  # layers that normalise their weights see the zeros
            raise problem


def with_masks(pixels: Tensor, masks: Tensor) -> Tensor:
    """(B, 3 + K, S, S) of (B, 3, S, S) normalised pixels and (B, K, S, S) masks."""
    joined = torch.cat([pixels, masks.to(pixels.dtype)], dim=1)
    return joined.contiguous(memory_format=torch.channels_last)
