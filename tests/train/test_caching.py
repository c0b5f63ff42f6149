"""Features of a catalogue by the command: the same for any number of workers, and after a kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.cli import main
from fashionkit.tables import InputError, write_table
from fashionkit.train.caching import cache_catalog
from fashionkit.train.pictures import CatalogPictures
from fashionkit.vision.backbones import Backbone, build_backbone
from fashionkit.vision.features import FeatureStore
from fashionkit.vision.pictures import as_picture, as_tensor, sized

N, MODEL, SIZE = 20, "timm/mobilenetv3_small_050", 32
WORDS = ["--model", MODEL, "--weights", "random:3", "--size", str(SIZE), "--maps", "--part", "2", "--batch", "2"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogues") / "drawn"
    draw_catalog(path, DrawOptions(N, size=64))
    return path


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone(MODEL, "random:3", SIZE)


@pytest.fixture(scope="module")
def whole(catalog: Path, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("features") / "out"
    cache_catalog(catalog, out, backbone, part=2, batch=2)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("features/*")}


def test_features_stand_under_their_pictures_ids(catalog: Path, whole: Path, backbone: Backbone) -> None:
    store = FeatureStore(whole)
    assert store.ids == Catalog(catalog).table("images", ["image_id"])["image_id"].to_pylist()
    some = [store.ids[row] for row in (7, 2)]
    pictures = CatalogPictures(Catalog(catalog), some)
    pixels = [sized(as_picture(pictures.pixels(row)), backbone.preprocess) for row in range(2)]
    vector = backbone.pooled(as_tensor(pixels, backbone.preprocess)).detach().numpy()
    np.testing.assert_allclose(store.vectors(some), vector, rtol=2e-3, atol=2e-3)


def test_a_killed_command_goes_on_and_two_workers_make_the_same(catalog: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # A process of its own: torch has threads here by now, and what is forked must not have.
    command = [sys.executable, "-m", "fashionkit", "features", str(catalog), *WORDS, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        while len(files(out)) < 2 and time.monotonic() < end:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    early = {path: path.stat().st_mtime_ns for path in out.glob("features/part-*")}
    assert 0 < len(early) < N // 2 and not (out / "manifest.json").exists(), "it was killed in the middle"
    subprocess.run([*command, "--workers", "2"], check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == at for path, at in early.items()), "what was made is not made again"
    assert files(out) == files(whole) and FeatureStore(out).ids == FeatureStore(whole).ids


def test_the_command_says_what_it_made(catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["features", str(catalog), *WORDS, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "out.json")]
    assert main(words) == 0
    assert "20 pictures: " in capsys.readouterr().out and '"features": 20' in (tmp_path / "out.json").read_text()
    assert main([*words[:-2], "--weights", "random:4"]) == 2
    assert "of other pictures, weights or settings" in capsys.readouterr().err


def test_a_broken_picture_is_named(catalog: Path, backbone: Backbone, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(catalog, tmp_path / "broken"))
    part = sorted((broken / "images").glob("part-*"))[0]
    table = pq.read_table(part)
    data = table["bytes"].to_pylist()
    data[3] = data[3][: len(data[3]) // 2]
    write_table(part, table.set_column(table.column_names.index("bytes"), "bytes", pa.array(data, pa.binary())))
    with pytest.raises(InputError, match=f"picture '{table['image_id'][3].as_py()}'"):
        cache_catalog(broken, tmp_path / "out", backbone)


def test_a_catalogue_without_pictures_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    draw_catalog(tmp_path / "tables", DrawOptions(5, pictures=False))
    with pytest.raises(InputError, match="picture"):
        cache_catalog(tmp_path / "tables", tmp_path / "out", backbone)
