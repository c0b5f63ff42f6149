"""Times exact top-k and look-up of `fashionkit.vectors` beside what people write by hand, on made-up vectors.

    python benchmarks/vectors.py --n 100000 --dim 256 --queries 1000 --json figures.json

Side by side in one run: `top_k`; numpy's matmul of 100 queries with the whole base and `argpartition`; `torch.topk` of
the same product; scikit-learn's brute-force neighbours, where that is installed; and the matmul alone, which no exact
search by matmul can beat by much. Each is timed `--repeats` times in turn, and the median counts; on a
machine that does other work, too, the processor time is the figure to compare. All must find rows that are as near.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fashionkit.vectors import EmbeddingStore, top_k, unit, write_vectors

CHUNK = 100  # queries of one full product in the loops written by hand
PART = 20_000  # vectors of a part
Floats = NDArray[np.float32]
Search = Callable[[Floats, Floats, int], NDArray[np.int64]]


def made_up(count: int, dim: int, seed: int) -> Floats:
    """Unit vectors around 200 centres, as those of garments lie."""
    rng = np.random.default_rng([seed, 1])
    centres = np.random.default_rng(0).standard_normal((200, dim), np.float32)
    return unit(centres[rng.integers(0, 200, count)] + rng.standard_normal((count, dim), np.float32))


def ours(queries: Floats, base: Floats, k: int) -> NDArray[np.int64]:
    """`top_k`."""
    return top_k(queries, base, k)[0]


def numpy_loop(queries: Floats, base: Floats, k: int) -> NDArray[np.int64]:
    """Whole product, `argpartition`, sort of the k."""
    found = []
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ base.T
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
        found.append(np.take_along_axis(best, order, 1))
    return np.concatenate(found)


def torch_loop(queries: Floats, base: Floats, k: int) -> NDArray[np.int64]:
    """Whole product and `torch.topk`."""
    table = torch.from_numpy(base).T
    parts = [torch.topk(part @ table, k).indices for part in torch.from_numpy(queries).split(CHUNK)]
    return torch.cat(parts).numpy()


def matmul_alone(queries: Floats, base: Floats, k: int) -> NDArray[np.int64]:
    """The product in blocks of a cache's size, and nothing found."""
    for start in range(0, len(base), 8192):
        for first in range(0, len(queries), 512):
            queries[first : first + 512] @ base[start : start + 8192].T
    return np.empty((0, k), np.int64)


def sklearn_brute(queries: Floats, base: Floats, k: int) -> NDArray[np.int64]:
    """`NearestNeighbors(algorithm="brute")`; of unit vectors the nearest by distance are those by cosine."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(base).kneighbors(queries, return_distance=False)


def searches() -> dict[str, Search]:
    """What is timed, ours first."""
    found: dict[str, Search] = {"top_k": ours, "numpy": numpy_loop, "torch": torch_loop, "matmul": matmul_alone}
    if importlib.util.find_spec("sklearn") is not None:
        found["sklearn"] = sklearn_brute
    return found


def compare(queries: Floats, base: Floats, k: int, repeats: int) -> dict[str, Any]:
    """Median seconds of each, by the clock and of processor time, and how many times ours that is.

    Raises:
        SystemExit: One found rows that are not as near as those of the others.
    """
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in searches()}
    rows: dict[str, NDArray[np.int64]] = {}
    for _ in range(repeats):
        for name, search in searches().items():
            start, cpu = time.perf_counter(), time.process_time()
            rows[name] = search(queries, base, k)
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    near = {n: np.einsum("qd,qkd->qk", queries, base[r]) for n, r in rows.items() if len(r) == len(queries)}
    differ = [n for n in near if not np.allclose(near[n], near["top_k"], atol=1e-5)]
    if differ:
        raise SystemExit(f"found other neighbours than top_k: {', '.join(differ)}")
    figures: dict[str, Any] = {}
    for place, label in enumerate(("", "cpu_")):
        medians = {name: float(np.median([pair[place] for pair in pairs])) for name, pairs in seconds.items()}
        figures[f"{label}seconds"] = {name: round(value, 4) for name, value in medians.items()}
        figures[f"{label}times_ours"] = {name: round(value / medians["top_k"], 2) for name, value in medians.items()}
    return figures


def store_figures(base: Floats, queries: Floats, k: int, folder: Path) -> dict[str, float]:
    """Writing, opening, look-up and search of a folder of float16 vectors; the caches start empty."""
    names = [f"img-{number}" for number in range(len(base))]
    marks = [time.perf_counter()]
    parts = ((names[at : at + PART], base[at : at + PART]) for at in range(0, len(base), PART))
    write_vectors(folder, parts, {"model": "made up", "fingerprint": "none"}, "float16")
    marks.append(time.perf_counter())
    store = EmbeddingStore(folder)
    store.get(names[:1])
    marks.append(time.perf_counter())
    picks = np.random.default_rng(2).choice(len(names), min(10_000, len(names)), replace=False)
    store.get([names[at] for at in picks])
    marks.append(time.perf_counter())
    store.nearest(queries, k)
    marks.append(time.perf_counter())
    labels = ("write", "open_and_first_id", "get_10000_ids", "nearest")
    figures = {name: round(b - a, 3) for name, a, b in zip(labels, marks, marks[1:], strict=False)}
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    return {**figures, "bytes_a_vector": round(size / len(base), 1)}


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100_000, help="vectors of the base")
    parser.add_argument("--dim", type=int, default=256, help="dimensions")
    parser.add_argument("--queries", type=int, default=1000, help="queries")
    parser.add_argument("--k", type=int, default=10, help="neighbours of each")
    parser.add_argument("--repeats", type=int, default=3, help="times each search runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    base, queries = made_up(options.n, options.dim, 1), made_up(options.queries, options.dim, 2)
    sizes = {name: getattr(options, name) for name in ("n", "dim", "queries", "k")}
    figures: dict[str, Any] = {**sizes, **compare(queries, base, options.k, options.repeats)}
    with tempfile.TemporaryDirectory() as folder:
        figures["store_seconds"] = store_figures(base, queries, options.k, Path(folder) / "vectors")
    print(f"the {options.k} nearest of {options.n:,} x {options.dim} for {options.queries:,} queries")
    for name, seconds in figures["seconds"].items():
        cpu, by_cpu = figures["cpu_seconds"][name], figures["cpu_times_ours"][name]
        print(f"  {name:8} {seconds:8.3f} s {figures['times_ours'][name]:6.2f} x top_k", end="")
        print(f"   cpu {cpu:8.3f} s {by_cpu:6.2f} x top_k")
    print("a folder of them as float16")
    for name, value in figures["store_seconds"].items():
        print(f"  {name:18} {value:8.3f}{'' if name == 'bytes_a_vector' else ' s'}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
