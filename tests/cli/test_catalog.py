"""The verbs of `fashionkit catalog`, by their command lines."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fashionkit.cli import catalog, shell


@pytest.fixture(autouse=True)
def verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, verb in catalog.VERBS.items():
        monkeypatch.setitem(shell.VERBS, name, verb)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A table of twelve products and their pictures."""
    with (tmp_path / "shop.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["sku", "photo", "type", "colour"])
        for i in range(12):
            writer.writerow([f"a{i}", f"{i}.jpg", ["Jeans", "Shirts"][i % 2], ["Red", "Blue"][i % 2]])
            coarse = np.random.default_rng(i).integers(0, 256, (5, 5, 3), dtype=np.uint8)
            out = io.BytesIO()
            Image.fromarray(coarse).resize((40, 60), Image.Resampling.NEAREST).save(out, format="JPEG")
            (tmp_path / f"{i}.jpg").write_bytes(out.getvalue())
    return tmp_path


def run(*words: object) -> int:
    return shell.main([str(word) for word in words])


def test_suggest_import_check_and_split(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out, mapping = shop / "shop.csv", shop / "out", shop / "shop.yaml"
    assert run("catalog", "suggest", source, "--out", mapping) == 0
    assert "colour: attribute colour" in capsys.readouterr().out
    figures = shop / "figures.json"
    assert run("catalog", "import", source, out, "--mapping", mapping, "--workers", 1, "--json", figures) == 0
    assert "12 of 12 pictures, 12 items" in capsys.readouterr().out
    assert json.loads(figures.read_text())["items"] == 12
    assert run("catalog", "import", source, out, "--mapping", mapping) == 0
    assert "was finished before" in capsys.readouterr().out
    assert run("catalog", "check", out, "--pictures", "--checksums") == 0
    assert "no problem found" in capsys.readouterr().out
    assert run("catalog", "split", out, "--shares", 0.5, 0, 0.5) == 0
    assert "val" not in capsys.readouterr().out
    (shop / "3.jpg").unlink()
    assert run("catalog", "check", out, "--pictures") == 1
    assert "3.jpg" in capsys.readouterr().out


def test_a_wrong_table_fails_well(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, mapping = shop / "shop.csv", shop / "shop.yaml"
    assert run("catalog", "suggest", source, "--out", mapping) == 0
    source.write_text(source.read_text().replace("Shirts", "Shirtzy"))
    assert run("catalog", "import", source, shop / "out", "--mapping", mapping) == 1
    said = capsys.readouterr().out
    assert "unmapped_category: 6, e.g. row 3, column 'type': no such category: 'Shirtzy'; nearest: '" in said
    assert "no manifest was written" in said
    source.write_text(source.read_text().replace("type", "kind"))
    assert run("catalog", "import", source, shop / "out", "--mapping", mapping) == 2
    error = capsys.readouterr().err
    assert "no such column" in error and "found: type" in error and "Traceback" not in error
    assert run("catalog", "import", source, shop / "out", "--mapping", "produts") == 2
    assert "nearest allowed: 'products'" in capsys.readouterr().err
    assert run("catalog", "split", shop / "out", "--shares", 0.5, 0.5) == 2


def test_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("catalog", "draw", tmp_path / "d", "--images", 6, "--size", 64, "--workers", 1) == 0
    assert "6 outfits" in capsys.readouterr().out
    assert run("catalog", "draw", tmp_path / "t", "--images", 6, "--tables-only", "--workers", 1) == 0
    assert run("catalog", "draw", tmp_path / "x", "--images", 0) == 2


@pytest.mark.parametrize("name", sorted(catalog.VERBS))
def test_help_gives_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*name.split(), "--help") == 0
    assert f"fashionkit {name} " in capsys.readouterr().out
