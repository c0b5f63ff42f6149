"""Run specs: every setting checked, each mistake named with its line."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from fashionkit import recipes
from fashionkit.datagen.spec import RunSpec, load_spec
from fashionkit.tables import InputError, Manifest, write_manifest

FULL = """\
# every setting
catalog: some/catalog
out: some/out
packs: [core]
samples: 1000
phrasings: 2
per_image: 50
seed: 7
shard_images: 100
workers: 3
engine: ray
ray_address: auto
families: {C2: 2, B5: 0.5, C8: 0}
drop: [C4.value]
entail: [test]
feedback: round1/feedback
negatives:
  temperature: 0.2
  gamma: 1
  uniform: 0.1
  draws: 6
difficulty: {surprisal: 1, confusability: 2, smallness: 0, beta: 0.5, clip: 8}
balance: {temper: 0.5, ratio: 2, family_cap: 0.3, slack: 0.02}
audit: {majority_binary: 0.51, association: 0.03, near_duplicate: 8, resamples: 500}
"""


def load(folder: Path, text: str, **overrides: object) -> RunSpec:
    path, feedback = folder / "spec.yaml", folder / "round1" / "feedback"
    feedback.mkdir(parents=True, exist_ok=True)
    write_manifest(feedback, Manifest("feedback", 1, params={"shrink": {}, "spread": {}}))
    path.write_text(text)
    return load_spec(str(path), **overrides)


def test_every_setting_is_read(tmp_path: Path) -> None:
    spec = load(tmp_path, FULL)
    assert (spec.samples, spec.seed, spec.workers, spec.families["B5"], spec.drop) == (1000, 7, 3, 0.5, ["C4.value"])
    assert (spec.negatives.draws, spec.negatives.gamma, spec.difficulty.clip, spec.balance.family_cap) == (
        6,
        1.0,
        8.0,
        0.3,
    )
    assert isinstance(spec.negatives.gamma, float)
    assert (spec.audit.majority_binary, spec.audit.association, spec.audit.near_duplicate) == (0.51, 0.03, 8)
    for entry in fields(RunSpec):
        assert f"{entry.name}:" in FULL, f"{entry.name} is new: it needs a place in this test"
        assert getattr(spec, entry.name) != entry.default or entry.name == "catalog"


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    core = str(recipes.find("datagen/packs", "core"))
    assert load(tmp_path, "seed: 0\n") == replace(RunSpec(), packs=[core])


def test_packs_are_found_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a pack")
    found = load(tmp_path, "packs: [core, mine.yaml]\n").packs
    assert found == [str(recipes.find("datagen/packs", "core")), str(tmp_path / "mine.yaml")]
    with pytest.raises(InputError, match="corre"):
        load(tmp_path, "packs: [corre]\n")


def test_flags_win_over_the_file_and_none_does_not(tmp_path: Path) -> None:
    spec = load(tmp_path, FULL, seed=0, samples=None, catalog="other", workers=1)
    assert (spec.seed, spec.samples, spec.catalog, spec.workers, spec.out) == (0, 1000, "other", 1, "some/out")


def test_only_what_decides_the_content_belongs_to_its_identity(tmp_path: Path) -> None:
    spec = load(tmp_path, FULL)
    assert spec.decides() == load(tmp_path, FULL, workers=1, out="elsewhere", catalog="moved").decides()
    assert spec.decides() == load(tmp_path, FULL, engine="local", ray_address="").decides()
    for change in ({"seed": 8}, {"samples": 10}):
        assert spec.decides() != load(tmp_path, FULL, **change).decides()
    assert spec.decides() != load(tmp_path, FULL.replace("ratio: 2", "ratio: 3")).decides()
    assert spec.decides() == load(tmp_path, FULL.replace("association: 0.03", "association: 0.04")).decides()


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("seed: 0\nsample: 5\n", 2, r"unknown key(.|\n)*nearest allowed: 'samples'"),
        ("seed: 0\nbalance:\n  tempr: 1\n", 3, "unknown key"),
        ("seed: 0\nbalance: 3\n", 2, "mapping is needed"),
        ("seed: 0\nsamples: many\n", 2, "is needed"),
        ("seed: 0\nsamples: 1.5\n", 2, "is needed"),
        ("seed: 0\nsamples: true\n", 2, "is needed"),
        ("seed: 0\nsamples: 0\n", 2, "must be from 1"),
        ("seed: 0\nsamples: -3\n", 2, "must be from 1"),
        ("seed: zero\n", 1, "is needed"),
        ("seed: 0\npacks: core\n", 2, "is needed"),
        ("seed: 0\npacks: [3]\n", 2, "is needed"),
        ("seed: 0\nphrasings: 0\n", 2, "must be from 1 to 16"),
        ("seed: 0\nper_image: 0\n", 2, "must be from 1"),
        ("seed: 0\nworkers: 0\n", 2, "must be from 1"),
        ("seed: 0\nshard_images: 70000\n", 2, "must be from 1 to 60000"),
        ("seed: 0\nengine: rai\n", 2, r"no such engine(.|\n)*nearest allowed: 'ray'"),
        ("seed: 0\nray_address: auto\n", 2, "only the engine `ray`"),
        ("seed: 0\n\nnegatives:\n  draws: 65\n", 4, "must be from 1 to 64"),
        ("seed: 0\n\nnegatives:\n  temperature: 0\n", 4, "must be from 0.001"),
        ("seed: 0\nnegatives: {uniform: 1.5}\n", 2, "must be from 0 to 1"),
        ("seed: 0\nbalance: {family_cap: 0}\n", 2, "must be from 0.01 to 1"),
        ("seed: 0\nbalance: {ratio: 0.5}\n", 2, "must be from 1"),
        ("seed: 0\nbalance: {temper: 2}\n", 2, "must be from 0 to 1"),
        ("seed: 0\ndifficulty: {clip: 0.5}\n", 2, "must be from 1"),
        ("seed: 0\naudit:\n  majority_binary: 0.4\n", 3, "must be from 0.5 to 1"),
        ("seed: 0\naudit: {association: 2}\n", 2, "must be from 0 to 1"),
        ("seed: 0\naudit: {near_duplicate: 65}\n", 2, "must be from 0 to 64"),
        ("seed: 0\naudit: {majority: 0.5}\n", 2, "unknown key"),
        ("seed: 0\nentail:\n- test\n- tests\n", 4, "no such split"),
        ("seed: 0\nentail: [val, paraphrase]\n", 2, "no such split"),
        ("seed: 0\nentail: [val, val]\n", 2, "stands twice"),
        ("seed: 0\nentail: test\n", 2, "is needed"),
        ("seed: 0\nfamilies: {C9: 1}\n", 2, "no such family"),
        ("seed: 0\nfamilies:\n  C1: 1\n  C2: -1\n", 4, "0 or more"),
        ("seed: 0\nfamilies: {C1: much}\n", 2, "is needed"),
        ("seed: 0\nfamilies: [C1]\n", 2, "is needed"),
        ("seed: 0\nseed: 1\n", 2, "stands here and in line 1"),
        ("seed: &a 0\n", 1, "anchor"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        load(tmp_path, text)
    assert caught.value.row == line and "spec.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "words\n", ""])
def test_something_else_than_settings(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        load(tmp_path, text)


@pytest.mark.parametrize(("name", "value"), [("samples", 0), ("workers", 0), ("samples", "many")])
def test_flags_are_checked_like_the_file(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(InputError):
        load(tmp_path, "seed: 0\n", **{name: value})


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(InputError, match=r"nearest allowed: 'street'(.|\n)*products"):
        load_spec("stret")
