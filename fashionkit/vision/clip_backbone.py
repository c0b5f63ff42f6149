"""Any visual tower of open_clip as a backbone, with the text tower beside it (CLIP, arXiv 2103.00020).

    ViT            tokens of the last block, normed   │ projected class token
    ModifiedResNet last stage                         │ attention pooling
    a timm trunk   the trunk's map (SigLIP, ConvNeXt) │ the trunk's pooling and projection

The vector lies in the space that texts share; the map does not, and is as wide as the tower.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fashionkit.tables import InputError
from fashionkit.vision.backbones import Backbone, map_of, sized, taking
from fashionkit.vision.preprocess import Preprocess, from_open_clip
from fashionkit.vision.tensors import State, fill, fits, tidied
from fashionkit.vision.timm_backbone import resized, stages_of, stride_of
from fashionkit.vision.weights import Source, fetch, hub_error, read_weights


class ClipBackbone(Backbone):
    """One model of open_clip. `tokenizer` is what open_clip's `get_tokenizer` finds it by."""

    has_text = True

    def __init__(self, name: str, network: nn.Module, preprocess: Preprocess, tokenizer: str):
        super().__init__(name, network, preprocess)
        self.tokenizer = tokenizer
        self._tokenize: Any = None
        visual: Any = network.visual
        self._trunk = hasattr(visual, "trunk")
        if self._trunk:
            self.stride = stride_of(visual.trunk)
        else:
            self.stride = int(visual.patch_size[0]) if hasattr(visual, "patch_size") else 32

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) and (B, D); D is the width that texts share."""
        visual = self.network.visual
        if self._trunk:
            features = visual.trunk.forward_features(x)
            return map_of(visual.trunk, features, x.shape[2:]), visual.head(visual.trunk.forward_head(features))
        # The norm of a tower that pools by attention is as wide as its output, not as its tokens.
        norm = getattr(visual, "attn_pool", None) is None
        found = visual.forward_intermediates(x, indices=1, normalize_intermediates=norm)
        return found["image_intermediates"][-1], found["image_features"]

    def text(self, texts: Sequence[str]) -> Tensor:
        """(N, D) vectors of texts in the space of `pooled`, not normed.

        Raises:
            InputError: `texts` is no list of texts, or the tokenizer is not at hand.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError("texts come as a list of strings", found=texts)
        device = self.network.logit_scale.device
        if not texts:
            return torch.zeros(0, self.dim, device=device)
        if self._tokenize is None:
            self._tokenize = _tokenizer(self.tokenizer)
        vectors: Tensor = self.network.encode_text(self._tokenize(list(texts)).to(device))
        return vectors

    def _tower(self) -> nn.Module:
        tower: nn.Module = self.network.visual
        return tower

    def _stages(self) -> list[list[str]]:
        visual = self.network.visual
        if self._trunk:
            stages = [[f"trunk.{key}" for key in stage] for stage in stages_of(visual.trunk)]
            stages[-1] += [f"head.{key}" for key, _ in visual.head.named_parameters()]
        else:
            stages = _stages_of(visual)
        return [[f"visual.{key}" for key in stage] for stage in stages]


def build_clip(arch: str, source: Source, size: int | None) -> ClipBackbone:
    """An open_clip model filled from a source.

    Raises:
        InputError: See `build_backbone`.
    """
    if arch not in open_clip.list_models():
        allowed = [f"open_clip/{name}" for name in open_clip.list_models()]
        raise InputError("no such backbone", found=f"open_clip/{arch}", allowed=allowed)
    if source.kind == "offline":
        raise InputError("no package carries weights of this backbone", found=f"open_clip/{arch}")
    if source.kind == "hub" and "/" not in source.value:
        tag = _tag(arch, source.value)
        network = _published(arch, tag)
        preprocess, tokenizer = _preprocess(arch, network, tag), arch
    else:
        network = _drawn(arch, int(source.value) if source.kind == "random" else 0)
        preprocess, tokenizer = _preprocess(arch, network), arch
        if source.kind != "random":
            weights = fetch(source.value) if source.kind == "hub" else read_weights(source.value)
            _fill(
                network,
                weights.state,
                weights.file,
                (weights.preprocess.size if weights.preprocess else size or preprocess.size),
            )
            preprocess, tokenizer = weights.preprocess or preprocess, _tokenizer_beside(weights.file.parent, arch)
    _resize(network.visual, size or preprocess.size)
    return ClipBackbone(f"open_clip/{arch}", network, sized(preprocess, size), tokenizer)


@contextmanager
def _quiet() -> Iterator[None]:
    """open_clip logs through the root logger, which would gain a handler by it, and warns where no tag is loaded."""
    root, handler, before = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)


def _drawn(arch: str, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        try:
            return open_clip.create_model(arch, pretrained=None, pretrained_text=False)
        # Text towers from transformers fetch their config even where no weights are wanted.
        except Exception as error:
            hint = "its text tower needs the package transformers and a config from the hub"
            raise InputError(f"cannot build open_clip/{arch}", found=str(error), hint=hint) from error


def _tag(arch: str, tag: str) -> str:
    """The tag to fetch: published weights differ in training data, so where there are several, none is a default."""
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if not tags:
        raise InputError("open_clip publishes no weights of this backbone", found=f"open_clip/{arch}")
    if not tag and len(tags) == 1:
        return str(tags[0])
    if tag not in tags:
        hint = f"say which, e.g. hub:{tags[0]}"
        raise InputError(f"open_clip/{arch} has weights of several tags", found=tag or "hub", allowed=tags, hint=hint)
    return tag


def _published(arch: str, tag: str) -> Any:
    """Weights that open_clip publishes, through its own loader."""
    try:
        with torch.random.fork_rng(devices=[]), _quiet():
            return open_clip.create_model(arch, pretrained=tag)
    except Exception as error:  # the hub's client, its transport and the file system each have errors of their own
        config = open_clip.get_pretrained_cfg(arch, tag)
        repository = str(config.get("hf_hub") or "")
        file = str(config.get("url"))
        if repository:
            name = repository.rstrip("/")
            name = f"{name}/open_clip_model.safetensors" if repository.endswith("/") else name
            file = "https://huggingface.co/" + "/resolve/main/".join(name.rsplit("/", 1))
        raise hub_error(f"open_clip/{arch} ({tag})", file, error) from error


def _preprocess(arch: str, network: Any, tag: str | None = None) -> Preprocess:
    """Of a tag; without one, of the published weights if they agree, as SigLIP's differ from open_clip's default."""
    tags = [tag] if tag else open_clip.list_pretrained_tags_by_model(arch)
    size = network.visual.image_size
    found = {from_open_clip(open_clip.get_pretrained_cfg(arch, name), size) for name in tags}
    return found.pop() if len(found) == 1 else from_open_clip({}, size)


def _tokenizer_beside(folder: Path, arch: str) -> str:
    """A folder from the hub has the tokenizer too, so that no name is fetched."""
    files = ("open_clip_config.json", "tokenizer_config.json")
    return f"local-dir:{folder}" if all((folder / file).is_file() for file in files) else arch


def _tokenizer(name: str) -> Any:
    try:
        with _quiet():
            return open_clip.get_tokenizer(name)
    except Exception as error:  # transformers may be missing, or the hub out of reach
        hint = "`pip install transformers`, and give `weights` the repository's folder with its tokenizer files"
        problem = "the tokenizer of the text tower is not at hand"
        raise InputError(problem, found=f"{type(error).__name__}: {error}", hint=hint) from error


def _fill(network: Any, state: State, file: Path, size: int) -> None:
    state = {key: value for key, value in tidied(state).items() if not key.endswith("position_ids")}
    if not hasattr(network, "positional_embedding") and "positional_embedding" in state:
        # Files from before text towers had a module of their own.
        moved = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
        state = {f"text.{key}" if key.startswith(moved) else key: value for key, value in state.items()}
    for key in ("logit_scale", "logit_bias"):  # saved as a number or as a list of one
        if key in state and getattr(network, key, None) is not None and state[key].numel() == 1:
            state[key] = state[key].reshape(getattr(network, key).shape)
    if not fits(network, state):
        _resize(network.visual, size)  # the file was saved at this size
    fill(network, state, file)


def _resize(visual: Any, size: int) -> None:
    """Makes a tower take another size: its table of positions is resampled, as in open_clip's loader."""
    edge = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[-1]
    if edge == size:
        return
    if hasattr(visual, "trunk"):
        if hasattr(visual.trunk, "set_input_size"):
            resized(visual.trunk, size)
        visual.image_size = (size, size)
        return
    holder = visual.attnpool if hasattr(visual, "attnpool") else visual
    cell = 32 if holder is not visual else visual.patch_size[0]
    old = holder.positional_embedding.detach()  # (1 + n * n, width), the first for the whole picture
    n, grid = round((len(old) - 1) ** 0.5), size // cell
    table = old[1:].reshape(1, n, n, -1).permute(0, 3, 1, 2)
    with taking("the tower", size):  # fewer pixels than a cell has leave no grid
        table = F.interpolate(table, (grid, grid), mode="bicubic", antialias=True, align_corners=False)
    new = torch.cat([old[:1], table.flatten(2)[0].T])  # (1 + grid * grid, width)
    holder.positional_embedding = nn.Parameter(new, holder.positional_embedding.requires_grad)
    if holder is visual:
        visual.grid_size, visual.image_size = (grid, grid), (size, size)
    else:
        visual.image_size = size


def _stages_of(visual: Any) -> list[list[str]]:
    """The stem, then each block of a ViT or stage of a ResNet; pooling, norm and projection go with the last."""
    names = [key for key, _ in visual.named_parameters()]
    if hasattr(visual, "transformer"):
        parts = [f"transformer.resblocks.{number}." for number in range(len(visual.transformer.resblocks))]
    else:
        parts = [f"layer{number}." for number in (1, 2, 3, 4)]
    end = ("ln_post.", "proj", "attn_pool", "attnpool.")
    stages = [[key for key in names if key.startswith(part)] for part in parts]
    stages[-1] += [key for key in names if key.startswith(end)]
    claimed = {key for stage in stages for key in stage}
    return [[key for key in names if key not in claimed], *stages]
