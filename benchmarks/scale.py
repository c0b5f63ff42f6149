"""The whole run at full scale as one command: wall time, memory of all its processes, bytes on disk.

    python benchmarks/scale.py [--images N] [--spec NAME] [--samples N] [--workers W] [--catalog FOLDER] [--json FILE]

    catalog draw --tables-only ─► fashionkit datagen run scale ─► seconds, MiB, bytes
                                      └─► random ids, same files and settings ─► pyarrow's rate

The command runs as a user runs it, in a process of its own. Memory is the sum of the proportional set sizes of the
command and its workers (a page shared by three counts a third for each), read four times a second. Everything lies in a
temporary folder that is removed at the end. Linux only, for its /proc.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import datagen
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.datagen.samples import SAMPLE_SPLITS, sample_files
from fashionkit.tables import read_manifest

Figures = dict[str, Any]
EVERY = 0.25  # seconds between two looks at the memory


def children(process: int) -> list[int]:
    """The process and all below it."""
    found, queue = [], [process]
    while queue:
        one = queue.pop()
        found.append(one)
        try:
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            queue += [int(n) for t in tasks for n in (t / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def memory(process: int) -> int:
    """Bytes that the process and all below it hold, shared pages counted once."""
    total = 0
    for one in children(process):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def run(spec: str, catalog: Path, out: Path, samples: int | None, workers: int) -> Figures:
    """Runs `fashionkit datagen run` and watches it."""
    words = ["datagen", "run", spec, "--catalog", str(catalog), "--out", str(out), "--workers", str(workers)]
    words += ["--samples", str(samples)] if samples is not None else []
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([sys.executable, "-m", "fashionkit", *words], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(EVERY)
    if process.returncode:
        raise SystemExit(f"the command failed with code {process.returncode}")
    seconds = time.perf_counter() - start
    counts = read_manifest(out).counts
    rows = sum(pq.read_metadata(p).num_rows for split in SAMPLE_SPLITS for p in sample_files(out, split))
    disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {
        "command": "fashionkit " + " ".join([*words[:3], "--catalog ...", "--out ...", *words[7:]]),
        "samples": rows,
        "programs": counts["programs"],
        "images": counts["images"],
        "seconds": round(seconds, 1),
        "samples_per_second": round(rows / seconds),
        "peak_mib": round(peak / 2**20),
        "mib_on_disk": round(disk / 2**20, 1),
        "bytes_per_sample": round(disk / rows, 2),
    }


def lines(figures: Figures) -> list[str]:
    """The figures as text for people."""
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures["machine"].items())
    made, writer = figures["run"], figures["plain_writer"]
    rows = [
        ("samples", f"{made['samples']:,}", f"{made['programs']:,} programs, {made['images']:,} pictures"),
        ("wall time", f"{made['seconds']} s", f"{made['samples_per_second']:,} samples/s"),
        ("peak memory, all processes", f"{made['peak_mib']:,} MiB", ""),
        ("on disk", f"{made['mib_on_disk']:,} MiB", f"{made['bytes_per_sample']} bytes a sample, all tables"),
        ("random ids by pyarrow", f"{writer['rows_per_second']:,} /s", f"{writer['rows']:,} rows, same processes"),
        ("the run over pyarrow", f"x {figures['ratio']}", ""),
    ]
    return [facts, made["command"], "", *(f"{name:<28}{value:>18}  {note}".rstrip() for name, value, note in rows)]


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description="Question generation at full scale.")
    parser.add_argument("--images", type=int, default=207_000, help="pictures of the catalogue (default: %(default)s)")
    parser.add_argument("--spec", default="scale", help="recipe name or YAML (default: %(default)s)")
    parser.add_argument("--samples", type=int, help="samples to make (default: what the spec says)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--catalog", type=Path, help="a drawn catalogue that is there already")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = options.catalog or folder / "catalog"
        if options.catalog is None:
            draw_catalog(catalog, DrawOptions(options.images, pictures=False, workers=options.workers))
        figures: Figures = {"machine": datagen.machine(options.workers)}
        figures["run"] = run(options.spec, catalog, folder / "set", options.samples, options.workers)
        (folder / "random").mkdir()
        figures["plain_writer"] = datagen.plain_writer(folder / "set", folder / "random", options.workers, 1)
        rate = figures["run"]["samples_per_second"] / figures["plain_writer"]["rows_per_second"]
        figures["ratio"] = float(f"{rate:.3g}")
    print("\n".join(lines(figures)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
