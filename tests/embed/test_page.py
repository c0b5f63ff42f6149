"""The page on embeddings does what it says: its Python runs, one block after the other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionkit.vectors import unit, write_vectors


def test_the_page_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("one.jpg", "two.jpg"):
        Image.fromarray(rng.integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(name)
    made = [([f"p{n}" for n in range(9)], unit(rng.standard_normal((9, 6))))]
    write_vectors("vectors", made, {"model": "none", "fingerprint": "none"})
    text = (root / "docs" / "embedding.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) == 3
    exec(compile("\n".join(blocks), "docs/embedding.md", "exec"), {})
