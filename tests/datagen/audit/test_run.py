"""The gate as a whole and its verb: what it prints, writes and returns."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.catalog.ontology import Ontology
from fashionkit.cli import main
from fashionkit.datagen.audit.options import LIMITS, AuditOptions
from fashionkit.datagen.audit.run import audit, saved_options
from fashionkit.datagen.audit.verdicts import Verdict, verdict_lines
from fashionkit.datagen.spec import load_spec
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, YES
from fashionkit.recipes import find, names
from fashionkit.tables import InputError, read_manifest, verify
from tests.datagen.conftest import FEW, Made, made, make_catalog, random_pictures

LOOSE = "audit: {majority_binary: 1.0, association: 1.0}\n"


@pytest.fixture(scope="module")
def few(outfits: Path, tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """A clean set of few families, in three blocks of pictures."""
    return made(outfits, tmp_path_factory.mktemp("audited") / "few", families=FEW)


@pytest.fixture
def copy(few: Made, tmp_path: Path) -> Path:
    """One that a test may damage."""
    return Path(shutil.copytree(few.path, tmp_path / "copy", ignore=shutil.ignore_patterns("audit.json")))


def run(*words: object) -> int:
    return main([str(word) for word in words])


def lean(path: Path, template: str) -> None:
    """Turns every fifth no of a template into yes, in train: 60 % are then yes."""
    number = VQAStore(path).pack.index(template)
    for part in sorted((path / "samples" / "train").glob("*")):
        table = pq.read_table(part, partitioning=None)
        answer = table["answer"].to_numpy().copy()
        rows = np.flatnonzero((table["template"].to_numpy() == number) & (answer == NO))
        answer[rows[::5]] = YES
        at = table.schema.get_field_index("answer")
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(answer, pa.uint16())), part)


def test_a_clean_set_passes_is_written_and_stays_whole(few: Made) -> None:
    found = audit(few.path, few.catalog, blind=False, workers=2)
    assert found.passed, "\n".join(found.lines(everything=True))
    assert verify(few.path) == [] and read_manifest(few.path).content_hash() == found.set
    written = json.loads((few.path / "audit.json").read_text())
    assert written == found.to_dict() and written["passed"] is True and written["options"] == asdict(AuditOptions())
    assert written["left_out"] == ["same-bytes", "near-duplicate", "blind"]  # the made-up pictures have no bytes
    assert written["loosened"] == []
    assert {v["check"] for v in written["verdicts"]} >= CHECKS
    assert audit(few.path, few.catalog, blind=False, workers=1).to_dict() == written


CHECKS = {
    "majority",
    "association",
    "option-position",
    "missing-answers",
    "unknown",
    "answer-in-question",
    "option-length",
    "duplicates",
    "contradictions",
    "held-out-wording",
    "picture-leak",
    "group-leak",
    "same-bytes",
    "near-duplicate",
    "held-out-composition",
}


def test_question_only_models_come_last_and_count(few: Made, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the models, which take long: their verdicts close the gate."""
    seen: list[Any] = []

    def blind_checks(store: VQAStore, options: AuditOptions, seed: int, say: Any) -> list[Verdict]:
        seen.append((store.path, options, seed))
        return [Verdict("blind-ngram", "B2", "fail", 0.6, 0.52, 0.58, 0.62, 100)]

    monkeypatch.setitem(sys.modules, "fashionkit.datagen.audit.blind", SimpleNamespace(blind_checks=blind_checks))
    found = audit(copy, few.catalog, workers=1, seed=7)
    assert seen == [(copy, AuditOptions(), 7)] and not found.passed
    assert found.verdicts[-1].check == "blind-ngram" and "blind" not in found.left_out
    assert "0.6000 (0.5800 to 0.6200)" in found.lines()[1]


def test_a_planted_lean_fails_with_code_1(few: Made, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lean(copy, "B2.verify")
    figures = copy.parent / "figures.json"
    assert run("datagen", "audit", copy, "--no-blind", "--workers", 1, "--json", figures) == 1
    said = capsys.readouterr()
    first = said.out.splitlines()[1]
    assert first.startswith("fail") and "majority" in first and "B2.verify" in first
    assert said.out.splitlines()[-1].startswith(f"{copy}: failed: ")
    written = json.loads((copy / "audit.json").read_text())
    assert written["passed"] is False and json.loads(figures.read_text()) == written
    wrong = [(v["check"], v["scope"]) for v in written["verdicts"] if v["verdict"] == "fail"]
    assert ("majority", "B2.verify") in wrong and ("majority", "B2.verify in train") in wrong
    assert not [scope for _, scope in wrong if not scope.startswith("B2.verify")]


def test_a_clean_set_passes_with_code_0(few: Made, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datagen", "audit", copy, "--catalog", few.catalog, "--no-blind", "--workers", 1) == 0
    said = capsys.readouterr().out
    assert "passed; left out, at least in part: " in said and "--no-blind" in said
    assert run("datagen", "audit", copy, "--no-blind", "--workers", 1, "--all") == 0
    longer = capsys.readouterr().out
    assert len(longer.splitlines()) > 2 * len(said.splitlines())
    assert "unknown" in longer.splitlines()[-1] and "no catalogue was named" in longer


def test_thresholds_are_saved_with_a_set_and_another_spec_may_change_them(
    outfits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = AuditOptions(majority_binary=0.51)
    one = made(outfits, tmp_path / "set", families=FEW, audit=mine)
    assert saved_options(VQAStore(one.path)) == mine
    lean(one.path, "B2.verify")
    found = audit(one.path, blind=False, workers=1)
    assert not found.passed and {v.threshold for v in found.verdicts if v.scope.startswith("B2.verify in ")} == {0.51}
    (tmp_path / "loose.yaml").write_text(LOOSE)
    assert run("datagen", "audit", one.path, "--no-blind", "--workers", 1, "--spec", tmp_path / "loose.yaml") == 0
    assert "looser than the usual ones: majority_binary, association" in capsys.readouterr().out
    written = json.loads((one.path / "audit.json").read_text())
    assert written["passed"] and written["loosened"] == ["majority_binary", "association"]


@pytest.mark.parametrize("name", names("datagen"))
def test_no_shipped_spec_loosens_a_threshold(name: str) -> None:
    assert load_spec(name).audit.loosened() == []
    assert str(find("datagen", name)).endswith(".yaml")


@pytest.mark.parametrize("name", list(LIMITS))
def test_looser_is_told_from_stricter(name: str) -> None:
    usual = getattr(AuditOptions(), name)
    less, more = (replace(AuditOptions(), **{name: usual + by}).loosened() for by in (-0.001, 0.001))
    assert sorted((len(less), len(more))) == [0, 1] and (less + more) == [name]
    assert LIMITS[name][0] <= usual <= LIMITS[name][1]
    assert list(LIMITS) == list(asdict(AuditOptions()))
    assert bool(less) is (name in ("near_duplicate", "model_samples", "resamples"))


@pytest.mark.parametrize(
    ("saved", "problem"),
    [
        ({"majorty": 0.5}, "no such threshold"),
        ({"association": "much"}, "must be a number from 0 to 1"),
        ({"association": True}, "must be a number"),
        ({"majority_binary": 0.1}, "must be a number from 0.5 to 1"),
        ([1], "mapping is needed"),
    ],
)
def test_thresholds_that_a_manifest_cannot_have(copy: Path, saved: Any, problem: str) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["params"]["audit"] = saved
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=problem):
        audit(copy, blind=False, workers=1)
    assert not (copy / "audit.json").exists()


def test_a_set_of_an_older_version_has_the_usual_thresholds(copy: Path) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["params"]["audit"]
    path.write_text(json.dumps(manifest))
    assert saved_options(VQAStore(copy)) == AuditOptions()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["NOWHERE"], "no such folder"),
        (["CATALOG"], "'questions' folder is needed"),
        (["SET", "--catalog", "OTHER"], "another catalogue"),
        (["SET", "--spec", "stret"], "nearest allowed: 'street'"),
        (["EMPTY"], "no samples"),
    ],
)
def test_bad_input(
    few: Made, copy: Path, products: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Any, problem: str
) -> None:
    known = {"NOWHERE": tmp_path / "nowhere", "CATALOG": few.catalog, "SET": copy, "OTHER": products, "EMPTY": copy}
    if words == ["EMPTY"]:
        for part in sorted((copy / "samples").rglob("*.parquet")):
            pq.write_table(pq.read_table(part, partitioning=None).slice(0, 0), part)
    words = [known.get(word, word) for word in words]
    assert run("datagen", "audit", *words, "--no-blind", "--workers", 1) == 2
    assert problem in capsys.readouterr().err and not (copy / "audit.json").exists()


def test_help_teaches_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("datagen", "audit", "--help") == 0
    said = capsys.readouterr().out
    assert "fashionkit datagen audit out/questions" in said.split("example:")[1]
    assert all(flag in said for flag in ("--catalog", "--spec", "--no-blind", "--all", "--workers", "--json"))


def test_lines_put_failures_first_and_count_scopes() -> None:
    verdicts = [
        Verdict("majority", "A", "pass", 0.5, 0.52, n=10),
        Verdict("majority", "B", "pass", 0.51, 0.52, n=20),
        Verdict("majority", "C", "info", 0.9, 0.52),
        Verdict("leak", "train", "fail", 3.0, 0.0, n=7, note="qid 1"),
        Verdict("leak", "val", "pass", 0.0, 0.0),
        Verdict("blind", "B2", "pass", 0.5, 0.52, 0.49, 0.51),
        *(Verdict("unknown", scope, "skip", note="no catalogue") for scope in "XY"),
    ]
    lines = [" ".join(line.split()) for line in verdict_lines(verdicts)]
    assert lines == [
        "check scope value at most n",
        "fail leak train 3 0 7 qid 1",
        "= fail leak 2 scopes, 1 fail; worst: train 3 0 7",
        "= pass majority 2 scopes; worst: B 0.5100 0.5200 20",
        "= pass blind B2 0.5000 (0.4900 to 0.5100) 0.5200",
        "skip unknown 2 scopes: X, ... no catalogue",
    ]
    assert len(verdict_lines(verdicts, everything=True)) == 1 + len(verdicts)


def test_numbers_that_json_cannot_hold_become_null() -> None:
    assert Verdict("a", "b", "info", float("nan"), float("inf")).to_dict()["value"] is None


@pytest.mark.slow
def test_sets_that_are_generated_clean_pass_for_forty_seeds(tmp_path: Path) -> None:
    """At most one in twenty fails any exact check, each on a catalogue and with a seed of its own."""
    wrong = []
    for seed in range(40):
        folder = tmp_path / f"catalogue-{seed}"
        pictures = random_pictures(folder, 90, seed, one=bool(seed % 2))
        facts: dict[str, Any] = {"scene": "product", "noun": "product"} if seed % 2 else {}
        facts |= {} if seed % 2 else {"closed_categories": ["item"], "countable": ["item"]}
        make_catalog(folder, pictures, **facts)
        one = made(folder, tmp_path / f"set-{seed}", seed=seed, families=FEW)
        found = audit(one.path, folder, blind=False, workers=1)
        wrong += [] if found.passed else [(seed, [(v.check, v.scope) for v in found.verdicts if v.verdict == "fail"])]
    assert len(wrong) <= 2, wrong
    assert Ontology.load(folder / "ontology.yaml")
