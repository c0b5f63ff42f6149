"""`fashionkit eval vqa` from end to end: a saved model and a blind one, answers, lines, JSON, page, a comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fashionkit.cli.shell import main
from fashionkit.eval.vqa_run import load_model, report_lines
from fashionkit.tables import InputError, read_manifest
from tests.tiny_models import tiny_answering

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """A model's folder, another's, a blind one's."""
    kinds: dict[str, dict[str, Any]] = {"vlm": {}, "mcan": {"kind": "mcan"}, "blind": {"blind": True}}
    return {name: str(tiny_answering(**more).save(tmp_path / name)) for name, more in kinds.items()}


def test_the_command(
    models: dict[str, str], outfits: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["eval", "vqa", str(questions), "--catalog", str(outfits), "--limit", "40", "--resamples", "20"]
    assert main([*base, "--model", models["mcan"], "--out", str(tmp_path / "other")]) == 0
    out, page, file = tmp_path / "out", tmp_path / "page.html", tmp_path / "figures.json"
    words = [*base, "--model", models["vlm"], "--out", str(out), "--blind", models["blind"], "--page", str(page)]
    words += ["--against", str(tmp_path / "other"), "--json", str(file)]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "40 questions of `test`" in printed.out and "gain by looking" in printed.out and "difference" in printed.out
    assert "answers" in printed.err  # progress
    figures = json.loads(file.read_text())
    assert figures["questions"] == 40 and "accuracy" in figures["gain"] and "accuracy" in figures["against"]["measures"]
    assert (tmp_path / "out-blind" / "manifest.json").is_file()
    assert page.read_text().count('class="card"') == 40
    # Again: nothing is answered anew; the blind answers that are there can be named.
    before = (out / "manifest.json").stat().st_mtime_ns
    words[words.index(models["blind"])] = str(tmp_path / "out-blind")
    assert main(words) == 0 and (out / "manifest.json").stat().st_mtime_ns == before
    assert json.loads(file.read_text()) == figures
    assert main(["inspect", str(out), "--verify"]) == 0
    # A gain is over a model that does not look, and over other answers than these.
    for blind, problem in ((models["mcan"], "this model looks at pictures"), (str(out), "that the gain is to be over")):
        capsys.readouterr()
        words[words.index("--blind") + 1] = blind
        assert main(words) == 2 and problem in capsys.readouterr().err


def test_people_and_entailed_questions(models: dict[str, str], outfits: Path, questions: Path, tmp_path: Path) -> None:
    human = tmp_path / "human.csv"
    human.write_text("question_id,image_id,question,answer,kind\nh1,p0000,is it red?,yes|no,yes/no\n")
    base = ["eval", "vqa", str(questions), "--catalog", str(outfits), "--model", models["vlm"], "--resamples", "20"]
    file = tmp_path / "figures.json"
    assert main([*base, "--out", str(tmp_path / "a"), "--human", str(human), "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert (figures["split"], figures["questions"], figures["groups"]) == ("human", 1, 1)
    assert figures["measures"]["accuracy"]["low"] is None  # one picture has no interval
    words = ["--out", str(tmp_path / "b"), "--split", "entailed:test", "--limit", "20", "--ranked", "--json", str(file)]
    assert main([*base, *words]) == 0
    assert "free" not in json.loads(file.read_text())["measures"]
    assert read_manifest(tmp_path / "b").params["split"] == "entailed:test"


def test_what_cannot_be_answered_is_told(
    models: dict[str, str], questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["eval", "vqa", str(questions), "--out", str(tmp_path / "out")]
    assert main([*base, "--model", str(tmp_path / "nobody")]) == 2
    assert "there is no such model" in capsys.readouterr().err
    assert main([*base, "--model", models["vlm"], "--split", "tset"]) == 2
    assert "nearest allowed: 'test'" in capsys.readouterr().err
    assert main([*base, "--model", models["vlm"]]) == 2
    assert "needs pictures" in capsys.readouterr().err
    assert main([*base, "--model", models["vlm"], "--device", "abacus"]) == 2
    assert "no such device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_models_are_loaded_by_what_is_there(models: dict[str, str], tmp_path: Path) -> None:
    assert load_model(models["mcan"]).config.kind == "mcan"
    with pytest.raises(InputError, match="has its own weights"):
        load_model(models["mcan"], "offline")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no checkpoint"):
        load_model(tmp_path / "empty")


def test_lines_say_what_there_is() -> None:
    row = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    figures = {"questions": 4, "split": "test", "pictures": 2, "groups": 2, "seeds": 3, "measures": {"accuracy": row}}
    none = {"value": None, "low": None, "high": None, "n": 0}
    lines = report_lines({**figures, "gain": {"accuracy": none}}, {"measures": {"accuracy": row}}, "out")
    assert lines[0] == "out: 4 questions of `test` about 2 pictures in 2 groups, 3 seeds"
    assert "0.500 [0.250, 0.750]" in lines[1] and "difference +0.500 [+0.250, +0.750]" in lines[1] and "–" in lines[1]
