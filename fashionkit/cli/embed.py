"""`fashionkit embed`: vectors of a catalogue's pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fashionkit.cli.arguments import JsonArg, arg, write_json


@dataclass
class EmbedArgs(JsonArg):
    """Arguments of `fashionkit embed`."""

    catalog: str = arg("catalogue folder, with pictures")
    model: str = arg("timm/<arch>, open_clip/<arch>, or the folder of a saved model", required=True)
    out: str = arg("folder to write the vectors to", required=True)
    weights: str | None = arg("of a model by name: offline, hub, hub:TAG, a file, or random", default=None)
    size: int | None = arg("side of the network's input in pixels; without it, the weights' own", default=None)
    dtype: Literal["float16", "float32"] = arg("how vectors are stored", default="float16")
    shard: int = arg("pictures of a part: what a kill costs at most", default=1024)
    batch: int = arg("pictures of one pass through the network", default=32)
    workers: int = arg("processes; the vectors do not depend on it", default=1)
    engine: Literal["local", "ray"] = arg("what runs the shards", default="local")
    ray_address: str = arg("running Ray cluster, host:port or auto; without it, Ray is started here", default="")


def embed(args: EmbedArgs) -> None:
    """Embeds a catalogue's pictures: a Parquet table of id and vector, for search and recommenders.

    Vectors are float16 or float32 of unit norm, so that a dot product is the cosine. Broken pictures go to the table
    `rejects` with their reason. A run that was stopped continues: run the same command again.

    Example:
        fashionkit embed out/shop --model timm/tf_efficientnet_lite0 --weights offline --out out/vectors
    """
    from fashionkit.embed.catalog import EmbedOptions, embed_catalog

    options = EmbedOptions(
        args.model, args.weights, args.size, args.dtype, args.shard, args.batch, args.workers, args.engine,
        args.ray_address,
    )  # fmt: skip
    manifest = embed_catalog(args.catalog, args.out, options)
    dim, counts = manifest.params["dim"], manifest.counts
    print(f"{args.out}: {counts['vectors']:,} vectors of {dim} numbers, {counts['rejects']:,} pictures rejected")
    write_json(args.json, {**counts, "dim": dim, "model": manifest.params["model"]})


VERBS = {"embed": embed}
