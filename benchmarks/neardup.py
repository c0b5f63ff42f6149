"""Times the near-duplicate search of `fashionkit.catalog.neardup` on made-up pictures.

    python benchmarks/neardup.py --n 207000 --json

The pictures are soft blobs on white, as product photos are; every hundredth has a noisy copy (the hashes of a few of
those lie too far apart to be proposed).
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import numpy as np
from numpy.typing import NDArray

from fashionkit.catalog.images import perceptual_hashes
from fashionkit.catalog.neardup import THUMB_BYTES, near_duplicates

BLOCK = 5000


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """`[count, 3072]`: three tinted blobs each, white elsewhere; row 100 k + 1 is a noisy copy of row 100 k."""
    rng = np.random.default_rng(seed)
    thumbs = np.empty((count, THUMB_BYTES), np.uint8)
    axis = np.arange(32)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        light = np.full((size, 32, 32, 3), 255.0)
        for _ in range(3):
            y, x = (rng.normal(16, 4, (size, 1, 1)) for _ in range(2))
            height, width = (rng.uniform(3, 9, (size, 1, 1)) for _ in range(2))
            blob = np.exp(-(((axis[:, None] - y) / height) ** 2) - ((axis - x) / width) ** 2)  # size, 32, 32
            light *= 1 - blob[..., None] * rng.uniform(0, 0.9, (size, 1, 1, 3))
        copies = range(1, size, 100)
        light[copies] = light[range(0, len(copies) * 100, 100)] + rng.normal(0, 1, (len(copies), 32, 32, 3))
        thumbs[start : start + size] = np.clip(light, 0, 255).astype(np.uint8).reshape(size, -1)
    return thumbs


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000, help="pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    thumbs = pictures(options.n)
    hashes = [perceptual_hashes(thumbs[at : at + BLOCK].reshape(-1, 32, 32, 3)) for at in range(0, options.n, BLOCK)]
    phash = np.concatenate(hashes)
    start = time.perf_counter()
    pairs = near_duplicates(phash, thumbs)
    seconds = time.perf_counter() - start
    planted = {(at, at + 1) for at in range(0, options.n - 1, 100)}
    found = len(planted & {(a, b) for a, b in pairs.tolist()})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"pictures": options.n, "seconds": round(seconds, 2), "pairs": len(pairs), "peak_mib": round(peak)}
    figures |= {"planted": len(planted), "planted_found": found}
    print(json.dumps(figures) if options.json else "\n".join(f"{name:14} {value:,}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
