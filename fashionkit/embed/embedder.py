"""Pictures and texts as vectors: the small API that applications import.

    images ──► `vision.pictures` (one preparation) ──► backbone ──┬──► pooled ──► unit norm ──► (N, D)
                                                                  └──► map x regions ──► (N, R, C), present (N, R)
    texts ───────────────────────────────────► text tower ──► unit norm ──► (N, D), where the backbone has one

A model on disk is a folder: `model.safetensors`, `config.json` (backbone and preprocessing), `README.md`.

Letters: N pictures or texts, D width of a vector, R regions, C channels of the map.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

import fashionkit
from fashionkit.catalog.images import PictureError
from fashionkit.embed.ahead import ahead
from fashionkit.tables import InputError, write_atomic, write_text
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.memory import keep_memory
from fashionkit.vision.pictures import as_picture, as_tensor, sized, sized_masks
from fashionkit.vision.pooling import present, region_pool, shrink_masks
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.regions import ITEMS

if TYPE_CHECKING:
    from fashionkit.vision.regions import RegionProvider

Floats = npt.NDArray[np.float32]
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
ON_ERROR = ("raise", "skip")


class Embedder:
    """Turns pictures into vectors of unit norm.

    Args:
        backbone: Any backbone; it is put in evaluation mode. device: Where it runs. batch: Pictures of one pass.

    Attributes:
        dim: D. preprocess: How pictures are prepared.
        fingerprint: Of weights and preprocessing: equal for equal vectors.
    """

    def __init__(self, backbone: Backbone, device: str | torch.device = "cpu", batch: int = 32):
        if batch < 1:
            raise InputError("a batch has at least 1 picture", found=batch)
        self.device, self.batch = torch.device(device), batch
        self.backbone = backbone.eval().to(self.device)
        if self.device.type == "cpu":
            keep_memory()
            self.backbone.to(memory_format=torch.channels_last)

    @classmethod
    def load(
        cls,
        model: str | Path,
        weights: str | Path | None = None,
        size: int | None = None,
        device: str | torch.device = "cpu",
        batch: int = 32,
    ) -> Embedder:
        """An embedder by the name of its backbone, or from a folder that `save` wrote.

        Args:
            model: `timm/<arch>`, `open_clip/<arch>`, or a folder. weights: Of a named backbone; see
                `fashionkit.vision.weights`. It must be said: random weights are never a default here.
            size: Side of the input in pixels, where not the weights' own. device, batch: As for the class.

        Raises:
            InputError: No such model or weights, or a folder that holds something else.
        """
        folder = Path(model)
        if folder.is_dir():
            if weights is not None:
                raise InputError("a saved model has its own weights", file=folder, column="weights", found=str(weights))
            config = _config(folder)
            backbone = build_backbone(
                config["backbone"], folder / WEIGHTS, config["preprocess"]["size"] if size is None else size
            )
            return cls(backbone, device, batch)
        if weights is None:
            hint = "say which: `offline`, `hub`, a file, or `random` to try things out"
            raise InputError("a backbone by name needs weights", found=str(model), hint=hint)
        return cls(build_backbone(str(model), weights, size), device, batch)

    def save(self, folder: str | Path, about: str = "") -> Path:
        """Writes the model for others: weights, configuration and a card.

        Args:
            folder: New, or empty. about: What it was trained on and how well it does, for the card.

        Raises:
            InputError: The folder holds something.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise InputError("there is something already", file=folder, hint="name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        state = {key: value.detach().cpu().contiguous() for key, value in self.backbone.network.state_dict().items()}
        write_atomic(folder / WEIGHTS, lambda path: save_file(state, path))
        config: dict[str, Any] = {"backbone": self.backbone.name, "preprocess": self.preprocess.to_dict()}
        write_text(folder / CARD, _card(self, about))
        config |= {"dim": self.dim, "fingerprint": self.fingerprint, "made_by": f"fashionkit {fashionkit.__version__}"}
        write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")  # last: it makes the folder a model
        return folder

    @property
    def name(self) -> str:
        """Of the backbone."""
        return self.backbone.name

    @property
    def dim(self) -> int:
        """D."""
        return self.backbone.dim

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are prepared."""
        return self.backbone.preprocess

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights and preprocessing."""
        import hashlib

        how = json.dumps(self.preprocess.to_dict(), sort_keys=True)
        return hashlib.sha256(f"{self.backbone.fingerprint()} {how}".encode()).hexdigest()

    def embed(self, images: Sequence[object] | object, on_error: str = "raise") -> Floats:
        """(N, D) float32 of unit norm, in the order of the pictures.

        Args:
            images: One picture or a sequence, each a path, bytes, a Pillow picture, an array `(H, W, 3)` uint8 or a
                tensor `(3, H, W)`; URLs are refused.
            on_error: `raise`, or `skip`: a broken picture's row is masked in a `numpy.ma.MaskedArray`.

        Raises:
            InputError: A picture cannot be read; the error names its index.
        """
        images = self._listed(images, on_error)
        found, broken = np.zeros((len(images), self.dim), np.float32), np.zeros(len(images), bool)
        for rows, pixels in self._batches(images, broken, on_error):
            found[rows] = self.embed_prepared(pixels)
        return _masked(found, broken) if on_error == "skip" else found

    @torch.inference_mode()
    def embed_prepared(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> Floats:
        """(n, D) float32 of unit norm of pictures that `vision.pictures.sized` made, in one pass.

        Args:
            pixels: n of (S, S, 3) uint8.
        """
        return _unit(self.backbone.pooled(self._tensor(pixels)))

    @torch.inference_mode()
    def regions(
        self,
        images: Sequence[object] | object,
        provider: RegionProvider,
        ids: Sequence[str] | None = None,
        on_error: str = "raise",
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """(N, R, C) float32 vectors of the items of each picture, of unit norm, and (N, R) bool whether one is there.

        Args:
            images, on_error: As `embed`. provider: Finds the regions, e.g. `vision.regions.BandRegions()`.
            ids: N picture ids, for providers that look them up.

        Raises:
            InputError: As `embed`; or ids of another number.
        """
        images = self._listed(images, on_error)
        ids = [str(number) for number in range(len(images))] if ids is None else ids
        if len(ids) != len(images):
            raise InputError("one id is needed for each picture", found=f"{len(ids)} ids, {len(images)} pictures")
        vectors: list[Floats] = []
        there: list[npt.NDArray[np.bool_]] = []
        broken, order = np.zeros(len(images), bool), []
        for number, image in enumerate(images):
            try:
                picture = as_picture(image)
            except PictureError as error:
                broken[number] = self._broken(number, error, on_error)
                continue
            masks = torch.from_numpy(sized_masks(provider.regions(picture, ids[number]), self.preprocess))[None]
            x = self.backbone.spatial(self._tensor([sized(picture, self.preprocess)])).float().cpu()
            pooled = region_pool(x, shrink_masks(masks, (x.shape[2], x.shape[3])))  # 1 R C
            vectors.append(F.normalize(pooled[0], dim=1).numpy())
            there.append(present(masks)[0].numpy())
            order.append(number)
        shape = vectors[0].shape if vectors else (len(ITEMS), self.backbone.channels)
        found, seen = np.zeros((len(images), *shape), np.float32), np.zeros((len(images), shape[0]), bool)
        if order:
            found[order], seen[order] = np.stack(vectors), np.stack(there)
        return (_masked(found, broken) if on_error == "skip" else found), seen

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Floats:
        """(N, D) float32 of unit norm, comparable with `embed` of the same model.

        Raises:
            InputError: The backbone has no text tower.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            return np.zeros((0, self.dim), np.float32)
        parts = [listed[lo : lo + self.batch] for lo in range(0, len(listed), self.batch)]
        return np.concatenate([_unit(self.backbone.text(part)) for part in parts])

    def _listed(self, images: Sequence[object] | object, on_error: str) -> list[object]:
        if on_error not in ON_ERROR:
            raise InputError("cannot treat broken pictures so", found=on_error, allowed=ON_ERROR)
        if isinstance(images, np.ndarray | Tensor):  # a batch of pictures, a column of paths, or one picture
            return list(images) if images.ndim in (1, 4) else [images]
        one = isinstance(images, str | bytes | bytearray | memoryview) or hasattr(images, "read")
        return [images] if one or not isinstance(images, Iterable) else list(images)

    def _batches(
        self, images: Sequence[object], broken: npt.NDArray[np.bool_], on_error: str
    ) -> Iterator[tuple[list[int], list[npt.NDArray[np.uint8]]]]:
        """Rows and prepared pixels of pictures that could be read, a batch at a time; marks the others."""

        def load(rows: range) -> list[tuple[int, npt.NDArray[np.uint8] | PictureError]]:
            found: list[tuple[int, npt.NDArray[np.uint8] | PictureError]] = []
            for row in rows:
                try:
                    found.append((row, sized(as_picture(images[row]), self.preprocess)))
                except PictureError as error:
                    found.append((row, error))
            return found

        parts = (range(lo, min(lo + self.batch, len(images))) for lo in range(0, len(images), self.batch))
        for loaded in ahead(load, parts):
            good: list[tuple[int, npt.NDArray[np.uint8]]] = []
            for row, what in loaded:
                if isinstance(what, PictureError):
                    broken[row] = self._broken(row, what, on_error)
                else:
                    good.append((row, what))
            if good:
                yield [row for row, _ in good], [pixels for _, pixels in good]

    def _broken(self, number: int, error: PictureError, on_error: str) -> bool:
        if on_error == "raise":
            hint = 'on_error="skip" leaves broken pictures out'
            raise InputError(f"picture {number}: {error}", hint=hint) from error
        return True

    def _tensor(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
        x = as_tensor(pixels, self.preprocess).to(self.device)
        return x.to(memory_format=torch.channels_last) if self.device.type == "cpu" else x


def _unit(vectors: Tensor) -> Floats:
    found: Floats = F.normalize(vectors.float(), dim=1).cpu().numpy()
    return found


def _masked(found: Floats, broken: npt.NDArray[np.bool_]) -> Floats:
    mask = np.broadcast_to(broken.reshape(-1, *[1] * (found.ndim - 1)), found.shape)
    masked: Any = np.ma.MaskedArray(found, mask=mask)
    return masked


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file() or not (folder / WEIGHTS).is_file():
        hint = f"a model is a folder with {CONFIG} and {WEIGHTS}, as Embedder.save writes it"
        raise InputError("this folder holds no model", file=folder, hint=hint)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name, how = config["backbone"], Preprocess.from_dict(config["preprocess"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"the configuration is damaged: {error}", file=path) from error
    return {"backbone": str(name), "preprocess": how.to_dict()}


def _card(model: Embedder, about: str) -> str:
    how = model.preprocess
    return f"""# {model.name}

{about or "Nothing was said about what this model was trained on."}

Vectors of {model.dim} numbers, of unit norm, from pictures of {how.size} px. Use:

```python
from fashionkit import Embedder

vectors = Embedder.load("this/folder").embed(["photo.jpg"])
```
"""
