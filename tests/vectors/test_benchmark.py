"""The benchmark runs at a tiny size and gives every figure; how fast it is says nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_benchmark_runs_and_gives_every_figure(root: Path, tmp_path: Path) -> None:
    words = ["--n", "3000", "--dim", "16", "--queries", "150", "--repeats", "1", "--json", str(tmp_path / "figures")]
    found = subprocess.run(
        [sys.executable, str(root / "benchmarks/vectors.py"), *words], capture_output=True, text=True, cwd=root
    )
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "figures").read_text())
    assert {"top_k", "numpy", "torch", "matmul"} <= set(figures["seconds"]) and figures["times_ours"]["top_k"] == 1
    assert list(figures["store_seconds"]) == [
        "write", "open_and_first_id", "get_10000_ids", "nearest", "bytes_a_vector",
    ]  # fmt: skip
    assert figures["store_seconds"]["bytes_a_vector"] < 16 * 2 + 30 and "x top_k" in found.stdout
