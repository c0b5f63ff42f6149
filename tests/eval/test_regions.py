"""The regions' comparison, whole, on drawn outfits with masks; views against a slow reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.eval.protocols import run_recipe, table_of
from fashionkit.eval.regions import RegionBackbone, RegionsSpec, kept_folder
from fashionkit.eval.regions_training import _seen, item_cells, others, painted, read_items
from fashionkit.tables import InputError
from fashionkit.vision.feature_store import FeatureStore

RECIPE = """
protocol: regions
seeds: [0]
folds: 2
least: 3
decays: [0.1]
steps: 5
backbones:
- {name: coarse, backbone: timm/mobilenetv3_small_050, weights: random, size: 32, views: [global, box, regions, mask]}
- name: fine
  backbone: timm/mobilenetv3_small_050@16
  weights: random
  size: 64
  views: [global, regions, shuffled, both]
"""


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of drawn outfits, a recipe, and its finished runs."""
    folder = tmp_path_factory.mktemp("regions")
    draw_catalog(folder / "catalog", DrawOptions(30, size=64, workers=1))
    (folder / "recipe.yaml").write_text(RECIPE)
    assert run_recipe(str(folder / "recipe.yaml"), folder / "out", catalog=str(folder / "catalog")) == 8
    return folder


def spec_of(street: Path, **changes: int) -> RegionsSpec:
    settings = {"folds": 2, "least": 3, **changes}
    views = ["global", "regions", "shuffled"]
    fine = RegionBackbone("fine", "timm/mobilenetv3_small_050@16", views, "random", 64)  # type: ignore[arg-type]
    return RegionsSpec([fine], [0], catalog=str(street / "catalog"), **settings)  # type: ignore[arg-type]


def test_every_item_is_tested_once_in_every_view(street: Path) -> None:
    text, rows = table_of(street / "out", 50)
    items = read_items(spec_of(street))
    assert [(row["backbone"], row["view"]) for row in rows][:4] == [
        ("coarse", view) for view in ("global", "box", "regions", "mask")
    ]
    assert {row["n"] for row in rows} == {len(items.rows)} and {row["seeds"] for row in rows} == {1}
    by = {(row["backbone"], row["view"]): row for row in rows}
    assert by["coarse", "mask"]["width"] == 1 and by["fine", "regions"]["finer"] is not None
    assert by["coarse", "global"]["difference"] is None and by["fine", "shuffled"]["finer"] is None
    gained = by["fine", "regions"]["accuracy"][0] - by["fine", "global"]["accuracy"][0]
    assert by["fine", "regions"]["difference"][0] == pytest.approx(gained)
    assert "| fine | shuffled |" in text and f"{len(items.classes)} categories" in text


def test_again_makes_nothing_again(street: Path) -> None:
    runs = street / "out" / "runs"
    (runs / "fine-regions-s0.json").unlink()
    times = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    before = (runs / "fine-regions-s0.parquet").read_bytes()
    run_recipe(str(street / "recipe.yaml"), street / "out", catalog=str(street / "catalog"))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (runs / "fine-regions-s0.parquet").read_bytes() == before
    assert json.loads((runs / "fine-regions-s0.json").read_text())["settings"]["view"] == "regions"


def test_what_a_region_shows_is_the_mean_of_its_cells(street: Path) -> None:
    spec = spec_of(street)
    items, store = read_items(spec), FeatureStore(kept_folder(street / "out", spec.backbones[0], "regions"))
    cells = item_cells(spec, items, store)
    seen, wrong = (_seen(view, items, store, cells, 0) for view in ("regions", "shuffled"))
    both = _seen("both", items, store, cells, 0)
    assert (both == np.concatenate([seen, cells.flatten(1).numpy()], 1)).all()
    other = others(items, 0)
    for number in (0, 7, len(items.rows) - 1):
        of_picture = store.maps([items.rows[number]["image_id"]])[0].astype(np.float64)
        for found, whose in ((seen, number), (wrong, int(other[number]))):
            soft = cells[whose].numpy()
            inside = (soft >= 0.25 - 1e-5) | (
                (soft == soft.max()) & (np.arange(soft.size) == soft.argmax()).reshape(soft.shape)
            )
            assert found[number] == pytest.approx(of_picture[:, inside].mean(1), rel=1e-3, abs=1e-4)


def test_shuffled_masks_are_of_another_picture_and_the_seed_says_of_which(street: Path) -> None:
    items = read_items(spec_of(street))
    pictures = np.array([row["image_id"] for row in items.rows])
    assert (pictures[others(items, 0)] != pictures).all()
    assert (others(items, 0) == others(items, 0)).all() and (others(items, 0) != others(items, 1)).any()


def test_a_mask_is_cut_where_its_box_leaves_the_picture() -> None:
    row = {"box": [-1.0, 2.0, 3.0, 4.0]}
    found = painted(np.ones((4, 3), bool), row, (5, 6))
    assert found.sum() == 2 * 3 and found[2:, :2].all()


def test_rare_categories_are_left_out(street: Path) -> None:
    few, many = read_items(spec_of(street)), read_items(spec_of(street, least=5))
    assert set(many.classes) < set(few.classes) and len(many.rows) < len(few.rows)
    assert np.bincount(few.truth).min() >= 3 and np.bincount(many.truth).min() >= 5
    with pytest.raises(InputError, match="fewer than two categories"):
        read_items(spec_of(street, least=1000))


def test_folds_need_groups(street: Path) -> None:
    with pytest.raises(InputError, match="as many groups"):
        read_items(spec_of(street, folds=31))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("folds: 2", "folds: 1", "two folds"),
        ("decays: [0.1]", "decays: [0]", "above 0"),
        ("name: fine", "name: coarse", "each once"),
        ("[global, regions, shuffled, both]", "[global, global]", "views"),
        ("[global, regions, shuffled, both]", "[glance]", "no such choice"),
    ],
)
def test_misuse_is_told(street: Path, tmp_path: Path, old: str, new: str, problem: str) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace(old, new))
    with pytest.raises(InputError, match=problem):
        run_recipe(str(tmp_path / "recipe.yaml"), tmp_path / "out", catalog=str(street / "catalog"))
    assert not (tmp_path / "out").exists()


def test_a_catalogue_must_be_there(street: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="catalog"):
        run_recipe(str(street / "recipe.yaml"), tmp_path / "out", catalog=str(tmp_path / "none"))


def test_the_shipped_recipe_is_one(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fashionkit.eval.regions.run_shards", lambda *_: [])
    assert run_recipe("regions_street", tmp_path / "out", catalog=str(street / "catalog")) == 11 * 3
