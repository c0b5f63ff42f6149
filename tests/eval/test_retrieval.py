"""The retrieval comparison, whole, on drawn pictures whose label is their colour; rankings against a slow reference."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit import recipes
from fashionkit.catalog.drawn import DrawOptions, draw_catalog
from fashionkit.catalog.splits import SplitOptions
from fashionkit.eval.protocols import run_recipe, table_of
from fashionkit.eval.retrieval import RetrievalSpec, check_retrieval
from fashionkit.eval.retrieval_table import of_classes
from fashionkit.eval.retrieval_training import rank
from fashionkit.tables import InputError, part_path, read_manifest, write_manifest, write_table
from fashionkit.tables.typed import build
from fashionkit.tables.yamls import load_yaml
from tests.made_up_shop import SHAPES, photo

RECIPE = """
protocol: retrieval
relevant: [[tone], [tone, side]]
queries: [test]
gallery: [val, test]
k: 3
seeds: [0, 1]
unknown: [Skip]
arms:
- {name: plain, backbone: timm/mobilenetv3_small_050+stages, weights: random, size: 32, width: 8}
- {name: colour, backbone: timm/mobilenetv3_small_050+stages, weights: random, size: 32, reads: [colour]}
- name: tuned
  backbone: timm/mobilenetv3_small_050+stages
  weights: random
  size: 32
  reads: [vector, colour]
  tuning: {columns: [tone], hidden: 8, epochs: 4, batch: 16}
"""
TUNED_HERE = "tuning: {columns: [tone], hidden: 8, epochs: 4, batch: 16}"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of red and of navy things, a recipe, labels (colour, a coin's side), and the finished runs."""
    folder = tmp_path_factory.mktemp("retrieval")
    shares = (("train", 0.5), ("val", 0.2), ("test", 0.3))
    draw_catalog(folder / "catalog", DrawOptions(60, size=64, workers=1, splits=SplitOptions(shares)))
    part = part_path(folder / "catalog", "images", 0)
    images, kinds = pq.read_table(part), list(SHAPES)
    tones = [("Red", "Navy Blue")[row * 7 // 3 % 2] for row in range(len(images))]
    photos = [photo(kinds[row % len(kinds)], tone, "Plain", row, 64) for row, tone in enumerate(tones)]
    column = images.schema.get_field_index("bytes")
    write_table(part, images.set_column(column, images.schema.field(column), pa.array(photos)))
    write_manifest(folder / "catalog", read_manifest(folder / "catalog", "catalog"))
    side = [None if row % 9 == 0 else "Skip" if row % 9 == 1 else "heads" if row % 2 else "tails" for row in range(60)]
    pq.write_table(pa.table({"id": images["image_id"], "tone": tones, "side": side}), folder / "labels.parquet")
    (folder / "recipe.yaml").write_text(RECIPE)
    assert run(folder, folder / "out", RECIPE) == (1 + 1 + 2) * 2
    return folder


def run(shop: Path, out: Path, recipe: str) -> int:
    path = out.parent / f"{out.name}.yaml"
    path.write_text(recipe)
    return run_recipe(str(path), out, catalog=str(shop / "catalog"), labels=str(shop / "labels.parquet"))


def test_colour_and_what_is_tuned_on_it_find_it(shop: Path) -> None:
    text, rows = table_of(shop / "out", 50)
    by = {(row["relevant"], row["arm"]): row for row in rows}
    assert len(by) == 6 and by["tone", "plain"]["difference"] is None
    assert by["tone", "colour"]["hit"][0] > 0.9 and by["tone", "tuned"]["map"][0] > by["tone", "plain"]["map"][0]
    assert by["tone", "tuned"]["seeds"] == 2 and by["tone", "colour"]["seeds"] == 1
    gained = by["tone", "colour"]["map"][0] - by["tone", "plain"]["map"][0]
    assert by["tone", "colour"]["difference"][0] == pytest.approx(gained)
    # Unknown labels neither ask nor are found.
    both = by["tone and side", "plain"]
    assert both["n"] < by["tone", "plain"]["n"] and both["gallery"] < by["tone", "plain"]["gallery"]
    assert both["classes"] <= 4 and "| same tone and side | tuned | 2 |" in text


def test_again_makes_nothing_again_and_kept_heads_give_the_same(shop: Path) -> None:
    runs = shop / "out" / "runs"
    (gone,) = runs.glob("tuned-s1-tone.json")
    gone.unlink()
    before = gone.with_suffix(".parquet").read_bytes()
    times = {path: path.stat().st_mtime_ns for path in (shop / "out").rglob("*.json")}
    run(shop, shop / "out", RECIPE)
    assert gone.with_suffix(".parquet").read_bytes() == before
    heads = [path for path in times if path.parent.name == "heads"]
    assert len(heads) == 2 and all(path.stat().st_mtime_ns == times[path] for path in heads)


def test_heads_of_another_comparison_are_taken_as_they_are(shop: Path) -> None:
    recipe = RECIPE.replace(TUNED_HERE, f"tuning: {{heads: {shop / 'out'}}}")
    run(shop, shop / "other", recipe)
    assert not (shop / "other" / "heads").exists()
    own, other = (pq.read_table(shop / name / "runs" / "tuned-s0-tone.parquet") for name in ("out", "other"))
    assert own.equals(other)
    with pytest.raises(InputError, match="other weights or another preparation"):
        run(shop, shop / "larger", recipe.replace("size: 32\n", "size: 64\n"))
    with pytest.raises(InputError, match="no heads of seed 7"):
        run(shop, shop / "unheard", recipe.replace("seeds: [0, 1]", "seeds: [7]"))


def test_rankings_leave_out_the_own_group() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(12, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes, groups = rng.integers(3, size=12), rng.integers(5, size=12)
    relevant, there = rank(vectors[:4], vectors, (classes[:4], classes), (groups[:4], groups))
    for query in range(4):
        rest = [row for row in range(12) if groups[row] != groups[query]]
        rest.sort(key=lambda row: -float(vectors[query] @ vectors[row]))
        slow = [bool(classes[row] == classes[query]) for row in rest]
        assert relevant[query, : len(slow)].tolist() == slow and not relevant[query, len(slow) :].any()
        assert there[query] == sum(slow)


def test_by_class_counts_classes_alike() -> None:
    assert of_classes(np.array([1.0, 1.0, 1.0, 0.0]), np.array([4, 4, 4, 9])) == 0.5


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name: colour", "name: plain", "each once"),
        ("queries: [test]", "queries: [train]", "also ask"),
        ("queries: [test]", "queries: []", "empty"),
        ("relevant: [[tone], [tone, side]]", "relevant: [[]]", "empty"),
        ("k: 3", "k: 0", "a place or more"),
        ("reads: [colour]", "reads: []", "reads nothing"),
        ("reads: [vector, colour]", "reads: [colour]", "and the vector"),
        ("reads: [vector, colour]", "width: 3", "leave `width` out"),
        ("width: 8", "width: 100000", "more than the vector has"),
        ("[tone, side]", "[tone, sheen]", "no such column"),
        ("unknown: [Skip]", "unknown: [Red, Navy Blue]", "0 pictures ask"),
    ],
)
def test_misuse_is_told(shop: Path, tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        run(shop, tmp_path / "out", RECIPE.replace(old, new))


@pytest.mark.parametrize(
    ("name", "problem"), [("retrieval_products", None), ("retrieval_clothing", "run that comparison first")]
)
def test_the_shipped_recipes_can_be_run(
    name: str, problem: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipes.find("eval", name)
    data, lines = load_yaml(path)
    body = {key: value for key, value in data.items() if key != "protocol"} | {"catalog": ".", "labels": "."}
    monkeypatch.chdir(tmp_path)
    with nullcontext() if problem is None else pytest.raises(InputError, match=problem):
        check_retrieval(build(RetrievalSpec, body, path, lines), path, lines)
