"""Samples/s of text from `VQADataset` and `VQAStream`, beside Hugging Face `datasets` reading the rendered export.

    python benchmarks/loader.py [--images N] [--questions FOLDER] [--repeats N] [--json FILE]

Everything in one run, on one machine, in a temporary folder that is removed at the end:

    catalog draw --tables-only ─► datagen run drawn ─┬───────────────────────► VQADataset, VQAStream ─┬► samples/s
                                                     └─► datagen export parquet ─► load_dataset ──────┘

Both give shuffled batches of 1,024 as a dict of lists of Python strings: question, answer, image_id, family. A pass is
a whole epoch; it is timed from its first batch on, so that starting the workers does not count. Everything is opened
anew for each repeat; a later pass of the same loader is told apart, for each worker keeps the texts it has written.
`datasets` is measured row by row and in batches, which it has two ways for; ratios are to all of them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")

import datasets
import pyarrow as pa
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.datagen.dataset import SampleBatches, VQADataset, VQALoader, VQAStream
from fashionkit.datagen.export import export_set
from fashionkit.datagen.generate import generate
from fashionkit.datagen.spec import load_spec

BATCH = 1024
COLUMNS = ["question", "answer", "image_id", "family"]
BUFFERS = (10_000, 262_144)  # rows that `datasets` shuffles in: as its documentation has it, and to mix more
MIXED = 20  # batches in which different pictures are counted
Figures = dict[str, Any]


def as_columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as a dict of lists."""
    return {name: [row[name] for row in rows] for name in COLUMNS}


def as_it_is(batch: Any) -> Any:
    """The batch."""
    return batch


# What is measured: functions that open a loader; `loading` is where `datasets` keeps its converted files.


def our_map(folder: Path, workers: int) -> Iterable[Any]:
    """`SampleBatches` of a `VQADataset`."""
    batches = SampleBatches(VQADataset(folder / "set"), BATCH, seed=1)
    return VQALoader(batches, workers, **stay(workers))


def our_stream(folder: Path, workers: int) -> Iterable[Any]:
    """`VQAStream`."""
    return VQALoader(VQAStream(folder / "set", batch_size=BATCH, seed=1), workers, **stay(workers))


def stay(workers: int) -> dict[str, Any]:
    """Workers stay for the next pass."""
    return {"persistent_workers": workers > 0}


def loaded(folder: Path, streaming: bool = False) -> Any:
    """The export as `datasets` loads it."""
    files = str(folder / "export" / "train" / "*.parquet")
    options = {"data_files": files, "split": "train", "streaming": streaming, "cache_dir": str(folder / "loading")}
    return datasets.load_dataset("parquet", **options).select_columns(COLUMNS)


def their_map_rows(folder: Path, workers: int) -> Iterable[Any]:
    """Row by row, collated."""
    options = {"num_workers": workers, "collate_fn": as_columns, **stay(workers)}
    return DataLoader(loaded(folder), batch_size=BATCH, shuffle=True, **options)


def their_map_batches(folder: Path, workers: int) -> Iterable[Any]:
    """A batch by a list of indices."""
    found = loaded(folder)
    sampler = BatchSampler(RandomSampler(found), BATCH, False)
    options = {"num_workers": workers, "collate_fn": as_it_is, **stay(workers)}
    return DataLoader(found, sampler=sampler, batch_size=None, **options)


def their_stream_rows(folder: Path, workers: int) -> Iterable[Any]:
    """A shuffle buffer, row by row, collated."""
    found = loaded(folder, streaming=True).shuffle(seed=1, buffer_size=BUFFERS[0])
    return DataLoader(found, batch_size=BATCH, num_workers=workers, collate_fn=as_columns, **stay(workers))


def their_stream_batches(folder: Path, workers: int) -> Iterable[Any]:
    """A shuffle buffer, in batches."""
    found = loaded(folder, streaming=True).shuffle(seed=1, buffer_size=BUFFERS[0]).batch(BATCH)
    return DataLoader(found, batch_size=None, num_workers=workers, collate_fn=as_it_is, **stay(workers))


def their_wide_stream_batches(folder: Path, workers: int) -> Iterable[Any]:
    """The same with a wide buffer."""
    found = loaded(folder, streaming=True).shuffle(seed=1, buffer_size=BUFFERS[1]).batch(BATCH)
    return DataLoader(found, batch_size=None, num_workers=workers, collate_fn=as_it_is, **stay(workers))


Opener = Callable[[Path, int], Iterable[Any]]
MAP: dict[str, Opener] = {
    "VQADataset": our_map,
    "datasets, rows": their_map_rows,
    "datasets, batches": their_map_batches,
}
STREAM: dict[str, Opener] = {
    "VQAStream": our_stream,
    f"datasets, rows, buffer {BUFFERS[0]:,}": their_stream_rows,
    f"datasets, batches, buffer {BUFFERS[0]:,}": their_stream_batches,
    f"datasets, batches, buffer {BUFFERS[1]:,}": their_wide_stream_batches,
}
STYLES = {"map": MAP, "stream": STREAM}


def one_pass(loader: Iterable[Any]) -> Figures:
    """Reads an epoch: samples/s of wall and of processor time from the first batch on, and how mixed batches are."""
    batches = iter(loader)
    first = next(batches)
    rows, letters, pictures = 0, sum(map(len, first["question"])), [len(set(first["image_id"]))]
    start, cpu = time.perf_counter(), cpu_seconds()
    for batch in batches:
        rows += len(batch["question"])
        letters += sum(map(len, batch["question"]))
        if len(pictures) < MIXED:
            pictures.append(len(set(batch["image_id"])))
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    found = {"samples": rows + len(first["question"]), "letters": letters}
    return found | {"rate": rows / seconds, "cpu_rate": rows / cpu, "pictures": statistics.mean(pictures)}


def cpu_seconds() -> float:
    """Processor time of this process and of its workers, as Linux counts it."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def measure(folder: Path, repeats: int, passes: int, say: Callable[[str], None]) -> list[Figures]:
    """Medians of all ways to read, with 0 and 2 workers; every repeat goes once through all of them."""
    runs: dict[tuple[str, str, int], list[list[Figures]]] = {}
    for repeat in range(repeats):
        for style, ways in STYLES.items():
            for (name, opened), workers in ((way, workers) for way in ways.items() for workers in (0, 2)):
                say(f"repeat {repeat + 1}: {style}, {name}, workers {workers}")
                loader = opened(folder, workers)
                runs.setdefault((style, name, workers), []).append([one_pass(loader) for _ in range(passes)])
    checked = {(f["samples"], f["letters"]) for found in runs.values() for one in found for f in one}
    if len(checked) != 1:
        raise SystemExit(f"the loaders did not read the same: samples and letters {sorted(checked)}")
    return [row(key, found) for key, found in runs.items()]


def row(key: tuple[str, str, int], runs: list[list[Figures]]) -> Figures:
    """One line of the table."""
    found: Figures = dict(zip(("style", "name", "workers"), key, strict=True))
    for number, name in ((0, "first"), (-1, "later")):
        found[name] = round(statistics.median(run[number]["rate"] for run in runs))
        found[f"{name}_cpu"] = round(statistics.median(run[number]["cpu_rate"] for run in runs))
    found["pictures_a_batch"] = round(runs[0][0]["pictures"], 1)
    return found


def with_ratios(rows: list[Figures]) -> list[Figures]:
    """Adds to each line of `datasets` what ours is of it."""
    for line in rows:
        ours = next(r for r in rows if (r["style"], r["workers"]) == (line["style"], line["workers"]))
        if line is not ours:
            for name in ("first", "first_cpu", "later", "later_cpu"):
                line[f"{name}_ratio"] = float(f"{ours[name] / line[name]:.3g}")
    return rows


def prepare(folder: Path, options: argparse.Namespace, say: Callable[[str], None]) -> Figures:
    """Draws, generates and exports."""
    if options.questions is None:
        say(f"drawing {options.images:,} outfits, tables only, and asking about them")
        draw_catalog(folder / "catalog", DrawOptions(options.images, pictures=False, workers=2))
        places = {"catalog": str(folder / "catalog"), "out": str(folder / "set")}
        generate(load_spec("drawn", **places, workers=2, shard_images=max(options.images // 10, 1)))  # some parts
    else:
        (folder / "set").symlink_to(options.questions.resolve())
    say("exporting")
    counts = export_set(str(folder / "set"), str(folder / "export"), "parquet", ["train"], workers=2)
    return {"samples": counts["train"], "batch": BATCH}


def machine() -> Figures:
    """What the figures depend on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version(), "torch": torch.__version__, "pyarrow": pa.__version__}
    return {"cores": cores, "load_before": round(os.getloadavg()[0], 1), **versions, "datasets": datasets.__version__}


def lines(figures: Figures) -> Iterator[str]:
    """The figures as text for people."""
    for part in ("machine", "read"):
        yield ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures[part].items())
    heads = {"first": "first pass", "first_cpu": "by cpu", "later": "last pass", "later_cpu": "by cpu"}
    for style in STYLES:
        yield ""
        named = "".join(f"{head:>13}{'x ours':>8}" for head in heads.values())
        yield f"{style + ', samples/s':<36}workers{named}{'pictures':>10}"
        for line in figures["rows"]:
            if line["style"] == style:
                cells = "".join(f"{line[name]:>13,}{line.get(f'{name}_ratio', ''):>8}" for name in heads)
                yield f"{line['name']:<36}{line['workers']:>7}{cells}{line['pictures_a_batch']:>10}"
    yield ""
    yield "x ours: how many times as many samples ours gives. by cpu: a second of all processes' processor time."
    yield "pictures: different ones in a batch, which says how well the samples are mixed."


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description="Samples/s of reading question sets, beside Hugging Face datasets.")
    parser.add_argument("--images", type=int, default=250, help="pictures of the catalogue (default: %(default)s)")
    parser.add_argument("--questions", type=Path, help="a question set to read instead of drawing one")
    parser.add_argument("--repeats", type=int, default=3, help="medians are over so many (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=3, help="epochs that each loader reads (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")

    def say(line: str) -> None:
        print(f"... {line}", file=sys.stderr, flush=True)

    figures: Figures = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        figures["read"] = prepare(Path(folder), options, say)
        figures["rows"] = with_ratios(measure(Path(folder), options.repeats, options.passes, say))
    print("\n".join(lines(figures)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
