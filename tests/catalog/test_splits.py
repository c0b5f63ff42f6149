"""Splits: nothing leaks, nothing depends on row order, and published splits and compositions are honoured."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from fashionkit.catalog.catalog import write_rows
from fashionkit.catalog.images import measure, perceptual_hashes
from fashionkit.catalog.splits import REPORT, SplitOptions, SplitReport, split_catalog
from fashionkit.tables import InputError, read_table

Row = dict[str, Any]
Assigned = dict[str, tuple[int, str]]


def plain(number: int, **more: Any) -> Row:
    """An image row without a picture."""
    return {"image_id": f"im{number:05d}", "sha256": f"{number:064x}", **more}


def picture(name: str, image: Image.Image, suffix: str = "PNG", **options: Any) -> Row:
    """An image row as an importer writes it."""
    data = io.BytesIO()
    image.save(data, suffix, **options)
    seen = measure(data.getvalue())
    phash = int(perceptual_hashes(seen.thumb[None])[0])
    return {"image_id": name, "sha256": seen.sha256, "thumb": seen.thumb.tobytes(), "phash": phash}


def garment(kind: int, colour: str = "navy") -> Image.Image:
    """A product on white, 192 x 256."""
    image = Image.new("RGB", (192, 256), "white")
    draw = ImageDraw.Draw(image)
    shapes: Sequence[Iterable[Any]] = (
        [(60, 60, 132, 200)],
        [(40, 120, 152, 170)],
        [(70, 40, 90, 220), (102, 40, 122, 220)],
        [(50, 180, 142, 215)],
    )
    for box in shapes[kind]:
        draw.rectangle(box, fill=colour)
    draw.ellipse((80, 100 + 20 * kind, 110, 130 + 20 * kind), fill="orange")
    return image


def split(
    folder: Path, rows: list[Row], options: SplitOptions | None = None, parts: int = 1
) -> tuple[Assigned, SplitReport]:
    """Writes the images, splits them, and reads the result by id."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in range(parts):
        write_rows(folder, "images", part, rows[part::parts])
    report = split_catalog(folder, options or SplitOptions())
    table = read_table(folder, "splits").to_pylist()
    assert [row["image_id"] for row in table] == sorted(row["image_id"] for row in rows)
    return {row["image_id"]: (row["split_group"], row["split"]) for row in table}, report


def test_row_order_and_parts_do_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [plain(n, group=f"g{n // 3}" if n % 2 else None) for n in range(300)]
    rows += [picture(f"p{kind}{n}", garment(kind), compress_level=n) for kind in range(4) for n in range(3)]
    split(tmp_path / "a", rows)
    split(tmp_path / "b", [rows[at] for at in rng.permutation(len(rows))], parts=3)
    for name in ("splits", "compositions"):
        one, other = (tmp_path / folder / name / "part-00000.parquet" for folder in "ab")
        assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "a" / REPORT).read_bytes() == (tmp_path / "b" / REPORT).read_bytes()


def test_new_images_leave_the_others_where_they_are(tmp_path: Path) -> None:
    rows = [plain(n, group=f"g{n // 4}" if n < 200 else None) for n in range(0, 400, 2)]
    before, _ = split(tmp_path / "a", rows)
    new = [plain(n) for n in range(1, 400, 2)] + [{"image_id": "a first", "sha256": "f" * 64, "group": "g0"}]
    after, _ = split(tmp_path / "b", rows + new)
    assert {name: where for name, (_, where) in before.items()} == {name: after[name][1] for name in before}
    assert after["a first"][1] == after["im00000"][1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    links=st.lists(st.tuples(st.none() | st.integers(0, 6), st.integers(0, 25)), min_size=1, max_size=40),
    salt=st.text(max_size=5),
    published=st.dictionaries(st.integers(0, 39), st.sampled_from(["train", "val", "test"])),
)
def test_nothing_that_belongs_together_is_parted(
    tmp_path: Path, links: list[tuple[int | None, int]], salt: str, published: dict[int, str]
) -> None:
    rows = [
        plain(n, group=None if group is None else f"g{group}") | {"sha256": f"{sha:064x}"}
        for n, (group, sha) in enumerate(links)
    ]
    options = SplitOptions(salt=salt, given={f"im{n:05d}": name for n, name in published.items()})
    found, report = split(tmp_path, rows, options)
    for key in ("group", "sha256"):
        for value in {row[key] for row in rows} - {None}:
            assert len({found[row["image_id"]] for row in rows if row[key] == value}) == 1
    assert len(set(found.values())) == len({number for number, _ in found.values()}) == report.groups
    assert sum(row["images"] for row in report.splits.values()) == len(rows)


def test_no_more_is_joined_than_must_be(tmp_path: Path) -> None:
    rows = [plain(n, group="ab"[n % 2] if n < 6 else None) for n in range(12)]
    found, report = split(tmp_path, rows)
    assert [found[row["image_id"]][0] for row in rows] == [0, 1, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7]
    assert report.joined["group"] == {"pairs": 4, "groups": 2}
    assert report.joined["exact"] == report.joined["near"] == {"pairs": 0, "groups": 0}


def test_exact_duplicates_are_joined_across_groups(tmp_path: Path) -> None:
    rows = [plain(n, group="ab"[n % 2]) for n in range(6)]
    rows[5]["sha256"] = rows[0]["sha256"]
    found, report = split(tmp_path, rows)
    assert {number for number, _ in found.values()} == {0}
    assert report.joined["exact"] == {"pairs": 1, "groups": 1}
    assert report.joined["group"]["groups"] == 1


def test_recompressed_and_resized_copies_are_joined_and_other_products_are_not(tmp_path: Path) -> None:
    rows = []
    for kind in range(4):
        image = garment(kind)
        rows.append(picture(f"{kind} original", image))
        rows.append(picture(f"{kind} recompressed", image, "JPEG", quality=60))
        rows.append(picture(f"{kind} resized", image.resize((288, 384), Image.Resampling.BICUBIC), "JPEG", quality=90))
    found, report = split(tmp_path, rows)
    assert [found[row["image_id"]][0] for row in rows] == [n // 3 for n in range(12)]
    assert report.joined["near"]["groups"] == 4
    assert report.joined["exact"]["pairs"] == 0


def test_near_duplicates_can_be_switched_off(tmp_path: Path) -> None:
    rows = [picture("a", garment(0)), picture("b", garment(0), "JPEG", quality=90)]
    assert split(tmp_path, rows, SplitOptions(pixel_difference=0.0))[1].groups == 2
    assert split(tmp_path, rows)[1].groups == 1


def test_same_outline_in_another_colour_is_another_product(tmp_path: Path) -> None:
    rows = [picture(colour, garment(0, colour)) for colour in ("navy", "maroon", "darkgreen")]
    assert split(tmp_path, rows)[1].groups == 3


def test_null_thumbs_are_counted_and_joined_by_group_and_bytes_only(tmp_path: Path) -> None:
    half = picture("c", garment(0)) | {"phash": None}
    rows = [picture("a", garment(0)), plain(1, group="x"), plain(2, group="x"), half, plain(3, sha256=None)]
    found, report = split(tmp_path, [*rows, plain(4, sha256=None)])
    assert report.not_compared == 5
    assert found["a"][0] == found["c"][0]  # same bytes, though one lacks its hash
    assert found["im00001"][0] == found["im00002"][0]
    assert found["im00003"][0] != found["im00004"][0]
    assert any("not compared: 5" in line for line in report.lines())


def test_a_chain_is_warned_about_and_named(tmp_path: Path) -> None:
    rows = [plain(n, group="studio" if n < 40 else None) for n in range(1000)]
    report = split(tmp_path, rows)[1]
    assert [("4.0%" in warning, "1 groups" in warning) for warning in report.warnings] == [(True, True)]
    assert report.largest[0]["images"] == 40
    assert report.largest[0]["by"] == {"group": 39, "exact": 0, "near": 0}
    assert report.largest[0]["ids"] == [f"im{n:05d}" for n in range(5)]
    assert any(line.startswith("warning:") for line in report.lines())
    assert split(tmp_path, [plain(n, group=f"g{n // 9}") for n in range(1000)])[1].warnings == []


def test_ids_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    rows = [plain(n, group="g", image_id=f"{n}\x1b[31mRED") for n in range(4)]
    options = SplitOptions(given={rows[0]["image_id"]: "test", rows[1]["image_id"]: "train"})
    lines = split(tmp_path, rows, options)[1].lines()
    assert "\x1b" not in "".join(lines)
    for word in ("group of 4", "tears 1 groups apart"):
        assert any(word in line and "1\\x1b[31mRED" in line for line in lines)


def test_shares_and_salt(tmp_path: Path) -> None:
    rows = [plain(n) for n in range(5000)]
    found, report = split(tmp_path, rows)
    counts = Counter(where for _, where in found.values())
    for name, share in SplitOptions().shares:
        assert abs(counts[name] - 5000 * share) < 4 * np.sqrt(5000 * share * (1 - share))
        assert report.splits[name] == {"images": counts[name], "groups": counts[name], "asked": share}
    salted, _ = split(tmp_path, rows, SplitOptions(salt="another"))
    same = sum(salted[name] == found[name] for name in found)
    assert abs(same - 5000 * 0.66) < 4 * np.sqrt(5000 * 0.66 * 0.34)
    only = split(tmp_path, rows[:50], SplitOptions(shares=(("test", 1.0),)))[0]
    assert {where for _, where in only.values()} == {"test"}


@pytest.mark.parametrize("salt", ["a", "b", "c", "d", "e", "f"])
def test_each_split_of_a_tiny_catalogue_gets_a_group(tmp_path: Path, salt: str) -> None:
    found, _ = split(tmp_path, [plain(n) for n in range(3)], SplitOptions(salt=salt))
    assert {where for _, where in found.values()} == {"train", "val", "test"}
    _, report = split(tmp_path, [plain(n, group="one") for n in range(3)], SplitOptions(salt=salt))
    assert sum(" is empty" in warning for warning in report.warnings) == 2


def test_a_published_split_is_kept_and_its_leaks_are_closed(tmp_path: Path) -> None:
    rows = [plain(n, group=f"g{n // 2}") for n in range(0, 40)]
    published = {f"im{n:05d}": "train" for n in range(20)} | {"im00001": "test", "im00006": "val", "gone": "val"}
    found, report = split(tmp_path, rows, SplitOptions(given=published))
    for n in range(20):
        assert found[f"im{n:05d}"][1] == ("test" if n < 2 else "val" if n in (6, 7) else "train")
    assert any(
        "tears 2 groups apart; 2 images" in warning and "im00000, im00007" in warning for warning in report.warnings
    )
    assert any("names 1 images that the catalogue does not have" in warning for warning in report.warnings)
    free, _ = split(tmp_path, rows)
    assert all(free[f"im{n:05d}"] == found[f"im{n:05d}"] for n in range(20, 40))


def items(count: int) -> tuple[list[Row], list[Row], list[Row]]:
    """Images with an item each: 4 categories, 5 colours, all combinations alike often, one of them rare."""
    rng = np.random.default_rng(0)
    images, things, states = [], [], []
    for n in range(count):
        category, colour = f"c{rng.integers(4)}", f"v{rng.integers(5)}"
        state = "present" if n % 50 else "absent"
        images.append(plain(n))
        things.append({"item_id": f"it{n}", "image_id": f"im{n:05d}", "category": category})
        values = [colour] if state == "present" else []
        states.append({"item_id": f"it{n}", "attribute": "colour", "state": state, "values": values, "complete": True})
    things[1]["category"] = "rare"
    return images, things, states


def test_held_out_compositions(tmp_path: Path) -> None:
    images, things, states = items(2000)
    write_rows(tmp_path, "items", 0, things)
    write_rows(tmp_path, "attributes", 0, states)
    found, report = split(tmp_path, images, SplitOptions(compositions=0.2))
    held = [tuple(row.values()) for row in read_table(tmp_path, "compositions").to_pylist()]
    assert report.compositions == {"eligible": 20, "held_out": 4}  # of 4 x 5; the rare one is not eligible
    assert len(held) == 4
    assert held == sorted(held)
    category = {row["item_id"]: row["category"] for row in things}
    shown = [
        (category[row["item_id"]], row["values"][0], found["im" + row["item_id"][2:].zfill(5)][1])
        for row in states
        if row["values"]
    ]
    rest = [(c, v) for c, v, where in shown if where == "train" and (c, "colour", v) not in held]
    for c, _, v in held:
        assert any(row == (c, v, "test") for row in shown)
        assert sum(one == c for one, _ in rest) >= 20
        assert sum(other == v for _, other in rest) >= 20
    alone, _ = split(tmp_path, images, SplitOptions(compositions=0.0))
    assert alone == found  # pictures are not moved for them
    assert read_table(tmp_path, "compositions").num_rows == 0
    nowhere_to_ask = split(tmp_path, images, SplitOptions(shares=(("train", 1.0),), compositions=0.2))[1]
    assert nowhere_to_ask.compositions == {"eligible": 0, "held_out": 0}


def test_no_category_or_value_is_held_out_altogether(tmp_path: Path) -> None:
    """`lone` is only ever v0, and `lonely` is only ever seen on c0: without these no train question would name them."""
    images, things, states = items(2000)
    for n in range(0, 2000, 5):
        things[n]["category"] = "lone" if n % 2 else "c0"
        states[n] |= {"state": "present", "values": ["v0" if n % 2 else "lonely"]}
    write_rows(tmp_path, "items", 0, things)
    write_rows(tmp_path, "attributes", 0, states)
    report = split(tmp_path, images, SplitOptions(compositions=1.0))[1]
    held = [tuple(row.values()) for row in read_table(tmp_path, "compositions").to_pylist()]
    assert report.compositions["eligible"] == 22
    assert report.compositions["held_out"] == len(held) >= 5
    assert not {category for category, _, value in held} & {"lone"}
    assert not {value for category, _, value in held} & {"lonely"}
    assert max(Counter(category for category, _, _ in held).values()) < 5
    assert max(Counter(value for _, _, value in held).values()) < 5


def test_a_second_call_replaces_the_first(tmp_path: Path) -> None:
    rows = [plain(n) for n in range(50)]
    split(tmp_path, rows, SplitOptions(salt="first"))
    write_rows(tmp_path, "splits", 1, [{"image_id": "stale", "split_group": 0, "split": "test"}])
    again, report = split(tmp_path, rows)
    assert again == split(tmp_path / "fresh", rows)[0]
    assert json.loads((tmp_path / REPORT).read_text(encoding="utf-8")) == report.to_dict()


@pytest.mark.parametrize(
    ("options", "column"),
    [
        ({"shares": (("train", 0.8), ("test", 0.1))}, "shares"),
        ({"shares": (("train", 1.2), ("test", -0.2))}, "shares"),
        ({"shares": (("train", 0.5), ("train", 0.5))}, "shares"),
        ({"shares": (("train", 0.5), ("tset", 0.5))}, "shares"),
        ({"shares": ()}, "shares"),
        ({"shares": (("train", float("nan")),)}, "shares"),
        ({"given": {"a": "validation"}}, "given"),
        ({"phash_distance": 17}, "phash_distance"),
        ({"pixel_difference": float("nan")}, "pixel_difference"),
        ({"compositions": 1.5}, "compositions"),
        ({"composition_items": 0}, "composition_items"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], column: str) -> None:
    with pytest.raises(InputError) as error:
        SplitOptions(**options)
    assert error.value.column == column


def test_catalogues_that_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table 'images'"):
        split_catalog(tmp_path)
    with pytest.raises(InputError, match="no images"):
        split(tmp_path, [])
    with pytest.raises(InputError, match="stands twice"):
        split(tmp_path, [plain(1), plain(2), plain(1)])
    with pytest.raises(InputError, match="3072 bytes") as error:
        split(tmp_path, [plain(1), plain(2, thumb=b"short", phash=1)])
    assert "im00002" in str(error.value)
    assert not (tmp_path / "splits").exists()


def test_thumbs_survive_sorting_over_parts_and_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins under ids far apart, in several parts, with nulls between: a thumb at a wrong row would not match."""
    monkeypatch.setattr("fashionkit.catalog.splits._BATCH", 7)
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 250, (30, 3072)).astype(np.uint8)
    rows = [plain(90)]
    for n, thumb in enumerate(thumbs):
        for name, shift in ((f"a{n:02d}", 0), (f"z{29 - n:02d}", 1)):
            row = {"image_id": name, "sha256": name, "thumb": (thumb + shift).astype(np.uint8).tobytes(), "phash": n}
            rows += [row, plain(len(rows))]
    order = rng.permutation(len(rows))
    found, report = split(tmp_path, [rows[at] for at in order], parts=4)
    assert report.joined["near"] == {"pairs": 30, "groups": 30}
    assert all(found[f"a{n:02d}"] == found[f"z{29 - n:02d}"] for n in range(30))


def test_tables_have_the_schema_of_the_catalogue(tmp_path: Path) -> None:
    split(tmp_path, [plain(n) for n in range(5)])
    schema = pq.read_schema(tmp_path / "splits" / "part-00000.parquet")
    assert schema.field("split_group") == pa.field("split_group", pa.int32(), nullable=False)
    assert schema.names == ["image_id", "split_group", "split"]
