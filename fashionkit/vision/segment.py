"""What networks of `transformers` that find items by themselves share: their files, and asking them in batches.

    "organisation/name" ──► the hub's cache (or a download, where it is allowed) ─┐
    "path/to/folder" ─────────────────────────────────────────────────────────────┴──► folder ──► identity: a SHA-256
                                                                                           └────► network, Preprocess
    pictures ──► squashed, normed (B, 3, S, S) ──► network ──► (4, H, W) bool each

Weights are safetensors only, and no code that lies beside them is run. The network is opened when it is first asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image

from fashionkit.tables import InputError, sha256_file
from fashionkit.vision.pictures import as_tensor, sized
from fashionkit.vision.preprocess import Preprocess
from fashionkit.vision.region_base import Masks, Picture, check_places, digest, needed, pixels_of, said_by

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS: Final = "model.safetensors"
CONFIG, PREPARATION = "config.json", "preprocessor_config.json"
TOKENIZER: Final = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json"),
)
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as configs have them


class ModelFolder:
    """The files of one network.

    Args:
        source: A folder, or `organisation/name` on the hub. model_type: What its config must say it is.
        revision: Branch, tag or commit on the hub; None is its main branch. download: Whether the hub may be asked.
        others: Names of more files that belong to it.

    Raises:
        InputError: There is no such folder, the hub's cache lacks it, or files are missing, broken or of another model.
    """

    def __init__(
        self, source: str | Path, model_type: str, revision: str | None, download: bool, others: Sequence[str] = ()
    ):
        self.source, self.names = str(source), (WEIGHTS, CONFIG, PREPARATION, *others)
        folder = Path(source)
        self.folder = folder if folder.is_dir() else self._from_hub(revision, download)
        lacking = [name for name in self.names[:3] if not (self.folder / name).is_file()]
        if lacking:
            raise InputError(f"the folder lacks {', '.join(lacking)}", file=self.folder, hint=self._hint())
        self.config, self.preparation = self._json(CONFIG), self._json(PREPARATION)
        found = self.config.get("model_type")
        if found != model_type:
            raise InputError("this is another model", file=self.folder / CONFIG, found=found, allowed=[model_type])

    @cached_property
    def identity(self) -> str:
        """Of the files' bytes: the same for equal files, wherever they lie."""
        there = [name for name in sorted(self.names) if (self.folder / name).is_file()]
        return digest([(name, sha256_file(self.folder / name)) for name in there])

    @cached_property
    def preprocess(self) -> Preprocess:
        """How pictures are prepared: squashed to a square, as both kinds of network want it."""
        said = self.preparation
        try:
            size = said["size"]
            sides = {int(side) for side in size.values()} if isinstance(size, dict) else {int(size)}
            (side,) = sides  # networks for other shapes are not read here
            filter_ = _FILTERS[said.get("resample", 2)]
            return Preprocess(side, said["image_mean"], said["image_std"], filter_, 1.0, "squash")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"it does not say how pictures become squares: {error}"
            raise InputError(problem, file=self.folder / PREPARATION) from error

    def opened(self, class_name: str) -> Any:
        """The network, ready to be asked.

        Raises:
            InputError: transformers is not installed, or the weights are damaged or do not fit the config.
        """
        library = needed("transformers", "segment")
        try:
            with _quiet(library):
                network, report = getattr(library, class_name).from_pretrained(
                    self.folder, local_files_only=True, use_safetensors=True, output_loading_info=True
                )
        except Exception as error:  # damaged files raise errors of safetensors, torch and transformers alike
            raise self.unreadable(error) from error
        # transformers fills what it does not find with random numbers and goes on.
        lacking = [*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])]
        if lacking:
            raise InputError("weights are missing or do not fit", file=self.folder / WEIGHTS, found=sorted(lacking)[:4])
        return network.float().eval()

    def tokenizer(self) -> Any:
        """The tokenizer of CLIP that lies in the folder."""
        library = needed("transformers", "segment")
        try:
            with _quiet(library):
                return library.CLIPTokenizerFast.from_pretrained(self.folder, local_files_only=True)
        except Exception as error:  # as above
            raise self.unreadable(error) from error

    def unreadable(self, error: Exception) -> InputError:
        """The error for files that cannot be used."""
        return InputError("the model cannot be read", file=self.folder, found=said_by(error), hint=self._hint())

    def _from_hub(self, revision: str | None, download: bool) -> Path:
        parts = self.source.split("/")
        if len(parts) != 2 or not all(parts) or parts[0] in (".", "..", "~"):
            raise InputError("no such folder of a model", found=self.source, hint=self._hint())
        from huggingface_hub import snapshot_download

        try:
            found = snapshot_download(
                self.source, revision=revision, allow_patterns=list(self.names), local_files_only=not download
            )
        except Exception as error:  # the hub's client, its transport and the file system each have errors of their own
            problem = "could not be fetched" if download else "is not in the hub's cache, and nothing is downloaded"
            problem = f"the model {self.source} {problem}"
            raise InputError(problem, found=said_by(error), hint=self._hint(not download)) from error
        return Path(found)

    def _hint(self, could_download: bool = False) -> str:
        name = self.source if self.source.count("/") == 1 else "ORGANISATION/NAME"
        hint = f"place in a folder, and name it, what https://huggingface.co/{name} has of {', '.join(self.names)}"
        return hint + ("; or allow the download" if could_download else "")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError("this is no JSON", file=self.folder / name, found=error) from error
        if not isinstance(found, dict):
            raise InputError("this is no mapping of keys to values", file=self.folder / name, found=found)
        return found


class SegmentRegions:
    """A provider that asks a network. It is slow picture by picture: see `batch`, and keep what it finds in a cache.

    Args:
        files: Of the network. places: The items that each prompt or label counts for. settings: Others, for the key.
        device: Where it runs. size: Pictures of one pass.
    """

    kind = "segment"
    network_class = ""

    def __init__(
        self,
        files: ModelFolder,
        places: Mapping[str, Sequence[str]],
        settings: Sequence[object],
        device: str,
        size: int,
    ):
        if not places:
            raise InputError("a network that finds items needs a table of names and the items they count for")
        check_places(places, "prompt or label")
        if size < 1:
            raise InputError("a batch has at least 1 picture", found=size)
        self.files, self.device, self.size = files, device, size
        self.places = {str(name): tuple(items) for name, items in places.items()}
        self._settings, self._network = tuple(settings), None
        self.preprocess = files.preprocess

    @cached_property
    def key(self) -> str:
        return f"{self.kind}/{digest(self.files.identity, sorted(self.places.items()), self._settings)}"

    def __getstate__(self) -> dict[str, Any]:
        """Without the network, which is opened again in another process."""
        return {**self.__dict__, "_network": None}

    @property
    def network(self) -> Any:
        if self._network is None:
            self._network = self._opened().to(self.device)
        return self._network

    def regions(self, image: Picture, image_id: str) -> Masks:
        return self.batch([image], [image_id])[0]

    def batch(self, images: Sequence[Picture], image_ids: Sequence[str]) -> list[Masks]:
        """(4, H, W) bool for each picture, as `regions` finds them.

        Args:
            images: Of any sizes. image_ids: Their ids, which do not matter here.
        """
        import torch

        with torch.inference_mode():
            return [masks for x, sizes in self._prepared(images) for masks in self._masks(x, sizes)]

    def _prepared(self, images: Sequence[Picture]) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
        """(B, 3, S, S) and the B sizes (H, W) of the pictures, pass by pass."""
        for lo in range(0, len(images), self.size):
            pictures = [Image.fromarray(pixels_of(image)) for image in images[lo : lo + self.size]]
            x = as_tensor([sized(picture, self.preprocess) for picture in pictures], self.preprocess)
            yield x.to(self.device), [(picture.height, picture.width) for picture in pictures]

    def _opened(self) -> Any:
        return self.files.opened(self.network_class)

    def _masks(self, x: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Masks]:
        """(4, H, W) bool for each of (B, 3, S, S), in the sizes given."""
        raise NotImplementedError


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """transformers without its bars and remarks; what is wrong with a file is said by our errors."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
