"""Providers by their names: each name gives its provider, and what is missing or misspelt is said."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.tables import InputError
from fashionkit.vision import foreground_models, regions
from fashionkit.vision.regions import (
    NAMES,
    BandRegions,
    CatalogRegions,
    ForegroundBands,
    RandomRegions,
    SelfieForeground,
    ShuffledRegions,
    build_regions,
)
from tests.vision.tiny_models import write_clipseg, write_onnx, write_tflite


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    out = tmp_path_factory.mktemp("drawn")
    draw_catalog(out, DrawOptions(images=6, size=64, workers=1))
    return Catalog(out)


def test_names_give_their_providers(drawn: Catalog) -> None:
    wanted = {
        "bands": BandRegions(),
        "foreground": ForegroundBands(),
        "catalog": CatalogRegions(drawn),
        "random:bands": RandomRegions(BandRegions()),
        "random:7:foreground": RandomRegions(ForegroundBands(), 7),
        "random:07:catalog": RandomRegions(CatalogRegions(drawn), 7),
    }
    for name, provider in wanted.items():
        found = build_regions(name, drawn)
        assert type(found) is type(provider) and found.key == provider.key, name


def test_shuffled_masks_need_the_other_pictures(drawn: Catalog) -> None:
    ids = drawn.table("images")["image_id"].to_pylist()
    known = CatalogRegions(drawn)
    found = build_regions("shuffled:3:catalog", drawn, ids)
    assert found.key == ShuffledRegions(known, ids, 3, known.canvas).key
    masks = found.regions(known.canvas(ids[0]), ids[0])
    np.testing.assert_array_equal(masks, known.regions(known.canvas(ids[0]), found.other(ids[0])))  # type: ignore[attr-defined]
    assert build_regions("shuffled:bands", ids=ids, image_of=known.canvas).regions(known.canvas(ids[0]), ids[0]).any()
    with pytest.raises(InputError, match="the ids of all pictures"):
        build_regions("shuffled:catalog", drawn)
    with pytest.raises(InputError, match="a way to open"):
        build_regions("shuffled:foreground", ids=ids)


def test_a_person_is_found_by_the_file_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx, tflite = write_onnx(tmp_path / "own.onnx"), write_tflite(tmp_path / foreground_models.SELFIE)
    sha256 = hashlib.sha256(tflite.read_bytes()).hexdigest()
    monkeypatch.setattr(SelfieForeground.__init__, "__defaults__", (0.5, [sha256]))
    found = [build_regions(f"person:{path}") for path in (onnx, tflite, tmp_path)]
    assert all(isinstance(each, ForegroundBands) for each in found)
    assert ["u2net" in each.key for each in found] == [True, False, False] and found[1].key == found[2].key
    assert build_regions(f"random:2:person:{onnx}").key == RandomRegions(found[0], 2).key
    monkeypatch.setattr(foreground_models, "packaged", lambda: onnx)
    assert build_regions("person").key == found[0].key


def test_networks_are_named_with_their_folder(tmp_path: Path) -> None:
    folder = write_clipseg(tmp_path / "with:colon")
    assert build_regions(f"clipseg:{folder}").key == regions.ClipSegRegions(folder).key
    assert build_regions(f"random:5:clipseg:{folder}").key.startswith("random/5/clipseg/")
    with pytest.raises(InputError, match="another model"):
        build_regions(f"segformer:{folder}")


@pytest.mark.parametrize(
    "name",
    ["", "band", "bands:", "bands:x", "person:", "clipseg:", "random", "random:", "shuffled", "RANDOM:bands", "x:y"],
)
def test_other_names_are_refused_with_those_that_are_allowed(name: str) -> None:
    with pytest.raises(InputError, match="no such provider") as error:
        build_regions(name)
    assert all(known in str(error.value) for known in NAMES)


def test_what_a_name_needs_is_said() -> None:
    with pytest.raises(InputError, match="needs a catalogue"):
        build_regions("catalog")
    with pytest.raises(InputError, match="needs a catalogue"):
        build_regions("random:catalog")
    with pytest.raises(InputError, match="no such provider"):
        build_regions("random:7")
    for name in ("random:random:bands", "shuffled:1:random:2:bands", "random:" * 9999 + "bands"):
        with pytest.raises(InputError, match="not another control"):
            build_regions(name)


def test_the_door_has_every_name_and_loads_no_network() -> None:
    assert [name for name in regions.__all__ if not hasattr(regions, name)] == []
    heavy = "torch", "transformers", "onnxruntime", "cv2", "huggingface_hub"
    code = f"import sys, fashionkit.vision.regions; print(sorted(set({heavy}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
