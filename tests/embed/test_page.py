"""The pages on embeddings and on explaining do what they say: their Python runs, one block after the other."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.embed.export_onnx import NEEDED
from fashionkit.vectors import unit, write_vectors


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A folder with what the pages name."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("one.jpg", "two.jpg"):
        Image.fromarray(rng.integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(name)
    made = [([f"p{n}" for n in range(9)], unit(rng.standard_normal((9, 6))))]
    write_vectors("vectors", made, {"model": "none", "fingerprint": "none"})
    draw_catalog(tmp_path / "out" / "shop", DrawOptions(3, size=64, workers=1))
    shutil.copytree(folder, tmp_path / "models" / "outfits")
    return tmp_path


def run(page: Path, count: int) -> None:
    """Runs the page's blocks in one namespace; those of ONNX only where it is installed."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == count
    there = all(importlib.util.find_spec(name) for name in ("onnxruntime", *NEEDED))
    kept = [block for block in blocks if there or "onnx" not in block]
    exec(compile("\n".join(kept), page.name, "exec"), {})


def test_the_page_on_embeddings_runs(root: Path, place: Path) -> None:
    run(root / "docs" / "embedding.md", 9)


def test_the_page_on_explaining_runs(root: Path, place: Path) -> None:
    run(root / "docs" / "explain.md", 1)
    assert "Where each item speaks for" in (place / "page.html").read_text(encoding="utf-8")
