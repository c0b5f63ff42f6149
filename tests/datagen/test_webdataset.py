"""WebDataset shards: what the package `webdataset` reads of them is the question set."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fashionkit.cli import main
from fashionkit.datagen import export_webdataset
from fashionkit.datagen.export import export_set
from fashionkit.datagen.export_webdataset import member_key
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, read_manifest, verify
from tests.datagen.conftest import FEW, Item, Made, Picture, fingerprint, made, make_catalog

NASTY = ["../../etc/passwd", "..", "a.b.c", "a/b", "a_b", "__meta__", "naïve-猫", "x" * 200, ".hidden", "-", "a b"]
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}
FILE = "in/folders/one.two.jpg"


def encoded(number: int, suffix: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (9 + number, 7), (number, 2, 3)).save(out, FORMATS[suffix])
    return out.getvalue()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """A set about pictures of strange names in all formats; one is a file, the others are embedded."""
    folder = tmp_path_factory.mktemp("webdataset")
    names, colours = [*NASTY, *(f"p{n}" for n in range(16))], ("red", "blue", "black")
    suffixes = [list(FORMATS)[n % len(FORMATS)] for n in range(len(names))]
    pictures = [
        Picture(
            name,
            [Item("hat", {"colour": colours[n % 3]}), *([Item("bag", {"colour": colours[n % 2]})] if n % 2 else [])],
            "test" if n % 3 == 2 else "train",
        )
        for n, name in enumerate(names)
    ]
    pixels = {name: encoded(n, suffixes[n]) for n, name in enumerate(names) if name != "p1"}
    catalog = make_catalog(
        folder / "catalog", pictures, paths={"p1": FILE}, pixels=pixels, closed_categories=["item"], countable=["item"]
    )
    (catalog / FILE).parent.mkdir(parents=True)
    (catalog / FILE).write_bytes(encoded(names.index("p1"), "jpg"))
    return made(catalog, folder / "set", shard_images=5, families=FEW)


def export(made: Made, out: Path, *splits: str, **options: Any) -> dict[str, int]:
    options = {"catalog": str(made.catalog), **options}
    return export_set(str(made.path), str(out), "webdataset", splits, **options)


def tars(out: Path, split: str) -> list[str]:
    return [str(path) for path in sorted((out / split).glob("*.tar"))]


def read(urls: list[str], **options: Any) -> list[dict[str, Any]]:
    """What the package reads."""
    webdataset = pytest.importorskip("webdataset")
    dataset = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False, **options)
    return list(dataset.decode())


def expected(made: Made, split: str) -> list[tuple[str, str, str, int, str, str]]:
    store, columns = VQAStore(made.path), ["image_id", "question", "answer_text", "qid", "family", "template"]
    rows = [r for b in store.iter(split, rendered=True) for r in b.select(columns).to_pylist()]
    return [(*list(r.values())[:5], store.pack.templates[r["template"]].id) for r in rows]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_package_reads_back_every_question_and_picture(shown: Made, tmp_path: Path) -> None:
    counts = export(shown, tmp_path / "out")
    pictures = VQAStore(shown.path).catalog(shown.catalog).image_bytes(VQAStore(shown.path).image_ids)
    names = set()
    for split in ("train", "test", "paraphrase"):
        samples = read(tars(tmp_path / "out", split))
        found = []
        for sample in samples:
            about = sample["json"]
            (suffix,) = set(FORMATS) & set(sample)
            assert sample[suffix] == pictures[about["image_id"]] and about["split"] == split
            assert Image.open(io.BytesIO(sample[suffix])).format == FORMATS[suffix]
            fields = ("question", "answer", "qid", "family", "template")
            found += [(about["image_id"], *(q[name] for name in fields)) for q in about["questions"]]
            names.add(about["image_id"])
        assert found == expected(shown, split) and len(found) == counts[split] > 0
        assert len({sample["__key__"] for sample in samples}) == len(samples)
    assert set(NASTY) <= names
    assert verify(tmp_path / "out") == []
    manifest = read_manifest(tmp_path / "out", "export")
    assert manifest.params["format"] == "webdataset" and manifest.inputs["questions"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_pictures_decode_with_the_package(shown: Made, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    export(shown, tmp_path / "out", "test")
    dataset = webdataset.WebDataset(tars(tmp_path / "out", "test"), shardshuffle=False, empty_check=False)
    pairs = list(dataset.decode("pil").to_tuple("jpg;png;webp;gif;bmp", "json"))
    assert len(pairs) > 3 and all(image.size[1] == 7 for image, _ in pairs)


def test_members_lead_nowhere_and_stand_in_pairs(shown: Made, tmp_path: Path) -> None:
    export(shown, tmp_path / "out")
    for path in tars(tmp_path / "out", "train"):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        for picture, questions in zip(members[::2], members[1::2], strict=True):
            key = picture.name.split(".")[0]
            assert questions.name == f"{key}.json" and picture.name.count(".") == 1
            assert key and not set(key) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
            for member in (picture, questions):
                assert member.isfile() and len(member.name) <= 100 and not member.name.startswith(("_", "-", "."))
                assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)


def test_names_stay_apart() -> None:
    assert member_key("p0001") == "p0001" and member_key("A-b_c") == "A-b_c"
    strange = [*NASTY, "a.b", "a_b_c", "a-b", "A b", "", "x" * 201]
    assert len({member_key(name) for name in strange}) == len(set(strange))
    assert member_key("a.b") == member_key("a.b") != member_key("a_b")


def test_the_same_bytes_for_any_number_of_workers_and_every_time(shown: Made, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2), ("again", 1)):
        export(shown, tmp_path / name, workers=workers)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two") == fingerprint(tmp_path / "again")


def test_shards_have_a_bounded_size(shown: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut where the pictures and questions are estimated to reach the size; what is read stays the same."""
    export(shown, tmp_path / "large", "train")
    monkeypatch.setattr(export_webdataset, "MEBIBYTE", 1 << 13)
    export(shown, tmp_path / "small", "train", shard_mb=1)
    large, small = tars(tmp_path / "large", "train"), tars(tmp_path / "small", "train")
    assert len(small) > len(large) and [Path(p).name for p in small] == [
        f"shard-{n:05d}.tar" for n in range(len(small))
    ]
    sizes = [[size + 1024 for _, _, size in contents([path])] for path in small]  # with their heads and padding
    assert max(sum(one) - sum(one[-2:]) for one in sizes) < 1 << 13, "full without the last picture, or before"
    assert max(map(sum, sizes)) > 1 << 12
    assert contents(large) == contents(small)


def rewritten(made: Made, folder: Path, change: Callable[[pa.Table], pa.Table], rows: int) -> Made:
    """The set with other samples in its first part, in row groups of so many."""
    path = Path(shutil.copytree(made.path, folder))
    part = sorted((path / "samples" / "train").iterdir())[0]
    pq.write_table(change(pq.read_table(part, partitioning=None)), part, row_group_size=rows)
    return replace(made, path=path)


def test_row_groups_cut_where_they_like(shown: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_webdataset, "MEBIBYTE", 1 << 13)
    cut = rewritten(shown, tmp_path / "set", lambda table: table, rows=7)
    for name, questions in (("one", shown), ("two", cut)):
        export(questions, tmp_path / name, "train", shard_mb=1)
    assert contents(tars(tmp_path / "one", "train")) == contents(tars(tmp_path / "two", "train"))


def test_questions_of_a_picture_must_follow_each_other(shown: Made, tmp_path: Path) -> None:
    """Else its name would stand twice in the shards."""
    mixed = rewritten(shown, tmp_path / "set", lambda t: pa.concat_tables([t.slice(1), t.slice(0, 1)]), rows=1000)
    with pytest.raises(InputError, match=r"part-00000\.parquet.*follow each other"):
        export(mixed, tmp_path / "out")
    twice = rewritten(shown, tmp_path / "other", lambda t: t, rows=1000)
    parts = sorted((twice.path / "samples" / "train").iterdir())
    shutil.copy(parts[0], parts[1])
    with pytest.raises(InputError, match=rf"{parts[1].name}.*follow each other"):
        export(twice, tmp_path / "out2")


def contents(paths: list[str]) -> list[tuple[str, str, int]]:
    """Name, checksum and bytes of each member."""
    found = []
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                found.append((member.name, hashlib.sha256(tar.extractfile(member).read()).hexdigest(), member.size))
    return found


# Refusals and resuming.


def killed(shards: int, *arguments: Any) -> None:
    """Exports in a process of its own that is killed when it has so many shards."""

    def work() -> None:
        left, real = [shards], os.replace

        def replace(source: Any, target: Any) -> None:
            if Path(target).suffix == ".tar":
                left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        os.replace = replace
        export(*arguments)

    process = get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_it_goes_on_and_ends_with_the_same_bytes(shown: Made, tmp_path: Path) -> None:
    export(shown, tmp_path / "whole")
    out = tmp_path / "out"
    for shards in (2, 1):
        killed(shards, shown, out)
    there = {p: p.stat().st_mtime_ns for p in out.rglob("shard-*")}
    assert len(there) == 3 and list(out.rglob("*.tmp"))
    export(shown, out)
    assert fingerprint(out) == fingerprint(tmp_path / "whole") and not list(out.rglob("*.tmp"))
    assert all(p.stat().st_mtime_ns == n for p, n in there.items())


def test_another_size_of_shards_is_another_export(shown: Made, tmp_path: Path) -> None:
    killed(1, shown, tmp_path / "out")
    with pytest.raises(InputError, match="not empty"):
        export(shown, tmp_path / "out", shard_mb=7)


def test_pictures_are_needed(shown: Made, outfits: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--catalog"):
        export(shown, tmp_path / "out", catalog=None)
    with pytest.raises(InputError, match="another catalogue"):
        export(shown, tmp_path / "out", catalog=str(outfits))
    with pytest.raises(InputError, match="1 MiB"):
        export(shown, tmp_path / "out", shard_mb=0)
    assert not (tmp_path / "out").exists()


def test_a_catalogue_of_tables_only_is_refused(tmp_path: Path) -> None:
    pictures = [Picture(f"p{n}", [Item("hat", {"colour": "red" if n % 2 else "blue"})]) for n in range(60)]
    catalog = make_catalog(tmp_path / "c", pictures, closed_categories=["item"], countable=["item"])
    questions = made(catalog, tmp_path / "q", families=FEW)
    with pytest.raises(InputError, match="no pictures"):
        export(questions, tmp_path / "out")


@pytest.mark.parametrize(
    ("data", "problem"), [(b"<svg>" * 9, "no format"), (None, "no such picture"), ("gone.jpg", "read")]
)
def test_a_picture_that_cannot_go_in_is_named(tmp_path: Path, data: Any, problem: str) -> None:
    pictures = [Picture(f"p{n}", [Item("hat", {"colour": "red" if n % 2 else "blue"})]) for n in range(12)]
    pixels = {p.image_id: encoded(3, "png") for p in pictures if p.image_id != "p7"}
    pixels |= {"p7": data} if isinstance(data, bytes) else {}
    paths = {"p7": data} if isinstance(data, str) else {}
    catalog = make_catalog(
        tmp_path / "c", pictures, pixels=pixels, paths=paths, closed_categories=["item"], countable=["item"]
    )
    questions = made(catalog, tmp_path / "q", families=FEW)
    with pytest.raises(InputError, match=rf"{problem}(.|\n)*p7"):
        export(questions, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tar"))


def test_an_empty_split_has_no_shards(shown: Made, tmp_path: Path) -> None:
    assert export(shown, tmp_path / "out", "compositional") == {"compositional": 0}
    assert tars(tmp_path / "out", "compositional") == []


def test_the_command(shown: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["datagen", "export", str(shown.path), str(tmp_path / "out"), "--format", "webdataset"]
    assert main([*words, "--splits", "test"]) == 2 and "--catalog" in capsys.readouterr().err
    report = tmp_path / "report.json"
    assert (
        main([*words, "--catalog", str(shown.catalog), "--shard-mb", "1", "--workers", "2", "--json", str(report)]) == 0
    )
    assert json.loads(report.read_text())["samples"]["test"] == len(shown.rows["test"])
    assert tars(tmp_path / "out", "test")
