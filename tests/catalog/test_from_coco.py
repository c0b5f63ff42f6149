"""COCO and Fashionpedia files: names for ids, masks, merged pieces, and whatever is wrong with them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashionkit import recipes
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.importer import ImportOptions, ImportReport, import_catalog
from fashionkit.catalog.validate import check_catalog
from fashionkit.tables import InputError

SAMPLE = Path(__file__).resolve().parents[2] / "../shared/data/vision/fashionpedia_sample"

MAPPING = """
schema: fashionkit.mapping/1
format: fashionpedia
ontology: fashion
catalog: {name: looks, scene: outfit%s}
image: {folder: pictures}
item: {merge: [shoe]}
category:
  values: {pants: trousers}
  refine: {jeans: jeans}
  skip: {sleeve: a part}
attributes:
  - {attribute: colour, words: false, values: {dark red: burgundy, red: red}}
  - {attribute: details, words: false, values: {patch (pocket): patch_pockets, bow: bow}}
drop: {symmetrical: holds of nearly all}
"""

CATEGORIES = ["pants", "shoe", "sleeve", "dress", "spoon"]
ATTRIBUTES = ["jeans", "dark red", "red", "patch (pocket)", "bow", "symmetrical", "odd"]


class Looks:
    """Two pictures of 40 x 60, and a file of annotations."""

    def __init__(self, folder: Path, picture: Callable[..., bytes]) -> None:
        self.folder, self.facts = folder, ""
        (folder / "pictures").mkdir()
        self.data: dict[str, Any] = {"annotations": []}
        self.data["images"] = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 60} for i in (1, 2)]
        self.data["categories"] = [{"id": i * 10, "name": name} for i, name in enumerate(CATEGORIES)]
        self.data["attributes"] = [{"id": 100 + i, "name": name} for i, name in enumerate(ATTRIBUTES)]
        for i in (1, 2):
            (folder / "pictures" / f"{i}.png").write_bytes(picture(i, kind="PNG"))

    def add(self, category: str, box: tuple[int, int, int, int], *attributes: str, image: int = 1, **more: Any) -> None:
        x, y, w, h = box
        self.data["annotations"].append(
            {
                "id": len(self.data["annotations"]),
                "image_id": image,
                "category_id": CATEGORIES.index(category) * 10,
                "attribute_ids": [100 + ATTRIBUTES.index(name) for name in attributes],
                "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                **more,
            }
        )

    def run(self, **options: Any) -> ImportReport:
        source, mapping = self.folder / "looks.json", self.folder / "m.yaml"
        source.write_text(json.dumps(self.data))
        mapping.write_text(MAPPING % self.facts)
        options = {"workers": 1, "max_rejects": 1.0, **options}
        return import_catalog(source, self.folder / "out", mapping, ImportOptions(**options))

    def table(self, name: str) -> list[dict[str, Any]]:
        return Catalog(self.folder / "out").table(name).to_pylist()

    def reasons(self) -> list[str]:
        return [row["reason"] for row in self.table("rejects")]


@pytest.fixture
def looks(tmp_path: Path, make_picture: Callable[..., bytes]) -> Looks:
    return Looks(tmp_path, make_picture)


def test_annotations_become_items_with_masks(looks: Looks) -> None:
    looks.add("dress", (5, 10, 20, 30), "dark red", "bow", "patch (pocket)")
    report = looks.run()
    (item,) = looks.table("items")
    assert (item["category"], item["region"], item["box"]) == ("dress", "full_body", [5, 10, 20, 30])
    assert item["area"] == pytest.approx(600 / 2400)
    assert np.asarray(Image.open(io.BytesIO(item["mask"]))).all()
    found = {row["attribute"]: row["values"] for row in looks.table("attributes")}
    assert found == {"colour": ["burgundy"], "details": ["bow", "patch_pockets"]}
    assert report.tally.images == 2 and check_catalog(looks.folder / "out", pictures=True) == []


def test_the_pieces_of_a_pair_are_one_item(looks: Looks) -> None:
    looks.add("shoe", (5, 50, 5, 5), "bow")
    looks.add("dress", (5, 10, 20, 30))
    looks.add("shoe", (20, 51, 5, 5), "red")
    looks.add("shoe", (20, 51, 5, 5), image=2)
    report = looks.run()
    shoes = [item for item in looks.table("items") if item["category"] == "shoes"]
    assert [(s["image_id"], s["box"]) for s in shoes] == [("1", [5, 50, 20, 6]), ("2", [20, 51, 5, 5])]
    assert np.asarray(Image.open(io.BytesIO(shoes[0]["mask"]))).sum() == 50
    found = {row["attribute"]: row["values"] for row in looks.table("attributes")}
    assert found == {"colour": ["red"], "details": ["bow"]}
    assert report.tally.merged == 1 and report.tally.adds_up()


def test_an_attribute_may_name_a_narrower_category(looks: Looks) -> None:
    looks.add("pants", (5, 10, 20, 30), "jeans")
    looks.add("dress", (5, 10, 20, 30), "jeans", image=2)  # no dress is a pair of jeans
    looks.run()
    assert [item["category"] for item in looks.table("items")] == ["jeans", "dress"]
    assert looks.reasons() == []


def test_parts_dropped_and_unknown_words(looks: Looks) -> None:
    looks.add("sleeve", (5, 10, 20, 30))
    looks.add("spoon", (5, 10, 20, 30))
    looks.add("dress", (5, 10, 20, 30), "symmetrical", "odd")
    report = looks.run()
    assert looks.reasons() == ["skipped", "unmapped_category", "unmapped_value"]
    assert report.tally.items == 1 and report.tally.adds_up()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"segmentation": [[1, 2, 3]]}, "bad_mask"),
        ({"segmentation": [[5, 5, 5, 5, 5, 5]]}, "bad_mask"),
        ({"segmentation": {"size": [60, 40], "counts": [1]}}, "bad_mask"),
        ({"segmentation": {"size": [40, 60], "counts": [2400]}}, "bad_mask"),
        ({"segmentation": None}, "bad_box"),
        ({"segmentation": [], "bbox": [50, 0, 5, 5]}, "bad_box"),
        ({"segmentation": [], "bbox": [1, 2, "x", 5]}, "bad_box"),
        ({"iscrowd": 1}, "crowd"),
        ({"category_id": 999}, "unmapped_category"),
        ({"category_id": [1]}, "unmapped_category"),
        ({"attribute_ids": [1]}, "unknown_attribute"),
        ({"attribute_ids": "x"}, "unknown_attribute"),
        ({"image_id": 7}, "unknown_image"),
        ({"image_id": None}, "unknown_image"),
        ({"id": 0}, "duplicate_id"),
    ],
)
def test_bad_annotations_are_refused(looks: Looks, changes: dict[str, Any], reason: str) -> None:
    looks.add("dress", (5, 10, 20, 30))
    looks.add("pants", (5, 40, 20, 15), **changes)
    report = looks.run()
    (row,) = looks.table("rejects")
    assert (row["reason"], row["row"], row["file"]) == (reason, 2, "looks.json")
    assert report.tally.items == 1 and report.tally.adds_up()


def test_boxes_do_without_masks(looks: Looks) -> None:
    looks.add("dress", (0, 0, 1, 1), segmentation=[], bbox=[1.5, 2, 10, 20])
    looks.run()
    (item,) = looks.table("items")
    assert (item["box"], item["mask"], item["area"]) == ([1.5, 2, 10, 20], None, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 41}, "size_differs"),
        ({"file_name": "3.png"}, "image_missing"),
        ({"file_name": "../looks.json"}, "path_outside"),
        ({"file_name": None}, "image_missing"),
        ({"height": 0}, "bad_size"),
        ({"height": 10**9}, "bad_size"),
        ({"id": 2}, "duplicate_id"),
        ({"id": None}, "missing_id"),
    ],
)
def test_bad_pictures_are_refused(looks: Looks, changes: dict[str, Any], reason: str) -> None:
    looks.add("dress", (5, 10, 20, 30), image=2)
    looks.data["images"].reverse()
    looks.data["images"][1] |= changes
    report = looks.run()
    assert looks.reasons() == [reason]
    assert [row["image_id"] for row in looks.table("images")] == ["2"] and report.tally.adds_up()


def test_where_absence_is_stated_a_refused_item_costs_its_picture(looks: Looks) -> None:
    looks.facts = ", closed_categories: [clothing]"
    looks.add("dress", (5, 10, 20, 30))
    looks.add("spoon", (5, 10, 20, 30))
    looks.add("sleeve", (5, 10, 20, 30), image=2)
    looks.run()
    assert [row["image_id"] for row in looks.table("images")] == ["2"]
    assert sorted(looks.reasons()) == ["incomplete_image", "skipped", "unmapped_category"]
    looks.add("dress", (1, 1, 5, 5), image=7)
    with pytest.raises(InputError, match="none is complete"):
        looks.run(overwrite=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "lists of images"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "`id` and `name`"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "twice"),
        ('{"images": [], "annotations": [], "categories": []}', "no pictures"),
    ],
)
def test_files_that_are_no_coco(looks: Looks, text: str, problem: str) -> None:
    looks.run()
    (looks.folder / "looks.json").write_text(text)
    with pytest.raises(InputError, match=problem):
        import_catalog(looks.folder / "looks.json", looks.folder / "o", looks.folder / "m.yaml", ImportOptions())


@pytest.mark.shared
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="../shared/data is not here")
def test_the_fashionpedia_sample(tmp_path: Path) -> None:
    mapping = recipes.find("datagen/mappings", "fashionpedia")
    report = import_catalog(SAMPLE / "sample.json", tmp_path / "out", mapping, ImportOptions(workers=1, embed=True))
    assert (report.tally.items, report.tally.merged, report.tally.rejected) == (5, 1, {"skipped": 6})
    catalog = Catalog(tmp_path / "out")
    areas = dict(zip(*(catalog.table("items")[c].to_pylist() for c in ("item_id", "area")), strict=True))
    published = {"9813.2": 118902 / (618 * 1000), "10223.1": 192312 / (1000 * 1478)}
    for name, area in published.items():
        assert areas[name] == pytest.approx(area, rel=0.005)
    assert check_catalog(tmp_path / "out", pictures=True) == []
