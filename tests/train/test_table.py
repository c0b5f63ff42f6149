"""The table of results that train/table.py writes from tested runs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fashionkit.tables import InputError
from fashionkit.train.cli import run
from tests.documents import ROOT
from tests.train.running import fit


@pytest.fixture
def script(tmp_path: Path) -> ModuleType:
    """The script, with a page of its own."""
    found = importlib.util.spec_from_file_location("train_table", ROOT / "train" / "table.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    module.PAGE = tmp_path / "page.md"  # type: ignore[attr-defined]
    module.PAGE.write_text("# Page\n")
    return module


def test_measures_of_a_run_stand_on_the_page(script: ModuleType, tiny: Callable[..., Path], tmp_path: Path) -> None:
    assert fit(tiny(), tmp_path / "run", "--trainer.max_epochs", "1") == 0
    with pytest.raises(InputError, match="not finished and tested"):
        script.main([f"tiny={tmp_path / 'run'}"])
    assert run(["test", "--out", str(tmp_path / "run")]) == 0
    script.main([f"tiny={tmp_path / 'run'}"])
    accuracy = json.loads((tmp_path / "run" / "test.json").read_text())["test/accuracy"]
    (line,) = [line for line in script.PAGE.read_text().splitlines() if "| accuracy |" in line]
    assert line.startswith("| `tiny` | drawn,") and "| 1 of 1 |" in line
    assert line.endswith(f"| {accuracy:.3f} |".replace("| 0.", "| ."))


def test_a_name_without_a_run_is_refused(script: ModuleType) -> None:
    with pytest.raises(InputError, match="a recipe and its run"):
        script.main(["tiny"])
