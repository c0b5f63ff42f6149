"""`fashionkit explain`: a page that shows why a model says what it says of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fashionkit.cli.arguments import arg

if TYPE_CHECKING:
    from fashionkit.catalog.catalog import Catalog


@dataclass
class ExplainArgs:
    """Arguments of `fashionkit explain`."""

    images: list[str] = arg("picture files; with --catalog, ids of its pictures")
    model: str = arg("folder of a model with a style network, attribute heads, or both", required=True)
    out: str = arg("the page to write, e.g. page.html", required=True)
    regions: str | None = arg("provider of regions; without it, the one the model was trained with", default=None)
    catalog: str | None = arg("catalogue that the pictures (and `--regions catalog`) come from", default=None)
    download: bool = arg("let the hub be asked for what the model names and does not hold", default=False)


def explain(args: ExplainArgs) -> None:
    """Shows why a model says what it says of pictures, as one HTML page.

    For each picture: the likeliest styles, how much each item counts (gates), where in each item the network finds
    what speaks for the style (Grad-CAM), how the probabilities change when an item is left out, and a table of
    attributes. The page loads nothing from anywhere.

    Example:
        fashionkit explain photo.jpg --model models/style --out page.html
    """
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
    provider, images = None, args.images
    source = None if args.catalog is None else _catalog(args.catalog)
    wanted = args.regions or (None if model.model.style is None else model.model.style.regions)
    if args.regions is not None or (source is not None and wanted == "catalog"):
        from fashionkit.vision.regions import build_regions

        provider = build_regions(str(wanted), source, download=args.download)
    if source is None:
        short = [Path(image).name for image in images]
        found = explained(model, images, short if len(set(short)) == len(short) else images, provider=provider)
    else:
        found = explained(model, _bytes(source, images), args.images, args.images, provider)
    write_text(out, explain_page(model, found))
    for each in found:
        if each.style is not None:
            print(f"{each.name}: {each.style.best[0]} {each.style.probabilities[0].max():.1%}")
    print(f"{out}: {len(found)} picture{'s' * (len(found) > 1)} explained")


def _catalog(folder: str) -> Catalog:
    from fashionkit.catalog.catalog import Catalog

    return Catalog(folder)


def _bytes(source: Catalog, ids: list[str]) -> list[object]:
    """The encoded pictures of ids."""
    from fashionkit.tables import InputError

    found = source.image_bytes(ids)
    for name in ids:
        if not isinstance(found.get(name), bytes):
            problem = found.get(name) or "the catalogue has no picture under this id"
            raise InputError(str(problem), file=source.path, found=name)
    return [found[name] for name in ids]


VERBS = {"explain": explain}
