"""Small made-up catalogues for the question generator, and question sets made from them once a session.

ONTOLOGY ──► outfits (closed world: every garment is listed)   ──► core pack ──► question set
        └──► products (one product a picture, nothing else known) ──► core pack ──► question set
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.catalog.catalog import write_facts, write_rows
from fashionkit.catalog.ontology import Ontology
from fashionkit.catalog.schema import Facts
from fashionkit.datagen.generate import RunReport, generate
from fashionkit.datagen.packs import FAMILIES, Template
from fashionkit.datagen.propose import option_slots
from fashionkit.datagen.samples import SAMPLE_SPLITS, read_samples, sample_files
from fashionkit.datagen.spec import RunSpec
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import Manifest, write_manifest

ONTOLOGY = """
schema: fashionkit.ontology/1
name: tiny
regions:
  head: {}
  top: {name: upper body}
  outer: {name: outer layer, phrase: over everything else}
  bottom: {name: lower body}
  feet: {}
  hand: {}
  none: {name: nowhere, phrase: alongside the clothes, place: false}
categories:
  item: {abstract: true}
  clothing: {parent: item, name: garment, abstract: true}
  topwear: {parent: clothing, name: top, region: top, abstract: true}
  shirt: {parent: topwear}
  blouse: {parent: topwear, overlaps: [shirt]}
  uniform: {parent: topwear}
  outerwear: {parent: clothing, mass: true, region: outer, abstract: true}
  coat: {parent: outerwear}
  anorak: {parent: outerwear}
  bottomwear: {parent: clothing, name: lower-body garment, region: bottom, abstract: true}
  trousers: {parent: bottomwear, pair: true}
  jeans: {parent: trousers, pair: true}
  skirt: {parent: bottomwear}
  footwear: {parent: item, mass: true, region: feet, abstract: true}
  shoes: {parent: footwear, pair: true}
  boots: {parent: footwear, pair: true}
  accessory: {parent: item, plural: accessories, abstract: true}
  hat: {parent: accessory, region: head}
  bag: {parent: accessory, region: hand}
  umbrella: {parent: accessory, region: none}
  swimwear: {parent: clothing, mass: true, region: top}
attributes:
  colour:
    order: 30
    open_on: [pattern/patched]
    ask: what colour {is} {the}
    values:
      black: {rgb: [20, 20, 20]}
      white: {rgb: [250, 250, 250]}
      red: {rgb: [210, 30, 40]}
      blue: {rgb: [40, 90, 190]}
      navy: {name: navy blue, rgb: [24, 32, 72], parent: blue, compatible: [black]}
      orange: {rgb: [240, 130, 40]}
  pattern:
    order: 40
    values:
      plain: {}
      striped: {}
      pinstriped: {parent: striped}
      dotted: {}
      printed: {compatible: [striped, dotted]}
      patched: {}
  sleeves:
    name: sleeve length
    verb: have
    order: 20
    applies_to: [topwear, outerwear]
    values:
      short: {name: short sleeves, adj: short-sleeved}
      long: {name: long sleeves, adj: long-sleeved}
      none: {name: no sleeves, pred: a sleeveless cut, adj: sleeveless, with: without sleeves}
  details:
    name: detail
    verb: have
    exclusive: false
    values:
      bow: {name: bow, pred: a bow}
      logo: {name: logo, pred: a logo}
      zip: {name: zip, pred: a zip}
      pockets: {}
  price:
    visible: false
    values: {cheap: {}, dear: {}}
  style:
    scope: image
    values: {casual: {}, formal: {compatible: [elegant]}, elegant: {}, sporty: {}}
  year:
    scope: image
    visible: false
    values: {old: {}, new: {}}
"""
FEW = {family: 0.0 for family in FAMILIES if family not in ("B1", "B2", "B5", "C1", "C2", "N1")}  # some, to be quick
SHOP = {"sole_categories": ["footwear"], "alone_categories": ["hat", "bag", "umbrella", "footwear"]}
OPEN, HIDDEN, MISSING = "unknown", "not_visible", "absent"
WORN = [
    ("shirt", "blouse", "uniform"),
    ("trousers", "jeans", "skirt"),
    ("shoes", "boots"),
    ("coat", "anorak"),
    ("hat",),
    ("bag",),
    ("umbrella",),
]


@dataclass
class Item:
    """One item of a made-up picture: attribute → a value, several values, or a state."""

    category: str
    values: dict[str, str | list[str]]
    region: str | None = None
    area: float | None = 0.1
    complete: bool = True


@dataclass
class Picture:
    """One made-up picture."""

    image_id: str
    items: list[Item]
    split: str = "train"
    group: int | None = None
    labels: dict[str, str] | None = None


def make_catalog(
    folder: Path,
    pictures: list[Picture],
    ontology: str = ONTOLOGY,
    compositions: tuple[tuple[str, str, str], ...] = (),
    paths: dict[str, str] | None = None,
    pixels: dict[str, bytes] | None = None,
    **facts: Any,
) -> Path:
    """Writes a catalogue of made-up pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ontology.yaml").write_text(ontology)
    known = Ontology.load(folder / "ontology.yaml")
    write_facts(folder, Facts(**{"name": "tiny", "licence": "CC0-1.0", "source": "made up", **facts}))
    items, attributes, labels = [], [], []
    for picture in pictures:
        for number, item in enumerate(picture.items):
            key = f"{picture.image_id}/{number}"
            region = item.region or known.region_of(item.category)
            items.append(
                {
                    "item_id": key,
                    "image_id": picture.image_id,
                    "category": item.category,
                    "region": region,
                    "area": item.area,
                }
            )
            for name, said in item.values.items():
                state = said if said in (OPEN, HIDDEN, MISSING) else "present"
                values = [] if state != "present" else [said] if isinstance(said, str) else said
                attributes.append(
                    {"item_id": key, "attribute": name, "state": state, "values": values, "complete": item.complete}
                )
        for name, value in (picture.labels or {}).items():
            labels.append({"image_id": picture.image_id, "label": name, "state": "present", "values": [value]})
    images = [
        {"image_id": p.image_id, "path": (paths or {}).get(p.image_id), "bytes": (pixels or {}).get(p.image_id)}
        for p in pictures
    ]
    splits = [
        {"image_id": p.image_id, "split_group": n if p.group is None else p.group, "split": p.split}
        for n, p in enumerate(pictures)
    ]
    held = [dict(zip(("category", "attribute", "value"), c, strict=True)) for c in compositions]
    tables = {
        "images": images,
        "items": items,
        "attributes": attributes,
        "labels": labels,
        "splits": splits,
        "compositions": held,
    }
    for name, rows in tables.items():
        write_rows(folder, name, 0, rows)
    write_manifest(folder, Manifest("catalog", 1, counts={"images": len(images)}))
    return folder


def random_item(rng: np.random.Generator, category: str, onto: Ontology) -> Item:
    """An item whose attributes are mostly known, and else in any of the other states."""
    values: dict[str, str | list[str]] = {}
    for name, attribute in onto.attributes.items():
        if attribute.scope == "image" or not onto.applies(name, category):
            continue
        keys = list(attribute.values)
        state = rng.choice(["present", OPEN, HIDDEN, MISSING, "row missing"], p=[0.8, 0.05, 0.05, 0.05, 0.05])
        if state == "present":
            many = 1 if attribute.exclusive else int(rng.integers(1, 3))
            values[name] = [str(k) for k in rng.choice(keys, many, replace=False)]
        elif state != "row missing":
            values[name] = str(state)
    return Item(
        category,
        values,
        area=None if rng.random() < 0.1 else float(rng.uniform(0.01, 0.5)),
        complete=bool(rng.random() < 0.7),
    )


def random_pictures(folder: Path, count: int, seed: int, one: bool) -> list[Picture]:
    """Outfits of one to five items, or products of one; two of three pictures train, groups of two pictures."""
    (folder.parent / "words.yaml").write_text(ONTOLOGY)
    onto, rng = Ontology.load(folder.parent / "words.yaml"), np.random.default_rng(seed)
    pictures = []
    for number in range(count):
        kinds = [str(rng.choice(kind)) for kind in WORN if rng.random() < 0.6] or ["coat"]
        kinds += ["bag"] if rng.random() < 0.1 else []
        kinds = [str(rng.choice(kinds))] if one else kinds
        group = number // 2
        split = ("train", "train", "train", "test", "test", "val")[group % 6]
        labels = (
            {"style": str(rng.choice(["casual", "formal", "elegant", "sporty"])), "year": "old"}
            if rng.random() < 0.9
            else None
        )
        pictures.append(Picture(f"p{number:04d}", [random_item(rng, k, onto) for k in kinds], split, group, labels))
    return pictures


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves flushing to the disk out, which is most tests' time otherwise."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def unsynced() -> Iterator[None]:
    """The same while a session's fixtures are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@dataclass
class Made:
    """A question set and what it was made of; `rows` are samples by split."""

    catalog: Path
    path: Path
    spec: RunSpec
    report: RunReport
    rows: dict[str, list[dict[str, Any]]]


Sample = dict[str, Any]


def samples_of(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All samples of a set by split, as dicts."""
    return {s: [r for p in sample_files(path, s) for r in read_samples(p).to_pylist()] for s in SAMPLE_SPLITS}


def made(catalog: Path, out: Path, **settings: Any) -> Made:
    """Makes a question set in one process."""
    spec = RunSpec(catalog=str(catalog), out=str(out), **{"workers": 1, "shard_images": 30, **settings})
    report = generate(spec)
    return Made(catalog, out, spec, report, samples_of(out))


@pytest.fixture(scope="session")
def outfits(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Path:
    """A closed-world catalogue of 90 outfits with a held-out composition."""
    folder = tmp_path_factory.mktemp("catalogues") / "outfits"
    pictures = random_pictures(folder, 90, 3, one=False)
    held = (("bag", "colour", "red"),)
    return make_catalog(folder, pictures, compositions=held, closed_categories=["item"], countable=["item"])


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Path:
    """An open-world catalogue of 90 product photos."""
    folder = tmp_path_factory.mktemp("catalogues") / "products"
    return make_catalog(folder, random_pictures(folder, 90, 4, one=True), scene="product", noun="product", **SHOP)


@pytest.fixture(scope="session")
def outfit_set(outfits: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All questions about the outfits."""
    return made(outfits, tmp_path_factory.mktemp("sets") / "outfits")


@pytest.fixture(scope="session")
def product_set(products: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All questions about the products."""
    return made(products, tmp_path_factory.mktemp("sets") / "products")


@pytest.fixture
def small_set(outfit_set: Made, tmp_path: Path) -> Path:
    """A copy of the outfits' questions that a test may damage."""
    return Path(shutil.copytree(outfit_set.path, tmp_path / "copy"))


def fingerprint(folder: Path) -> dict[str, str]:
    """Checksum of every file below a folder; of the manifest without its provenance."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        body = path.read_bytes()
        if path == folder / "manifest.json":
            manifest = json.loads(body)
            assert manifest.pop("provenance")
            body = json.dumps(manifest, sort_keys=True).encode()
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(body).hexdigest()
    return found


def told(
    store: VQAStore, rows: dict[str, list[Sample]], splits: tuple[str, ...] = SAMPLE_SPLITS
) -> Iterator[tuple[str, Template, dict[str, int], Sample]]:
    """Split, template, slots by name and row of every sample."""
    for split in splits:
        for row in rows[split]:
            names = store.slots[row["template"]]
            yield split, store.pack.templates[row["template"]], {n: row[f"slot{i}"] for i, n in enumerate(names)}, row


def cell_of(t: Template, slots: dict[str, int], store: VQAStore) -> tuple[Any, ...]:
    """What the answers of a sample are balanced with: its cell, whichever of two equal parts stands first."""
    slots = dict(slots)
    if t.balance == "choice" or (t.anchor == "pair" and t.balance == "binary"):
        one, two = option_slots(t) if t.balance == "choice" else ("cat", "cat2")
        slots[one], slots[two] = sorted((slots[one], slots[two]))
    attributes = tuple(sorted(s for n, s in slots.items() if store.vocab.kind[s] == "attribute"))
    return (*(slots[name] for name in t.cell), attributes)


def asked(t: Template, slots: dict[str, int], row: Sample) -> tuple[Any, ...]:
    """A question about a picture, whatever its words."""
    return (row["image"], t.id, *sorted(slots.items()))


def without(row: Sample, *names: str) -> tuple[Any, ...]:
    """The row's other columns."""
    return tuple(value for name, value in row.items() if name not in names)
