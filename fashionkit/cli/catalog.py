"""`fashionkit catalog ...`: import, suggest, draw, split and check catalogues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fashionkit.cli.arguments import JsonArg, arg, write_json

if TYPE_CHECKING:
    from fashionkit.catalog.splits import SplitOptions


@dataclass(kw_only=True)
class _SplitArgs:
    """Options of how pictures are divided."""

    shares: list[float] = arg("shares of train, val and test", default=(0.8, 0.1, 0.1))
    salt: str = arg("another salt gives other splits", default="fashionkit")


def _split_options(args: _SplitArgs, **more: Any) -> SplitOptions:
    from fashionkit.catalog.schema import SPLITS
    from fashionkit.catalog.splits import SplitOptions
    from fashionkit.tables import InputError

    if len(args.shares) != len(SPLITS):
        raise InputError("three shares are needed: train, val and test", column="--shares", found=args.shares)
    shares = tuple((name, share) for name, share in zip(SPLITS, args.shares, strict=True) if share)
    return SplitOptions(shares=shares, salt=args.salt, **more)


@dataclass
class ImportArgs(_SplitArgs, JsonArg):
    """Arguments of `fashionkit catalog import`."""

    source: str = arg("CSV, JSONL, Parquet or COCO JSON file, or a folder of pictures and masks")
    out: str = arg("folder of the catalogue to make")
    mapping: str = arg("mapping YAML, or the name of a shipped one", required=True)
    embed: bool = arg("keep the pictures' bytes in the catalogue, whatever the mapping says", default=False)
    max_pixels: int = arg("pictures above this are refused before they are decoded", default=50_000_000)
    max_rejects: float = arg("share of refused rows above which nothing is finished", default=0.10)
    workers: int = arg("processes", default=2)
    overwrite: bool = arg("replace a finished catalogue", default=False)


def import_(args: ImportArgs) -> int:
    """Imports photos and their labels into a catalogue.

    The mapping says which column is what, and which word means what. Rows that cannot be used go to the table
    `rejects` with the reason; their counts, each with an example, are printed. Stopped or killed, the same command
    continues. Exits with 1, and without a manifest, when too many rows are refused.

    Example:
        fashionkit catalog import shop.csv out/shop --mapping shop.yaml
    """
    from pathlib import Path

    from fashionkit.catalog.importer import ImportOptions, import_catalog
    from fashionkit.recipes import find

    options = ImportOptions(args.workers, args.embed or None, args.max_pixels, args.max_rejects, args.overwrite)
    options.splits = _split_options(args)
    mapping = find("datagen/mappings", args.mapping)
    report = import_catalog(Path(args.source), Path(args.out), mapping, options)
    print("\n".join(report.lines()))
    if report.splits is not None:
        print("\n".join(report.splits.lines()))
    if report.failure is None:
        print(f"{args.out}: {'was finished before' if report.was_finished else 'finished'}")
    splits = None if report.splits is None else report.splits.to_dict()
    write_json(args.json, {**report.tally.counts(), "failure": report.failure, "splits": splits})
    return 0 if report.failure is None else 1


@dataclass
class SuggestArgs:
    """Arguments of `fashionkit catalog suggest`."""

    source: str = arg("CSV, JSONL or Parquet file")
    out: str = arg("mapping YAML to write", required=True)
    ontology_out: str | None = arg("write the shipped ontology with the table's new words here", default=None)
    ontology: str = arg("the ontology to match words with", default="fashion")
    overwrite: bool = arg("replace files that are there", default=False)


def suggest(args: SuggestArgs) -> int:
    """Reads an unknown table and writes a first mapping for a person to edit.

    Finds the columns of ids, pictures, categories and attributes by their names and values. Every value stands in the
    file with its count; what was left out, and why, stands there as a comment.

    Example:
        fashionkit catalog suggest shop.csv --out shop.yaml
    """
    from pathlib import Path

    from fashionkit.catalog.suggest import suggest_mapping
    from fashionkit.recipes import find

    ontology = find("datagen/ontologies", args.ontology)
    extension = None if args.ontology_out is None else Path(args.ontology_out)
    lines = suggest_mapping(Path(args.source), Path(args.out), ontology, args.ontology, extension, args.overwrite)
    print("\n".join(lines))
    return 0


@dataclass
class DrawArgs(_SplitArgs, JsonArg):
    """Arguments of `fashionkit catalog draw`."""

    out: str = arg("folder of the catalogue to make")
    images: int = arg("pictures to draw", required=True)
    seed: int = arg("another seed draws other outfits", default=0)
    size: int = arg("side of the pictures in pixels", default=224)
    encoding: Literal["jpeg", "webp", "png"] = arg("how pictures are kept", default="jpeg")
    tables_only: bool = arg("items and attributes without pictures", default=False)
    workers: int = arg("processes", default=2)
    overwrite: bool = arg("replace a finished catalogue", default=False)


def draw(args: DrawArgs) -> int:
    """Draws outfits as a catalogue: no data needed, and everything about them is known.

    Stopped or killed, the same command continues; the bytes are the same for any number of workers.

    Example:
        fashionkit catalog draw out/drawn --images 2000 --seed 1
    """
    from pathlib import Path

    from fashionkit.catalog.drawn import DrawOptions, draw_catalog

    options = DrawOptions(args.images, args.seed, args.size, args.encoding, not args.tables_only, args.workers)
    options.overwrite, options.splits = args.overwrite, _split_options(args)
    report = draw_catalog(Path(args.out), options)
    print("\n".join(report.lines()))
    write_json(args.json, report.tally.counts())
    return 0


@dataclass
class SplitArgs(_SplitArgs, JsonArg):
    """Arguments of `fashionkit catalog split`."""

    path: str = arg("a finished catalogue")
    pixel_difference: float = arg("near duplicates differ by less, of 255; 0 joins none", default=2.0)
    compositions: float = arg("share of (category, attribute, value) triples to hold out", default=0.05)


def split(args: SplitArgs) -> int:
    """Divides a catalogue's pictures into train, val and test again.

    Pictures of one product, session or contributor stay together, and so do copies and near copies.

    Example:
        fashionkit catalog split out/shop --shares 0.7 0.1 0.2
    """
    from pathlib import Path

    from fashionkit.catalog.assemble import split_again

    more = {"pixel_difference": args.pixel_difference, "compositions": args.compositions}
    report = split_again(Path(args.path), _split_options(args, **more))
    print("\n".join(report.lines()))
    write_json(args.json, report.to_dict())
    return 0


@dataclass
class CheckArgs(JsonArg):
    """Arguments of `fashionkit catalog check`."""

    path: str = arg("a catalogue")
    pictures: bool = arg("decode every picture and mask, too", default=False)
    checksums: bool = arg("compare every file with the manifest, too", default=False)


def check(args: CheckArgs) -> int:
    """Checks that a catalogue keeps what its schema promises; exits with 1 where it does not.

    Example:
        fashionkit catalog check out/shop --pictures
    """
    from pathlib import Path

    from fashionkit.catalog.validate import check_catalog

    problems = check_catalog(Path(args.path), args.pictures, args.checksums)
    print("\n".join(problems) if problems else f"{args.path}: no problem found")
    write_json(args.json, {"problems": problems})
    return 1 if problems else 0


VERBS = {
    "catalog import": import_,
    "catalog suggest": suggest,
    "catalog draw": draw,
    "catalog split": split,
    "catalog check": check,
}
