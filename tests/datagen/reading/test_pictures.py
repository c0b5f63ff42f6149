"""Pictures by number: which catalogues have none, and what stays unread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.datagen.reading.pictures import Pictures
from fashionkit.tables import InputError
from tests.datagen.conftest import Item, Picture, make_catalog

IDS = ["a", "b", "c", "d"]


def catalogue(folder: Path, pixels: dict[str, bytes], paths: dict[str, str]) -> Catalog:
    pictures = [Picture(name, [Item("hat", {})]) for name in IDS]
    return Catalog(make_catalog(folder / "catalog", pictures, pixels=pixels, paths=paths))


@pytest.mark.parametrize("cached", [False, True])
def test_bytes_by_number_whatever_the_order_of_the_catalogue(tmp_path: Path, cached: bool) -> None:
    catalog = catalogue(tmp_path, {"a": b"1", "c": b"3"}, {"d": "four.jpg"})
    (catalog.path / "four.jpg").write_bytes(b"4")
    ids = ["d", "never heard of", "c", "b", "a"]
    found = Pictures(catalog, ids, np.array([0, 2, 4]), tmp_path / "cache" if cached else None)
    assert [found.encoded(n) for n in (0, 2, 4)] == [b"4", b"3", b"1"]
    for number in (1, 3):
        with pytest.raises(InputError, match=f"neither(.|\n)*{ids[number]}"):
            found.encoded(number)


def test_a_catalogue_of_tables_only_is_refused(tmp_path: Path) -> None:
    catalog = catalogue(tmp_path, {}, {})
    with pytest.raises(InputError, match="no picture for any"):
        Pictures(catalog, IDS, np.arange(4))
    Pictures(catalog, IDS, np.arange(0))  # a split without samples


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "gone.png"])
def test_paths_lead_from_the_folder_downwards(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    found = Pictures(catalogue(tmp_path, {}, {"b": path}), IDS, np.arange(4))
    with pytest.raises(InputError, match="cannot be used"):
        found.encoded(1)


def test_only_wanted_pictures_are_held(tmp_path: Path) -> None:
    found = Pictures(catalogue(tmp_path, {name: name.encode() for name in IDS}, {}), IDS, np.array([1, 3]))
    assert found.encoded(3) == b"d" and sum(table.num_rows for table in found._tables) == 2


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    catalog = catalogue(tmp_path, {"a": b"1"}, {})
    part = catalog.path / "images" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(InputError, match=part.name):
        Pictures(catalog, IDS, np.arange(4))
