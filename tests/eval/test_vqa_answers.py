"""Answers on disk: what is right, what they are worth, parts that outlive a kill, and what is refused."""

from __future__ import annotations

import shutil
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fashionkit.catalog.catalog import Catalog
from fashionkit.datagen.reweight import NextOptions, checked_losses, reweight
from fashionkit.datagen.store import VQAStore
from fashionkit.eval.vqa_answers import FLOOR, Judge, answer_questions, model_key, write_answers
from fashionkit.eval.vqa_human import HumanQuestions
from fashionkit.eval.vqa_questions import Questions
from fashionkit.eval.vqa_schema import ANSWERS
from fashionkit.tables import InputError, read_manifest, read_table, verify
from fashionkit.train.pictures import CatalogPictures
from fashionkit.vision.features import cache_features
from tests.eval.made_answers import NumberMaps, Oracle, answered, plan
from tests.tiny_models import ANSWERS as KNOWN
from tests.tiny_models import tiny_answering, tiny_backbone


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_table(folder, "answers").to_pylist()


def test_what_the_answers_say(store: VQAStore, tmp_path: Path) -> None:
    asked = Questions(store, "test", 150)
    out = answered(asked, tmp_path / "out", errors=0.3)
    table = read_table(out, "answers")
    assert table.schema.equals(ANSWERS) and verify(out) == []
    oracle = Oracle(asked, 0.3)
    known = set(oracle.answers)
    right = 0
    for row, number in zip(table.to_pylist(), asked.image.tolist(), strict=True):
        answer, sure = oracle.said(number, row["question"])
        assert row["predicted"] == answer and row["probability"] == pytest.approx(sure)
        assert row["right"] is (answer == row["answer"]) and row["free"] == f"{answer.upper()}."
        assert row["free_right"] is row["right"]
        assert row["valid"] is not None and (row["valid"] or not row["right"])
        given = sure if row["right"] else (1 - sure) / (len(known) - 1)
        assert row["loss"] == pytest.approx(-log(max(given, 1e-4)), rel=1e-4)
        assert row["rank"] == (1 if row["right"] else 2)
        assert row["alternatives"][0] == answer and len(row["alternatives"]) == 5
        assert row["probabilities"] == sorted(row["probabilities"], reverse=True)
        assert store.vocab.text[row["predicted_id"]] == answer
        right += row["right"]
    manifest = read_manifest(out, "answers", 1)
    assert manifest.counts == {"answers": 150, "right": right, "pictures": len(np.unique(asked.image))}
    assert manifest.inputs["questions"] == store.manifest.content_hash()


def test_each_picture_is_looked_at_once(store: VQAStore, tmp_path: Path) -> None:
    asked, maps = Questions(store), NumberMaps(store)
    write_answers(Oracle(asked), asked, tmp_path / "out", maps, plan(asked), {}, size=30)
    assert len(maps.asked) == len(set(maps.asked)) == len(np.unique(asked.image))


def test_parts_of_any_size_say_the_same(store: VQAStore, tmp_path: Path) -> None:
    asked = Questions(store, "test", 120)
    one, two = answered(asked, tmp_path / "one", size=1), answered(asked, tmp_path / "two", size=10_000)
    assert len(list((one / "answers").iterdir())) > 5 and len(list((two / "answers").iterdir())) == 1
    assert rows_of(one) == rows_of(two)


def test_a_killed_run_goes_on(store: VQAStore, tmp_path: Path) -> None:
    asked, out = Questions(store, "test", 120), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        answered(asked, out, size=20, calls=3)
    assert not (out / "manifest.json").exists()
    kept = sorted((out / "answers").iterdir())
    assert len(kept) == 3
    (out / "answers" / ".part-00003.parquet.77.tmp").write_bytes(b"half")
    stamps = [path.stat().st_mtime_ns for path in kept]
    whole = answered(asked, tmp_path / "whole", size=20)
    model = Oracle(asked)
    maps = NumberMaps(store)
    write_answers(model, asked, out, maps, plan(asked), {"set": "made up", "model": "oracle"}, size=20)
    assert [path.stat().st_mtime_ns for path in kept] == stamps  # these were not made again
    assert len(maps.asked) < len(np.unique(asked.image))
    assert rows_of(out) == rows_of(whole) and verify(out) == []
    seen = model.seen
    write_answers(model, asked, out, maps, plan(asked), {}, size=20)
    assert model.seen == seen  # nothing is left to do


def test_another_plan_is_refused(store: VQAStore, tmp_path: Path) -> None:
    asked = Questions(store, "test", 40)
    out = answered(asked, tmp_path / "out")
    with pytest.raises(InputError, match="another model, or to other questions") as told:
        write_answers(Oracle(asked), asked, out, NumberMaps(store), plan(asked, model="another"), {})
    assert told.value.found == "another model"
    other = Questions(store, "test", 41)
    with pytest.raises(InputError, match="another model, or to other questions"):
        answered(other, out)
    (out / "plan.json").write_text("{")
    with pytest.raises(InputError, match="another model, or to other questions"):
        answered(asked, out)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("all there is")
    with pytest.raises(InputError, match="something else"):
        answered(asked, tmp_path / "taken")


def test_questions_of_people_are_matched_with_their_alternatives(store: VQAStore, tmp_path: Path) -> None:
    path = tmp_path / "human.csv"
    path.write_text(
        "question_id,image_id,question,answer,kind\n"
        "h1,p0000,got it in navy?,yes,yes/no\n"
        "h2,p0001,wot colour,puce|Navy Blue,colour\n"
        "h3,p0001,is it wool,cannot tell,cannot tell\n"
    )
    asked = HumanQuestions(store, path)

    class Navy(Oracle):
        def said(self, number: int, text: str) -> tuple[str, float]:
            return "navy blue", 0.9

    model = Navy(asked)
    model.answers = ["navy blue", "no", "not present", "yes"]
    out = write_answers(model, asked, tmp_path / "out", NumberMaps(store), plan(asked), {})
    one, two, three = rows_of(out)
    assert [row["right"] for row in (one, two, three)] == [False, True, False]
    assert [row["valid"] for row in (one, two, three)] == [False, None, None]  # what else makes sense, nobody said
    assert (two["loss"], two["rank"]) == (pytest.approx(-log(0.9), rel=1e-4), 1)
    assert (three["loss"], three["rank"]) == (None, None)  # the model knows no such answer
    assert two["free_right"] and not (out / "losses.parquet").exists()


def test_what_was_not_looked_at_costs_the_floor_and_has_no_rank(store: VQAStore) -> None:
    asked = Questions(store, "test", 8)
    model = Oracle(asked)
    judge = Judge(model, asked, NumberMaps(store), free=False)
    part = asked.part(0, 8)
    scores = np.full((8, len(model.answers)), -np.inf, np.float32)
    wrong = [next(n for n, text in enumerate(model.answers) if text not in right) for right in part.right]
    scores[np.arange(8), wrong] = 0.0
    table = judge.judged(part, scores, None)
    assert table["loss"].to_pylist() == [pytest.approx(-FLOOR)] * 8
    assert table["rank"].to_pylist() == table["free"].to_pylist() == [None] * 8
    assert not any(table["right"].to_pylist())


def test_losses_can_be_learnt_from(store: VQAStore, tmp_path: Path) -> None:
    asked = Questions(store, "train", 300)
    out = answered(asked, tmp_path / "out", errors=0.4)
    losses = pq.read_table(out / "losses.parquet")
    rows = checked_losses(losses, store)
    assert len(rows.row) == 300 and not rows.rejected
    given = dict(zip(rows.columns["qid"].tolist(), rows.columns["predicted"].tolist(), strict=True))
    assert all(given[row["qid"]] == row["predicted_id"] for row in rows_of(out))
    report = reweight(store.path, out / "losses.parquet", tmp_path / "next", NextOptions())
    assert report.used == 300
    other = losses.replace_schema_metadata({b"fashionkit.set": b"another"})
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="another question set"):
        reweight(store.path, tmp_path / "other.parquet", tmp_path / "no", NextOptions())


def test_losses_of_entailed_questions_are_no_losses_of_samples(store: VQAStore, tmp_path: Path) -> None:
    asked = Questions(store, "entailed:test", 50)
    out = answered(asked, tmp_path / "out")
    table = read_table(out, "answers")
    samples = table.filter(table["source"].is_null())["qid"].to_pylist()
    assert sorted(pq.read_table(out / "losses.parquet")["qid"].to_pylist()) == sorted(samples)


@pytest.fixture
def features(outfits: Path, tmp_path: Path) -> Path:
    """Maps of the tiny backbone."""
    catalog = Catalog(outfits)
    ids = catalog.table("images", ["image_id"])["image_id"].to_pylist()
    cache_features(tmp_path / "features", tiny_backbone(), ids, CatalogPictures(catalog, ids).named)
    return tmp_path / "features"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["vlm", "mcan"])
def test_a_real_model_on_pixels_and_on_cached_maps(
    outfits: Path, questions: Path, features: Path, tmp_path: Path, kind: str
) -> None:
    model = tiny_answering(kind)
    one = answer_questions(model, questions, tmp_path / "one", catalog=outfits, limit=40)
    two = answer_questions(model, questions, tmp_path / "two", features=features, limit=40)
    first, second = read_table(one, "answers"), read_table(two, "answers")
    assert first.num_rows == 40 and first["predicted"].equals(second["predicted"])
    assert np.allclose(first["probability"].to_numpy(), second["probability"].to_numpy(), atol=0.02)  # float16
    assert (first["free"].null_count == 40) is (kind == "mcan")
    # As the model itself says it.
    row = first.to_pylist()[0]
    store = VQAStore(questions)
    cells = torch.from_numpy(model_maps(features, [row["image_id"]]))
    ranked = model.answer(cells, torch.zeros(1, dtype=torch.long), [row["question"]], k=5)
    assert [model.answers[at] for at in ranked.index[0].tolist()] == row["alternatives"]
    assert row["answer"] in store.vocab.text
    known = [text in KNOWN for text in first["answer"].to_pylist()]
    assert [loss is not None for loss in first["loss"].to_pylist()] == known  # null where it knows no such answer
    assert any(known) and not all(known)


def model_maps(features: Path, ids: list[str]) -> Any:
    from fashionkit.vision.feature_store import FeatureStore

    return FeatureStore(features).maps(ids).astype(np.float32)


@pytest.mark.usefixtures("one_thread")
def test_pictures_must_be_there_and_fit(outfits: Path, questions: Path, features: Path, tmp_path: Path) -> None:
    model = tiny_answering()

    def answers(out: str, **more: Any) -> Path:
        return answer_questions(more.pop("model", model), questions, tmp_path / out, limit=8, **more)

    with pytest.raises(InputError, match="needs pictures"):
        answers("a")
    with pytest.raises(InputError, match="needs features"):
        answers("b", model=tiny_answering(eyes=False), catalog=outfits)
    with pytest.raises(InputError, match="the network takes"):
        answers("c", model=tiny_answering(eyes=False, cells=[3, 3]), features=features)
    other = tiny_answering()
    with torch.no_grad():
        next(iter(other.backbone.parameters())).add_(1)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="another backbone"):
        answers("d", model=other, features=features)
    with pytest.raises(InputError, match="say one of the two") as told:
        answers("e", features=features, catalog=outfits, truth=True)
    assert told.value.column == "truth"
    with pytest.raises(InputError, match="the network takes"):
        answers("f", catalog=outfits, truth=True)
    assert answers("g", model=tiny_answering(blind=True)).is_dir()  # needs neither


@pytest.mark.usefixtures("one_thread")
def test_a_damaged_picture_is_named_and_costs_nothing_that_was_made(
    outfits: Path, questions: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(outfits, tmp_path / "copy"))
    path = copy / "images" / "part-00000.parquet"
    table = pq.read_table(path)
    wanted = set(Questions(VQAStore(questions), limit=8).part(0, 8).table["image_id"].to_pylist())
    data = [
        b"\x89PNG broken" if i in wanted else b for i, b in zip(*table.select([0, 2]).to_pydict().values(), strict=True)
    ]
    pq.write_table(table.set_column(2, table.schema.field("bytes"), pa.array(data, pa.binary())), path)
    with pytest.raises(InputError, match="picture 'p0") as told:
        answer_questions(tiny_answering(), questions, tmp_path / "out", catalog=copy, limit=8)
    assert any(name in str(told.value) for name in wanted)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.usefixtures("one_thread")
def test_a_model_goes_by_all_that_decides_its_answers() -> None:
    keys = [model_key(tiny_answering(**more)) for more in ({}, {"temperature": 2.0}, {"kind": "mcan"}, {"eyes": False})]
    assert len(set(keys)) == 4 and keys[0] == model_key(tiny_answering())
