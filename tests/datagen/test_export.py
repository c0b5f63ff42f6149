"""Question sets as text for other tools: Parquet, LLaVA's conversations, JSON lines."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.export import export_set
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import InputError, read_manifest, verify
from tests.datagen.conftest import FEW, ONTOLOGY, Item, Made, Picture, fingerprint, made, make_catalog

SUFFIX = {"parquet": "parquet", "llava": "json", "jsonl": "jsonl"}
NASTY = [
    "../../etc/passwd",
    "..",
    ".hidden",
    "a/b\\c",
    "naïve-ß-猫.jpg",
    "<script>alert(1)</script>",
    'quote"and\nline',
    "a b",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """A set about pictures of strange names, in two languages' letters."""
    folder = tmp_path_factory.mktemp("export")
    names = [*NASTY, *(f"p{n}" for n in range(16))]
    colours = ("red", "blue", "black")
    pictures = [
        Picture(
            name,
            [Item("hat", {"colour": colours[n % 3]}), *([Item("bag", {"colour": colours[n % 2]})] if n % 2 else [])],
            "test" if n % 3 == 2 else "train",
        )
        for n, name in enumerate(names)
    ]
    ontology = ONTOLOGY.replace("red: {rgb", "red: {name: carmín, rgb")
    catalog = make_catalog(
        folder / "catalog",
        pictures,
        ontology,
        paths={"p1": "shop/one.jpg"},
        closed_categories=["item"],
        countable=["item"],
        name="käte's",
    )
    return made(catalog, folder / "set", shard_images=5, families=FEW)


@pytest.fixture(scope="module")
def store(small: Made) -> VQAStore:
    return VQAStore(small.path)


def texts(store: VQAStore, split: str) -> list[tuple[str, str, str]]:
    columns = ["image_id", "question", "answer_text"]
    return [
        tuple(row.values()) for batch in store.iter(split, rendered=True) for row in batch.select(columns).to_pylist()
    ]


def exported(out: Path, split: str, form: str) -> list[Path]:
    return sorted((out / split).glob(f"*.{SUFFIX[form]}"))


def test_the_set_holds_strange_letters(store: VQAStore) -> None:
    assert any("carmín" in q or "carmín" in a for _, q, a in texts(store, "train"))


def test_parquet_is_plain_text_columns(small: Made, store: VQAStore, tmp_path: Path) -> None:
    counts = export_set(str(small.path), str(tmp_path / "out"), "parquet")
    for split in ("train", "test", "paraphrase"):
        parts = exported(tmp_path / "out", split, "parquet")
        assert len(parts) > 1 or split != "train"
        table = pa.concat_tables(pq.read_table(p, partitioning=None) for p in parts)
        rows = table.to_pylist()
        assert [(r["image_id"], r["question"], r["answer"]) for r in rows] == texts(store, split)
        assert len(rows) == counts[split]
        assert (
            table.schema.field("question").type == pa.string() and table.schema.field("difficulty").type == pa.float32()
        )
        assert {r["family"] for r in rows} <= set(store.manifest.counts["families"])
    assert verify(tmp_path / "out") == [] and read_manifest(tmp_path / "out", "export").inputs["questions"]


def test_hugging_face_reads_the_parquet_offline(small: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("the package `datasets` is not installed; pyarrow alone has read the files above")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    from datasets import load_dataset

    counts = export_set(str(small.path), str(tmp_path / "out"), "parquet")
    loaded = load_dataset(
        "parquet", data_files={"train": str(tmp_path / "out" / "train" / "*.parquet")}, cache_dir=str(tmp_path / "c")
    )
    assert len(loaded["train"]) == counts["train"]


def test_json_lines_hold_one_object_each(small: Made, store: VQAStore, tmp_path: Path) -> None:
    export_set(str(small.path), str(tmp_path / "out"), "jsonl")
    for split in ("train", "test"):
        lines = [
            line
            for p in exported(tmp_path / "out", split, "jsonl")
            for line in p.read_bytes().decode("utf-8").split("\n")
            if line
        ]
        rows = [json.loads(line) for line in lines]
        assert [(r["image_id"], r["question"], r["answer"]) for r in rows] == texts(store, split)
        assert all(
            set(r) == {"qid", "image_id", "image", "question", "answer", "family", "template", "difficulty"}
            for r in rows
        )
    body = "".join(p.read_text(encoding="utf-8") for p in exported(tmp_path / "out", "train", "jsonl"))
    assert "carmín" in body and "\\u" not in body, "letters are written as they are"


def test_llava_holds_a_conversation_for_each_picture(small: Made, store: VQAStore, tmp_path: Path) -> None:
    export_set(str(small.path), str(tmp_path / "out"), "llava")
    for split in ("train", "test"):
        entries = [
            e for p in exported(tmp_path / "out", split, "llava") for e in json.loads(p.read_text(encoding="utf-8"))
        ]
        assert len({e["id"] for e in entries}) == len(entries)
        found = []
        for entry in entries:
            assert set(entry) == {"id", "image", "conversations"}
            turns = entry["conversations"]
            assert len(turns) % 2 == 0 and turns
            assert [t["from"] for t in turns] == ["human", "gpt"] * (len(turns) // 2)
            assert [n for n, t in enumerate(turns) if "<image>" in t["value"]] == [0]
            assert turns[0]["value"].startswith("<image>\n")
            for ask, answer in zip(turns[::2], turns[1::2], strict=True):
                found.append((entry["id"], ask["value"].removeprefix("<image>\n"), answer["value"]))
        assert found == texts(store, split)


def test_splits_can_be_chosen(small: Made, tmp_path: Path) -> None:
    counts = export_set(str(small.path), str(tmp_path / "out"), "jsonl", ["test", "paraphrase"])
    assert set(counts) == {"test", "paraphrase"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == ["paraphrase", "test"]


@pytest.mark.parametrize("form", SUFFIX)
def test_any_number_of_workers_writes_the_same_bytes(small: Made, tmp_path: Path, form: str) -> None:
    for workers in (1, 2):
        export_set(str(small.path), str(tmp_path / str(workers)), form, workers=workers)
    assert fingerprint(tmp_path / "1") == fingerprint(tmp_path / "2")


# Picture names.


def images(out: Path) -> dict[str, str]:
    rows = [
        json.loads(line) for p in out.rglob("*.jsonl") for line in p.read_text(encoding="utf-8").split("\n") if line
    ]
    return {row["image_id"]: row["image"] for row in rows}


def test_names_of_pictures_lead_nowhere(small: Made, tmp_path: Path) -> None:
    export_set(str(small.path), str(tmp_path / "out"), "jsonl")
    found = images(tmp_path / "out")
    assert set(NASTY) <= set(found)
    for name in found.values():
        assert (
            name
            and "/" not in name
            and "\\" not in name
            and not name.startswith(".")
            and name.isprintable()
            and " " not in name
        )
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()


def test_different_pictures_keep_different_names(tmp_path: Path) -> None:
    """Else the conversations of two pictures would point to one file."""
    ids = ["a b", "a_b", "a/b", ".a_b", "..", "...", "image"]
    pictures = [
        Picture(name, [Item("hat", {"colour": "red" if n % 2 else "blue"}), *([Item("bag", {})] if n % 3 else [])])
        for n, name in enumerate(ids)
    ]
    catalog = make_catalog(tmp_path / "c", pictures, closed_categories=["item"], countable=["item"])
    made(catalog, tmp_path / "q", families=FEW)
    export_set(str(tmp_path / "q"), str(tmp_path / "out"), "jsonl")
    found = images(tmp_path / "out")
    assert len(found) > 3 and len(set(found.values())) == len(found), found


def test_the_catalogues_paths_are_used_where_it_has_them(small: Made, tmp_path: Path) -> None:
    export_set(str(small.path), str(tmp_path / "out"), "jsonl", catalog=str(small.catalog))
    found = images(tmp_path / "out")
    assert found["p1"] == "shop/one.jpg" and found["p2"] == "p2"


def test_another_catalogue_is_refused(small: Made, products: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another catalogue"):
        export_set(str(small.path), str(tmp_path / "out"), "jsonl", catalog=str(products))


# Refusals and resuming.


def test_unknown_words_list_those_there_are(small: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nearest allowed: 'jsonl'"):
        export_set(str(small.path), str(tmp_path / "out"), "json1")
    with pytest.raises(InputError, match="nearest allowed: 'test'"):
        export_set(str(small.path), str(tmp_path / "out"), "jsonl", ["tset"])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_refused(small: Made, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export_set(str(small.path), str(tmp_path), "jsonl")
    with pytest.raises(InputError, match="not empty"):
        export_set(str(small.path), str(small.path), "jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def dies_after(parts: int) -> Callable[[], None]:
    def prepare() -> None:
        left, real = [parts], os.replace

        def replace(source: Any, target: Any) -> None:
            if Path(target).name.startswith("part-"):
                left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        os.replace = replace

    return prepare


def killed(parts: int, *arguments: Any) -> None:
    """Exports in a process of its own that is killed when it has so many parts."""

    def work() -> None:
        dies_after(parts)()
        export_set(*arguments)

    process = get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("form", SUFFIX)
def test_killed_it_goes_on_and_ends_with_the_same_bytes(small: Made, tmp_path: Path, form: str) -> None:
    export_set(str(small.path), str(tmp_path / "whole"), form)
    out = tmp_path / "out"
    for parts in (1, 1, 0):
        killed(parts, str(small.path), str(out), form)
    there = {p: p.stat().st_mtime_ns for p in out.rglob("part-*") if not p.name.endswith(".tmp")}
    assert len(there) == 2
    export_set(str(small.path), str(out), form)
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    assert all(p.stat().st_mtime_ns == n for p, n in there.items()) and not list(out.rglob("*.tmp"))


def test_a_begun_export_of_other_settings_is_refused(small: Made, tmp_path: Path) -> None:
    killed(1, str(small.path), str(tmp_path / "out"), "jsonl")
    for arguments in (("parquet",), ("jsonl", ["test"])):
        with pytest.raises(InputError, match="not empty"):
            export_set(str(small.path), str(tmp_path / "out"), *arguments)


def test_with_and_without_picture_paths_are_other_settings(small: Made, tmp_path: Path) -> None:
    """Half of the lines would name files and half ids."""
    killed(1, str(small.path), str(tmp_path / "out"), "jsonl")
    with pytest.raises(InputError, match="not empty"):
        export_set(str(small.path), str(tmp_path / "out"), "jsonl", catalog=str(small.catalog))


def test_no_question_set(tmp_path: Path, outfits: Path) -> None:
    with pytest.raises(InputError):
        export_set(str(outfits), str(tmp_path / "out"), "jsonl")
    assert not (tmp_path / "out").exists()
