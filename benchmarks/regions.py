"""How well providers of regions match what is known: a catalogue's own masks, or photos with a mask of labels.

    python benchmarks/regions.py out/street --providers bands foreground person --pictures 200
    python benchmarks/regions.py --labelled photos.parquet --providers foreground person --pictures 60

First table: for each item the mean intersection over union with `CatalogRegions` over the pictures that show the item,
with a 95 % interval from a bootstrap over pictures and the number of pictures. Second: of each provider's foreground
with all that has a label; the file has the columns `image` (encoded) and `mask_png` (8-bit ids, 0 is the background).
Seconds are of processor time for one picture. Names are those of `build_regions`; controls take `catalog`, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.images import open_mask, open_picture
from fashionkit.metrics.classification import grouped_bootstrap
from fashionkit.tables import InputError
from fashionkit.vision.regions import ITEMS, CatalogRegions, ForegroundBands, RegionProvider, build_regions

PROVIDERS = ("bands", "foreground", "random:catalog", "shuffled:catalog")
Masks = NDArray[np.bool_]


def overlap(found: Masks, truth: Masks) -> float:
    """Intersection over union of two masks; NaN where the truth is empty."""
    return float((found & truth).sum() / (found | truth).sum()) if truth.any() else float("nan")


def mean(values: list[float]) -> dict[str, float]:
    """Mean with its interval over the pictures that have a value."""
    held = np.array([value for value in values if not np.isnan(value)])
    if len(held) < 2:
        return {"n": len(held)}
    value, low, high = grouped_bootstrap(lambda some: float(some.mean()), [held], np.arange(len(held)))
    return {"mean": value, "low": low, "high": high, "n": len(held)}


def drawn(count: int, wanted: int, seed: int) -> list[int]:
    """Rows of some pictures, in order."""
    return sorted(np.random.default_rng(seed).permutation(count)[:wanted].tolist())


def items_table(path: Path, names: list[str], wanted: int, seed: int) -> dict[str, Any]:
    """Figures for each provider and item, by the catalogue's masks."""
    catalog = Catalog(path)
    ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()
    ids = [ids[row] for row in drawn(len(ids), wanted, seed)]
    truth, figures = CatalogRegions(catalog), {}
    for name in names:
        provider = build_regions(name, catalog, ids)
        scores: dict[str, list[float]] = {item: [] for item in ITEMS}
        seconds = []
        for image_id in ids:
            data = catalog.image_bytes([image_id])[image_id]
            if data is None:
                continue
            image = open_picture(data)
            start = time.process_time()
            found = provider.regions(image, image_id)
            seconds.append(time.process_time() - start)
            for item, mask, known in zip(ITEMS, found, truth.regions(image, image_id), strict=True):
                scores[item].append(overlap(mask, known))
        figures[name] = {item: mean(values) for item, values in scores.items()}
        figures[name]["seconds"] = float(np.median(seconds))
    return figures


def foreground_table(path: Path, names: list[str], wanted: int, seed: int) -> dict[str, Any]:
    """Figures for the foreground of each provider that has one, by the labels of photos."""
    table = pq.read_table(path, columns=["image", "mask_png"])
    rows = table.take(drawn(len(table), wanted, seed)).to_pylist()
    figures = {"the whole picture": {"labelled": mean([float((open_mask(r["mask_png"]) > 0).mean()) for r in rows])}}
    for name, provider in each(names):
        if isinstance(provider, ForegroundBands):
            pairs = [(np.asarray(open_picture(r["image"])), open_mask(r["mask_png"]) > 0) for r in rows]
            figures[name] = {"labelled": mean([overlap(provider.foreground(image), known) for image, known in pairs])}
    return figures


def each(names: list[str]) -> Iterator[tuple[str, RegionProvider]]:
    """The providers that need no catalogue."""
    for name in names:
        if not name.endswith("catalog"):
            yield name, build_regions(name)


def said(figure: dict[str, float]) -> str:
    """A cell of the table."""
    if "mean" not in figure:
        return f"n={figure['n']}"
    return "{mean:.3f} ({low:.3f}–{high:.3f}, n={n})".format(**figure)


def printed(title: str, figures: dict[str, Any]) -> None:
    """A table in Markdown."""
    columns = [key for key in next(iter(figures.values())) if key != "seconds"]
    print(f"\n{title}\n\n| provider | {' | '.join(columns)} |{' s |' if len(columns) > 1 else ''}")
    print("|---" * (len(columns) + 1 + (len(columns) > 1)) + "|")
    for name, row in figures.items():
        cells = [said(row[column]) for column in columns]
        cells += [f"{row['seconds']:.3f}"] if "seconds" in row else []
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", type=Path, nargs="?", help="a catalogue whose items have masks or boxes")
    parser.add_argument("--labelled", type=Path, help="a Parquet file of photos with a mask of labels each")
    parser.add_argument("--providers", nargs="+", default=list(PROVIDERS), help="names of providers")
    parser.add_argument("--pictures", type=int, default=200, help="how many are drawn from each")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    options = parser.parse_args()
    if options.catalog is None and options.labelled is None:
        parser.error("a catalogue or --labelled is needed")
    figures = {}
    try:
        chosen = (options.providers, options.pictures, options.seed)
        if options.catalog is not None:
            figures["items"] = items_table(options.catalog, *chosen)
            printed(f"Overlap with the items of {options.catalog.name}", figures["items"])
        if options.labelled is not None:
            figures["foreground"] = foreground_table(options.labelled, *chosen)
            printed(
                f"Overlap of the foreground with what has a label in {options.labelled.name}", figures["foreground"]
            )
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
