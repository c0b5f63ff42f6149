"""The verbs of `fashionkit datagen`, by their command lines: exit codes, figures, words."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from fashionkit.cli import main
from fashionkit.datagen.store import VQAStore
from tests.datagen.conftest import Made

SPEC = """\
samples: 100
shard_images: 30
workers: 1
families: {B2: 0, B3: 0, B4: 0, B6: 0, C1: 0, C3: 0, C4: 0, C5: 0, C6: 0, C7: 0, C8: 0}
drop: [C2.modified, C2.kind, C2.choose, B5.not, B5.not_modified, B5.not_kind_value]
"""
PACK = """\
schema: fashionkit.pack/1
templates:
  - id: B1.mine
    family: B1
    slots: {cat: {category: either}}
    mix: [o, d]
    program: exist(filter(scene, cat))
    balance: binary
    cell: [cat]
    text:
      - "is there {a cat}?"
      - "can one see {a cat}?"
      - "does it show {a cat}?"
      - {text: "is {a cat} here?", held_out: true}
"""


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(SPEC)
    return path


def test_run_reports_and_writes_figures(
    spec: Path, outfits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures = tmp_path / "set", tmp_path / "figures.json"
    assert run("datagen", "run", spec, "--catalog", outfits, "--out", out, "--samples", 120, "--json", figures) == 0
    said = capsys.readouterr()
    found = json.loads(figures.read_text())
    store = VQAStore(out)
    assert sum(found["samples"].values()) == len(store) and found["out"] == str(out)
    assert 80 < sum(found["families"].values()) <= 120 and found["programs"] > 0
    assert f"{len(store):,} samples" in said.out and "by family" in said.out and "datagen show" in said.out
    assert "left out by the spec" in said.out and "B2.verify" in said.out
    assert "compiling the catalogue" in said.err and "Traceback" not in said.err


def test_flags_override_the_spec(spec: Path, outfits: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"{SPEC}catalog: nowhere\nout: nowhere\nseed: 3\n")
    words = ["datagen", "run", spec, "--catalog", outfits, "--workers", 2]
    assert run(*words, "--out", tmp_path / "one", "--seed", 4) == 0
    (tmp_path / "mine.yaml").write_text(f"{SPEC}seed: 4\n")
    assert run(*words, "--out", tmp_path / "two") == 0
    hashes = {VQAStore(tmp_path / name).manifest.content_hash() for name in ("one", "two")}
    assert len(hashes) == 1 and VQAStore(tmp_path / "one").manifest.params["seed"] == 4


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nowhere", "--catalog", "CATALOG", "--out", "OUT"], "no datagen recipe"),
        (["SPEC", "--out", "OUT"], "names no catalog"),
        (["SPEC", "--catalog", "CATALOG"], "names no out"),
        (["SPEC", "--catalog", "CATALOG", "--out", "OUT", "--samples", "0"], "must be from 1"),
        (["SPEC", "--catalog", "CATALOG", "--out", "OUT", "--samples", "many"], "whole number"),
        (["SPEC", "--catalog", "CATALOG", "--out", "OUT", "--workers", "0"], "must be from 1"),
        (["SPEC", "--catalog", "CATALOG", "--out", "OUT", "--sample", "5"], "nearest is --samples"),
        (["SPEC", "--catalog", "OUT", "--out", "OUT"], "no such folder"),
        (["SPEC", "--catalog", "CATALOG", "--out", "CATALOG"], "other settings"),
        (["BROKEN", "--catalog", "CATALOG", "--out", "OUT"], "unknown key"),
        ([], "still needed"),
    ],
)
def test_bad_input_of_run(
    spec: Path, outfits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    (tmp_path / "broken.yaml").write_text(SPEC + "sampels: 3\n")
    known = {"SPEC": spec, "CATALOG": outfits, "OUT": tmp_path / "out", "BROKEN": tmp_path / "broken.yaml"}
    assert run("datagen", "run", *(known.get(word, word) for word in words)) == 2
    said = capsys.readouterr()
    assert problem in said.err and "Traceback" not in said.err and not (tmp_path / "out").exists()


def test_show_prints_what_was_asked_for(outfit_set: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datagen", "show", outfit_set.path, "--n", 6, "--family", "C2", "--split", "val", "--seed", 3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and all(line.startswith("[C2.") and ", val, " in line for line in lines[::2])
    assert run("datagen", "show", outfit_set.path, "--n", 6, "--family", "C2", "--split", "val", "--seed", 3) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_show_writes_a_page(outfit_set: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "page.html"
    assert run("datagen", "show", outfit_set.path, "--n", 8, "--html", target, "--catalog", outfit_set.catalog) == 0
    assert "wrote" in capsys.readouterr().out
    assert target.read_text().startswith("<!doctype html>") and target.read_text().count('class="q"') == 8


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["SET", "--family", "C9"], "no such"),
        (["SET", "--split", "exam"], "no such"),
        (["SET", "--n", "0"], "no such"),
        (["SET", "--html", "PAGE", "--catalog", "OTHER"], "another catalogue"),
        (["OTHER"], "'questions' folder is needed"),
        (["NOWHERE"], "no such folder"),
    ],
)
def test_bad_input_of_show(
    outfit_set: Made, products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    known = {"SET": outfit_set.path, "OTHER": products, "NOWHERE": tmp_path / "nowhere", "PAGE": tmp_path / "page.html"}
    assert run("datagen", "show", *(known.get(word, word) for word in words)) == 2
    assert problem in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_export_writes_and_reports(outfit_set: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    words = ["datagen", "export", outfit_set.path, tmp_path / "out", "--format", "jsonl", "--splits", "val", "test"]
    assert run(*words, "--json", figures) == 0
    counts = {split: outfit_set.report.samples[split] for split in ("val", "test")}
    assert json.loads(figures.read_text())["samples"] == counts
    assert f"val {counts['val']:,}" in capsys.readouterr().out
    assert sum(len(p.read_text().splitlines()) for p in (tmp_path / "out").rglob("*.jsonl")) == sum(counts.values())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["SET", "OUT", "--format", "csv"], "parquet"),
        (["SET", "OUT", "--splits", "exam"], "no such split"),
        (["SET", "SET"], "not empty"),
        (["SET"], "still needed"),
    ],
)
def test_bad_input_of_export(
    outfit_set: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    known = {"SET": outfit_set.path, "OUT": tmp_path / "out"}
    assert run("datagen", "export", *(known.get(word, word) for word in words)) == 2
    assert problem in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_packs_are_checked_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datagen", "packs") == 0
    said = capsys.readouterr().out
    assert "B2.verify" in said and "verify(unique(filter(scene, cat)), v)" in said and "all right" in said
    (tmp_path / "bad.yaml").write_text("schema: fashionkit.pack/1\nname: bad\ntemplates:\n  - id: X\n    famly: B1\n")
    assert run("datagen", "packs", "--packs", "core", tmp_path / "bad.yaml") == 2
    said = capsys.readouterr().err
    assert "bad.yaml, row 5" in said and "nearest allowed: 'family'" in said


def test_a_full_disk_is_no_bad_input(
    outfit_set: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    assert run("datagen", "export", outfit_set.path, tmp_path / "out", "--format", "jsonl") == 1
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "show", "export", "packs"])
def test_help_teaches_with_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datagen", verb, "--help") == 0
    said = capsys.readouterr().out
    example = said.split("example:")[1]
    assert f"fashionkit datagen {verb}" in example


def test_the_example_of_packs_can_be_typed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the help shows, with the file that it names."""
    assert run("datagen", "packs", "--help") == 0
    line = capsys.readouterr().out.split("example:")[1].strip().splitlines()[0]
    monkeypatch.chdir(tmp_path)
    Path("my_pack.yaml").write_text(PACK)
    assert run(*shlex.split(line)[1:]) == 0
    assert "B1.mine" in capsys.readouterr().out
