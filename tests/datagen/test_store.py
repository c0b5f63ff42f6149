"""Reading a question set: by row and in batches, split by split, and refusing what is damaged."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.samples import SAMPLE_SPLITS, SAMPLES
from fashionkit.datagen.store import ABSENT, VQAStore, filled_program
from fashionkit.tables import InputError
from tests.datagen.conftest import Made


@pytest.fixture(scope="module")
def store(outfit_set: Made) -> VQAStore:
    return VQAStore(outfit_set.path)


def test_a_row_is_the_same_by_number_and_by_batch(store: VQAStore) -> None:
    at = 0
    for split in SAMPLE_SPLITS:
        rows = [r for batch in store.iter(split, rendered=True) for r in batch.to_pylist()]
        for place in {0, 1, len(rows) // 2, len(rows) - 1} & set(range(len(rows))):
            one, row = store[at + place], rows[place]
            assert one["qid"] == row["qid"] == at + place and one["split"] == split
            assert (one["question"], one["answer"], one["image_id"]) == (
                row["question"],
                row["answer_text"],
                row["image_id"],
            )
            assert (one["family"], one["difficulty"], one["answer_id"]) == (
                row["family"],
                row["difficulty"],
                row["answer"],
            )
            assert one["template"] == store.pack.templates[row["template"]].id
        at += len(rows)
    assert at == len(store)


def test_rows_from_the_end_and_beyond(store: VQAStore) -> None:
    assert store[-1] == store[len(store) - 1] and store[-len(store)] == store[0]
    for row in (len(store), -len(store) - 1, 10**12):
        with pytest.raises(IndexError, match=str(len(store))):
            store[row]


def test_rows_in_any_order_are_the_same(store: VQAStore) -> None:
    there = [store[i] for i in (0, len(store) - 1, 40, len(store) // 2)]
    assert [store[i] for i in (len(store) // 2, 40, len(store) - 1, 0)] == there[::-1]


def test_a_sample_explains_itself(store: VQAStore) -> None:
    for row in range(0, len(store), 997):
        one = store[row]
        assert one["question"][0].isupper() and one["question"][-1] in "?."
        for name, key in one["slots"].items():
            assert key in one["program"] or name not in filled_program(store.pack.by_id(one["template"]), {}), one


def test_programs_are_told_with_their_words(store: VQAStore) -> None:
    t = store.pack.by_id("B2.verify")
    assert filled_program(t, {"cat": "coat", "v": "colour/red"}) == "verify(unique(filter(scene, coat)), colour/red)"


def test_batches_are_of_the_size_asked_for_and_keep_the_order(store: VQAStore) -> None:
    whole = pa.concat_tables(store.iter("train"))
    small = list(store.iter("train", batch_size=700))
    assert max(t.num_rows for t in small) == 700 and pa.concat_tables(small) == whole
    assert whole.schema.equals(SAMPLES) and whole.num_rows == store.manifest.counts["splits"]["train"]


@pytest.mark.parametrize("family", ["B1", "C2", "G1", "N1"])
def test_a_family_alone(store: VQAStore, family: str) -> None:
    rows = [r for batch in store.iter("test", family=family, rendered=True) for r in batch.to_pylist()]
    assert rows and {r["family"] for r in rows} == {family}
    everything = Counter(r["family"] for batch in store.iter("test", rendered=True) for r in batch.to_pylist())
    assert len(rows) == everything[family]


def test_the_absent_split_is_what_the_test_says_is_not_there(store: VQAStore) -> None:
    rows = [r for batch in store.iter(ABSENT, rendered=True) for r in batch.to_pylist()]
    assert rows and {r["answer_text"] for r in rows} == {"not present"} and {r["family"] for r in rows} == {"N1"}
    tests = {r["qid"] for batch in store.iter("test") for r in batch.to_pylist()}
    assert {r["qid"] for r in rows} <= tests


def test_unknown_splits_and_families_list_those_there_are(store: VQAStore) -> None:
    with pytest.raises(InputError, match=r"nearest allowed: 'test'(.|\n)*absent"):
        next(store.iter("tets"))
    with pytest.raises(InputError, match="no such family"):
        next(store.iter("train", family="C9"))


def test_an_empty_split_gives_nothing(product_set: Made) -> None:
    assert list(VQAStore(product_set.path).iter("compositional")) == []


def test_samples_are_drawn_by_seed_evenly_over_families(store: VQAStore) -> None:
    rows = store.sample(32, seed=1)
    assert len(rows) == 32 and set(Counter(r["family"] for r in rows).values()) == {2}
    assert store.sample(32, seed=1) == rows != store.sample(32, seed=2)
    assert {r["family"] for r in store.sample(5, family="C2")} == {"C2"}
    assert {r["split"] for r in store.sample(20, split="val")} == {"val"}
    assert store.sample(5, family="B7") == []
    assert len({r["qid"] for r in store.sample(500, seed=3)}) == 500


def test_it_needs_no_catalogue(outfit_set: Made, tmp_path: Path) -> None:
    alone = VQAStore(shutil.copytree(outfit_set.path, tmp_path / "elsewhere"))
    assert alone[5] == VQAStore(outfit_set.path)[5]


# Damage.


def test_no_question_set(tmp_path: Path, outfits: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        VQAStore(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no manifest"):
        VQAStore(tmp_path)
    with pytest.raises(InputError, match="'catalog' folder"):
        VQAStore(outfits)


def test_another_version(small_set: Path) -> None:
    manifest = json.loads((small_set / "manifest.json").read_text())
    (small_set / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))
    with pytest.raises(InputError, match="newer"):
        VQAStore(small_set)


@pytest.mark.parametrize("body", [b"", b"PAR1", b"no parquet at all"])
def test_a_damaged_part_is_named(small_set: Path, body: bytes) -> None:
    part = sorted((small_set / "samples" / "train").iterdir())[0]
    part.write_bytes(body)
    with pytest.raises(InputError, match=part.name):
        store = VQAStore(small_set)
        list(store.iter("train"))


def test_a_cut_part_is_named(small_set: Path) -> None:
    part = sorted((small_set / "samples" / "test").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(InputError, match=part.name):
        VQAStore(small_set)


def test_a_missing_part_is_noticed(small_set: Path) -> None:
    """Otherwise every later row would have the number of another."""
    sorted((small_set / "samples" / "train").iterdir())[0].unlink()
    with pytest.raises(InputError):
        VQAStore(small_set)


@pytest.mark.parametrize("table", ["vocab", "templates"])
def test_a_missing_table_is_named(small_set: Path, table: str) -> None:
    shutil.rmtree(small_set / table)
    with pytest.raises(InputError, match=table):
        VQAStore(small_set)


def test_packs_that_were_exchanged_are_refused(small_set: Path) -> None:
    pack = next((small_set / "packs").iterdir())
    pack.write_text(pack.read_text().replace("id: C7.list", "id: C7.lists"))
    with pytest.raises(InputError, match="packs do not belong"):
        VQAStore(small_set)


def test_an_ontology_that_was_exchanged_is_refused(small_set: Path) -> None:
    ontology = small_set / "ontology.yaml"
    ontology.write_text(ontology.read_text().replace("  hat:", "  cap:"))
    with pytest.raises(InputError, match="does not belong"):
        VQAStore(small_set)


# Memory.


def peak(folder: Path, parts: int, rendered: bool) -> int:
    """Most bytes that Arrow holds while a split of so many parts is read."""
    train = folder / "samples" / "train"
    body = pq.read_table(sorted(train.iterdir())[0], partitioning=None)
    many = pa.concat_tables([body] * (60_000 // body.num_rows + 1)).slice(0, 60_000)
    for path in train.iterdir():
        path.unlink()
    for number in range(parts):
        pq.write_table(many, train / f"part-{number:05d}.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: entry for name, entry in manifest["files"].items() if "train" not in name}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    del many, body
    store, most, rows = VQAStore(folder), 0, 0
    before = pa.total_allocated_bytes()
    for batch in store.iter("train", rendered=rendered, batch_size=10_000):
        rows += batch.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == parts * 60_000
    return most


@pytest.mark.parametrize("rendered", [False, True])
def test_memory_does_not_grow_with_the_set(outfit_set: Made, tmp_path: Path, rendered: bool) -> None:
    few = peak(shutil.copytree(outfit_set.path, tmp_path / "few"), 2, rendered)
    many = peak(shutil.copytree(outfit_set.path, tmp_path / "many"), 8, rendered)
    assert 0 < many < 1.3 * few
