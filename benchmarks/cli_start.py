"""How long `fashionkit --help` takes, beside the bare interpreter, which is the least it could take.

    python benchmarks/cli_start.py [--json FILE] [--runs N]

Prints the median wall time of each over N fresh processes, taken in turn so that both meet the same load.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "fashionkit --help": [sys.executable, "-m", "fashionkit", "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(runs: int) -> dict[str, float]:
    """Median seconds of each command, and their ratio."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours, bare = medians.values()
    return {**medians, "ratio": ours / bare}


def main() -> None:
    """Measures, prints, and writes the JSON where it is asked for."""
    parser = argparse.ArgumentParser(description="Time of `fashionkit --help`.")
    parser.add_argument("--runs", type=int, default=10, help="processes of each kind (default: 10)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args()
    figures = measure(arguments.runs)
    for name in COMMANDS:
        print(f"{name:<20}{figures[name] * 1000:8.1f} ms (median of {arguments.runs})")
    print(f"{'ratio':<20}{figures['ratio']:8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
