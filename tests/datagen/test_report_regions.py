"""Marked are the items a question speaks of, as the slow interpreter finds them; pictures are small and safe."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashionkit.catalog.catalog import write_rows
from fashionkit.catalog.masks import mask_png
from fashionkit.datagen import report_regions as module
from fashionkit.datagen.report import gather
from fashionkit.datagen.report_regions import Album, Mark
from fashionkit.datagen.scene import Scenes
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, Manifest, read_table, write_manifest
from tests.datagen.conftest import FEW, Item, Made, Picture, made, make_catalog
from tests.datagen.slow_interpreter import Interpreter, Pictures, Tree, parse


def encoded(width: int, height: int, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (180, 30, 60)).save(out, kind, **options)
    return out.getvalue()


def slow_marks(slow: Interpreter, tree: Tree | str, slots: dict[str, Any], image: str) -> list[tuple[set[str], bool]]:
    """The marks of a program by a plain walk: (items, whether they fit in part), those with items."""
    found: dict[str, tuple[set[str], bool]] = {}

    def walk(node: Tree | str) -> None:
        if isinstance(node, str):
            return
        if node[0] in ("unique", "exist", "count"):
            clauses, near = node[1], False
            items = {item.item_id for item in slow.run(clauses, slots, image).sure}
            while not items and clauses[0] == "filter" and clauses[1] != ("scene",):
                clauses, near = clauses[1], True
                items = {item.item_id for item in slow.run(clauses, slots, image).sure}
            found[repr(node[1])] = (items, near)
        for argument in node[1:]:
            walk(argument)

    walk(tree)
    return [(items, near) for items, near in found.values() if items]


def named(s: Scenes, marks: list[Mark]) -> list[tuple[set[str], bool]]:
    return [({s.item_ids[row] for row in mark.rows}, mark.near) for mark in marks]


@pytest.mark.parametrize("kind", ["outfit", "product"])
def test_marks_are_what_the_slow_interpreter_finds(kind: str, request: pytest.FixtureRequest) -> None:
    this: Made = request.getfixturevalue(f"{kind}_set")
    report = gather(this.path, 160, 160, seed=3, workers=1)
    album, slow = Album(report.store, this.catalog), Interpreter(Pictures(this.catalog))
    vocab, several, near = report.store.vocab, 0, 0
    for row in (*report.shown, *report.checked):
        slots = {name: (vocab.kind[n], vocab.key[n]) for name, n in row["ids"].items()}
        program = report.store.pack.templates[row["template_row"]].program.text()
        wanted = slow_marks(slow, parse(program), slots, row["image_id"])
        marks = named(album.scenes, album.marks(row))
        assert marks == wanted, row
        several += len(marks) > 1
        near += any(part for _, part in marks)
    assert kind == "product" or (near > 5 and several > 5)


@pytest.fixture
def shop(tmp_path: Path) -> Made:
    """Four kinds of picture, four pictures each: with box and mask, box alone, a strange box, no picture."""
    pictures = [
        Picture(f"p{n:02d}", [Item("hat", {"colour": ("red", "blue")[n // 4 % 2]}), Item("bag", {"colour": "black"})])
        for n in range(16)
    ]
    pixels = {p.image_id: encoded(60 + n, 90) for n, p in enumerate(pictures) if n % 4 != 3}
    pixels["p04"] = encoded(2000, 1000, "JPEG")
    pixels["p08"] = b"\x89PNG broken"
    facts = {"closed_categories": ["item"], "countable": ["item"]}
    folder = make_catalog(tmp_path / "catalog", pictures, pixels=pixels, **facts)
    items = read_table(folder, "items").to_pylist()
    for n, row in enumerate(items):
        kind = n // 2 % 4
        row["box"] = [[10.5, 20.5, 12.0, 8.0], [1.0, 2.0, 3.0, 4.0], [float("nan"), 0, 5, 5], None][kind]
        row["mask"] = mask_png(np.eye(9, 13, dtype=bool)) if kind == 0 else None
    write_rows(folder, "items", 0, items)
    write_manifest(folder, Manifest("catalog", 1, counts={"images": 16}))
    return made(folder, tmp_path / "set", families=FEW)


def test_regions_and_pictures_of_every_kind(shop: Made) -> None:
    report = gather(shop.path, 200, 0, workers=1)
    seen = Album(report.store, shop.catalog).see(report.shown)
    kinds = set()
    for row in report.shown:
        picture, number = seen[row["qid"]], int(row["image_id"][1:])
        for region in picture.regions:
            assert region.name in ("hat", "bag")
            if number % 4 == 0:
                assert region.box == (10.5, 20.5, 12.0, 8.0)
                assert region.mask is not None and np.array_equal(region.mask, np.eye(9, 13, dtype=bool))
            else:
                assert region.mask is None and region.box == ((1.0, 2.0, 3.0, 4.0) if number % 4 == 1 else None)
            kinds.add(number % 4)
        if number == 4:
            assert (picture.width, picture.height) == (2000, 1000)
            assert picture.jpeg and Image.open(io.BytesIO(picture.jpeg)).size == (400, 200)
        elif number == 8:
            assert picture.jpeg is None and "damaged picture" in picture.why
        elif number % 4 == 3:
            assert picture.jpeg is None and picture.why == "no picture in the catalogue"
        else:
            assert picture.jpeg and (picture.width, picture.height) == (60 + number, 90)
    assert kinds == {0, 1, 2, 3} and {int(r["image_id"][1:]) for r in report.shown} >= {4, 8}


@pytest.mark.parametrize("png", [b"no picture", mask_png(np.ones((3, 3), bool)), mask_png(np.zeros((9, 13), bool))])
def test_a_mask_that_does_not_fit_leaves_the_box(png: bytes) -> None:
    assert module._shape([10.5, 20.5, 12.0, 8.0], png) == ((10.5, 20.5, 12.0, 8.0), None)


@pytest.mark.parametrize("box", [[0.0, 0.0, 0.0, 5.0], [0.0, 0.0, float("inf"), 5.0], [0.0, 0.0, 4.0, -1.0]])
def test_a_box_of_no_size_is_not_drawn(box: list[float]) -> None:
    assert module._shape(box, None) == (None, None)


def test_pictures_shrink_until_a_page_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    pictures = {"a": Image.fromarray(noise), "b": Image.fromarray(noise[::-1])}
    large = module._fitting(pictures, ["a", "b"])
    whole = sum(map(len, large.values()))
    monkeypatch.setattr(module, "_BUDGET", whole)
    assert module._fitting(pictures, ["a", "b"]) == large
    often = module._fitting(pictures, ["a", "b", "a"])
    assert len(often["a"]) * 2 + len(often["b"]) <= whole, "a picture counts as often as it is shown"
    monkeypatch.setattr(module, "_BUDGET", 1)
    assert Image.open(io.BytesIO(module._fitting(pictures, ["a"])["a"])).size == (220, 220), "the smallest, then"


def test_another_catalogue_is_refused(shop: Made, outfits: Path) -> None:
    with pytest.raises(InputError, match="another catalogue"):
        Album(VQAStore(shop.path), outfits)


def test_words_numbered_in_another_way_are_refused(shop: Made) -> None:
    store = VQAStore(shop.path)
    store.vocab.key.append("more")
    with pytest.raises(InputError, match="numbers the catalogue's words"):
        Album(store, shop.catalog)


def test_a_slot_that_no_picture_has_is_named(shop: Made) -> None:
    report = gather(shop.path, 50, 0, workers=1)
    album = Album(report.store, shop.catalog)
    row = next(r for r in report.shown if "cat" in r["ids"])
    for number in (len(report.store.vocab), report.store.vocab.category["anorak"]):
        with pytest.raises(InputError, match="names something that no picture has") as error:
            album.marks({**row, "ids": {**row["ids"], "cat": number}})
        assert f"qid {row['qid']}" in str(error.value) and f"found: {number}" in str(error.value)
