"""The IRSN comparison, whole, at a size that says nothing about style."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fashionkit.eval.irsn import Group, IrsnSpec, arms_of, groups
from fashionkit.eval.memory import Arrays
from fashionkit.eval.protocols import run_recipe, table_of
from fashionkit.recipes import find
from fashionkit.tables import InputError
from fashionkit.tables.typed import build
from fashionkit.tables.yamls import load_yaml

TINY = """
protocol: irsn
outfits: {images: 40, seed: 5, size: 64, shares: [0.5, 0.2, 0.3]}
others: {images: 40, seed: 6, size: 64, shares: [0.9, 0.05, 0.05]}
pretraining: {epochs: 1, lr: 0.002, batch: 16}
finetuning: {epochs: 1, lr: 0.001, batch: 8}
heads: [{epochs: 1, lr: 0.001, batch: 8}, {epochs: 2, lr: 0.001, batch: 8, dropout: 0.5, weight_decay: 1.0}]
network: {width: 16}
general: {name: timm/test_resnet, weights: random, sizes: []}
seeds: [0]
backbones:
- {name: timm/mobilenetv3_small_050@16, weights: pretrained, sizes: [12, 16], grid: full}
arms:
- {name: backbone, kind: tuned, grid: core}
- {name: masks in, kind: masks_in, masks: [bands], largest: true}
- {name: irsn, grid: core, masks: [catalog, random-catalog, shuffled-bands], network: {encoder: none}}
- {name: first, grid: core, maps: start, network: {use_regions: false, use_general: false, encoder: none, gate: mean}}
- {name: first irsn, maps: start, masks: [bands], against: first, network: {encoder: none}}
- {name: irsn end to end, kind: end_to_end, masks: [catalog], largest: true, network: {encoder: none}}
"""


def spec_of(path: Path) -> IrsnSpec:
    data, lines = load_yaml(path)
    spec: IrsnSpec = build(IrsnSpec, {key: value for key, value in data.items() if key != "protocol"}, path, lines)
    return spec


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("irsn") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def runs(recipe: Path) -> Path:
    out = recipe.parent / "out"
    assert run_recipe(str(recipe), out, workers=1) == 6 + 8
    return out


def test_each_arm_has_its_row_and_its_difference(runs: Path) -> None:
    text, rows = table_of(runs, resamples=20)
    assert len(rows) == 14 and rows[0]["size"] == 16 and rows[0]["difference"] is None
    assert {(row["arm"], row["masks"]) for row in rows if row["size"] == 12} == {
        ("backbone", "none"), ("irsn", "catalog"), ("irsn", "random-catalog"), ("irsn", "shuffled-bands"),
        ("first", "none"), ("first irsn", "bands"),
    }  # fmt: skip
    assert all(row["n"] == rows[0]["n"] > 5 for row in rows)
    for row in rows:
        if row["arm"] != "backbone":
            other = "first" if row["arm"] == "first irsn" else "backbone"
            base = next(r for r in rows if r["size"] == row["size"] and r["arm"] == other)
            gain = row["accuracy"][0] - base["accuracy"][0]
            assert row["difference"][0] == pytest.approx(gain)
    assert text.count("\n| ") == 1 + 1 + 14


def test_only_what_is_missing_is_made_again_and_comes_out_the_same(recipe: Path, runs: Path) -> None:
    files = sorted((runs / "runs").glob("*-n16-*irsn-catalog.*"))
    assert len(files) == 2
    before, others = (
        files[1].read_bytes(),
        {p: p.stat().st_mtime_ns for p in (runs / "runs").iterdir() if p not in files},
    )
    for file in files:
        file.unlink()
    said: list[str] = []
    run_recipe(str(recipe), runs, 1, said.append)
    assert "1 of 4 groups to do" in said[0]
    assert files[1].read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_the_larger_training_set_holds_the_smaller_one(recipe: Path, runs: Path) -> None:
    from fashionkit.eval.irsn_training import _Work

    spec = spec_of(recipe)
    small, large = (_Work(spec, runs, Group(spec.backbones[0], size, 0, False)).rows for size in (12, 16))
    assert set(small["train"]) < set(large["train"]) and len(small["train"]) == 12
    assert not set(large["train"]) & set(large["test"])


def test_validation_pictures_choose_how_heads_are_trained(
    recipe: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fashionkit.eval.irsn_training import _Work

    spec = spec_of(recipe)
    work = _Work(spec, runs, Group(spec.backbones[0], 16, 0, True))
    val, test = (work._labels.classes_of[work.rows[split]] for split in ("val", "test"))
    classes = np.eye(len(work.classes))
    # The first way is right on validation and wrong on test pictures, the second one the other way round.
    answers = iter([classes[val], classes[test - 1], classes[val - 1], classes[test]])
    monkeypatch.setattr(_Work, "_fit", lambda *_: None)
    monkeypatch.setattr(_Work, "_mapped", lambda *_: np.zeros((1, 1, 1, 1), np.float16))
    monkeypatch.setattr(_Work, "_predicted", lambda *_: next(answers))
    arm = next(arm for arm in spec.arms if arm.name == "first")
    assert (work.run(arm, "none").argmax(1) == (test - 1) % len(work.classes)).all()


def test_controls_keep_masks_but_not_their_places(recipe: Path, runs: Path) -> None:
    from fashionkit.eval.irsn_training import _Work

    spec = spec_of(recipe)
    work = _Work(spec, runs, Group(spec.backbones[0], 16, 0, False))
    masks, moved, others = (work._masks(name) for name in ("catalog", "random-catalog", "shuffled-catalog"))
    assert (moved.sum((2, 3), dtype=int) == masks.sum((2, 3), dtype=int)).all() and (moved != masks).any()
    rows = [next(r for r in range(len(masks)) if (others[row] == masks[r]).all()) for row in range(len(masks))]
    assert sorted(set(rows)) == sorted(rows) or len(set(rows)) > len(rows) * 0.9  # two outfits may look alike
    assert sum(row == other for row, other in enumerate(rows)) == 0


def test_mirrored_masks_stay_on_their_pictures() -> None:
    image = np.zeros((8, 64, 64, 3), np.uint8)
    image[:, :, :32] = 255
    masks = np.zeros((8, 1, 32, 32), np.uint8)
    masks[:, :, :, :16] = 255
    batch = Arrays({"image": image, "masks": masks}, {}, flip=True, seed=3).__getitems__([(0, row) for row in range(8)])
    white = batch["image"][..., 0] == 255
    assert (white == (batch["masks"][:, 0] == 1)).all()
    assert 0 < white[:, 0, 0].sum() < 8  # some are mirrored, some are not


def test_the_shipped_recipe_can_be_run() -> None:
    spec = spec_of(find("eval", "irsn"))
    found = {arm.name for group in groups(spec) for arm, _ in arms_of(spec, group)}
    assert found == {arm.name for arm in spec.arms}


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("kind: tuned", "kind: head", "of kind `tuned` is needed"),
        ("name: masks in", "name: irsn", "two arms have one name"),
        ("sizes: [12, 16]", "sizes: [12, 160]", "about 19 training pictures"),
        ("kind: masks_in", "kind: masks", "no such choice"),
        ("against: first", "against: frist", "no such arm"),
        ("network: {width", "networks: {width", "unknown key"),
        ("protocol: irsn", "protocol: isrn", "no such protocol"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path: Path, before: str, after: str, problem: str) -> None:
    assert before in TINY
    (tmp_path / "x.yaml").write_text(TINY.replace(before, after))
    with pytest.raises(InputError, match=problem):
        run_recipe(str(tmp_path / "x.yaml"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_runs_has_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs"):
        table_of(tmp_path)
