"""The tables of a catalogue folder, in one place.

    <catalog>/manifest.json     kind "catalog"
    <catalog>/catalog.yaml      name, scene, noun, completeness, licence, source (see `Facts`)
    <catalog>/ontology.yaml     the words: categories, attributes, values (see `fashionkit.catalog.ontology`)
    <catalog>/images/           a row a picture: relative path or embedded bytes
    <catalog>/items/            a row a garment or accessory in a picture
    <catalog>/attributes/       a row an (item, attribute): present / absent / not_visible / unknown
    <catalog>/labels/           a row an (image, label): style, occasion
    <catalog>/splits/           a row an image: split group and split
    <catalog>/compositions/     held-out (category, attribute, value) triples
    <catalog>/rejects/          every source row that was refused, with the reason

Everything is joined by id. A missing row in `attributes` or `labels` means *unknown*, never *absent*.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

KIND = "catalog"
SCHEMA = 1

PRESENT, ABSENT, NOT_VISIBLE, UNKNOWN = "present", "absent", "not_visible", "unknown"
STATES = (PRESENT, ABSENT, NOT_VISIBLE, UNKNOWN)
SPLITS = ("train", "val", "test")

IMAGES = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("path", pa.string()),  # relative to the `image_root` of catalog.yaml; null where bytes are embedded
        pa.field("bytes", pa.binary()),  # the encoded picture; null where a path is given, both null for tables only
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("sha256", pa.string()),  # of the encoded bytes
        pa.field("group", pa.string()),  # product, session or contributor id; null: the image stands alone
        pa.field("thumb", pa.binary()),  # 32 x 32 RGB bytes (3072), for near-duplicate checks; null without a picture
        pa.field("phash", pa.uint64()),  # 64-bit perceptual hash; null without a picture
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),  # key of the ontology
        pa.field("region", pa.string()),  # key of the ontology's regions; null: unknown
        pa.field("box", pa.list_(pa.float32(), 4)),  # x, y, w, h in pixels of the picture
        pa.field("mask", pa.binary()),  # PNG, 1 bit a pixel, of the box's size rounded outwards
        pa.field("area", pa.float32()),  # visible share of the picture, 0..1
        pa.field("visible", pa.float32()),  # visible share of the item, 0..1; null: unknown
        pa.field("source", pa.string()),
        pa.field("confidence", pa.float32()),  # 0..1; null: not stated
    ]
)
ATTRIBUTES = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("state", pa.string(), nullable=False),  # one of STATES
        pa.field("values", pa.list_(pa.string()), nullable=False),  # keys; empty unless present
        pa.field("complete", pa.bool_(), nullable=False),  # no further value of this attribute holds
        pa.field("source", pa.string()),
        pa.field("confidence", pa.float32()),
    ]
)
LABELS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # an image-scope attribute of the ontology
        pa.field("state", pa.string(), nullable=False),
        pa.field("values", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string()),
        pa.field("confidence", pa.float32()),
    ]
)
SPLIT_TABLE = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("split_group", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)
COMPOSITIONS = pa.schema(
    [
        pa.field("category", pa.string(), nullable=False),
        pa.field("attribute", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
    ]
)
REJECTS = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("row", pa.int64()),  # 1-based row or line of the source; null: the file as a whole
        pa.field("column", pa.string()),
        pa.field("found", pa.string()),
        pa.field("reason", pa.string(), nullable=False),  # short code, e.g. "duplicate_id", "image_truncated"
        pa.field("detail", pa.string(), nullable=False),  # the whole message
    ]
)
TABLES = {
    "images": IMAGES,
    "items": ITEMS,
    "attributes": ATTRIBUTES,
    "labels": LABELS,
    "splits": SPLIT_TABLE,
    "compositions": COMPOSITIONS,
    "rejects": REJECTS,
}


@dataclass
class Facts:
    """What holds for a catalogue as a whole (`catalog.yaml`). Nothing is complete unless it says so.

    Attributes:
        name: Short name.
        scene: `product` (one product a picture; other things in the picture are not labelled), or
            `outfit` (items worn together).
        noun: What the one item of a product picture is called, e.g. `product`.
        image_root: Folder that relative picture paths start from; relative to the catalogue folder or absolute.
        closed_categories: Categories for which every visible item of every picture is listed (closed world). A
            category counts as closed when it or an ancestor is listed; empty: absence is never known.
        countable: Categories whose rows are single pieces, so that they may be counted.
        sole_categories: For scene `product`: categories of which a picture shows at most the product itself, so that
            they can name it ("the footwear"); no model wears another one beside it.
        alone_categories: For scene `product`: categories whose pictures show nothing but the product, so that "the blue
            product" can only be it; a shirt is worn with other things, which may be blue too.
        complete_attributes: Non-exclusive attributes whose listed values are all that hold.
        licence: Licence of the source, or `not stated`.
        source: Where the data come from.
        notes: Anything a user should know.
    """

    name: str
    scene: str = "outfit"
    noun: str = "item"
    image_root: str = "."
    closed_categories: list[str] = field(default_factory=list)
    countable: list[str] = field(default_factory=list)
    sole_categories: list[str] = field(default_factory=list)
    alone_categories: list[str] = field(default_factory=list)
    complete_attributes: list[str] = field(default_factory=list)
    licence: str = "not stated"
    source: str = "not stated"
    notes: list[str] = field(default_factory=list)
