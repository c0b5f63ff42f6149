"""`fashionkit inspect`: finished, unfinished, damaged, hostile and foreign folders."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from fashionkit.cli import main
from fashionkit.tables import MANIFEST, Manifest, part_path, write_manifest, write_table, write_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of a kind that no code knows."""
    made = tmp_path / "made"
    write_table(part_path(made, "samples", 0), pa.table({"id": range(1500)}))
    write_table(part_path(made, "samples", 1), pa.table({"id": range(500)}))
    write_text(made / "words.yaml", "a: 1\n")
    about = {"licence": "CC0", "source": "drawn \x1b[2J here"}
    manifest = Manifest("hats", 3, about=about, inputs={"catalog": "ab12"}, counts={"hats": 2000, "by": {"red": 1200}})
    write_manifest(made, manifest)
    return made


def test_it_says_what_it_is_from_the_manifest_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder)]) == 0
    words = capsys.readouterr().out.split()
    text = " ".join(words)
    assert f"{folder}: hats, schema 3, finished" in text
    assert "samples 2,000 rows 2 parts" in text
    for fact in ("licence CC0", "catalog ab12", "hats 2,000", "by red 1,200", "words.yaml 5 B", "made by fashionkit"):
        assert fact in text
    assert "\x1b" not in text, "a manifest cannot steer the terminal"


def test_json_holds_the_figures(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    assert main(["inspect", str(folder), "--verify", "--json", str(path)]) == 0
    figures = json.loads(path.read_text())
    assert figures["tables"]["samples"]["rows"] == 2000
    assert figures["tables"]["samples"]["parts"] == 2
    assert (figures["kind"], figures["schema"], figures["finished"], figures["problems"]) == ("hats", 3, True, [])


def test_verify_names_each_file_that_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder), "--verify"]) == 0
    assert "3 files, each as it was written" in capsys.readouterr().out
    (folder / "words.yaml").write_text("a: 2\n")
    part_path(folder, "samples", 1).unlink()
    assert main(["inspect", str(folder)]) == 0, "nothing is compared unless asked"
    capsys.readouterr()
    assert main(["inspect", str(folder), "--verify"]) == 1
    out = capsys.readouterr().out
    assert "words.yaml: changed since it was written" in out
    assert "samples/part-00001.parquet: missing" in out


def test_an_unfinished_folder_is_said_to_be_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / MANIFEST).unlink()
    (folder / "samples" / ".part-00002.parquet.77.tmp").write_bytes(b"half")
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "unfinished" in out and "samples: 2 finished parts" in out and "1 half-written file" in out
    assert main(["inspect", str(folder), "--verify"]) == 1


def test_foreign_places_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, words in [
        (tmp_path / "nowhere", "no such folder"),
        (folder / "words.yaml", "this is a file"),
        (tmp_path, "folders made by fashionkit lie in it: made"),
    ]:
        assert main(["inspect", str(place)]) == 2
        assert words in capsys.readouterr().err
    (folder / MANIFEST).write_text("{")
    assert main(["inspect", str(folder)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_the_manifest_itself_may_be_named(folder: Path) -> None:
    assert main(["inspect", str(folder / MANIFEST)]) == 0


@pytest.mark.parametrize("made", ['{"time": 3, "command": [1, null]}', '{"command": "x"}', "{}"])
def test_odd_provenance_is_shown_not_trusted(folder: Path, made: str, capsys: pytest.CaptureFixture[str]) -> None:
    raw = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(
        json.dumps({**raw, "provenance": json.loads(made), "inputs": {"x": [1, {"y": None}]}})
    )
    assert main(["inspect", str(folder)]) == 0
    assert "hats" in capsys.readouterr().out
