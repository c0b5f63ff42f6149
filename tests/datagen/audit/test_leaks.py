"""The gate on leaks bites: what stands in two splits is found and counted, whatever carries it there."""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fashionkit.catalog.catalog import write_rows
from fashionkit.catalog.neardup import THUMB_BYTES
from fashionkit.catalog.schema import SPLITS
from fashionkit.datagen.audit.leaks import leak_checks, near_pairs, torn
from fashionkit.datagen.audit.options import AuditOptions
from fashionkit.datagen.audit.verdicts import Verdict
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, Manifest, part_path, read_table, write_manifest, write_table
from tests.datagen.audit.altered import failures, made_from, plant, rows_of, thinned, values
from tests.datagen.conftest import Made

OPTIONS = AuditOptions()
WITH_CATALOG = ("same-bytes", "near-duplicate", "held-out-composition")


@pytest.fixture(scope="module")
def few(outfit_set: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few questions of each template about outfits."""
    return thinned(outfit_set.path, tmp_path_factory.mktemp("few") / "set", 2)


@pytest.fixture
def copy(few: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(few, tmp_path / "set"))


def checked(folder: Path, catalog: Path | None = None, options: AuditOptions = OPTIONS) -> list[Verdict]:
    return leak_checks(VQAStore(folder), catalog, options)


@pytest.mark.parametrize("kind", ["outfit_set", "product_set"])
def test_clean_sets_pass(kind: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(kind)
    verdicts = checked(made.path, made.catalog)
    assert failures(verdicts) == {}
    assert [v.check for v in verdicts if v.verdict == "skip"] == ["same-bytes", "near-duplicate"]  # no pictures
    assert values(verdicts, "picture-leak").keys() == {"pictures", "samples", "as in the catalogue"}
    (train,) = (v for v in verdicts if (v.check, v.scope) == ("held-out-composition", "train"))
    assert train.n == len(made.rows["train"])


def test_without_the_catalogue_the_sets_own_tables_are_looked_at(few: Path) -> None:
    verdicts = checked(few)
    assert {v.check for v in verdicts if v.verdict == "skip"} == set(WITH_CATALOG)
    assert {v.check for v in verdicts if v.verdict == "pass"} == {"picture-leak", "group-leak"}


def test_another_catalogue_is_refused(few: Path, products: Path) -> None:
    with pytest.raises(InputError, match="another catalogue"):
        checked(few, products)


# The set's own tables.


def images_with(folder: Path, **columns: list[Any]) -> None:
    """Changes columns of a set's pictures."""
    table = read_table(folder, "images")
    for name, column in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.array(column, table.schema.field(name).type))
    write_table(part_path(folder, "images", 0), table)


def column(folder: Path, name: str) -> list[Any]:
    found: list[Any] = read_table(folder, "images")[name].to_pylist()
    return found


def test_a_picture_in_two_splits_is_found(copy: Path) -> None:
    ids, split = column(copy, "image_id"), column(copy, "split")
    other = split.index("test")
    images_with(copy, image_id=[ids[other], *ids[1:]])
    verdicts = checked(copy)
    assert failures(verdicts) == {("picture-leak", "pictures"): 1}
    assert f"{ids[other]} (train), {ids[other]} (test)" in next(v.note for v in verdicts if v.verdict == "fail")


def test_a_picture_twice_in_one_split_is_no_leak(copy: Path) -> None:
    ids = column(copy, "image_id")
    images_with(copy, image_id=[ids[1], *ids[1:]])
    assert failures(checked(copy)) == {}


def test_a_group_in_two_splits_is_found(copy: Path) -> None:
    group, split = column(copy, "group"), column(copy, "split")
    images_with(copy, group=[group[split.index("val")], *group[1:]])
    assert failures(checked(copy)) == {("group-leak", "split groups"): 1}


@pytest.mark.parametrize("source", ["test", "compositional"])
def test_a_question_in_the_folder_of_another_split_is_found(copy: Path, source: str) -> None:
    plant(copy, "train", rows_of(copy, source)[0])
    assert failures(checked(copy)) == {("picture-leak", "samples"): 1}
    assert checked(copy) == leak_checks(VQAStore(copy), None, OPTIONS, workers=2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"split": "trian"}, "no such split"),
        ({"split": None}, "a cell is empty"),
        ({"image": 7}, "numbered from 0"),
    ],
)
def test_a_damaged_table_of_pictures_is_refused(copy: Path, change: dict[str, Any], words: str) -> None:
    ((name, value),) = change.items()
    store = VQAStore(copy)
    images_with(copy, **{name: [value, *column(copy, name)[1:]]})
    with pytest.raises(InputError, match=words) as caught:
        leak_checks(store, None, OPTIONS)
    assert caught.value.column == name


def test_rows_of_equal_codes_in_several_splits() -> None:
    code, side = np.array([3, -1, 3, 5, 5, -1, 7, 3]), np.array([0, 0, 1, 2, 2, 1, 0, 0])
    assert torn(code, side).tolist() == [0, 2, 7]
    assert torn(np.array([-1, -1]), np.array([0, 1])).tolist() == []


# Compositions.


def test_held_out_compositions_in_train_are_found(outfit_set: Made, copy: Path) -> None:
    held = rows_of(outfit_set.path, "compositional")
    store = VQAStore(copy)
    bag, red = store.vocab.category["bag"], store.vocab.value["colour", "red"]

    def ids(row: dict[str, Any]) -> set[int]:
        return {row[f"slot{i}"] for i in range(4)} | {row["answer"]}

    named = [row for row in held if {bag, red} <= ids(row)]
    assert len(named) > 3
    for row in named[:3]:
        plant(copy, "train", row)
    plant(copy, "val", named[3])
    verdicts = checked(copy, outfit_set.catalog)
    assert values(verdicts, "held-out-composition") == {"train": 3, "val": 1}
    note = next(v.note for v in verdicts if (v.check, v.scope) == ("held-out-composition", "train"))
    assert note.count("(train, ") == 3 and "red" in note


def test_a_held_out_value_of_what_can_only_be_that_category_is_found(outfit_set: Made, copy: Path) -> None:
    """ "The red accessory" is a red bag where the picture shows no other accessory, and may be a hat where it does."""
    row, store = rows_of(copy, "train", "C1.query")[0], VQAStore(copy)
    accessory, red = store.vocab.category["accessory"], store.vocab.value["colour", "red"]
    shown: dict[str, set[str]] = {}
    for item in read_table(outfit_set.catalog, "items", ["image_id", "category"]).to_pylist():
        shown.setdefault(item["image_id"], set()).add(item["category"])
    small = {"hat", "bag", "umbrella"}
    train = [n for n, split in enumerate(column(copy, "split")) if split == "train"]
    alone = next(n for n in train if shown[store.image_ids[n]] & small == {"bag"})
    among = next(n for n in train if shown[store.image_ids[n]] & small == {"bag", "hat"})
    none = next(n for n in train if not shown[store.image_ids[n]] & small)
    about = {**row, "slot0": accessory, "slot1": store.vocab.attribute["colour"], "answer": red}
    for image, found in ((among, 0), (none, 0), (alone, 1)):
        plant(copy, "train", {**about, "image": image})
        assert values(checked(copy, outfit_set.catalog), "held-out-composition")["train"] == found


def test_a_list_of_values_rests_on_each_of_them(outfits: Path, copy: Path, tmp_path: Path) -> None:
    catalog = Path(shutil.copytree(outfits, tmp_path / "catalog"))
    write_rows(catalog, "compositions", 0, [{"category": "bag", "attribute": "details", "value": "bow"}])
    write_manifest(catalog, Manifest("catalog", 1))
    made_from(copy, catalog)
    store, row = VQAStore(copy), rows_of(copy, "train", "C7.list")[0]
    before = values(checked(copy, catalog), "held-out-composition")["train"]
    assert before is not None
    bag = {**row, "slot0": store.vocab.category["bag"]}
    for answer, found in (("details/logo+zip", 0), ("details/bow+logo", 1), ("details/bow+zip", 2)):
        plant(copy, "train", {**bag, "answer": store.vocab.key.index(answer)})
        assert values(checked(copy, catalog), "held-out-composition")["train"] == before + found


# Pictures.

BLACK = bytes(THUMB_BYTES)


@pytest.fixture
def shown(outfits: Path, copy: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A set, and its catalogue with pictures that are all unlike each other."""
    catalog = Path(shutil.copytree(outfits, tmp_path / "catalog"))
    rng = np.random.default_rng(0)
    rows = read_table(outfits, "images").to_pylist()
    for number, row in enumerate(rows):
        row["sha256"], row["phash"] = f"{number:064x}", int(rng.integers(2**63))
        row["thumb"] = rng.integers(256, size=THUMB_BYTES, dtype=np.uint8).tobytes()
    rewritten(catalog, copy, rows)
    return copy, catalog


def rewritten(catalog: Path, folder: Path, rows: list[dict[str, Any]]) -> None:
    """Writes a catalogue's pictures, and the set as made from it."""
    write_rows(catalog, "images", 0, rows)
    write_manifest(catalog, Manifest("catalog", 1))
    made_from(folder, catalog)


def change(shown: tuple[Path, Path], rows: dict[int, dict[str, Any]]) -> dict[tuple[str, str], float | None]:
    """What fails once some of the catalogue's pictures are changed."""
    folder, catalog = shown
    table = read_table(catalog, "images").to_pylist()
    for at, columns in rows.items():
        table[at].update(columns)
    rewritten(catalog, folder, table)
    return failures(checked(folder, catalog))


def of_split(shown: tuple[Path, Path], split: str, number: int = 0) -> int:
    """Row in the catalogue of a picture of a split."""
    folder, catalog = shown
    ids = read_table(catalog, "images")["image_id"].to_pylist()
    there = [i for i, s in zip(column(folder, "image_id"), column(folder, "split"), strict=True) if s == split]
    return int(ids.index(there[number]))


def test_pictures_unlike_each_other_pass(shown: tuple[Path, Path]) -> None:
    folder, catalog = shown
    verdicts = checked(folder, catalog)
    assert failures(verdicts) == {} and not [v for v in verdicts if v.verdict == "skip"]
    assert {v.n for v in verdicts if v.check in ("same-bytes", "near-duplicate")} == {90}


@pytest.mark.parametrize(
    ("name", "place"), [("group", ("group-leak", "products")), ("sha256", ("same-bytes", "the set"))]
)
def test_a_product_or_a_file_in_two_splits_is_found(
    shown: tuple[Path, Path], name: str, place: tuple[str, str]
) -> None:
    one, other, third = of_split(shown, "train"), of_split(shown, "val"), of_split(shown, "train", 1)
    assert change(shown, {one: {name: "x"}, third: {name: "x"}}) == {}  # within a split it may be
    assert change(shown, {other: {name: "x"}}) == {place: 1}


@pytest.mark.parametrize(
    ("differ", "thumb", "found"),
    [
        (0, BLACK, 1),  # a copy
        (0b111111, BLACK, 1),  # six bits apart
        (0b1111111, BLACK, 0),  # seven
        (0b1, bytes([2]) * THUMB_BYTES, 0),  # at 2 of 255 a pixel
        (0b1, bytes([2]) * (THUMB_BYTES - 1) + bytes([1]), 1),  # just below
        (0b1, bytes([0, 4]) * (THUMB_BYTES // 2), 0),  # at 2 again, and 2 is also the mean of each block
    ],
)
def test_a_near_duplicate_is_found_by_hash_and_pixels(
    shown: tuple[Path, Path], differ: int, thumb: bytes, found: int
) -> None:
    one, other = of_split(shown, "train"), of_split(shown, "test")
    code, base = 0x0123_4567_89AB_CDEF, bytes([2]) * THUMB_BYTES if thumb[:2] == bytes([0, 4]) else BLACK
    failed = change(shown, {one: {"phash": code, "thumb": base}, other: {"phash": code ^ differ, "thumb": thumb}})
    assert failed == ({("near-duplicate", "the set"): 1} if found else {})


def test_near_duplicates_within_a_split_are_none(shown: tuple[Path, Path]) -> None:
    one, other = of_split(shown, "train"), of_split(shown, "train", 1)
    assert change(shown, {one: {"phash": 5, "thumb": BLACK}, other: {"phash": 5, "thumb": BLACK}}) == {}


def test_what_only_the_hashes_call_near_is_told(shown: tuple[Path, Path]) -> None:
    folder, catalog = shown
    pictures = {n: {"phash": 5} for n in (of_split(shown, "train"), of_split(shown, "val"), of_split(shown, "test"))}
    assert change(shown, pictures) == {}
    assert values(checked(folder, catalog), "near-duplicate") == {"the set": 0, "by hash alone": 3}


def test_a_set_whose_splits_are_not_the_catalogues_is_found(shown: tuple[Path, Path]) -> None:
    folder, catalog = shown
    split = column(folder, "split")
    last = len(split) - 1 - split[::-1].index("train")  # with its group
    images_with(folder, split=["val" if n in (last - 1, last) else s for n, s in enumerate(split)])
    assert failures(checked(folder, catalog))["picture-leak", "as in the catalogue"] == 2


def test_a_thumb_of_another_size_is_refused(shown: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="3072 bytes"):
        change(shown, {0: {"thumb": b"short"}})


@pytest.mark.parametrize("bits", [0, 1, 6, 16, 63, 64])
@pytest.mark.parametrize("seed", range(3))
def test_all_pairs_within_some_bits_are_found_once(bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    side = rng.integers(len(SPLITS), size=120)
    centre = rng.integers(2**63, size=6, dtype=np.uint64)
    flips = np.uint64(1) << rng.integers(64, size=(120, 5), dtype=np.uint64)
    phash = centre[rng.integers(6, size=120)] ^ np.bitwise_xor.reduce(flips, 1)
    found = [{i, j} for a, b in near_pairs(phash, side, bits) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    slow = [
        {i, j}
        for i, j in combinations(range(120), 2)
        if side[i] != side[j] and int(phash[i] ^ phash[j]).bit_count() <= bits
    ]
    assert sorted(map(sorted, found)) == sorted(map(sorted, slow)) and (bits in (0, 1) or slow)
