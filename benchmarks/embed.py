"""Images/s of the embedding API beside what people write by hand, with one model on one machine.

    python benchmarks/embed.py [--model M] [--weights W] [--images N] [--side PX] [--repeats R] [--json FILE]

    catalogue drawn here (JPEG, N pictures of PX x PX) ─┬► each arm in a process of its own, in turn, R times ─► median
                                                        └► the vectors of all arms must agree

Arms: the bare network on tensors that lie ready; the loop with `DataLoader` and timm's transform that READMEs show; the
loop of sentence-transformers' kind (a list of files, batch by batch, no workers); `Embedder.embed` of the encoded
pictures; what `fashionkit embed --workers 2` does with the catalogue, each worker's start included, which costs seconds
and shows where there are few pictures. `1` arms have one thread of torch in one process, `2` arms may use two cores
fully. `kept` is the bare network with freed memory kept and
channels last, as `Embedder` sets it up.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
BATCH = 32
ARMS = ("bare-1", "kept-1", "dataloader-1", "list-1", "embedder-1", "bare-2", "dataloader-2", "command-2")


def pictures(catalog: Path) -> list[bytes]:
    """Encoded pictures in the order of their ids."""
    from fashionkit.catalog.catalog import Catalog

    table = Catalog(catalog).table("images", ["image_id", "bytes"]).sort_by("image_id")
    return [bytes(data) for data in table["bytes"].to_pylist()]


def network(options: argparse.Namespace) -> tuple[Any, Any]:
    """The bare network, and timm's transform for it."""
    from timm.data import create_transform

    from fashionkit.vision.backbones import build_backbone

    backbone = build_backbone(options.model, options.weights)
    how = backbone.preprocess
    transform = create_transform(
        (3, how.size, how.size), mean=how.mean, std=how.std, interpolation=how.interpolation, crop_pct=how.crop
    )
    return backbone, transform


def opened(data: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("RGB")


def forward(backbone: Any, batches: Iterator[Any]) -> Floats:
    """What every loop by hand ends with."""
    import torch

    with torch.inference_mode():
        found = [torch.nn.functional.normalize(backbone.pooled(x), dim=1) for x in batches]
    return torch.cat(found).numpy()


def bare(options: argparse.Namespace, kept: bool = False) -> Callable[[], Floats]:
    import torch

    backbone, transform = network(options)
    ready = torch.stack([transform(opened(data)) for data in pictures(options.catalog)])
    if kept:
        from fashionkit.vision.memory import keep_memory

        keep_memory()
        backbone = backbone.to(memory_format=torch.channels_last)
        ready = ready.to(memory_format=torch.channels_last)
    return lambda: forward(backbone, iter(ready.split(BATCH)))


class Files:
    """A data set as READMEs write it."""

    def __init__(self, data: list[bytes], transform: Any):
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> Any:
        return self.transform(opened(self.data[row]))


def dataloader(options: argparse.Namespace, workers: int) -> Callable[[], Floats]:
    from torch.utils.data import DataLoader

    backbone, transform = network(options)
    loader: Any = DataLoader(Files(pictures(options.catalog), transform), BATCH, num_workers=workers)  # type: ignore
    return lambda: forward(backbone, iter(loader))


def listed(options: argparse.Namespace) -> Callable[[], Floats]:
    import torch

    backbone, transform = network(options)
    data = pictures(options.catalog)

    def batches() -> Iterator[Any]:
        for lo in range(0, len(data), BATCH):
            yield torch.stack([transform(opened(one)) for one in data[lo : lo + BATCH]])

    return lambda: forward(backbone, batches())


def embedder(options: argparse.Namespace) -> Callable[[], Floats]:
    from fashionkit import Embedder

    model, data = Embedder.load(options.model, options.weights, batch=BATCH), pictures(options.catalog)
    return lambda: model.embed(data)


def command(options: argparse.Namespace) -> Callable[[], Floats]:
    from fashionkit.embed.catalog import EmbedOptions, embed_catalog
    from fashionkit.vectors import EmbeddingStore

    def run() -> Floats:
        with tempfile.TemporaryDirectory() as out:
            shard = -(-options.images // 4)
            how = EmbedOptions(options.model, options.weights, dtype="float32", shard=shard, batch=BATCH, workers=2)
            embed_catalog(options.catalog, Path(out) / "v", how)
            store = EmbeddingStore(Path(out) / "v")
            return store.get(sorted(store.ids))

    return run


def arm(options: argparse.Namespace) -> None:
    """Runs one arm once, after a warm-up of its own, and writes its vectors and seconds."""
    name, threads = options.arm.split("-")
    if name != "command":  # what the command forks must have no threads
        import torch

        torch.set_num_threads(int(threads))
    made = {
        "bare": lambda: bare(options),
        "kept": lambda: bare(options, True),
        "dataloader": lambda: dataloader(options, int(threads) - 1),
        "list": lambda: listed(options),
        "embedder": lambda: embedder(options),
        "command": lambda: command(options),
    }[name]()
    if name != "command":
        made()
    start = time.perf_counter()
    vectors = made()
    np.savez(options.out, vectors=vectors, seconds=time.perf_counter() - start)


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Images/s of each arm; stops where two arms disagree on the vectors."""
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    first: Floats | None = None
    for turn in range(options.repeats):
        for name in ARMS:
            print(f"... {turn + 1}: {name}", file=sys.stderr, flush=True)
            out = folder / "arm.npz"
            words = [sys.executable, __file__, "--arm", name, "--catalog", options.catalog, "--out", out]
            words += ["--model", options.model, "--weights", options.weights, "--images", options.images]
            subprocess.run([str(word) for word in words], check=True, stderr=subprocess.DEVNULL)
            with np.load(out) as found:
                seconds[name].append(float(found["seconds"]))
                vectors = found["vectors"]
            first = vectors if first is None else first
            worst = float(np.abs(vectors - first).max())
            if worst > 1e-3:
                raise SystemExit(f"{name} gives other vectors than {ARMS[0]}: {worst:g}")
    return {name: options.images / median(taken) for name, taken in seconds.items()}


def lines(figures: dict[str, Any]) -> list[str]:
    """The figures as text for people."""
    rates, facts = figures["images_per_second"], figures["machine"]
    found = [", ".join(f"{key} {value}" for key, value in facts.items()), ""]
    found.append(f"{'arm':<14}{'images/s':>10}{'of bare':>10}")
    for name in ARMS:
        base = rates[f"bare-{name.split('-')[1]}"]
        found.append(f"{name:<14}{rates[name]:>10.1f}{rates[name] / base:>10.2f}")
    return found


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description="Embedding pictures, beside loops by hand.")
    parser.add_argument("--model", default="timm/tf_efficientnet_lite0", help="(default: %(default)s)")
    parser.add_argument("--weights", default="random", help="(default: %(default)s)")
    parser.add_argument("--images", type=int, default=256, help="pictures (default: %(default)s)")
    parser.add_argument("--side", type=int, default=320, help="pixels of a picture's side (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    for hidden in ("--arm", "--catalog", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        arm(options)
        return
    import os
    import platform

    from fashionkit.catalog.drawn import DrawOptions, draw_catalog

    with tempfile.TemporaryDirectory() as name:
        options.catalog = Path(name) / "catalog"
        draw_catalog(options.catalog, DrawOptions(options.images, size=options.side))
        facts = {
            "cores": os.cpu_count(),
            "load before": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
        }
        facts |= {"model": options.model, "images": options.images, "side": options.side, "repeats": options.repeats}
        figures = {"machine": facts, "images_per_second": measure(options, Path(name))}
    print("\n".join(lines(figures)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
