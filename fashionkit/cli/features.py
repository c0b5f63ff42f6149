"""`fashionkit features`: what a frozen backbone says of a catalogue's pictures, kept for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fashionkit.cli.arguments import JsonArg, arg, write_json


@dataclass
class FeaturesArgs(JsonArg):
    """Arguments of `fashionkit features`."""

    catalog: str = arg("catalogue folder, with pictures and splits")
    model: str = arg("timm/<arch>, open_clip/<arch>, or the folder of a saved model", required=True)
    out: str = arg("folder to write the features to", required=True)
    weights: str | None = arg("of a model by name: offline, hub, hub:TAG, a file, or random", default=None)
    size: int | None = arg("side of the network's input in pixels; without it, the weights' own", default=None)
    resize: Literal["shortest", "longest", "squash"] | None = arg(
        "how a picture is brought to that size, all of it kept; without it, as the weights had it", default=None
    )
    maps: bool = arg("keep the maps, too, which IRSN reads; they take most of the room", default=False)
    part: int = arg("pictures of a file: what a kill costs at most", default=512)
    batch: int = arg("pictures of one pass through the network", default=32)
    workers: int = arg("processes; the features do not depend on it", default=1)


def features(args: FeaturesArgs) -> None:
    """Keeps what a frozen backbone says of a catalogue's pictures, so that training needs no pixels.

    Each picture's vector and colour statistics, and its map where asked for, as float16 under the picture's id. Recipes
    of `fashionkit train` read the folder as `data.features`. Unlike vectors of `fashionkit embed` these are not of unit
    norm. A run that was stopped continues: run the same command again.

    Example:
        fashionkit features out/shop --model timm/tf_efficientnet_lite0 --weights offline --out out/features
    """
    from fashionkit.embed import Embedder
    from fashionkit.engine.threads import one_thread
    from fashionkit.train.caching import cache_catalog
    from fashionkit.vision.preprocess import whole

    with one_thread():  # workers are forked, which threads of torch would not survive
        backbone = Embedder.load(args.model, args.weights, args.size).backbone
        if args.resize is not None:
            backbone.preprocess = whole(backbone.preprocess, args.resize)
        store = cache_catalog(
            args.catalog, args.out, backbone, maps=args.maps, part=args.part, batch=args.batch, workers=args.workers,
            describe="features",
        )  # fmt: skip
    shapes = {name: list(shape) for name, shape in store.shapes.items()}
    what = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
    print(f"{args.out}: {len(store):,} pictures: {what}")
    write_json(args.json, {"features": len(store), "shapes": shapes, "model": backbone.name})


VERBS = {"features": features}
