"""Measures of folders of answers: known by construction, paired, over seeds; and folders that cannot be measured."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.store import VQAStore
from fashionkit.eval.vqa_human import HumanQuestions
from fashionkit.eval.vqa_measures import WORDS, attributes, compare, measure, weighted
from fashionkit.eval.vqa_questions import Questions
from fashionkit.eval.vqa_side import read_side
from fashionkit.metrics.answering import estimate
from fashionkit.tables import InputError, read_table
from tests.eval.made_answers import answered

FEW = {"resamples": 60}


@pytest.fixture
def sides(store: VQAStore, tmp_path: Path) -> dict[str, Path]:
    """Answers of a good model, of another seed of it, of a worse one, a blind one, and one without error."""
    asked = Questions(store, "test", 200)
    kinds: dict[str, dict[str, Any]] = {
        "good": {"errors": 0.1},
        "again": {"errors": 0.12, "seed": 1},
        "worse": {"errors": 0.4, "seed": 2},
        "blind": {"errors": 0.0, "blind": True},
        "perfect": {"errors": 0.0},
    }
    return {name: answered(asked, tmp_path / name, **options) for name, options in kinds.items()}


def test_a_model_without_error(sides: dict[str, Path]) -> None:
    found = measure([sides["perfect"]], **FEW)
    for name in ("accuracy", "binary", "open", "macro", "harmonic", "not_present_f1", "valid", "swap", "free", "known"):
        assert found["measures"][name]["value"] == found["measures"][name]["high"] == 1, name
    assert found["confusions"] == [] and found["distribution"] == 0 and found["aurc"] == 0
    assert all(row["value"] == 1 for row in found["families"])
    json.dumps(found, allow_nan=False)


def test_measures_by_plain_loops(sides: dict[str, Path]) -> None:
    found = measure([sides["worse"]], **FEW)
    rows = read_table(sides["worse"], "answers").to_pylist()
    right = [row["right"] for row in rows]
    by_family: dict[str, list[bool]] = defaultdict(list)
    by_answer: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        by_family[row["family"]].append(row["right"])
        by_answer[row["answer"]].append(row["right"])
    shares = [np.mean(one) for one in by_family.values()]
    values = {name: row["value"] for name, row in found["measures"].items()}
    assert values["accuracy"] == pytest.approx(np.mean(right))
    assert values["macro"] == pytest.approx(np.mean([np.mean(one) for one in by_answer.values()]))
    assert values["arithmetic"] == pytest.approx(np.mean(shares))
    harmonic = 0 if 0 in shares else len(shares) / sum(1 / share for share in shares)
    assert values["harmonic"] == pytest.approx(harmonic)
    assert {row["name"]: (row["n"], row["value"]) for row in found["families"]} == {
        name: (len(one), pytest.approx(np.mean(one))) for name, one in by_family.items()
    }
    binary = [row["right"] for row in rows if row["kind"] == "yes/no"]
    assert values["binary"] == pytest.approx(np.mean(binary)) and found["measures"]["open"]["n"] == 200 - len(binary)
    assert values["valid"] == pytest.approx(np.mean([row["valid"] for row in rows]))
    assert values["loss"] == pytest.approx(np.mean([row["loss"] for row in rows]))
    colour = [row["right"] for row in rows if "colour" in row["attribute"].split(",")]
    (mine,) = (row for row in found["attributes"] if row["name"] == "colour")
    assert (mine["n"], mine["value"]) == (len(colour), pytest.approx(np.mean(colour)))
    asked = [row["right"] for row in rows if row["attribute"] == "colour" and row["kind"] == "value"]
    (mine,) = (row for row in found["attributes"] if row["name"] == "colour, asked for")
    assert (mine["n"], mine["value"]) == (len(asked), pytest.approx(np.mean(asked)))
    assert sum(row["n"] for row in found["answers"]) == 200
    wrong = sum(row["n"] for row in found["confusions"])
    assert 0 < wrong <= 200 - sum(right)
    assert found["coverage"][-1] == {"coverage": 1.0, "risk": pytest.approx(1 - np.mean(right))}
    assert set(found["measures"]) <= set(WORDS)


def test_a_threshold_makes_unlikely_answers_no_answers(sides: dict[str, Path]) -> None:
    rows = read_table(sides["worse"], "answers").to_pylist()
    likely = [row for row in rows if row["probability"] >= 0.5]
    values = {name: row["value"] for name, row in measure([sides["worse"]], **FEW)["measures"].items()}
    assert 0 < len(likely) < 200
    assert values["answered"] == pytest.approx(len(likely) / 200)
    assert values["right_of_answered"] == pytest.approx(np.mean([row["right"] for row in likely]))
    assert values["told"] == pytest.approx(sum(row["right"] for row in likely) / 200)


def test_a_model_that_does_not_look_gains_nothing(sides: dict[str, Path]) -> None:
    found = measure([sides["perfect"]], [sides["blind"]], **FEW)
    alone = {name: measure([sides[name]], **FEW)["measures"]["accuracy"]["value"] for name in ("perfect", "blind")}
    gain = found["gain"]["accuracy"]
    assert gain["value"] == pytest.approx(alone["perfect"] - alone["blind"]) and gain["low"] > 0
    assert found["gain"]["swap"]["value"] == 1
    assert all({"gain", "gain_low", "gain_high"} <= set(row) for row in found["families"])
    none = measure([sides["blind"]], [sides["blind"]], **FEW)
    assert (none["gain"]["accuracy"]["value"], none["gain"]["accuracy"]["low"]) == (0, 0)
    # It is right about one picture of each pair at most, whatever its accuracy.
    assert none["measures"]["swap"]["value"] == 0 < alone["blind"] and none["measures"]["swap"]["n"] > 5


def test_a_comparison_is_paired_and_turns_round(sides: dict[str, Path]) -> None:
    one, two = compare([sides["good"]], [sides["worse"]], **FEW), compare([sides["worse"]], [sides["good"]], **FEW)
    first, second = one["measures"]["accuracy"], two["measures"]["accuracy"]
    assert first["value"] == -second["value"] and first["low"] == -second["high"] and first["low"] > 0.15
    assert {row["name"] for row in one["families"]} == {row["name"] for row in two["families"]}
    same = compare([sides["good"]], [sides["good"]], **FEW)
    assert all((row["value"], row["low"], row["high"]) == (0, 0, 0) for row in same["measures"].values())
    json.dumps(one, allow_nan=False)


def test_seeds_are_measured_together(sides: dict[str, Path]) -> None:
    both = measure([sides["good"], sides["again"]], **FEW)
    each = [measure([sides[name]], **FEW)["measures"]["accuracy"]["value"] for name in ("good", "again")]
    assert both["seeds"] == 2 and both["measures"]["accuracy"]["value"] == pytest.approx(np.mean(each))
    found = compare([sides["good"], sides["again"]], [sides["worse"]], **FEW)
    assert found["measures"]["accuracy"]["value"] == pytest.approx(np.mean(each) - 0.6, abs=0.1)
    order = compare([sides["again"], sides["good"]], [sides["again"], sides["good"]], **FEW)
    assert order["measures"]["accuracy"]["high"] == 0


def test_consistency_is_that_of_the_definition(store: VQAStore, tmp_path: Path) -> None:
    out = answered(Questions(store, "entailed:test", 120), tmp_path / "out", errors=0.3)
    found = measure([out], **FEW)
    rows = read_table(out, "answers").to_pylist()
    right = {row["qid"]: row["right"] for row in rows if row["source"] is None}
    scores = []
    for qid in right:
        mine = [row["right"] for row in rows if row["source"] == qid]
        if right[qid]:
            scores.append(np.mean(mine))
    row = found["measures"]["consistency"]
    assert (row["n"], row["value"]) == (len(scores), pytest.approx(np.mean(scores)))
    # Scores belong to the pictures of their samples: with one group alone, the measure is that of its samples.
    names = np.unique([row["group"] for row in rows])
    by_group: dict[int, list[float]] = defaultdict(list)
    for qid, of in ((row["qid"], row["group"]) for row in rows if row["source"] is None and row["right"]):
        by_group[of].append(float(np.mean([row["right"] for row in rows if row["source"] == qid])))
    alone = weighted(read_side([out]))["consistency"].of(np.eye(len(names)))[:, 0]
    expected = [np.mean(by_group[name]) if name in by_group else np.nan for name in names.tolist()]
    assert alone == pytest.approx(expected, nan_ok=True) and len(set(alone.tolist())) > 3
    follows = [row["right"] for row in rows if row["source"] is not None]
    assert found["questions"] == len(follows)  # samples are asked for consistency alone
    assert found["measures"]["accuracy"]["value"] == pytest.approx(np.mean(follows))


def test_people_are_told_apart_by_what_they_call_their_questions(store: VQAStore, tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    lines = ["question_id,image_id,question,answer,kind"]
    lines += [f"h{n},p{n:04d},is it {n},yes,yes/no" for n in range(6)]
    lines += [f"g{n},p{n:04d},what colour {n},puce|red,colour" for n in range(6)]
    lines += ["c0,p0000,what cloth,cannot tell,cannot tell"]
    path.write_text("\n".join(lines) + "\n")
    out = answered(HumanQuestions(store, path), tmp_path / "out", errors=0.0)
    found = measure([out], **FEW)
    assert [row["name"] for row in found["families"]] == ["cannot tell", "colour", "yes/no"]
    assert found["measures"]["accuracy"]["value"] == pytest.approx(12 / 13)
    rows = read_table(out, "answers").to_pylist()
    told = [row["right"] if row["probability"] >= 0.5 else row["answer"] == "cannot tell" for row in rows]
    assert found["measures"]["told"]["value"] == pytest.approx(np.mean(told))
    side = read_side([out])
    side.probability[:, side.truth == "cannot tell"] = 0.49  # too unlikely to be given: that is the right answer
    assert estimate(weighted(side)["told"], 10).value == 1
    assert found["measures"]["known"]["value"] == pytest.approx(12 / 13) and found["attributes"] == []


def test_what_there_is_none_of_has_no_measure(store: VQAStore, tmp_path: Path) -> None:
    out = answered(Questions(store, "absent", 20), tmp_path / "out", errors=0.5)
    found = measure([out], **FEW)
    assert not {"binary", "consistency", "swap"} & set(found["measures"])
    assert found["measures"]["not_present_precision"]["value"] == 1
    assert found["measures"]["not_present_recall"]["value"] == found["measures"]["accuracy"]["value"]


def test_attributes_of_questions_about_two(sides: dict[str, Path]) -> None:
    side = read_side([sides["good"]])
    keys = side.column("attribute")
    keys[:2] = ["colour,pattern", "colour,pattern"]
    table = side.table.set_column(side.table.column_names.index("attribute"), "attribute", pa.array(keys.tolist()))
    changed = type(side)(**{**side.__dict__, "table": table})
    counts = {name: found.n for name, found in attributes(changed).items()}
    assert counts["colour"] >= 2 and counts["pattern"] >= 2 and "colour,pattern" not in counts
    assert estimate(weighted(changed)["accuracy"], 10).n == 200


def test_folders_that_are_no_pair(sides: dict[str, Path], store: VQAStore, tmp_path: Path) -> None:
    other = answered(Questions(store, "test", 199), tmp_path / "other")
    with pytest.raises(InputError, match="the questions are not those of"):
        measure([sides["good"]], [other])
    with pytest.raises(InputError, match="the questions are not those of"):
        measure([sides["good"], other])
    with pytest.raises(InputError, match="the questions are not those of"):
        compare([sides["good"]], [other])
    with pytest.raises(InputError, match="answers are needed"):
        measure([])
    with pytest.raises(InputError, match="'questions' folder"):
        measure([store.path])


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("probability", pa.array([float("nan")] * 200, pa.float32()), "no probabilities"),
        ("probability", pa.array([3.0] * 200, pa.float32()), "no probabilities"),
        ("right", pa.array([None] * 200, pa.bool_()), "damaged"),
        ("right", pa.array(["maybe"] * 200), "damaged"),
        ("group", None, "a column is missing"),
    ],
)
def test_damaged_answers(sides: dict[str, Path], column: str, values: pa.Array | None, problem: str) -> None:
    path = sides["good"] / "answers" / "part-00000.parquet"
    table = read_table(sides["good"], "answers")
    for part in sides["good"].glob("answers/*"):
        part.unlink()
    at = table.column_names.index(column)
    pq.write_table(table.remove_column(at) if values is None else table.set_column(at, column, values), path)
    with pytest.raises(InputError, match=problem):
        measure([sides["good"]])
