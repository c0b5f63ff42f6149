"""The same question set by local processes and by a Ray that is started here, taken in turn; the bytes must be equal.

    python benchmarks/engines.py [--images N] [--samples N] [--workers W] [--runs N] [--spec S] [--json FILE]

    catalog draw --tables-only ─┬─► datagen run --engine local ─► wall time ─┐
                                └─► datagen run --engine ray ───► wall time ─┴► ratio, files compared
    one shard that does nothing ──► what starting and ending Ray takes

Times are those of the whole command, medians over the runs. Needs fashionkit[ray].
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fashionkit.catalog.drawn import DrawOptions, draw_catalog

ENGINES = ("local", "ray")
START = (
    "from fashionkit.engine import run_shards; assert list(run_shards(abs, [-1], {workers}, engine='{engine}')) == [1]"
)


def seconds(command: list[str]) -> float:
    """Wall time of one command; its words are kept back unless it fails."""
    start = time.perf_counter()
    found = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    return time.perf_counter() - start


def digest(folder: Path) -> str:
    """Hash of all samples and tables of a set; the manifest, which names the moment, is left out."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Medians of both engines, what Ray's start takes, and how many samples were made."""
    draw_catalog(folder / "catalog", DrawOptions(options.images, pictures=False, workers=options.workers))
    taken: dict[str, list[float]] = {name: [] for name in (*ENGINES, "starting ray")}
    seen, samples = set(), 0
    for _ in range(options.runs):
        for engine in ENGINES:
            words = ["-m", "fashionkit", "datagen", "run", options.spec, "--samples", str(options.samples)]
            words += ["--catalog", str(folder / "catalog"), "--out", str(folder / engine), "--engine", engine]
            words += ["--workers", str(options.workers)]
            taken[engine].append(seconds(words))
            seen.add(digest(folder / engine))
            counts = json.loads((folder / engine / "manifest.json").read_text())["counts"]
            samples = sum(counts["splits"].values())
            shutil.rmtree(folder / engine)
        code = [START.format(workers=options.workers, engine=engine) for engine in ENGINES]
        with_ray, without = seconds(["-c", code[1]]), seconds(["-c", code[0]])
        taken["starting ray"].append(with_ray - without)
    if len(seen) != 1:
        sys.exit("the engines made different bytes")
    medians = {name: round(statistics.median(times), 2) for name, times in taken.items()}
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": round(os.getloadavg()[0], 1)}
    return {"machine": machine, "samples": samples, "seconds": medians, "ratio": medians["ray"] / medians["local"]}


def main() -> None:
    """Measures, prints, and writes the JSON where it is asked for."""
    parser = argparse.ArgumentParser(description="One question set by both engines.")
    parser.add_argument("--images", type=int, default=20_000, help="pictures of the catalogue (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1_000_000, help="samples to make (default: %(default)s)")
    parser.add_argument("--spec", default="drawn", help="recipe name or YAML (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each engine (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    print(", ".join(f"{name} {value}" for name, value in figures["machine"].items()))
    for name, value in figures["seconds"].items():
        print(f"{name:<20}{value:8.1f} s (median of {options.runs})")
    print(f"{'ray / local':<20}{figures['ratio']:8.2f}   {figures['samples']:,} samples, the same bytes")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
