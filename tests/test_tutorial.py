"""Runs docs/tutorial.md as it is written, on the shop that it makes: commands, YAML, Python, and what they print."""

from __future__ import annotations

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from fashionkit.catalog.catalog import Catalog
from fashionkit.cli import main
from fashionkit.datagen.store import VQAStore
from tests.documents import ROOT, Step, agrees, blocks, quick, steps
from tests.made_up_shop import make_shop

TUTORIAL = ROOT / "docs" / "tutorial.md"


def follow(step: Step, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs one command in this process and compares what it prints."""
    capsys.readouterr()
    if step.words[0] == "python":
        monkeypatch.setattr(sys, "argv", list(step.words[1:]))
        runpy.run_path(str(ROOT / step.words[1]), run_name="__main__")
        code = 0
    else:
        assert step.words[0] == "fashionkit", f"line {step.line}: {step.words[0]} is not followed by this test"
        code = main(step.words[1:])
    out, err = capsys.readouterr()
    if step.printed is None:
        assert code == 0, f"line {step.line}: {err}"
        return
    fails = bool(step.printed) and step.printed[0].startswith("fashionkit: ")
    assert code == (2 if fails else 0), f"line {step.line}: exit code {code}\n{err}"
    printed = (err if fails else out).splitlines()
    assert agrees(printed, step.printed), f"line {step.line} of {TUTORIAL.name} prints\n" + "\n".join(printed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tutorial is followed."""
    return tmp_path_factory.mktemp("tutorial")


def test_the_commands_do_what_the_page_says(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    monkeypatch.chdir(folder)
    followed = 0
    for block in blocks(TUTORIAL):
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            done = subprocess.run(
                [sys.executable, "-c", block.text], capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
            )
            assert done.returncode == 0, done.stderr
            assert "bytes of JPEG" in done.stdout and "questions of the test split" in done.stdout
        for step in steps(block):
            if step.words[0] != ".":  # the activation of an environment, which the tests have
                follow(step, capsys, monkeypatch)
                followed += 1
    assert followed >= 9


def test_the_table_looks_as_the_page_shows_it(tmp_path: Path) -> None:
    (shown,) = (block for block in blocks(TUTORIAL) if block.language == "text")
    assert make_shop(tmp_path).read_text(encoding="utf-8").startswith(shown.text)


def test_what_became_of_the_mess(folder: Path) -> None:
    catalog = Catalog(folder / "out" / "shop")
    with (folder / "shop" / "shop.csv").open(encoding="utf-8") as handle:
        source = {row["sku"]: row for row in csv.DictReader(handle)}
    colours = {
        row["item_id"].split(".")[0]: row["values"]
        for row in catalog.table("attributes").to_pylist()
        if row["attribute"] == "colour" and row["state"] == "present"
    }
    assert colours["A112"] == ["black"] and source["A112"]["colour"] == "Balck"
    assert "A109" not in colours and source["A109"]["colour"] == ""
    assert not {"A124", "A130", "A900"} & set(catalog.table("images")["image_id"].to_pylist())
    rejects = {row["reason"] for row in catalog.table("rejects").to_pylist()}
    assert rejects == {"image_truncated", "incomplete_image", "duplicate_id", "skipped"}
    splits = {row["image_id"]: row["split"] for row in catalog.table("splits").to_pylist()}
    assert splits["A106"] == splits["A901"], "a photo and its copy stay together"


def test_no_question_rests_on_an_empty_cell(folder: Path) -> None:
    store = VQAStore(folder / "out" / "questions")
    for split in ("train", "val", "test"):
        for table in store.iter(split):
            rows = [row for row in store.describe(table, split) if row["image_id"] == "A109"]
            assert not any("colour" in row["program"] for row in rows)
    assert len(store) > 1000


def test_the_export_names_the_pictures(folder: Path) -> None:
    first = (folder / "out" / "text" / "train" / "part-00000.jsonl").read_text(encoding="utf-8").splitlines()[0]
    assert (folder / "shop" / json.loads(first)["image"]).is_file()
