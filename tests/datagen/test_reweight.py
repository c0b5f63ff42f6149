"""From losses to the next round: what is learnt is what was planted, what is wrong is named, balance stays."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.cli import main
from fashionkit.datagen.context import Context
from fashionkit.datagen.feedback import CELLS, KNOWN, Feedback
from fashionkit.datagen.generate import generate
from fashionkit.datagen.negatives import NegativeOptions, category_drawer, value_drawer
from fashionkit.datagen.packs import FAMILIES
from fashionkit.datagen.reweight import SET_KEY, NextOptions, ReweightReport, reweight
from fashionkit.datagen.scene import Scenes, load_scenes
from fashionkit.datagen.spec import load_spec
from fashionkit.datagen.store import VQAStore
from fashionkit.tables import (
    InputError,
    Manifest,
    part_path,
    read_manifest,
    read_table,
    verify,
    write_manifest,
    write_table,
)
from tests.datagen.conftest import Made, cell_of, made, make_catalog, random_pictures, samples_of, told

NO_LOSSES = {"loss": pa.array([], pa.float64()), "qid": pa.array([], pa.int64())}
ASKED = {family: 0.0 for family in FAMILIES if family not in ("B1", "B2", "B5", "C1")}
HARD = 3.0  # what planted losses are higher by
Columns = dict[str, Any]


def written(path: Path, columns: Columns, metadata: dict[bytes, bytes] | None = None) -> Path:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


def learn(found: Made, folder: Path, columns: Columns, **options: Any) -> ReweightReport:
    return reweight(found.path, written(folder / "losses.parquet", columns), folder / "next", NextOptions(**options))


def train(found: Made) -> dict[str, np.ndarray]:
    """Columns of the samples of train."""
    table = pa.Table.from_pylist(found.rows["train"])
    return {name: table[name].to_numpy() for name in table.column_names}


@pytest.fixture(scope="module")
def scenes(outfits: Path) -> Scenes:
    return load_scenes(outfits)


@pytest.fixture(scope="module")
def planted(outfit_set: Made) -> np.ndarray:
    """(n,) losses of train: open questions harder than others, one picture in five harder yet, and chance."""
    rows, rng = train(outfit_set), np.random.default_rng(0)
    store = VQAStore(outfit_set.path)
    hard = np.array([t.balance == "tempered" for t in store.pack.templates])
    found: np.ndarray = (
        HARD * hard[rows["template"]] + (rows["image"] % 5 == 0) + rng.normal(0, 0.5, len(hard[rows["template"]]))
    )
    return found


# What is learnt.


def test_pictures_are_hard_beyond_their_questions(outfit_set: Made, planted: np.ndarray, tmp_path: Path) -> None:
    report = learn(outfit_set, tmp_path, {"qid": train(outfit_set)["qid"], "loss": planted})
    store, feedback = VQAStore(outfit_set.path), Feedback(tmp_path / "next" / "feedback")
    images = read_table(feedback.path, "images").to_pylist()
    excess = {store.image_ids.index(row["image_id"]): row["excess"] for row in images}
    hard = [e for image, e in excess.items() if image % 5 == 0]
    easy = [e for image, e in excess.items() if image % 5]
    assert min(hard) > max(easy) and np.mean(hard) - np.mean(easy) == pytest.approx(1, abs=0.1)
    assert sum(row["n"] for row in images) == report.used == len(planted)
    assert feedback.shrink["images"] < 5 and report.explained["unit"] > 0.7 > 0.2 > report.explained["picture"] > 0.05
    items = read_table(feedback.path, "items")
    assert np.average(np.abs(items["excess"]), weights=items["n"]) < 0.25, "an item is hard beyond its picture only"
    # Kinds of questions are unequally many in pictures, and yet make none look hard.
    left = [e - (image % 5 == 0) for image, e in excess.items()]
    assert np.std(left) < 0.1


def test_items_are_hard_beyond_their_picture(outfit_set: Made, scenes: Scenes, tmp_path: Path) -> None:
    rows, store = train(outfit_set), VQAStore(outfit_set.path)
    named = zip(store.pack.templates, store.slots, strict=True)
    subject = np.array([n.index("cat") if "cat" in n and t.family in ("B2", "C1") else -1 for t, n in named])
    category = np.choose(np.maximum(subject[rows["template"]], 0), [rows[f"slot{i}"] for i in range(4)])
    vocab = store.vocab
    feet = [number for key, number in vocab.category.items() if key in ("shoes", "boots", "footwear")]
    about = (subject[rows["template"]] >= 0) & np.isin(category, feet) & (rows["image"] % 2 == 0)
    loss = HARD * about + np.random.default_rng(1).normal(0, 0.3, len(about))
    learn(outfit_set, tmp_path, {"qid": rows["qid"], "loss": loss})
    of_image, of_item = Feedback(tmp_path / "next" / "feedback").scores(scenes)
    train_items = scenes.split[scenes.image] == 0
    planted = train_items & np.isin(scenes.leaf, feet) & (scenes.image % 2 == 0)
    asked = planted & np.array([(about & (rows["image"] == image)).sum() > 3 for image in scenes.image.tolist()])
    assert asked.sum() > 5 and of_item[asked].min() > of_item[train_items & ~planted].max()
    assert (of_item[~train_items] == 0).all() and (of_image[scenes.split > 0] == 0).all()


def test_chance_gets_no_weight(outfit_set: Made, scenes: Scenes, tmp_path: Path) -> None:
    rows, most = train(outfit_set), []
    for seed in range(6):
        (tmp_path / str(seed)).mkdir()
        loss = np.random.default_rng(seed).normal(size=len(rows["qid"]))
        learn(outfit_set, tmp_path / str(seed), {"qid": rows["qid"], "loss": loss})
        _, of_item = Feedback(tmp_path / str(seed) / "next" / "feedback").scores(scenes)
        most.append(float(np.abs(of_item).mean()))
    assert np.median(most) < 0.3, "z-scores would have 0.8"


def test_scores_are_joined_by_picture_not_by_row(outfit_set: Made, planted: np.ndarray, tmp_path: Path) -> None:
    learn(outfit_set, tmp_path, {"qid": train(outfit_set)["qid"], "loss": planted})
    pictures = random_pictures(tmp_path / "some", 90, 3, one=False)
    kept = [p for number, p in enumerate(reversed(pictures)) if number % 3]
    other = load_scenes(make_catalog(tmp_path / "other", kept, closed_categories=["item"], countable=["item"]))
    feedback = Feedback(tmp_path / "next" / "feedback")
    of_image, _ = feedback.scores(other)
    first = load_scenes(outfit_set.catalog)
    known = dict(zip(first.image_ids, feedback.scores(first)[0].tolist(), strict=True))
    theirs = np.array([known[i] for i in other.image_ids])
    assert len(theirs) == 60 and np.corrcoef(of_image, theirs)[0, 1] > 0.999
    strange = make_catalog(tmp_path / "strange", [replace(p, image_id="x" + p.image_id) for p in pictures])
    with pytest.raises(InputError, match="names no picture of this catalogue"):
        feedback.scores(load_scenes(strange))


def test_an_item_has_what_was_said_of_it_under_any_name(scenes: Scenes, tmp_path: Path) -> None:
    feet = [scenes.vocab.category[key] for key in ("shoes", "boots")]
    item = int(np.flatnonzero(np.isin(scenes.leaf, feet))[0])
    image_id, leaf = scenes.image_ids[scenes.image[item]], scenes.vocab.key[scenes.leaf[item]]
    said = {leaf: (2, 1.0), "footwear": (4, 4.0), "hat": (9, 9.0), "of another ontology": (9, 9.0)}
    items = [{"image_id": image_id, "category": c, "n": n, "excess": e} for c, (n, e) in said.items()]
    items.append({"image_id": "elsewhere", "category": leaf, "n": 9, "excess": 9.0})
    images = pa.table({"image_id": [image_id], "n": [6], "excess": [3.0]})
    for name, table in (("images", images), ("items", pa.Table.from_pylist(items))):
        write_table(part_path(tmp_path, name, 0), table)
    params = {"shrink": {"cells": 1, "images": 6, "items": 3}, "spread": {"cells": 1, "images": 3, "items": 4}}
    write_manifest(tmp_path, Manifest("feedback", 1, params=params))
    of_image, of_item = Feedback(tmp_path).scores(scenes)
    of_picture = 3.0 * 6 / (6 + 6)
    assert of_image[scenes.image[item]] == pytest.approx(of_picture / 5)
    assert of_item[item] == pytest.approx((of_picture + (2 * 1.0 + 4 * 4.0) / (2 + 4 + 3)) / 5)
    elsewhere = scenes.image != scenes.image[item]
    assert not of_item[elsewhere].any() and np.count_nonzero(of_image) == 1


def test_what_is_told_for_what_is_counted_in_open_questions_alone(outfit_set: Made, tmp_path: Path) -> None:
    rows, store = train(outfit_set), VQAStore(outfit_set.path)
    vocab, colour = store.vocab, lambda key: store.vocab.value["colour", key]
    red, navy = rows["answer"] == colour("red"), rows["answer"] == colour("navy")
    told_as = rows["answer"].astype(np.int64)
    told_as[red] = colour("orange")
    told_as[navy] = vocab.category["hat"]  # of another kind: no confusion
    report = learn(outfit_set, tmp_path, {"qid": rows["qid"], "loss": np.ones(len(red)), "predicted": told_as})
    confusion = read_table(tmp_path / "next" / "feedback", "confusion").to_pylist()
    table = {(row["answer"], row["predicted"]): row["count"] for row in confusion}
    opened = np.array([t.balance == "tempered" for t in store.pack.templates])[rows["template"]]
    assert table["colour/red", "colour/orange"] == (red & opened).sum() > 10
    assert (red & ~opened).any() and ("colour/red", "colour/red") not in table
    assert not any(a == "colour/navy" for a, _ in table) and ("shoes", "shoes") in table
    assert not any(key in ("yes", "no", "not_present") or "+" in key for pair in table for key in pair)
    assert report.confused == [
        {"answer": "colour/red", "predicted": "colour/orange", "share": 1.0, "n": int((red & opened).sum())}
    ]


# What becomes of it.


def matrix(store: VQAStore, pairs: dict[tuple[str, str], int]) -> Columns:
    ids = {key: number for number, key in enumerate(store.vocab.key)}
    return {
        "answer": [ids[a] for a, _ in pairs],
        "predicted": [ids[b] for _, b in pairs],
        "count": list(pairs.values()),
    }


def test_a_matrix_makes_what_is_confused_more_alike(outfit_set: Made, scenes: Scenes, tmp_path: Path) -> None:
    pairs = {("colour/red", "colour/white"): 60, ("colour/red", "colour/red"): 40, ("shoes", "boots"): 50}
    report = learn(outfit_set, tmp_path, matrix(VQAStore(outfit_set.path), pairs), alpha=0.25)
    assert report.used == 3 and report.explained == {} and not report.rejected
    spec = load_spec(str(tmp_path / "next" / "spec.yaml"))
    assert (spec.negatives.alpha, spec.difficulty.loss) == (0.25, 0.0)
    feedback, plain = Feedback(spec.feedback), value_drawer(scenes, "colour", NegativeOptions())
    one, two = (scenes.vocab.value["colour", k] - plain.base for k in ("red", "white"))
    mixed = value_drawer(scenes, "colour", spec.negatives, feedback)
    believed = 0.75 * 100 / (100 + KNOWN)
    assert mixed.similar[one, two] == pytest.approx((1 - believed) * plain.similar[one, two] + believed * 0.6, rel=1e-5)
    assert mixed.similar[two] == pytest.approx(plain.similar[two]), "of white nothing is known"
    assert mixed.hardest[one] == pytest.approx(mixed.similar[one][[i for i in range(plain.n) if i != one]].max())
    share = [
        (drawer.guide == one_id(scenes, "white"))[drawer.codes & 0xFFFF == one_id(scenes, "red")].mean()
        for drawer in (plain, mixed)
    ]
    assert share[1] > 2 * share[0] > 0
    shoes, boots = (scenes.vocab.category[k] - scenes.vocab.category["item"] for k in ("shoes", "boots"))
    kinds = [category_drawer(scenes, spec.negatives, False, f).similar[shoes, boots] for f in (None, feedback)]
    assert kinds[1] != kinds[0] and kinds[1] == pytest.approx(kinds[0] + 0.75 * 50 / 70 * (1 - kinds[0]), rel=1e-5)


def test_a_wrong_value_is_as_hard_as_the_right_one_is_taken_for_it(
    scenes: Scenes, outfit_set: Made, tmp_path: Path
) -> None:
    learn(outfit_set, tmp_path, matrix(VQAStore(outfit_set.path), {("colour/red", "colour/white"): 1000}), alpha=0.0)
    spec = replace(outfit_set.spec, feedback=str(tmp_path / "next" / "feedback"), negatives=NegativeOptions(alpha=0.0))
    context = Context(scenes, VQAStore(outfit_set.path).pack, spec)
    unit = next(u for u in context.units if context.template(u).id == "B2.verify" and u.attributes == ("colour",))
    c = context.proposer.propose(unit, 0, len(scenes.image_ids))
    hard = context.judge.judge(unit, c).confusable
    asked, true = c.batch.slots["v"], scenes.value[c.row, scenes.attributes.index("colour")]
    plain, known = value_drawer(scenes, "colour", NegativeOptions()), 1000 / (1000 + KNOWN)
    for right, wrong in (("red", "white"), ("white", "red")):
        rows = (true == one_id(scenes, right)) & (asked == one_id(scenes, wrong))
        alike = plain.similar[one_id(scenes, right) - plain.base, one_id(scenes, wrong) - plain.base]
        told_so = known + (1 - known) * alike if right == "red" else alike
        assert rows.sum() > 3 and hard[rows] == pytest.approx(told_so, rel=1e-5)


def one_id(scenes: Scenes, key: str) -> int:
    return scenes.vocab.value["colour", key]


@pytest.fixture(scope="module")
def few(outfits: Path, tmp_path_factory: pytest.TempPathFactory, unsynced: None) -> Made:
    """Few questions of many that could be asked, so that there is a choice."""
    out = tmp_path_factory.mktemp("sets") / "few"
    return made(outfits, out, families=ASKED, drop=["B2.modified", "B2.kind_value", "C1.modified"], samples=600)


def next_round(few: Made, folder: Path, out: str, workers: int = 1, **changes: float) -> Made:
    text = (folder / "next" / "spec.yaml").read_text()
    for key, value in changes.items():
        old = next(line for line in text.splitlines() if line.strip().startswith(f"{key}:"))
        text = text.replace(old, f"{old.split(key)[0]}{key}: {value}")
    (folder / "next" / f"{out}.yaml").write_text(text)
    places = {"catalog": str(few.catalog), "out": str(folder / out)}
    spec = load_spec(str(folder / "next" / f"{out}.yaml"), workers=workers, **places)
    return Made(few.catalog, folder / out, spec, generate(spec), samples_of(folder / out))


def sides(found: Made) -> Counter[tuple[Any, ...]]:
    """How many samples each side of each cell of a yes-no question has."""
    store, count = VQAStore(found.path), Counter[tuple[Any, ...]]()
    for split, t, slots, row in told(store, found.rows, ("train", "val", "test")):
        if t.balance == "binary":
            count[split, t.id, cell_of(t, slots, store), row["answer"]] += 1
    return count


def test_the_next_round_asks_about_hard_pictures_and_stays_balanced(few: Made, tmp_path: Path) -> None:
    rows = train(few)
    loss = (rows["image"] % 5 == 0) + np.random.default_rng(0).normal(0, 0.2, len(rows["image"]))
    learn(few, tmp_path, {"qid": rows["qid"], "loss": loss}, loss=0.0, item_loss=3.0)
    hard, plain = next_round(few, tmp_path, "hard"), next_round(few, tmp_path, "plain", item_loss=0.0)

    def share(found: Made) -> float:
        return float(np.mean(train(found)["image"] % 5 == 0))

    assert share(hard) > 1.4 * share(plain)
    assert len(hard.rows["train"]) == pytest.approx(len(plain.rows["train"]), rel=0.05)
    count = sides(hard)
    assert len(count) > 50
    for (*cell, answer), many in count.items():
        assert count[(*cell, 3 - answer)] == many


def kinds(found: Made) -> Counter[tuple[Any, ...]]:
    """How many samples of train each cell has, by template."""
    store, count = VQAStore(found.path), Counter[tuple[Any, ...]]()
    for _, t, slots, _row in told(store, found.rows, ("train",)):
        count[t.id, tuple(store.vocab.key[i] for i in cell_of(t, slots, store)[0:-1])] += 1
    return count


def test_the_next_round_has_more_of_hard_kinds_and_stays_balanced(few: Made, tmp_path: Path) -> None:
    rows, store, words = train(few), VQAStore(few.path), ("colour/red", "colour/navy", "sleeves/long")
    hard_words = [store.vocab.key.index(word) for word in words]
    verify_it = [t.id for t in store.pack.templates].index("B2.verify")
    about = (rows["template"] == verify_it) & np.isin(rows["slot1"], hard_words)
    learn(few, tmp_path, {"qid": rows["qid"], "loss": about + np.random.default_rng(0).normal(0, 0.1, len(about))})
    hard, plain = next_round(few, tmp_path, "hard"), next_round(few, tmp_path, "plain", loss=0.0)

    def share(found: Made, *ids: str) -> float:
        count = {cell: n for (template, cell), n in kinds(found).items() if template == ids[0]}
        return sum(n for cell, n in count.items() if set(cell) & set(words)) / sum(count.values())

    assert share(hard, "B2.verify") > 1.3 * share(plain, "B2.verify") > 0.1
    assert share(hard, "B5.not") > 1.3 * share(plain, "B5.not"), "a negation follows its statement"
    totals = [Counter(t for (t, _), n in kinds(found).items() for _ in range(n)) for found in (hard, plain)]
    assert totals[0]["B1.exist"] == pytest.approx(totals[1]["B1.exist"], rel=0.25), "families keep their shares"
    count = sides(hard)
    for (*cell, answer), many in count.items():
        assert count[(*cell, 3 - answer)] == many
    said = {(r["image"], r["slot0"], r["slot1"]) for r in hard.rows["train"] if r["template"] == verify_it}
    negated = [t.id for t in store.pack.templates].index("B5.not")
    negations = {(r["image"], r["slot0"], r["slot1"]) for r in hard.rows["train"] if r["template"] == negated}
    assert negations and negations <= said
    reasons = Counter[str]()
    for row in read_table(hard.path, "rejects").to_pylist():
        reasons[row["reason"]] += row["count"]
    assert reasons["easy for the model whose feedback the spec names"] > 100


def test_cells_are_joined_by_their_words(scenes: Scenes, tmp_path: Path) -> None:
    said = [
        ("shoes", "colour/red", 8, 2.0),
        ("shoes", "of another ontology", 8, 2.0),
        ("boots", "colour/navy", 2, -1.0),
    ]
    table = {
        "template": [*["B2.verify"] * 3, "C2.choose"],
        "attributes": [*["colour"] * 3, "colour"],
        "slots": [*([cat, v] for cat, v, _, _ in said), ["shoes"]],  # the last has a slot too few
        "n": [*(n for _, _, n, _ in said), 5],
        "excess": [*(e for _, _, _, e in said), 1.0],
    }
    write_table(part_path(tmp_path, "cells", 0), pa.table(table, schema=CELLS))
    levels = {"cells": 2.0, "images": 1.0, "items": 1.0}
    write_manifest(tmp_path, Manifest("feedback", 1, params={"shrink": levels, "spread": {**levels, "cells": 0.5}}))
    feedback, vocab = Feedback(tmp_path), scenes.vocab
    ranges = [(0, len(vocab)), (0, len(vocab))]
    ids, effect = feedback.cells("B2.verify", ("colour",), vocab, ranges)
    order = np.argsort(effect)
    assert [[vocab.key[i] for i in row] for row in ids[order].tolist()] == [
        ["boots", "colour/navy"],
        ["shoes", "colour/red"],
    ]
    assert effect[order] == pytest.approx([-1.0 * 2 / (2 + 2) / 0.5, 2.0 * 8 / (8 + 2) / 0.5])
    for template, attributes, ranged in (("C2.choose", ("colour",), ranges), ("B2.verify", ("sleeves",), ranges)):
        assert [len(part) for part in feedback.cells(template, attributes, vocab, ranged)] == [0, 0]
    with pytest.raises(InputError, match=r"holds no losses, which `difficulty\.item_loss` weighs"):
        feedback.scores(scenes)


def test_of_easy_cells_a_share_is_left_out_and_the_hardest_keeps_all(
    outfit_set: Made, scenes: Scenes, tmp_path: Path
) -> None:
    rows, store = train(outfit_set), VQAStore(outfit_set.path)
    verify_it = [t.id for t in store.pack.templates].index("B2.verify")
    about = (rows["template"] == verify_it) & (rows["slot1"] == one_id(scenes, "red"))
    learn(outfit_set, tmp_path, {"qid": rows["qid"], "loss": about * 1.0})
    spec = load_spec(str(tmp_path / "next" / "spec.yaml"))
    context = Context(scenes, store.pack, spec)
    for unit in context.units:
        c = context.proposer.propose(unit, 0, len(scenes.image_ids))
        easy = context.judge._easy(unit, c)
        if context.template(unit).id == "B1.exist":
            assert easy.mean() < 0.1, "of a family without hard cells nothing is left out"
        if context.template(unit).id == "B2.verify" and unit.attributes == ("colour",):
            red = c.batch.slots["v"] == one_id(scenes, "red")
            assert 0 < easy[~red].mean() < 1 and easy[red].mean() < 0.5 * easy[~red].mean()


def test_feedback_without_weight_changes_no_sample(few: Made, tmp_path: Path) -> None:
    rows = train(few)
    learn(few, tmp_path, {"qid": rows["qid"], "loss": rows["image"] * 1.0}, seed=few.spec.seed, loss=0.0)
    again = next_round(few, tmp_path, "again")
    assert again.rows == few.rows


def test_the_same_bytes_for_any_number_of_workers_and_any_place_of_the_feedback(few: Made, tmp_path: Path) -> None:
    rows = train(few)
    learn(few, tmp_path, {"qid": rows["qid"], "loss": rows["image"] % 7 * 1.0, "predicted": rows["answer"]})
    one, two = next_round(few, tmp_path, "one"), next_round(few, tmp_path, "two", workers=2)
    (tmp_path / "next").rename(tmp_path / "moved")
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "spec.yaml").write_text(
        (tmp_path / "moved" / "spec.yaml").read_text().replace("feedback: feedback", "feedback: ../moved/feedback")
    )
    three = next_round(few, tmp_path, "three")
    files = [read_manifest(found.path).files for found in (one, two, three)]
    assert files[0] == files[1] == files[2]
    names = [read_manifest(found.path).params["identity"] for found in (one, two, three)]
    assert names[0] == names[1] == names[2]


def test_another_feedback_is_another_set(few: Made, tmp_path: Path) -> None:
    rows, decides = train(few), []
    for name, loss in (("a", rows["image"] % 7), ("b", rows["image"] % 5)):
        (tmp_path / name).mkdir()
        learn(few, tmp_path / name, {"qid": rows["qid"], "loss": loss * 1.0})
        decides.append(load_spec(str(tmp_path / name / "next" / "spec.yaml")).decides())
    assert decides[0]["feedback"] != decides[1]["feedback"]
    assert {k: v for k, v in decides[0].items() if k != "feedback"} == {
        k: v for k, v in decides[1].items() if k != "feedback"
    }


def test_the_spec_keeps_the_settings_of_the_set(few: Made, tmp_path: Path) -> None:
    learn(few, tmp_path, {"qid": train(few)["qid"], "loss": np.ones(len(few.rows["train"]))})
    spec = load_spec(str(tmp_path / "next" / "spec.yaml"))
    assert (spec.seed, spec.samples, spec.families, spec.shard_images) == (1, 600, ASKED, 30)
    assert spec.packs == load_spec("drawn").packs and not (tmp_path / "next" / "packs").exists()


def test_packs_that_are_not_the_shipped_ones_come_along(few: Made, tmp_path: Path) -> None:
    import shutil

    copy = Made(few.catalog, Path(shutil.copytree(few.path, tmp_path / "set")), few.spec, few.report, few.rows)
    pack = next((copy.path / "packs").glob("*.yaml"))
    pack.write_text(pack.read_text() + "# mine\n")
    learn(copy, tmp_path, {"qid": train(few)["qid"], "loss": np.ones(len(few.rows["train"]))})
    assert load_spec(str(tmp_path / "next" / "spec.yaml")).packs == [str(tmp_path / "next" / "packs" / pack.name)]
    assert (tmp_path / "next" / "packs" / pack.name).read_text() == pack.read_text()


# What is wrong.


def test_rows_that_cannot_be_used_are_counted_and_listed(outfit_set: Made, tmp_path: Path) -> None:
    n, good = len(outfit_set.rows["train"]), 40
    qid = [*range(good), 7, None, -3, 10**9, 41, 42, 43, 44, n, 45]
    loss = [*[1.0] * good, 2.0, 1.0, 1.0, 1.0, float("nan"), None, float("inf"), 1e30, 1.0, 1.0]
    told_as = [*[1] * good, 1, 1, 1, 1, 1, 1, 1, 1, 1, 65_000]
    report = learn(outfit_set, tmp_path, {"qid": qid, "loss": loss, "predicted": told_as})
    assert report.rejected == {
        "no such qid in the set": 3,
        "the loss is no number, or beyond 1,000,000": 4,
        "the predicted answer is not in the vocabulary": 1,
        "the qid stands more than once": 2,
        "not of the split train": 1,
    }
    assert report.used == good - 1
    rejects = read_table(tmp_path / "next" / "feedback", "rejects").to_pylist()
    assert [r["row"] for r in rejects] == [8, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50]
    assert {r["row"] for r in rejects if "more than once" in r["reason"]} == {8, 41}
    assert verify(tmp_path / "next" / "feedback") == []


def test_rows_of_a_matrix_that_cannot_be_used(outfit_set: Made, tmp_path: Path) -> None:
    vocab = VQAStore(outfit_set.path).vocab
    red, white, hat = vocab.value["colour", "red"], vocab.value["colour", "white"], vocab.category["hat"]
    columns = {"answer": [red, 9999, red, red, 1], "predicted": [white, red, hat, white, 2], "count": [5, 1, 1, -1, 9]}
    report = learn(outfit_set, tmp_path, columns)
    assert report.used == 1 and report.rejected == {
        "the right answer is not in the vocabulary": 1,
        "the count is not from 0 to 10^12": 1,
        "not two values of one attribute, nor two categories": 2,
    }


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (NO_LOSSES, "no row of the file can be used.*no rows"),
        ({"qid": [10**9], "loss": [1.0]}, "no row of the file can be used.*no such qid in the set: 1"),
        ({"loss": [1.0]}, "no column 'qid'"),
        ({"qid": [1], "cost": [1.0]}, "no column 'loss'"),
        ({"answer": [1], "count": [1]}, "no column 'predicted'"),
        ({"qid": ["1"], "loss": [1.0]}, "a whole number is needed here.*string"),
        ({"qid": [1.5], "loss": [1.0]}, "a whole number is needed here.*double"),
        ({"qid": [1], "loss": ["high"]}, "a number is needed here"),
        ({"qid": [1], "loss": [1.0], "predicted": ["red"]}, "column 'predicted': a whole number"),
    ],
)
def test_files_that_cannot_be_used(outfit_set: Made, columns: Columns, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"(?s){words}"):
        learn(outfit_set, tmp_path, columns)
    assert not (tmp_path / "next").exists(), "nothing is left behind"


def test_damaged_and_missing_files(outfit_set: Made, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"PAR1 and nothing else")
    for name, words in (("bad", "damaged or not Parquet"), ("none", "no such file"), (".", "no such file")):
        with pytest.raises(InputError, match=words):
            reweight(outfit_set.path, tmp_path / name, tmp_path / "next", NextOptions())


def test_losses_of_another_set_are_refused(outfit_set: Made, tmp_path: Path) -> None:
    columns = {"qid": [1, 2], "loss": [1.0, 2.0]}
    own = VQAStore(outfit_set.path).manifest.content_hash().encode()
    wrong = written(tmp_path / "wrong.parquet", columns, {SET_KEY: own[::-1]})
    with pytest.raises(InputError, match="another question set"):
        reweight(outfit_set.path, wrong, tmp_path / "next", NextOptions())
    right = written(tmp_path / "right.parquet", columns, {SET_KEY: own})
    assert reweight(outfit_set.path, right, tmp_path / "next", NextOptions()).used == 2


def test_a_finished_folder_is_not_written_over_and_an_unfinished_one_is(outfit_set: Made, tmp_path: Path) -> None:
    columns = {"qid": [1, 2, 3], "loss": [1.0, 2.0, 0.0]}
    learn(outfit_set, tmp_path, columns)
    with pytest.raises(InputError, match="there already"):
        learn(outfit_set, tmp_path, columns)
    (tmp_path / "next" / "spec.yaml").unlink()  # it is written last
    (tmp_path / "next" / "feedback" / "stale.parquet").write_text("of a run that was stopped")
    learn(outfit_set, tmp_path, columns)
    assert verify(tmp_path / "next" / "feedback") == [] and (tmp_path / "next" / "spec.yaml").exists()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", outfit_set.path):
        with pytest.raises(InputError, match="there already"):
            reweight(outfit_set.path, tmp_path / "losses.parquet", out, NextOptions())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": -101.0}, "from -100 to 100"),
        ({"item_loss": np.nan}, "from -100 to 100"),
        ({"alpha": 1.5}, "from 0 to 1"),
        ({"alpha": np.nan}, "from 0"),
    ],
)
def test_options_out_of_range(outfit_set: Made, options: Columns, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        learn(outfit_set, tmp_path, {"qid": [1], "loss": [1.0]}, **options)


@pytest.mark.parametrize("line", ["difficulty: {loss: 1}", "difficulty: {item_loss: 1}", "negatives: {alpha: 0.5}"])
def test_a_spec_that_weighs_feedback_must_name_it(line: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(f"seed: 0\n{line}\n")
    with pytest.raises(InputError, match="needs `feedback`"):
        load_spec(str(tmp_path / "spec.yaml"))


def test_feedback_that_is_none_is_named(outfits: Path, outfit_set: Made, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text("feedback: nowhere\n")
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_spec(str(tmp_path / "spec.yaml"))
    (tmp_path / "spec.yaml").write_text(f"feedback: {outfits}\n")
    with pytest.raises(InputError, match="'feedback' folder is needed"):
        load_spec(str(tmp_path / "spec.yaml"))
    learn(outfit_set, tmp_path, matrix(VQAStore(outfit_set.path), {("shoes", "boots"): 5}))
    feedback = tmp_path / "next" / "feedback"
    with pytest.raises(InputError, match="holds no losses"):
        Feedback(feedback).scores(load_scenes(outfits))
    manifest = json.loads((feedback / "manifest.json").read_text())
    for wrong in (
        {},
        {"shrink": {}},
        {"shrink": {}, "spread": [1]},
        {"shrink": {"cells": 1, "images": -1, "items": 1}, "spread": {}},
    ):
        (feedback / "manifest.json").write_text(json.dumps({**manifest, "params": wrong}))
        with pytest.raises(InputError, match="the manifest is damaged"):
            Feedback(feedback)


def test_the_command(outfit_set: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = train(outfit_set)
    columns = {"qid": [*rows["qid"].tolist(), 10**9], "loss": [*(rows["image"] % 5 == 0) * 1.0, 1.0]}
    losses, figures = written(tmp_path / "losses.parquet", columns), tmp_path / "figures.json"
    words = ["datagen", "reweight", outfit_set.path, tmp_path / "next", "--losses", losses, "--json", figures]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert f"{len(rows['qid']):,} rows used, 1 rejected" in said and "rejected, no such qid in the set: 1" in said
    found = json.loads(figures.read_text())
    assert found["rejected"] == {"no such qid in the set": 1} and 0.5 < found["explained"]["picture"] <= 1
    assert f"datagen run {tmp_path / 'next'}/spec.yaml" in said
    assert main([str(word) for word in words]) == 2
    assert "there already" in capsys.readouterr().err
