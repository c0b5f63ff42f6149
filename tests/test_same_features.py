"""One backbone, one picture, one set of numbers, whoever asks: cache, IRSN, attribute heads, embedder.

    folder of a model ─┬─► `fashionkit features` ─► FeatureStore ─┬─► PictureData ─► what IRSN gets
                       │                                          └─► AttributeData ─► what heads get
                       ├─► task on pixels ─► map, vector
                       └─► Embedder.embed ─► vector of unit norm

Sums of floats depend on their order, so the same batches go through each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.embed.embedder import Embedder
from fashionkit.engine import threads
from fashionkit.train.attributes import AttributeTask
from fashionkit.train.caching import cache_catalog
from fashionkit.train.data import AttributeData, StyleData
from fashionkit.train.style import StyleTask
from fashionkit.vision.backbones import build_backbone
from fashionkit.vision.colour import colour_statistics
from fashionkit.vision.feature_store import FeatureStore, feature_key

N, BATCH, MODEL, SIZE = 16, 8, "timm/test_efficientnet", 64
PLAIN = {"use_regions": False, "use_general": False, "encoder": "none", "gate": "mean", "auxiliary": False, "width": 16}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with threads.one_thread():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Catalogue, model, features."""
    root = tmp_path_factory.mktemp("same")
    draw_catalog(root / "drawn", DrawOptions(60, size=96))
    model = Embedder(build_backbone(MODEL, "random:5", SIZE))
    model.save(root / "model")
    cache_catalog(root / "drawn", root / "features", Embedder.load(root / "model").backbone, part=BATCH, batch=BATCH)
    return root / "drawn", root / "model", root / "features"


def digest(values: Any) -> str:
    """SHA-256 of numbers as the cache keeps them."""
    half = torch.as_tensor(np.asarray(values)).half().contiguous().numpy()
    return hashlib.sha256(half.tobytes()).hexdigest()


def styles(catalog: Path, **options: Any) -> StyleData:
    return StyleData(str(catalog), batch=BATCH, **options)


def whole_batch(module: Any, split: str = "train") -> tuple[list[str], dict[str, Any]]:
    """The first batch of a split, with its ids."""
    examples = module.examples[split]
    keys = [(0, row) for row in range(BATCH)]
    return examples.pictures.ids[:BATCH], examples.__getitems__(keys)


def test_hashes_of_what_each_consumer_sees(folders: tuple[Path, Path, Path]) -> None:
    catalog, model, features = folders
    store, embedder = FeatureStore(features), Embedder.load(model)
    weights = {"weights": str(model), "size": SIZE}
    assert store.fingerprint == feature_key(embedder.backbone)

    cached = styles(catalog, features=str(features))
    style = StyleTask(MODEL, cached.facts, network=PLAIN, cached=True, **weights)
    pixels = styles(catalog)
    from_pixels = StyleTask(MODEL, pixels.facts, network=PLAIN, freeze="all", **weights).eval()
    attributes = AttributeData(str(catalog), features=str(features), least=2)
    heads = AttributeTask(MODEL, attributes.facts, **weights)
    plain = AttributeData(str(catalog), least=2)
    heads_on_pixels = AttributeTask(MODEL, plain.facts, **weights).eval()
    assert heads.fingerprint == store.fingerprint and from_pixels.backbone is not None
    assert feature_key(from_pixels.backbone) == store.fingerprint
    for module, task in ((cached, style), (pixels, from_pixels), (attributes, heads), (plain, heads_on_pixels)):
        module.prepare(task.preprocess)

    ids, batch = whole_batch(cached)
    maps, vectors = digest(store.maps(ids)), digest(store.vectors(ids))
    assert digest(batch["map"]) == maps and digest(batch["vector"]) == vectors, "what IRSN gets of the cache"
    same, seen = whole_batch(pixels)
    assert same == ids
    with torch.inference_mode():
        cells, vector = from_pixels.features(seen)
    assert cells is not None and vector is not None
    assert close(cells, store.maps(ids)) and close(vector, store.vectors(ids)), "and of pixels"

    which, inputs = whole_batch(attributes)
    assert digest(inputs["vector"]) == digest(store.vectors(which)), "what heads get of the cache"
    assert digest(inputs["colour"]) == digest(store.colours(which))
    again, other = whole_batch(plain)
    assert again == which
    with torch.inference_mode():
        _, vector = heads_on_pixels.features(other)
    assert vector is not None and close(vector, store.vectors(which)), "and of pixels"
    assert close(colour_statistics(other["image"]), store.colours(which))


def close(values: torch.Tensor, half: Any) -> bool:
    """Whether they are the same but for float16 and the order of sums."""
    wanted = torch.from_numpy(np.asarray(half, np.float32))
    return torch.allclose(values.float(), wanted, rtol=2e-3, atol=2e-3 * float(wanted.abs().max()))


def test_the_same_batches_give_the_same_bytes(folders: tuple[Path, Path, Path]) -> None:
    catalog, model, features = folders
    store, embedder = FeatureStore(features), Embedder.load(model, batch=BATCH)
    ids = store.ids[:BATCH]  # one part of the cache, which was one batch
    encoded = Catalog(catalog).image_bytes(ids)
    embedded = embedder.embed([encoded[name] for name in ids])
    task = StyleTask(MODEL, styles(catalog).facts, weights=str(model), size=SIZE, network=PLAIN, freeze="all").eval()
    module = styles(catalog)
    module.prepare(task.preprocess)
    pictures = module.examples["train"].pictures
    prepared = np.stack([np.asarray(_sized(pictures.named(name), task)) for name in ids])
    assert task.backbone is not None
    task.backbone.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        cells, vector = task.features({"image": torch.from_numpy(prepared)})
    assert cells is not None and vector is not None
    assert digest(cells) == digest(store.maps(ids)) and digest(vector) == digest(store.vectors(ids))
    assert digest(colour_statistics(torch.from_numpy(prepared))) == digest(store.colours(ids))
    assert digest(F.normalize(vector.float(), dim=1)) == digest(embedded)


def _sized(pixels: Any, task: Any) -> Any:
    from fashionkit.vision.pictures import as_picture, sized

    return sized(as_picture(pixels), task.preprocess)
