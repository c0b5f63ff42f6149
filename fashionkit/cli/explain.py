"""`fashionkit explain`: a page that shows why a model says what it says of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fashionkit.cli.arguments import arg

if TYPE_CHECKING:
    from fashionkit.catalog.catalog import Catalog
    from fashionkit.models.style_model import StyleModel
    from fashionkit.vision.region_base import RegionProvider

OTHERWISE = "say `--regions foreground` (any picture), or `--catalog FOLDER` with ids of its pictures"


@dataclass
class ExplainArgs:
    """Arguments of `fashionkit explain`."""

    images: list[str] = arg("picture files; with --catalog, ids of its pictures")
    model: str = arg("folder of a model with a style network, attribute heads, or both", required=True)
    out: str = arg("the page to write, e.g. page.html", required=True)
    regions: str | None = arg("provider of regions; without it, the one the model was trained with", default=None)
    catalog: str | None = arg("catalogue that the pictures (and `--regions catalog`) come from", default=None)
    download: bool = arg("let the hub be asked for what the model names and does not hold", default=False)


def explain(args: ExplainArgs) -> int:
    """Shows why a model says what it says of pictures, as one HTML page.

    For each picture: the likeliest styles, how much each item counts (gates), where in each item the network finds
    what speaks for the style (Grad-CAM), how the probabilities change when an item is left out, and a table of
    attributes. The page loads nothing from anywhere. Where some pictures cannot be read, their sections say why, and
    the exit code is 1.

    Example:
        fashionkit explain photo.jpg --model models/style --out page.html
    """
    import sys
    from pathlib import Path

    from fashionkit.embed.embedder import Embedder
    from fashionkit.embed.explain import explain as explained
    from fashionkit.embed.explain_page import explain_page
    from fashionkit.tables import InputError, write_text

    out = Path(args.out)
    if out.is_dir():
        raise InputError("this is a folder; name the page", file=out, hint=f"e.g. {out / 'page.html'}")
    if not Path(args.model).is_dir():
        raise InputError("there is no such folder", file=args.model, hint="`fashionkit share` makes a model's folder")
    model = Embedder.load(args.model, download=args.download)
    source = None if args.catalog is None else _catalog(args.catalog)
    provider = _provider(args, model.model.style, source)
    ids = None if source is None else args.images
    images = args.images if source is None else _encoded(source, args.images)
    found = explained(model, images, _names(args), ids, provider, on_error="skip")
    broken = [
        f"{image}: {each.problem.removeprefix(f'{image}: ')}"
        for image, each in zip(args.images, found, strict=True)
        if each.problem
    ]
    if len(broken) == len(found):
        raise InputError("\n".join(broken) or "no pictures were named", file=args.catalog)
    write_text(out, explain_page(model, found))
    for each in found:
        if each.style is not None:
            print(f"{each.name}: {each.style.best[0]} {each.style.probabilities[0].max():.1%}")
    good = len(found) - len(broken)
    print(f"{out}: {good} picture{'s' * (good > 1)} explained")
    if broken:
        print("\n".join(f"fashionkit: {line}" for line in broken), file=sys.stderr)
    return 1 if broken else 0


def _provider(args: ExplainArgs, style: StyleModel | None, source: Catalog | None) -> RegionProvider | None:
    """What finds the items; None where nothing needs to."""
    from fashionkit.tables import InputError
    from fashionkit.vision.regions import build_regions

    if args.regions is None:
        if style is None or not style.needs_masks:
            return None
        return style.provider(source, args.download, OTHERWISE)
    if "catalog" in args.regions.split(":") and source is None:
        hint = "say `--catalog FOLDER` with ids of its pictures, or `--regions foreground` (any picture)"
        raise InputError("these regions come from a catalogue", column="regions", found=args.regions, hint=hint)
    return build_regions(args.regions, source, download=args.download)


def _names(args: ExplainArgs) -> list[str]:
    """What the page calls the pictures: names of files where they differ, else paths; ids."""
    from pathlib import Path

    short = [Path(image).name for image in args.images]
    return short if args.catalog is None and len(set(short)) == len(short) else args.images


def _catalog(folder: str) -> Catalog:
    from fashionkit.catalog.catalog import Catalog

    return Catalog(folder)


def _encoded(source: Catalog, ids: list[str]) -> list[object]:
    """The encoded pictures of ids; a PictureError for each that cannot be had."""
    from fashionkit.catalog.images import PictureError
    from fashionkit.embed.catalog import encoded_pictures

    found = encoded_pictures(source, ids)
    return [PictureError("image_missing", what) if isinstance(what := found[name], str) else what for name in ids]


VERBS = {"explain": explain}
