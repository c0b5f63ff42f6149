"""The drawn catalogue: true to its drawings, closed, and the same bytes however the work is cut."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionkit.catalog import drawn
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.draw import draw_outfit
from fashionkit.catalog.drawn import DrawOptions, DrawReport, draw_catalog
from fashionkit.catalog.images import open_mask
from fashionkit.catalog.validate import check_catalog
from fashionkit.tables import InputError


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "SHARD", 4)


def draw(out: Path, **options: object) -> DrawReport:
    values = {"images": 10, "seed": 3, "size": 64, "workers": 1, **options}
    return draw_catalog(out, DrawOptions(**values))


def test_the_catalogue_says_what_was_drawn(tmp_path: Path) -> None:
    report = draw(tmp_path, encoding="png")
    catalog = Catalog(tmp_path)
    assert report.tally.images == catalog.table("images").num_rows == 10
    data = catalog.image_bytes(["0000007"])["0000007"]
    outfit = draw_outfit(3, 7, 64)
    assert data is not None and outfit.image is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(outfit.image.convert("RGB")))
    items = [row for row in catalog.table("items").to_pylist() if row["image_id"] == "0000007"]
    assert [(i["category"], i["region"]) for i in items] == [(i.category, i.region) for i in outfit.items]
    for row, item in zip(items, outfit.items, strict=True):
        x, y, w, h = map(int, row["box"])
        assert item.mask is not None and np.array_equal(open_mask(row["mask"]) > 0, item.mask[y : y + h, x : x + w])
        assert row["area"] == pytest.approx(item.mask.mean())
        assert row["visible"] == pytest.approx(item.visible_fraction)
    rows = [r for r in catalog.table("attributes").to_pylist() if r["item_id"] == items[0]["item_id"]]
    stated = {r["attribute"]: (r["state"], tuple(r["values"])) for r in rows}
    assert stated == {
        n: (a.state, tuple(sorted(a.values))) for n, a in outfit.items[0].attributes.items()
    } or stated == {n: (a.state, a.values) for n, a in outfit.items[0].attributes.items()}
    (label,) = (row for row in catalog.table("labels").to_pylist() if row["image_id"] == "0000007")
    assert (label["label"], label["values"]) == ("style", [outfit.style])


def test_it_is_a_closed_world_that_passes_the_check(tmp_path: Path) -> None:
    draw(tmp_path, images=30)
    catalog = Catalog(tmp_path)
    assert catalog.facts.closed_categories == catalog.facts.countable == ["item"]
    states = set(catalog.table("attributes")["state"].to_pylist())
    assert {"present", "absent"} <= states <= {"present", "absent", "not_visible"}
    assert check_catalog(tmp_path, pictures=True, checksums=True) == []


def test_the_bytes_are_the_same_for_any_workers_and_after_a_stop(
    tmp_path: Path, contents: Callable[[Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "1")
    draw(tmp_path / "2", workers=2)
    one = contents(tmp_path / "1")
    assert contents(tmp_path / "2") == one
    real = drawn._make

    def failing(part: int) -> int:
        if part == 1:
            raise OSError("the disk is full")
        return real(part)

    with monkeypatch.context() as patch:
        patch.setattr(drawn, "_make", failing)
        with pytest.raises(OSError, match="full"):
            draw(tmp_path / "3")
    draw(tmp_path / "3")
    assert contents(tmp_path / "3") == one
    assert draw(tmp_path / "3").splits is None  # finished before


def test_seeds_differ_and_more_pictures_begin_with_the_same(tmp_path: Path) -> None:
    draw(tmp_path / "a", images=4)
    draw(tmp_path / "b", images=8)
    draw(tmp_path / "c", images=4, seed=4)
    a, b, c = (Catalog(tmp_path / name).table("images").to_pylist() for name in "abc")
    assert a == b[:4] and {r["sha256"] for r in a}.isdisjoint(r["sha256"] for r in c)


def test_tables_only(tmp_path: Path) -> None:
    draw(tmp_path, pictures=False)
    catalog = Catalog(tmp_path)
    row = catalog.table("images").to_pylist()[0]
    assert (row["bytes"], row["thumb"], row["width"]) == (None, None, 64)
    assert set(catalog.table("items")["mask"].to_pylist()) == {None}
    assert check_catalog(tmp_path, pictures=True) == []


@pytest.mark.parametrize(
    "options", [{"images": 0}, {"seed": -1}, {"size": 8}, {"size": 10_000}, {"encoding": "tiff"}, {"workers": 0}]
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        draw(tmp_path, **options)


def test_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    draw(tmp_path, images=4)
    with pytest.raises(InputError, match=r"made from other settings \(images\)"):
        draw(tmp_path, images=5)
    assert draw(tmp_path, images=5, overwrite=True).tally.images == 5
