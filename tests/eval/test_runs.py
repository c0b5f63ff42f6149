"""Runs of a series on disk: whole or absent, and of one spec."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from fashionkit.eval.runs import RunFolder
from fashionkit.tables import InputError

SPEC = {"seeds": [0, 1], "width": 8}
SAID = pa.table({"id": ["a", "b"], "group": ["a", "b"], "truth": [0, 1], "predicted": [0, 0], "confidence": [0.5, 0.9]})


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path / "out", SPEC)
    assert not runs.has("net-s0")
    runs.add("net-s0", {"seed": 0}, {"accuracy": 0.5}, SAID)
    assert runs.has("net-s0") and not runs.has("net-s1")
    (run,) = RunFolder(tmp_path / "out", SPEC).runs()
    assert run.settings == {"seed": 0} and run.figures == {"accuracy": 0.5}
    assert run.predictions["predicted"].to_pylist() == [0, 0]


def test_half_a_run_is_none(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path / "out", SPEC)
    runs.add("net-s0", {}, {}, SAID)
    (tmp_path / "out/runs/net-s0.json").unlink()  # killed between the two files
    assert not runs.has("net-s0") and RunFolder(tmp_path / "out", SPEC).runs() == []


def test_another_spec_is_refused_with_what_differs(tmp_path: Path) -> None:
    RunFolder(tmp_path / "out", SPEC)
    with pytest.raises(InputError, match="another spec") as caught:
        RunFolder(tmp_path / "out", {**SPEC, "width": 16})
    assert "width: 8 there, 16 here" in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="something else"):
        RunFolder(tmp_path, SPEC)


def test_names_of_runs_stay_inside_the_folder(tmp_path: Path) -> None:
    runs = RunFolder(tmp_path / "out", SPEC)
    runs.add("a/../../b c", {}, {}, SAID)
    assert [path.parent for path in tmp_path.rglob("*.json") if path.name != "spec.json"] == [tmp_path / "out/runs"]


def test_arms_and_seeds_may_come_later_but_not_change(tmp_path: Path) -> None:
    arms = [{"name": "a", "epochs": 1}]
    RunFolder(tmp_path / "out", {**SPEC, "arms": arms, "catalog": "here"})
    RunFolder(tmp_path / "out", {**SPEC, "arms": [*arms, {"name": "b", "epochs": 2}], "seeds": [0], "catalog": "there"})
    _, spec = RunFolder.open(tmp_path / "out")
    assert [arm["name"] for arm in spec["arms"]] == ["a", "b"] and spec["seeds"] == [0]
    with pytest.raises(InputError, match="arms, a: epochs 1 there, 3 here"):
        RunFolder(tmp_path / "out", {**SPEC, "arms": [{"name": "a", "epochs": 3}]})
