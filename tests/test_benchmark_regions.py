"""The benchmark of regions runs at a tiny size, and its figures are those that follow from the pictures."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fashionkit.catalog.drawn import DrawOptions, draw_catalog


def png(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def test_figures_follow_from_the_pictures(root: Path, tmp_path: Path) -> None:
    draw_catalog(tmp_path / "drawn", DrawOptions(images=8, size=64, workers=1))
    rows = []
    for left in (10, 20, 30):
        labels = np.zeros((60, 60), np.uint8)
        labels[20:40, left : left + 10] = 7
        picture = np.full((60, 60, 3), 240, np.uint8)
        picture[labels > 0] = (20, 40, 90)
        rows.append({"image": png(picture), "mask_png": png(labels)})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos.parquet")
    words = [str(tmp_path / "drawn"), "--labelled", str(tmp_path / "photos.parquet"), "--pictures", "6"]
    words += ["--json", str(tmp_path / "figures.json")]
    words += ["--providers", "catalog", "bands", "foreground", "random:catalog"]
    command = [sys.executable, str(root / "benchmarks/regions.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    items = figures["items"]
    assert items["catalog"]["top"]["mean"] == 1 and items["catalog"]["top"]["n"] == 6
    assert items["random:catalog"]["top"]["mean"] < items["bands"]["top"]["mean"] < 1
    assert figures["foreground"]["foreground"]["labelled"]["mean"] == pytest.approx(1)
    assert figures["foreground"]["the whole picture"]["labelled"]["mean"] == pytest.approx(200 / 3600)
    assert "| random:catalog |" in done.stdout and "1.000 (1.000–1.000, n=6)" in done.stdout

    refused = subprocess.run([*command[:3], "--providers", "band"], capture_output=True, text=True)
    assert refused.returncode == 2 and "no such provider" in refused.stderr and "Traceback" not in refused.stderr
