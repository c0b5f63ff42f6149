"""Where the items of a picture are: one mask each for head, top, bottom and shoes, from any source.

    picture, image id ──► provider ──► (4, H, W) bool ──► MaskCache: compressed bits on disk
                             │
          BandRegions, ForegroundBands     need no model
          CatalogRegions                   what a catalogue knows
          OnnxForeground, SelfieForeground a person's or object's mask, for ForegroundBands
          ClipSegRegions, SegFormerRegions networks that find the items themselves
          RandomRegions, ShuffledRegions   controls: do gains come from the regions at all?

The four items are IRSN's (Choi, Kwon, Kim, Applied Intelligence 2024). A provider's `key` names it with its settings,
so that a cache never mixes two. This module is the door: it has every name, and `build_regions` for texts of commands
and YAMLs. `docs/regions.md` compares the providers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from fashionkit.catalog.catalog import Catalog
from fashionkit.tables import InputError
from fashionkit.vision.foreground import BorderForeground, ForegroundBands, lab_of
from fashionkit.vision.foreground_models import OnnxForeground, SelfieForeground
from fashionkit.vision.region_base import (
    BANDS,
    ITEMS,
    BandRegions,
    Foreground,
    Masks,
    Picture,
    RegionProvider,
    pixels_of,
    regions_of,
)
from fashionkit.vision.region_cache import MaskCache
from fashionkit.vision.region_catalog import PLACES, CatalogRegions
from fashionkit.vision.region_controls import RandomRegions, ShuffledRegions
from fashionkit.vision.segment_clipseg import CLIPSEG, ClipSegRegions
from fashionkit.vision.segment_segformer import SEGFORMER, SegFormerRegions

__all__ = [
    "BANDS",
    "ITEMS",
    "NAMES",
    "PLACES",
    "BandRegions",
    "BorderForeground",
    "CatalogRegions",
    "ClipSegRegions",
    "Foreground",
    "ForegroundBands",
    "MaskCache",
    "Masks",
    "OnnxForeground",
    "Picture",
    "RandomRegions",
    "RegionProvider",
    "SegFormerRegions",
    "SelfieForeground",
    "ShuffledRegions",
    "build_regions",
    "lab_of",
    "pixels_of",
    "regions_of",
]

PLAIN = ("bands", "catalog", "foreground")
FROM_FILES = ("person", "clipseg", "segformer")  # these take a path after a colon
CONTROLS = ("random", "shuffled")
NAMES = (
    *PLAIN,
    *FROM_FILES,
    *(f"{name}:PATH" for name in FROM_FILES),
    *(f"{control}:{seed}NAME" for control in CONTROLS for seed in ("", "SEED:")),
)


def build_regions(
    name: str,
    catalog: Catalog | None = None,
    ids: Sequence[str] | None = None,
    image_of: Callable[[str], Picture] | None = None,
    download: bool = False,
) -> RegionProvider:
    """A provider by its name.

        bands, foreground, catalog      plain bands; bands in what differs from the border; masks of the catalogue
        person, person:FILE             bands in a mask: u2netp from its package, an .onnx file, or the selfie's .tflite
        clipseg, clipseg:FOLDER         CLIPSeg from the hub's cache, or from a folder or under another name
        segformer, segformer:FOLDER     clothes parsing, likewise
        random:NAME, random:7:NAME      a control (and its seed, 0 where none is said) over any of the others
        shuffled:NAME, shuffled:7:NAME  another one; it needs `ids`

    Args:
        name: As above. catalog: Needed for `catalog`.
        ids: For `shuffled`: all pictures that are shuffled among each other.
        image_of: For `shuffled`: a picture by its id; over `catalog` it is not needed.
        download: Whether the hub may be asked for files that its cache lacks.

    Raises:
        InputError: No such name, or what it needs is not given or not there.
    """
    kind, _, rest = str(name).partition(":")
    if kind in CONTROLS and rest:
        return _control(kind, rest, lambda inner: build_regions(inner, catalog, download=download), ids, image_of)
    if kind in FROM_FILES and (rest or name == kind):
        return _from_files(kind, rest, download)
    if name == "bands":
        return BandRegions()
    if name == "foreground":
        return ForegroundBands()
    if name == "catalog":
        if catalog is None:
            raise InputError("the provider `catalog` needs a catalogue")
        return CatalogRegions(catalog)
    raise InputError("no such provider of regions", found=name, allowed=NAMES)


def _from_files(kind: str, path: str, download: bool) -> RegionProvider:
    if kind == "clipseg":
        return ClipSegRegions(path or CLIPSEG, download=download)
    if kind == "segformer":
        return SegFormerRegions(path or SEGFORMER, download=download)
    if path and (Path(path).is_dir() or path.endswith(".tflite")):
        return ForegroundBands(SelfieForeground(path))
    return ForegroundBands(OnnxForeground(path or None))


def _control(
    kind: str,
    rest: str,
    build: Callable[[str], RegionProvider],
    ids: Sequence[str] | None,
    image_of: Callable[[str], Picture] | None,
) -> RegionProvider:
    """A control from what stands after its name: a seed, perhaps, and the name of the provider it disturbs."""
    found = re.fullmatch(r"(?:(\d{1,9}):)?(.*)", rest, re.S)
    assert found is not None
    seed, inner = int(found[1] or 0), found[2]
    if inner.partition(":")[0] in CONTROLS:
        raise InputError("a control disturbs a provider, not another control", found=f"{kind}:{rest}")
    provider = build(inner)
    if kind == "random":
        return RandomRegions(provider, seed)
    if isinstance(provider, CatalogRegions) and image_of is None:
        image_of = provider.canvas
    if ids is None or image_of is None:
        lacking = "the ids of all pictures" if ids is None else "a way to open another picture"
        raise InputError(f"masks are shuffled among pictures, so `{kind}` needs {lacking}", found=f"{kind}:{rest}")
    return ShuffledRegions(provider, ids, seed, image_of)
