"""Any image model of timm as a backbone: its map or tokens, and the vector before its classifier.

Weights are loaded at the size they were made for and resampled afterwards, as timm does for its own.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import get_arch_pretrained_cfgs, group_parameters
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.tables import InputError
from fashionkit.vision.backbones import Backbone, map_of, sized, taking
from fashionkit.vision.preprocess import Preprocess, from_timm
from fashionkit.vision.tensors import fill, fits, tidied
from fashionkit.vision.weights import Source, Weights, fetch, hub_error, read_offline, read_weights

SENTINEL = "\0"
STRIDES = ("8", "16", "32")
# Tables that older files carry and models now work out for themselves.
DERIVED = ("attn_mask", "relative_position_index", "relative_coords_table")


@dataclass(frozen=True)
class Variant:
    """What may stand behind an architecture's name: `@16`, its last stages are dilated to that stride; `+stages`, its
    vector also holds mean and deviation over the cells of its last two stages, each part at unit norm."""

    output_stride: int | None = None
    stages: bool = False

    def __str__(self) -> str:
        return f"{'' if self.output_stride is None else f'@{self.output_stride}'}{'+stages' if self.stages else ''}"


class TimmBackbone(Backbone):
    """One model of timm without its classifier."""

    def __init__(self, name: str, network: nn.Module, preprocess: Preprocess, variant: Variant = Variant()):
        super().__init__(name, network, preprocess)
        self.variant = variant
        self.stride = stride_of(network)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) and (B, D); D may differ from C, as MobileNetV3 widens after pooling."""
        if self.variant.stages:
            return self._with_stages(x)
        features = self.network.forward_features(x)
        return map_of(self.network, features, x.shape[2:]), self.network.forward_head(features, pre_logits=True)

    def _with_stages(self, x: Tensor) -> tuple[Tensor, Tensor]:
        last = len(self.network.feature_info)
        features, stages = self.network.forward_intermediates(x, indices=[last - 2, last - 1])  # each (B, c, h, w)
        parts = [self.network.forward_head(features, pre_logits=True)]
        for cells in (stage.float().flatten(2) for stage in stages):
            parts += [torch.cat([cells.mean(2), (cells.var(2, correction=0) + 1e-12).sqrt()], dim=1)]
        vector = torch.cat([F.normalize(part.float(), dim=1) for part in parts], dim=1)  # (B, D)
        return map_of(self.network, features, x.shape[2:]), vector

    def spatial(self, x: Tensor) -> Tensor:
        """(B, C, h, w), without the head."""
        return map_of(self.network, self.network.forward_features(x), x.shape[2:])

    def fingerprint(self) -> str:
        """Of the tensors, and of the variant, of which they tell nothing."""
        of_tensors = super().fingerprint()
        if not str(self.variant):
            return of_tensors
        return hashlib.sha256(f"{of_tensors} {self.variant}".encode()).hexdigest()

    def _stages(self) -> list[list[str]]:
        return stages_of(self.network)


def build_timm(arch: str, source: Source, size: int | None) -> TimmBackbone:
    """A timm model filled from a source.

    Raises:
        InputError: See `build_backbone`.
    """
    arch, variant = _with_variant(arch)
    base, _, tag = arch.partition(".")
    if not base or not timm.is_model(base):
        allowed = [f"timm/{name}" for name in timm.list_models()]
        raise InputError("no such backbone", found=f"timm/{arch}", allowed=allowed)
    tags = {name.partition(".")[2]: config for name, config in get_arch_pretrained_cfgs(base).items()}
    published = source.kind == "hub" and "/" not in source.value
    tag = (source.value if published else "") or tag
    if published and not tags:
        raise InputError("timm publishes no weights of this backbone", found=f"timm/{base}")
    if tag and tag not in tags:
        raise InputError(f"timm/{base} has no weights of this tag", found=tag, allowed=tags)
    # The name's tag says how pictures are prepared even where a file beside no config gives the weights.
    name, arch = f"timm/{arch}", f"{base}.{tag}" if tag else base
    stride = variant.output_stride
    more = {} if stride is None else {"output_stride": stride}
    try:
        if published:
            network = _published(arch, tags[tag or next(iter(tags))], **more)
        else:
            network = _drawn(arch, int(source.value) if source.kind == "random" else 0, **more)
    except (TypeError, NotImplementedError, AssertionError) as error:
        if stride is None:
            raise
        hint = "networks of tokens and some others cannot; a larger `size` gives finer maps, too"
        raise InputError(f"timm/{arch} cannot be dilated to a stride of {stride}", hint=hint) from error
    if variant.stages and not (hasattr(network, "forward_intermediates") and len(network.feature_info) > 1):
        raise InputError("this network does not show its stages", found=f"{name}+stages", hint="leave +stages out")
    preprocess = from_timm(resolve_model_data_config(network))
    if source.kind != "random" and not published:
        weights = _weights(base, source, network)
        _fill(network, weights, size)
        preprocess = weights.preprocess or preprocess
    size = size or preprocess.size
    if size != _size_of(network):
        network = resized(network, size) if _can_resize(network) else _redrawn(arch, source, network, size)
    return TimmBackbone(f"{name}{variant}", network, sized(preprocess, size), variant)


def stages_of(network: Any) -> list[list[str]]:
    """Names of a timm model's parameters, stage by stage from the stem; what no stage claims goes with the last."""
    if not hasattr(network, "group_matcher"):
        return _numbered(network)
    matcher = network.group_matcher(coarse=True)
    groups = group_parameters(network, matcher)
    stages = [list(groups[key]) for key in sorted(groups)]
    if isinstance(matcher, dict):
        # timm puts names that match nothing into one last group; a name that cannot match finds it.
        named = [*network.named_parameters(), (SENTINEL, None)]
        found = group_with_matcher(iter(named), matcher)
        stages = [list(found[key]) for key in sorted(found)]
        loose = [key for key in stages.pop() if key != SENTINEL]
        early = [key for key in loose if "." not in key or key.startswith("norm_pre.")]  # register tokens and the like
        stages = stages or [[]]
        stages[0] += early
        stages[-1] += [key for key in loose if key not in early]
    return stages


def _numbered(network: Any) -> list[list[str]]:
    """Stages of a model that does not name them: the members of its top-level lists; what lies between follows."""
    stages: list[list[str]] = [[]]
    current = ""
    for key, _ in network.named_parameters():
        match = re.match(r"\w+\.\d+\.", key)
        if match and match.group() != current and stages[-1]:
            stages.append([])
        current = match.group() if match else current
        stages[-1].append(key)
    return stages


def stride_of(network: Any) -> int:
    """Pixels for each cell of the last map."""
    return int(network.feature_info[-1]["reduction"])


def resized(network: Any, size: int) -> Any:
    """A timm model for another size: tables of positions are resampled, windows keep their size where they fit."""
    more: dict[str, Any] = {}
    for layer in list(getattr(network, "layers", []))[:1]:
        if hasattr(layer, "blocks") and hasattr(layer.blocks[0], "window_size"):  # timm would shrink Swin's windows
            more["window_size"] = layer.blocks[0].window_size
    with taking(network.pretrained_cfg.get("architecture", "the network"), size), warnings.catch_warnings():
        # How timm calls torch inside is nothing a user can mend.
        warnings.filterwarnings("ignore", message="torch.searchsorted|Using a non-tuple sequence", category=UserWarning)
        network.set_input_size(img_size=size, **more)
    return network


def _can_resize(network: Any) -> bool:
    return hasattr(network, "set_input_size")


def _size_of(network: Any) -> int:
    edge = getattr(getattr(network, "patch_embed", None), "img_size", None)
    return int(edge[-1]) if edge else int(network.pretrained_cfg["input_size"][-1])


def _drawn(arch: str, seed: int, **more: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _created(arch, num_classes=0, **more)


def _created(arch: str, output_stride: int | None = None, **more: Any) -> Any:
    """timm's model; MobileNetV3 is dilated here, since timm dilates its relatives but not it."""
    if output_stride is None:
        return timm.create_model(arch, **more)
    if not arch.startswith("mobilenetv3"):
        return timm.create_model(arch, output_stride=output_stride, **more)
    network = timm.create_model(arch, **more)
    _dilate(network, output_stride)
    return network


def _dilate(network: Any, output_stride: int) -> None:
    """Lets a chain of convolutions go on at a stride; kernels behind the place stretch instead."""
    at, dilation = 1, 1
    for part in (network.conv_stem, network.blocks):
        for layer in part.modules():
            if not isinstance(layer, nn.Conv2d) or layer.kernel_size[0] == 1:
                continue
            layer.dilation = (dilation, dilation)
            layer.padding = tuple((k - 1) // 2 * dilation for k in layer.kernel_size)
            if layer.stride[0] == 2 and at < output_stride:
                at *= 2
            elif layer.stride[0] == 2:
                layer.stride, dilation = (1, 1), dilation * 2


def _redrawn(arch: str, source: Source, network: Any, size: int) -> Any:
    """The network itself where it takes any size (no table of positions), else built anew for the size if random."""
    if not network.pretrained_cfg.get("fixed_input_size") or source.kind != "random":
        return network  # measuring it tells whether it takes this size
    try:
        return _drawn(arch, int(source.value), img_size=size)
    except TypeError:
        return network


def _with_variant(arch: str) -> tuple[str, Variant]:
    """The architecture's name, and what stands behind it."""
    match = re.fullmatch(r"([^@+]*)(?:@(\d+))?(\+stages)?", arch)
    if match is None or (match[2] or "32") not in STRIDES:
        hint = f"a stride ({', '.join(STRIDES)}) and +stages may follow the architecture: timm/resnet18@16+stages"
        raise InputError("no such variant of a backbone", found=f"timm/{arch}", hint=hint)
    return match[1], Variant(int(match[2]) if match[2] else None, bool(match[3]))


def _published(arch: str, config: Any, **more: Any) -> Any:
    """Weights that timm publishes, through its own loader."""
    try:
        with torch.random.fork_rng(devices=[]):
            return _created(arch, pretrained=True, num_classes=0, **more)
    except (TypeError, NotImplementedError, AssertionError):
        raise
    except Exception as error:  # the hub's client, its transport and the file system each have errors of their own
        file = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
        raise hub_error(f"timm/{arch}", file if config.hf_hub_id else str(config.url), error) from error


def _weights(base: str, source: Source, network: Any) -> Weights:
    if source.kind == "offline":
        return read_offline(base, list(network.state_dict()))
    return fetch(source.value) if source.kind == "hub" else read_weights(source.value)


def _fill(network: Any, weights: Weights, size: int | None) -> None:
    state = {key: value for key, value in tidied(weights.state).items() if key.split(".")[-1] not in DERIVED}
    size = weights.preprocess.size if weights.preprocess else size
    if size is not None and not fits(network, state) and _can_resize(network):
        resized(network, size)  # the file was saved at this size
    head = network.pretrained_cfg.get("classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    fill(network, state, weights.file, tuple(f"{key}." for key in heads))
