"""The benchmark of reading runs at a tiny size and gives every figure; how fast it is says nothing here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_benchmark_runs_and_gives_every_figure(root: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("the package `datasets`, which the benchmark compares with, is not installed")
    sizes = ["--images", "40", "--repeats", "1", "--passes", "2", "--json", str(tmp_path / "figures.json")]
    command = [sys.executable, str(root / "benchmarks/loader.py"), *sizes]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    rows = figures["rows"]
    assert figures["read"]["samples"] > 1024 and len(rows) == 14
    for row in rows:
        assert min(row[name] for name in ("first", "first_cpu", "later", "later_cpu")) > 0
        assert row["pictures_a_batch"] > 1 and row["workers"] in (0, 2)
        assert ("later_ratio" in row) == (not row["name"].startswith("VQA"))
    for words in ("VQADataset", "VQAStream", "datasets, rows", "x ours", "by cpu", "pictures"):
        assert words in found.stdout
