"""The page on training runs what it shows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from fashionkit.cli import main
from fashionkit.datagen.dataset import VQADataset
from tests.datagen.conftest import FEW, made, make_catalog, random_pictures
from tests.documents import ROOT, blocks, column, steps, tables

PAGE = ROOT / "docs" / "training_data.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the catalogue and the questions that the page names."""
    pictures = random_pictures(tmp_path / "catalog", 36, 5, one=False)
    out = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 10, 20)).save(out, "PNG")
    pixels = {p.image_id: out.getvalue() for p in pictures}
    catalog = make_catalog(
        tmp_path / "catalog", pictures, pixels=pixels, closed_categories=["item"], countable=["item"]
    )
    made(catalog, tmp_path / "questions", families=FEW)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the reader of shards leaves its files to the collector
def test_the_page_runs_from_top_to_bottom(folder: Path) -> None:
    pytest.importorskip("webdataset")
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(PAGE), "exec"), names)
        else:
            for step in steps(block):
                assert main(list(step.words[1:])) == 0
    assert names["questions"] and names["picture"]


def test_the_keys_are_those_of_a_batch(folder: Path) -> None:
    said = {key.strip("` ") for cell in column(tables(PAGE)["What a batch holds"]) for key in cell.split(",")}
    assert said == set(VQADataset("questions", catalog="catalog")[[0, 1]])
