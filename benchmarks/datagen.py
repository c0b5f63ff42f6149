"""Speed, memory and size of question generation, beside a plain Parquet writer and a plain Python generator.

    python benchmarks/datagen.py [--images N] [--samples N] [--phrasings N] [--workers W] [--json FILE]

Everything in one run, on one machine, in a temporary folder that is removed at the end:

    catalog draw --tables-only ─► datagen run drawn ─────────────► samples/s, phases, memory, bytes a sample
                              ├─► the same, 4 x the phrasings ───► memory again: it does not follow the samples
                              │       └─► VQAStore rendered ─────► samples/s as text, 1 and W processes
                              │       └─► random ids, same shape ► rows/s that pyarrow alone would reach
                              └─► reference_generator.py ────────► samples/s of a plain loop over dicts

Each generation runs in a process of its own, whose memory is then its own; `generate` is timed from its call to its
return, which is all that the command does after its imports. Short figures are medians of `REPEATS`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from reference_generator import FAMILIES, Reference, read_scenes

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.datagen import generate as engine
from fashionkit.datagen.samples import SAMPLE_SPLITS, SAMPLES, WRITE_OPTIONS, sample_files
from fashionkit.datagen.spec import load_spec
from fashionkit.datagen.store import VQAStore
from fashionkit.engine import run_shards
from fashionkit.tables import write_table

REPEATS = 3
TIMES = 4  # by which the second generation makes more samples
# What `generate` does after a step over shards; first of all, it compiles the catalogue.
BETWEEN = {"": "compiling", "counting": "solving", "selecting": "placing"}
BATCH = 65_536
Figures = dict[str, Any]


# 1, 3, 4: the engine.


class Phases:
    """Wall seconds between the steps of `generate`, seen from the shards it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """Books the time since the last mark under `name`."""
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 3)
        self._last = now

    def run_shards(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """`fashionkit.engine.run_shards`, and marks before and after."""
        self.mark(BETWEEN.get(next(reversed(self.seconds), ""), "other"))
        yield from run_shards(*arguments, **options)
        self.mark(options["describe"])


def generate_here(settings: Figures) -> Figures:
    """Generates a question set in this process and says what it took."""
    spec = load_spec(**settings)
    phases, cpu, start = Phases(), cpu_seconds(), time.perf_counter()
    with patch.object(engine, "run_shards", phases.run_shards):
        report = engine.generate(spec)
    phases.mark("finishing")
    seconds = time.perf_counter() - start
    peak = {name: resource.getrusage(who).ru_maxrss / 1024 for name, who in RUSAGE.items()}
    samples = sum(report.samples.values())
    return {
        "samples": samples,
        "programs": report.programs,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds() - cpu, 3),
        "samples_per_second": round(samples / seconds),
        "phases": phases.seconds,
        "parent_mib": round(peak["parent"]),
        "worker_mib": round(peak["worker"]),
    }


RUSAGE = {"parent": resource.RUSAGE_SELF, "worker": resource.RUSAGE_CHILDREN}


def cpu_seconds() -> float:
    """Processor time of this process and of those it started that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in RUSAGE.values())


def generate_apart(**settings: Any) -> Figures:
    """`generate_here` in a process of its own."""
    command = [sys.executable, __file__, "--generate", json.dumps(settings)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    figures: Figures = json.loads(found.stdout)
    return figures


def sizes(folder: Path, samples: int) -> Figures:
    """Bytes a sample: in its files, in everything around them, and as plain columns."""
    parts = sum(path.stat().st_size for split in SAMPLE_SPLITS for path in sample_files(folder, split))
    whole = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    plain = sum(field.type.bit_width // 8 for field in SAMPLES)
    return {
        "bytes_per_sample": round(parts / samples, 2),
        "bytes_per_sample_with_tables": round(whole / samples, 2),
        "bytes_per_sample_uncompressed": plain,
        "mib_on_disk": round(whole / 2**20, 1),
    }


# 2: as text.


def render_alone(folder: Path, most: int) -> tuple[int, float]:
    """Samples rendered by one process with `VQAStore.iter`, and the seconds that took."""
    start, rows = time.perf_counter(), 0
    store = VQAStore(folder)
    for split in SAMPLE_SPLITS:
        for table in store.iter(split, rendered=True, batch_size=BATCH):
            rows += table.num_rows
            if rows >= most:
                return rows, time.perf_counter() - start
    return rows, time.perf_counter() - start


def render_together(folder: Path, most: int, workers: int) -> tuple[int, float]:
    """The same with several processes; a row group of a file is what one of them takes at a time."""
    groups = [
        (str(path), group, pq.read_metadata(path).row_group(group).num_rows)
        for split in SAMPLE_SPLITS
        for path in sample_files(folder, split)
        for group in range(pq.read_metadata(path).num_row_groups)
    ]
    groups.sort(key=lambda group: -group[2])
    whole = np.cumsum([group[2] for group in groups])
    count = int(np.searchsorted(whole, most)) + 1
    groups = groups[: -(-count // workers) * workers]  # as many for each
    start = time.perf_counter()
    rows = sum(run_shards(_render, groups, workers, initializer=_open, initargs=(VQAStore(folder),)))
    return rows, time.perf_counter() - start


_store: VQAStore | None = None


def _open(store: VQAStore) -> None:
    global _store
    _store = store


def _render(group: tuple[str, int, int]) -> int:
    assert _store is not None, "the initializer ran"
    path, number, rows = group
    for batch in pq.ParquetFile(path).iter_batches(BATCH, row_groups=[number]):
        _store.render(pa.Table.from_batches([batch]))
    return rows


def rendered(folder: Path, most: int, workers: int) -> Figures:
    """Samples/s as text, for one process and for `workers`."""
    alone = [render_alone(folder, most) for _ in range(REPEATS)]
    together = [render_together(folder, most, workers) for _ in range(REPEATS)]
    return {
        "samples": alone[0][0],
        "samples_per_second": {"1": median_rate(alone), str(workers): median_rate(together)},
    }


def median_rate(runs: list[tuple[int, float]]) -> int:
    """Median of rows over seconds."""
    return round(statistics.median(rows / seconds for rows, seconds in runs))


# 5a: a plain writer.


def observed(folder: Path) -> dict[str, tuple[float, float]]:
    """Least and greatest of each column in the first row group of every file."""
    found: dict[str, tuple[float, float]] = {}
    for split in SAMPLE_SPLITS:
        for path in sample_files(folder, split):
            table = pq.ParquetFile(path).read_row_group(0)
            for name in SAMPLES.names:
                column = table[name].to_numpy()
                low, high = found.get(name, (column[0], column[0]))
                found[name] = min(low, column.min()), max(high, column.max())
    return found


def random_table(ranges: dict[str, tuple[float, float]], rows: int, seed: int) -> pa.Table:
    """A table of the samples' schema, each column drawn evenly from its range."""
    rng = np.random.default_rng(seed)
    columns = []
    for field in SAMPLES:
        low, high = ranges[field.name]
        if pa.types.is_floating(field.type):
            values = (rng.integers(int(low * 16), int(high * 16) + 1, rows) / 16).astype(np.float16)
        else:
            values = rng.integers(int(low), int(high) + 1, rows, field.type.to_pandas_dtype())
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, schema=SAMPLES)


def _write_random(shard: tuple[str, dict[str, tuple[float, float]], int, int]) -> tuple[int, int, float, float]:
    """Writes one file; returns the process, the rows, and the wall and processor seconds of the writing alone."""
    path, ranges, rows, seed = shard
    table = random_table(ranges, rows, seed)
    start, cpu = time.perf_counter(), time.process_time()
    write_table(Path(path), table, **WRITE_OPTIONS)
    return os.getpid(), rows, time.perf_counter() - start, time.process_time() - cpu


def plain_writer(folder: Path, scratch: Path, workers: int, repeats: int = REPEATS) -> Figures:
    """Rows/s of writing random ids into files of the same number, size, schema and settings; drawing is not timed."""
    ranges = observed(folder)
    rows = [pq.read_metadata(path).num_rows for split in SAMPLE_SPLITS for path in sample_files(folder, split)]
    rates, cpu, written = [], [], 0
    for _ in range(repeats):
        shards = [(str(scratch / f"{n}.parquet"), ranges, count, n) for n, count in enumerate(rows)]
        busy: dict[int, float] = {}
        spent = 0.0
        for process, _count, seconds, cpu_time in run_shards(_write_random, shards, workers):
            busy[process] = busy.get(process, 0.0) + seconds
            spent += cpu_time
        rates.append(sum(rows) / max(busy.values()))
        cpu.append(sum(rows) / spent)
        written = sum(path.stat().st_size for path in scratch.iterdir())
    return {
        "rows": sum(rows),
        "rows_per_second": round(statistics.median(rates)),
        "rows_per_cpu_second": round(statistics.median(cpu)),
        "bytes_per_row": round(written / sum(rows), 2),
    }


# 5b: a plain generator.


def plain_generator(catalog: Path, seconds: float) -> Figures:
    """Samples/s of the reference, one process, with and without text; `seconds` for each, in `REPEATS` parts."""
    scenes, splits, onto = read_scenes(catalog)
    found: Figures = {"families": list(FAMILIES)}
    for name in ("samples_per_second", "rendered_samples_per_second"):
        reference = Reference(scenes, splits, onto)
        samples, rates = reference.samples(), []
        for _ in range(REPEATS):
            start, count = time.perf_counter(), 0
            while (taken := time.perf_counter() - start) < seconds / REPEATS:
                sample = next(samples)
                if name.startswith("rendered"):
                    reference.render(sample, count)
                count += 1
            rates.append(count / taken)
        found[name] = round(statistics.median(rates))
    return found


# All of it.


def measure(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> Figures:
    """All figures."""
    workers = options.workers
    say(f"drawing {options.images:,} outfits, tables only")
    catalog, start = folder / "catalog", time.perf_counter()
    draw_catalog(catalog, DrawOptions(options.images, pictures=False, workers=workers))
    figures: Figures = {"machine": machine(workers), "images": options.images}
    figures["drawing_seconds"] = round(time.perf_counter() - start, 2)
    settings = {"name": options.spec, "catalog": str(catalog), "workers": workers, "samples": options.samples}
    say("generating")
    figures["generated"] = generate_apart(**settings, out=str(folder / "set"), phrasings=options.phrasings)
    figures["size"] = sizes(folder / "set", figures["generated"]["samples"])
    say(f"generating with {TIMES} times the phrasings")
    more = settings if options.samples is None else {**settings, "samples": TIMES * options.samples}
    phrasings = TIMES * options.phrasings
    figures["generated_more"] = generate_apart(**more, out=str(folder / "more"), phrasings=phrasings)
    say("rendering")
    figures["rendered"] = rendered(folder / "set", options.rendered, workers)
    say("writing random ids")
    (folder / "random").mkdir()
    figures["plain_writer"] = plain_writer(folder / "set", folder / "random", workers)
    say("generating one by one")
    figures["plain_generator"] = plain_generator(catalog, options.seconds)
    figures["ratios"] = ratios(figures, workers)
    return figures


def ratios(figures: Figures, workers: int) -> Figures:
    """The engine over its two yardsticks; the plain generator is one process, so it is compared by process."""
    made, text = figures["generated"], figures["rendered"]["samples_per_second"]
    writer, plain = figures["plain_writer"], figures["plain_generator"]
    by_cpu = made["samples"] / made["cpu_seconds"]
    found = {
        "engine_to_plain_writer": made["samples_per_second"] / writer["rows_per_second"],
        "engine_to_plain_writer_by_cpu": by_cpu / writer["rows_per_cpu_second"],
        "engine_to_plain_generator": made["samples_per_second"] / workers / plain["samples_per_second"],
        "rendered_to_plain_generator": text["1"] / plain["rendered_samples_per_second"],
        "memory_of_more_to_less": figures["generated_more"]["worker_mib"] / made["worker_mib"],
    }
    return {name: float(f"{ratio:.3g}") for name, ratio in found.items()}


def machine(workers: int) -> Figures:
    """What the figures depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 1)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "pyarrow": pa.__version__}
    return {"cores": cores, "workers": workers, "load_before": load, **versions}


def lines(figures: Figures) -> list[str]:
    """The figures as text for people."""
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures["machine"].items())
    rows = [*_engine_rows(figures), *_size_rows(figures), *_yardstick_rows(figures)]
    return [facts, "", *(f"{name:<28}{value:>18}  {note}".rstrip() for name, value, note in rows)]


def _engine_rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    made, text, workers = figures["generated"], figures["rendered"], figures["machine"]["workers"]
    by_cpu = made["samples"] / made["cpu_seconds"]
    yield "ids to Parquet, end to end", f"{made['samples_per_second']:,} /s", f"{made['seconds']:.1f} s"
    yield "  by processor time", f"{by_cpu:,.0f} /s", f"{made['cpu_seconds']:.1f} s of {workers} processes"
    yield "  samples", f"{made['samples']:,}", f"{made['programs']:,} programs, {figures['images']:,} pictures"
    for name, seconds in made["phases"].items():
        yield f"  {name}", f"{seconds:.1f} s", ""
    yield "  (drawing the catalogue)", f"{figures['drawing_seconds']:.1f} s", "not part of the above"
    for processes, rate in text["samples_per_second"].items():
        yield f"rendered, processes: {processes}", f"{rate:,} /s", f"{text['samples']:,} samples"


def _size_rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    for name in ("generated", "generated_more"):
        run = figures[name]
        yield "peak memory of a worker", f"{run['worker_mib']:,} MiB", f"{run['samples']:,} samples"
        yield "  and of the parent", f"{run['parent_mib']:,} MiB", ""
    yield "  more to fewer samples", f"x {figures['ratios']['memory_of_more_to_less']}", ""
    size = figures["size"]
    yield "bytes a sample on disk", f"{size['bytes_per_sample']}", f"{size['mib_on_disk']:,} MiB in all"
    yield "  as columns", f"{size['bytes_per_sample_uncompressed']}", "before compression"


def _yardstick_rows(figures: Figures) -> Iterator[tuple[str, str, str]]:
    writer, plain, ratio = (figures[name] for name in ("plain_writer", "plain_generator", "ratios"))
    yield "random ids by pyarrow", f"{writer['rows_per_second']:,} /s", f"{writer['rows']:,} rows, same processes"
    yield "  the engine", f"x {ratio['engine_to_plain_writer']}", ""
    yield "  the same by processor time", f"x {ratio['engine_to_plain_writer_by_cpu']}", ""
    yield "plain generator, ids", f"{plain['samples_per_second']:,} /s", f"{len(plain['families'])} families, 1 process"
    yield "  the engine, a process", f"x {ratio['engine_to_plain_generator']}", ""
    yield "plain generator, rendered", f"{plain['rendered_samples_per_second']:,} /s", ""
    yield "  the engine's rendering", f"x {ratio['rendered_to_plain_generator']}", "1 process, ids read from disk"


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description="Speed, memory and size of question generation.")
    parser.add_argument("--images", type=int, default=20_000, help="pictures of the catalogue (default: %(default)s)")
    parser.add_argument("--spec", default="drawn", help="recipe name or YAML (default: %(default)s)")
    parser.add_argument("--samples", type=int, help="samples to make (default: as many as balance allows)")
    parser.add_argument("--phrasings", type=int, default=1, help="texts each question is put in (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--rendered", type=int, default=2_000_000, help="samples to render (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the plain generator (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--generate", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        print(json.dumps(generate_here(json.loads(options.generate))))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder), lambda line: print(f"... {line}", file=sys.stderr, flush=True))
    print("\n".join(lines(figures)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
