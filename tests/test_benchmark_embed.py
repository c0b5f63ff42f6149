"""The benchmark of embedding runs at a tiny size, and its arms agree on the vectors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # each arm is a process that imports torch
def test_every_arm_has_a_figure(root: Path, tmp_path: Path) -> None:
    sizes = {"--images": "6", "--side": "64", "--repeats": "1", "--model": "timm/mobilenetv3_small_050"}
    sizes |= {"--json": str(tmp_path / "figures.json")}
    words = [word for pair in sizes.items() for word in pair]
    done = subprocess.run([sys.executable, str(root / "benchmarks/embed.py"), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rates = json.loads((tmp_path / "figures.json").read_text())["images_per_second"]
    assert len(rates) == 8 and all(rate > 0 for rate in rates.values())
    assert all(name in done.stdout for name in rates)
