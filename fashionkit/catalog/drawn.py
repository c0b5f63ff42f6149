"""`fashionkit catalog draw`: outfits of `fashionkit.catalog.draw` as a catalogue, for runs that need no data.

    (seed, index) ──► draw_outfit ──► picture, items, masks, attributes, style ──► Shard ──► part-00000 … of each table

Nothing is unknown here: every visible item is listed (a closed world), each is one piece (countable), and each of its
attributes is present, absent or covered. Outfit `index` depends on the seed and on nothing else, so any worker makes
any shard alone.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fashionkit.catalog.assemble import begin, finish, make_shards, plain_splits
from fashionkit.catalog.drafts import AttributeDraft, ImageDraft, ItemDraft, Shard, ShardSettings, Tally, read_tallies
from fashionkit.catalog.draw import DrawnItem, draw_outfit
from fashionkit.catalog.images import MAX_PIXELS
from fashionkit.catalog.masks import cropped
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import KIND, PRESENT, Facts
from fashionkit.catalog.splits import SplitOptions, SplitReport
from fashionkit.recipes import find
from fashionkit.tables import InputError, read_manifest, sha256_file

SHARD = 500
VERSION = 2  # of the drawings: raised when the same seed draws another picture
ONTOLOGY = "fashion"
ENCODINGS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 92, "subsampling": 0},  # full colour resolution, since colours are asked about
    "webp": {"quality": 92},
    "png": {"compress_level": 6},
}


@dataclass
class DrawOptions:
    """What is drawn. `size` is the side of the square pictures in pixels."""

    images: int
    seed: int = 0
    size: int = 224
    encoding: str = "jpeg"
    pictures: bool = True
    workers: int = 2
    overwrite: bool = False
    splits: SplitOptions = field(default_factory=SplitOptions)


@dataclass
class DrawReport:
    """What was made; `splits` is None where the folder was finished before."""

    folder: Path
    tally: Tally
    splits: SplitReport | None

    def lines(self) -> list[str]:
        """The report for people."""
        what = f"{self.folder}: {self.tally.images:,} outfits, {self.tally.items:,} items"
        return [what, *([] if self.splits is None else self.splits.lines())]


def draw_catalog(out: Path, options: DrawOptions) -> DrawReport:
    """Draws a catalogue, or continues an interrupted one.

    Raises:
        InputError: Options out of range, or a folder that holds something else.
    """
    _check(options)
    ontology = find("datagen/ontologies", ONTOLOGY)
    params = {"images": options.images, "seed": options.seed, "size": options.size, "encoding": options.encoding}
    params |= {"pictures": options.pictures, "drawing": VERSION, "shard": SHARD}
    params |= {"splits": plain_splits(options.splits)}
    made_from = {"inputs": {"ontology": sha256_file(ontology)}, "params": params}
    shards = begin(out, made_from, options.overwrite, lambda: -(-options.images // SHARD))
    if shards is None:
        tally = Tally()
        tally.add(read_manifest(out, KIND).counts)
        return DrawReport(out, tally, None)
    job = _Job(out, options, Ontology.load(ontology))
    make_shards(out, shards, _make, options.workers, _take, job, "draw")
    tally = read_tallies(out, range(shards))
    return DrawReport(out, tally, finish(out, facts(options), ontology, made_from, tally, options.splits))


def facts(options: DrawOptions) -> Facts:
    """What holds for a drawn catalogue as a whole."""
    notes = [
        "Drawn by fashionkit: figures of vector shapes, not photos.",
        "The style label follows a rule over items and attributes, with a stated share of wrong labels.",
    ]
    if not options.pictures:
        notes.append("Tables only: no pictures, no boxes and no masks were made.")
    return Facts(
        name="drawn",
        scene="outfit",
        closed_categories=["item"],
        countable=["item"],
        complete_attributes=["details"],
        licence="Apache-2.0",
        source=f"drawn by fashionkit, seed {options.seed}",
        notes=notes,
    )


def _check(options: DrawOptions) -> None:
    if options.images < 1:
        raise InputError("at least 1 picture is needed", column="images", found=options.images)
    if not 0 <= options.seed < 2**63:
        raise InputError("a whole number from 0 to 2^63 is needed", column="seed", found=options.seed)
    if not 64 <= options.size <= 2048:
        raise InputError("a side from 64 to 2048 pixels is needed", column="size", found=options.size)
    if options.encoding not in ENCODINGS:
        raise InputError("no such encoding", column="encoding", found=options.encoding, allowed=ENCODINGS)


@dataclass
class _Job:
    out: Path
    options: DrawOptions
    ontology: Ontology


_job: _Job | None = None


def _take(job: _Job) -> None:
    global _job
    _job = job


def _make(part: int) -> int:
    assert _job is not None, "the initializer ran"
    shard = Shard(ShardSettings("drawn", None, True, MAX_PIXELS, closed=True))
    indices = range(part * SHARD, min((part + 1) * SHARD, _job.options.images))
    for index in indices:
        image = outfit_draft(_job.options, index, _job.ontology)
        shard.tally.images_in += 1
        shard.tally.entries += len(image.items)
        shard.add(image)
    shard.write(_job.out, part)
    return len(indices)


def outfit_draft(options: DrawOptions, index: int, ontology: Ontology) -> ImageDraft:
    """Outfit number `index` of a seed, as a draft of the catalogue."""
    outfit = draw_outfit(options.seed, index, options.size, render=options.pictures)
    data = None if outfit.image is None else encoded(outfit.image, options.encoding)
    image = ImageDraft(f"{index:07d}", index, data=data, size=(options.size, options.size))
    image.items = [item_draft(item, index, ontology) for item in outfit.items]
    image.labels = [AttributeDraft("style", PRESENT, [outfit.style], source="drawn")]
    return image


def item_draft(item: DrawnItem, index: int, ontology: Ontology) -> ItemDraft:
    """A drawn item as a draft; exclusive attributes and `details` are complete."""
    draft = ItemDraft(item.category, item.region, [index], visible=item.visible_fraction, source="drawn")
    if item.mask is not None:
        draft.box, draft.mask, draft.area = cropped(item.mask)
    for name, attribute in item.attributes.items():
        assert ontology.applies(name, item.category), f"{item.category} has no {name} in the ontology"
        values: Sequence[str] = attribute.values
        draft.attributes.append(AttributeDraft(name, attribute.state, list(values), True, "drawn"))
    return draft


def encoded(image: Image.Image, encoding: str) -> bytes:
    """The picture's file."""
    out = io.BytesIO()
    image.save(out, format=encoding.upper(), **ENCODINGS[encoding])
    return out.getvalue()
