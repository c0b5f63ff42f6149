"""Class folders: ids by content, copies and doubtful pictures refused and counted, splits that no name decides."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fashionkit.catalog import staging
from fashionkit.catalog.catalog import Catalog
from fashionkit.catalog.from_folders import ID_DIGITS, pictures
from fashionkit.catalog.importer import ImportOptions, ImportReport, import_catalog
from fashionkit.catalog.mapping import load_mapping
from fashionkit.catalog.splits import SplitOptions
from fashionkit.catalog.validate import check_catalog
from fashionkit.cli.shell import main
from fashionkit.recipes import find
from fashionkit.tables import InputError, sha256_file

STYLES = (
    "conservative", "dressy", "ethnic", "fairy", "feminine", "gal", "girlish", "kireime-casual", "lolita", "mode",
    "natural", "retro", "rock", "street",
)  # fmt: skip
SHARES = SplitOptions(shares=(("train", 0.6), ("val", 0.05), ("test", 0.35)))
Make = Callable[..., bytes]

KINDS = """
schema: fashionkit.mapping/1
format: folders
ontology: fashion
catalog: {name: kinds, scene: product, noun: product}
image: {id: path, folder: photos}
category: {column: folder}
"""


@pytest.fixture
def folder(tmp_path: Path, make_picture: Make) -> Path:
    """A picture of each style, with names that say nothing."""
    for number, style in enumerate(STYLES):
        (tmp_path / "data" / style).mkdir(parents=True)
        (tmp_path / "data" / style / f"{number * 7 % 14:02d}.jpg").write_bytes(make_picture(number))
    return tmp_path / "data"


def run(folder: Path, out: Path, **options: Any) -> ImportReport:
    options = {"workers": 1, "max_rejects": 1.0, "splits": SHARES} | options
    return import_catalog(folder, out, find("datagen/mappings", "fashionstyle14"), ImportOptions(**options))


def only(folder: Path) -> Path:
    """The one file of a folder."""
    (path,) = folder.iterdir()
    return path


def rejects(out: Path) -> list[tuple[str, str]]:
    found = Catalog(out).table("rejects").to_pylist()
    return sorted((row["reason"], row["found"]) for row in found)


def splits(out: Path) -> dict[str, str]:
    return {row["image_id"]: row["split"] for row in Catalog(out).table("splits").to_pylist()}


def test_each_folder_is_a_style(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = run(folder, out)
    assert report.failure is None and report.tally.adds_up()
    assert (report.tally.images, report.tally.items) == (14, 14)
    catalog = Catalog(out)
    labels = {row["image_id"]: row["values"] for row in catalog.table("labels").to_pylist()}
    for row in catalog.table("images").to_pylist():
        assert row["image_id"] == sha256_file(folder / row["path"])[:ID_DIGITS]
        assert labels[row["image_id"]] == [row["path"].split("/")[0].replace("-", "_")]
    assert check_catalog(out, pictures=True, checksums=True) == []


def test_the_ontology_has_the_fourteen_styles() -> None:
    mapping = load_mapping(find("datagen/mappings", "fashionstyle14"))
    assert set(mapping.ontology.attributes["style"].values) == {name.replace("-", "_") for name in STYLES}
    assert set(mapping.category.values) == set(STYLES)


def test_copies_and_doubtful_pictures_are_refused_and_counted(folder: Path, tmp_path: Path) -> None:
    shutil.copy(only(folder / "rock"), folder / "rock" / "zz.jpg")
    first = only(folder / "gal")
    shutil.copy(first, folder / "girlish" / "same.jpg")
    (folder / "loose.jpg").write_bytes(b"x")
    (folder / "mode" / "broken.jpg").write_bytes(only(folder / "mode").read_bytes()[:300])
    (folder / "mode" / "empty.jpg").write_bytes(b"")
    (folder / "punk").mkdir()
    (folder / "punk" / "1.jpg").write_bytes(b"y")
    (folder / "train.csv").write_text("not,read\n")
    report = run(folder, tmp_path / "out")
    assert report.tally.adds_up() and report.tally.images == 13
    found = [(reason, path and path.split("/")[-1]) for reason, path in rejects(tmp_path / "out")]
    assert Counter(reason for reason, _ in found) == {
        "copy": 1,
        "several_classes": 2,
        "no_class_folder": 1,
        "image_truncated": 1,
        "image_empty": 1,
        "unmapped_category": 1,
    }
    assert ("copy", "zz.jpg") in found and ("several_classes", "same.jpg") in found
    assert any("gal and girlish" in line for line in report.lines())


def test_no_name_decides_the_split(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "a")
    for style in STYLES:
        for path in list((folder / style).iterdir()):
            path.rename(path.with_name(f"x{path.name[::-1].split('.')[-1]}.jpg"))
    run(folder, tmp_path / "b")
    assert splits(tmp_path / "a") == splits(tmp_path / "b")
    one, two = (tmp_path / name / "splits" / "part-00000.parquet" for name in "ab")
    assert one.read_bytes() == two.read_bytes()  # as docs/fashionstyle14.md says


def test_near_copies_lie_on_one_side(folder: Path, tmp_path: Path) -> None:
    """A picture that was saved again, under another style even: other bytes, one split."""
    for style, path in [(style, only(folder / style)) for style in STYLES]:
        Image.open(path).save(folder / "street" / f"{style}-again.png")
    run(folder, tmp_path / "out")
    sides: dict[int, set[str]] = {}
    rows = Catalog(tmp_path / "out").table("splits").to_pylist()
    for row in rows:
        sides.setdefault(row["split_group"], set()).add(row["split"])
    assert len(rows) == 28 and len(sides) == 14
    assert all(len(found) == 1 for found in sides.values()) and len(set.union(*sides.values())) > 1


def test_the_shares_are_the_papers(tmp_path: Path) -> None:
    """Expected shares, over many pictures of flat noise."""
    rng = np.random.default_rng(0)
    for number in range(600):
        path = tmp_path / "data" / STYLES[number % 14]
        path.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path / f"{number}.png")
    run(tmp_path / "data", tmp_path / "out")
    counts = Counter(splits(tmp_path / "out").values())
    assert abs(counts["train"] - 360) < 40 and abs(counts["val"] - 30) < 20 and abs(counts["test"] - 210) < 40


def test_an_import_goes_on_where_it_was_killed(
    folder: Path, tmp_path: Path, contents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "SHARD", 4)
    out = tmp_path / "out"
    run(folder, tmp_path / "whole")
    monkeypatch.setattr("fashionkit.catalog.importer.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(folder, out)
    monkeypatch.undo()
    monkeypatch.setattr(staging, "SHARD", 4)
    (out / "images" / "part-00002.parquet").unlink()
    run(folder, out)
    assert contents(out) == contents(tmp_path / "whole")
    assert run(folder, out).was_finished


def test_another_picture_makes_another_catalogue(folder: Path, tmp_path: Path, make_picture: Make) -> None:
    run(folder, tmp_path / "out")
    path = only(folder / "rock")
    path.write_bytes(bytes(len(path.read_bytes())))  # of the same size
    with pytest.raises(InputError, match="another source"):
        run(folder, tmp_path / "out")


def test_folders_of_categories_below_a_folder(tmp_path: Path, make_picture: Make) -> None:
    for number, kind in enumerate(("Jeans", "T-Shirts", "Jeans/old")):
        (tmp_path / "photos" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / kind / "1.jpg").write_bytes(make_picture(number))
    (tmp_path / "kinds.yaml").write_text(KINDS)
    import_catalog(tmp_path, tmp_path / "out", tmp_path / "kinds.yaml", ImportOptions(workers=1))
    items = Catalog(tmp_path / "out").table("items").to_pylist()
    assert [(row["image_id"], row["category"]) for row in items] == [
        ("Jeans/1.jpg", "jeans"),
        ("Jeans/old/1.jpg", "jeans"),
        ("T-Shirts/1.jpg", "t_shirt"),
    ]


def test_the_command_of_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["catalog", "import", str(folder), str(tmp_path / "out"), "--mapping", "fashionstyle14"]
    assert main([*words, "--shares", "0.6", "0.05", "0.35", "--workers", "1"]) == 0
    assert "14 of 14 pictures" in capsys.readouterr().out


def test_misuse(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture in a class folder"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        run(only(folder / "rock"), tmp_path / "out")
    mapping = tmp_path / "m.yaml"
    for old, new, said in (
        ("column: folder", "column: style", "no such column"),
        ("id: path, ", "", "needs `image.id`"),
        ("id: path, folder: photos", "id: path, bytes: folder, folder: .", "no columns of bytes"),
        ("folder: photos", "folder: nowhere", "no such folder"),
    ):
        mapping.write_text(KINDS.replace("photos", "data" if "photos" not in old else "photos").replace(old, new))
        with pytest.raises(InputError, match=said):
            import_catalog(folder.parent, tmp_path / "o", mapping, ImportOptions(workers=1))


def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path, make_picture: Make) -> None:
    (tmp_path / "secret.jpg").write_bytes(make_picture(99))
    (folder / "rock" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "more").symlink_to(tmp_path, target_is_directory=True)
    run(folder, tmp_path / "out")
    assert [reason for reason, _ in rejects(tmp_path / "out")] == ["path_outside"]
    assert not any(path.startswith("more/") for path in pictures(folder))
