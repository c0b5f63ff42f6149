"""Features on disk: what the backbone says, by id, whole or absent, and the same after a stop."""

from __future__ import annotations

import multiprocessing
import shutil
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fashionkit.catalog.images import PictureError
from fashionkit.engine.alone import alone
from fashionkit.tables import InputError, verify
from fashionkit.vision import features as module
from fashionkit.vision.backbones import Backbone
from fashionkit.vision.colour import colour_statistics
from fashionkit.vision.feature_store import part_file
from fashionkit.vision.features import FeatureStore, cache_features, feature_key
from fashionkit.vision.pictures import as_tensor
from fashionkit.vision.preprocess import Preprocess

N, S, D, C = 11, 16, 6, 4
IDS = [f"p{number:02d}" for number in range(N)]
PIXELS = {name: np.random.default_rng(row).integers(0, 256, (S, S, 3), np.uint8) for row, name in enumerate(IDS)}
PREPROCESS = Preprocess(S, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "bilinear", 1.0)


class Stub(Backbone):
    """One convolution: a map of 2 x 2 cells and a vector."""

    channels, dim, stride = C, D, 8

    def __init__(self, scale: float = 1.0):
        network = nn.ModuleDict({"cells": nn.Conv2d(3, C, 8, 8), "vector": nn.Linear(C, D)})
        super().__init__("stub", network, PREPROCESS)
        generator = torch.Generator().manual_seed(0)
        for value in network.parameters():
            value.data = torch.randn(value.shape, generator=generator) * scale

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cells = self.network["cells"](x)
        return cells, self.network["vector"](cells.mean((2, 3)))

    def _stages(self) -> list[list[str]]:
        return [[name for name, _ in self.network.named_parameters()]]


def cached(folder: Path, backbone: Backbone | None = None, ids: list[str] = IDS, **options: Any) -> FeatureStore:
    settings: dict[str, Any] = {"picture": PIXELS.__getitem__, "part": 4, "batch": 3, **options}
    return cache_features(folder, backbone or Stub(), ids, **settings)


def expected(ids: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with torch.inference_mode():
        cells, vector = Stub().both(as_tensor([PIXELS[name] for name in ids], PREPROCESS))
    return cells.numpy(), vector.numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "out"
    cached(path)
    return path


def test_features_are_what_the_backbone_says_in_any_order(folder: Path) -> None:
    store = FeatureStore(folder)
    assert (len(store), store.dim, store.channels, store.ids) == (N, D, C, IDS)
    assert store.fingerprint == feature_key(Stub()) and store.preprocess == PREPROCESS
    assert "p03" in store and "x" not in store
    order = [IDS[row] for row in (10, 3, 0, 4, 3)]
    cells, vector = expected(order)
    assert store.vectors(order).dtype == np.float16
    np.testing.assert_allclose(store.vectors(order), vector, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(store.maps(order), cells, rtol=2e-3, atol=2e-3)
    assert verify(folder) == [] and not (folder / ".lock").exists()


def test_colour_statistics_are_those_of_the_prepared_pixels(folder: Path) -> None:
    of_pixels = colour_statistics(torch.from_numpy(np.stack([PIXELS[name] for name in IDS]))).numpy()
    np.testing.assert_allclose(FeatureStore(folder).colours(IDS), of_pixels, rtol=2e-3, atol=2e-3)


def test_rows_are_read_like_an_array(folder: Path) -> None:
    store = FeatureStore(folder)
    rows, whole = store.rows("map", IDS[::-1]), store.maps(IDS[::-1])
    assert len(rows) == N and rows.shape == (N, C, 2, 2)
    for at in (slice(2, 9, 3), np.array([7, 7, 1]), [0, 10], np.arange(N) < 3, slice(0, 0)):
        np.testing.assert_array_equal(rows[at], whole[at])
    np.testing.assert_array_equal(rows[4], whole[4])
    np.testing.assert_array_equal(np.asarray(rows, np.float32), whole.astype(np.float32))


def test_what_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    store = FeatureStore(folder)
    with pytest.raises(InputError, match=r"(?s)no features of 1 of 2 pictures.*p99"):
        store.vectors(["p01", "p99"])
    small = cached(tmp_path / "small", maps=False, colour=False)
    assert set(small.shapes) == {"vector"} and small.channels == 0
    for ask in (small.maps, small.colours):
        with pytest.raises(InputError, match="does not hold these features"):
            ask(IDS)
    with pytest.raises(InputError, match="no such folder"):
        FeatureStore(tmp_path / "nothing")


def test_reading_some_rows_takes_no_more_memory_than_they_need(tmp_path: Path) -> None:
    ids = [f"{row}" for row in range(3000)]
    pixels = np.zeros((S, S, 3), np.uint8)
    store = cached(tmp_path / "many", ids=ids, picture=lambda name: pixels, part=1500, batch=500, colour=False)
    rows, whole = store.rows("map", ids), len(ids) * C * 2 * 2 * 2
    tracemalloc.start()
    try:
        assert rows[[5, 2999, 1400]].shape[0] == 3
        assert tracemalloc.get_traced_memory()[1] < whole / 4
    finally:
        tracemalloc.stop()


def _sum(folder: Path) -> float:
    store = FeatureStore(folder)
    return float(store.maps(IDS).astype(np.float64).sum())


def test_several_processes_read_at_once(folder: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(_sum, [folder] * 4)) == [_sum(folder)] * 4


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Ends the run the so-manieth time a function of the module is called."""
    whole, left = getattr(module, name), [call]

    def end(*arguments: object, **named: object) -> object:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return whole(*arguments, **named)

    monkeypatch.setattr(module, name, end)


@pytest.mark.parametrize(
    ("name", "call"),
    [("write_text", 1), ("write_atomic", 1), ("write_atomic", 3), ("write_table", 1), ("write_manifest", 1)],
)
def test_stopped_anywhere_it_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_at(patch, name, call)
        with pytest.raises(KeyboardInterrupt):
            cached(out)
    with pytest.raises(InputError, match="manifest"):
        FeatureStore(out)
    early = {path: path.stat().st_mtime_ns for path in out.glob("features/*")}
    cached(out)
    assert all(path.stat().st_mtime_ns == at for path, at in early.items()), "what was made is not made again"
    for path in sorted(folder.glob("*/*")):
        assert path.read_bytes() == (out / path.relative_to(folder)).read_bytes(), "the same bytes"


def test_a_finished_folder_is_left_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, "run_shards", 1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert len(cached(folder)) == N
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_folders_of_something_else_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    other: list[Callable[[], object]] = [
        lambda: cached(copy, Stub(2.0)),
        lambda: cached(copy, ids=IDS[:-1]),
        lambda: cached(copy, ids=IDS[::-1]),
        lambda: cached(copy, maps=False),
        lambda: cached(copy, part=5),
    ]
    for call in other:
        with pytest.raises(InputError, match="of other pictures, weights or settings"):
            call()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(InputError, match="holds something else"):
        cached(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="it is a file"):
        cached(tmp_path / "file")


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with alone(tmp_path / "out"), pytest.raises(InputError, match="another run writes"):
        cached(tmp_path / "out")
    assert len(cached(tmp_path / "out")) == N, "and a lock that is left over is in nobody's way"


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    def picture(name: str) -> object:
        if name == "p06":
            raise PictureError("image_truncated", "the picture ends too early")
        return PIXELS[name]

    with pytest.raises(InputError, match="picture 'p06': the picture ends too early"):
        cached(tmp_path / "out", picture=picture)
    assert part_file(tmp_path / "out", 0).exists() and not part_file(tmp_path / "out", 1).exists()
    with pytest.raises(InputError, match="picture 'p00': an array must be uint8"):
        cached(tmp_path / "floats", picture=lambda name: PIXELS[name].astype(np.float32))


@pytest.mark.parametrize(("scale", "found"), [(1e4, "the vector of picture 'p00'"), (float("nan"), "does not fit")])
def test_numbers_that_float16_does_not_hold_are_refused(tmp_path: Path, scale: float, found: str) -> None:
    with pytest.raises(InputError, match=found):
        cached(tmp_path / "out", Stub(scale))


def test_damage_is_named(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    store, file = FeatureStore(copy), part_file(copy, 1)
    assert store.vectors(IDS[:4]).shape == (4, D)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="damaged or gone"):
        store.vectors(IDS)
    file.unlink()
    with pytest.raises(InputError, match="damaged or gone"):
        store.maps(IDS)


@pytest.mark.parametrize("wrong", [{"ids": []}, {"ids": ["p00", "p00"]}, {"part": 0}, {"batch": 0}])
def test_misuse_raises(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        cached(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
