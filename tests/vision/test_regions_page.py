"""The page on regions does what it says: its Python runs, and its table has every name and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from fashionkit.vision.regions import CONTROLS, FROM_FILES, PLAIN
from tests.documents import blocks, column, tables


def test_the_page_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [block.text for block in blocks(root / "docs" / "regions.md") if block.language == "python"]
    assert len(texts) == 3
    exec(compile("\n".join(texts), "docs/regions.md", "exec"), {"__name__": __name__})
    assert list(tmp_path.glob("masks/*/*.masks"))


def test_the_table_has_every_name(root: Path) -> None:
    listed = {
        name.split("`")[0].partition(":")[0] for name in column(tables(root / "docs" / "regions.md")["Providers"])
    }
    assert listed == {*PLAIN, *FROM_FILES, *CONTROLS}
