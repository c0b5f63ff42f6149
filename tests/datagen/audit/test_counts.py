"""Counting: the same for any number of processes and any size of batches; damaged parts are named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.datagen.audit import counts
from fashionkit.datagen.audit.counts import Tally, by_template, count, facts_of, tally
from fashionkit.datagen.packs import Template
from fashionkit.datagen.propose import option_slots
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import YES
from fashionkit.tables import InputError
from tests.datagen.conftest import Made, told


def plain(found: counts.Counts) -> list[Any]:
    """All figures of some counts."""
    tallies = [*found.answers.values(), found.values, found.held]
    return [
        *((t.key.tolist(), t.count.tolist()) for t in tallies),
        found.programs.tolist(),
        found.first.tolist(),
    ]


def attribute_of(t: Template, store: VQAStore, slots: dict[str, int]) -> str:
    """Key of the attribute a question asks about, worked out from its ids one by one."""
    if not t.attribute_slots:
        return ""
    last = t.attribute_slots[-1].name
    if last in slots:
        return store.vocab.key[slots[last]]
    return store.vocab.attribute_of(next(slots[s.name] for s in t.slots if s.of == last))


def test_every_sample_is_counted_where_it_belongs(outfit_set: Made) -> None:
    """Against a loop over all samples."""
    store = VQAStore(outfit_set.path)
    facts, found = count(store, 1)
    answers: dict[tuple[str, int, str, int], int] = {}
    values: dict[tuple[int, int, int, int], int] = {}
    first: dict[int, int] = {}
    for split, t, slots, row in told(store, outfit_set.rows):
        place = (split, row["template"], attribute_of(t, store, slots), row["answer"])
        answers[place] = answers.get(place, 0) + 1
        if split not in ("train", "val", "test"):
            continue
        if t.balance == "binary" or t.family == "B5":
            for number, value in enumerate(slots.values()):
                key = (row["template"], number, value, int(row["answer"] == YES))
                values[key] = values.get(key, 0) + 1
        if t.balance == "choice":
            right = row["answer"] == slots[option_slots(t)[0]]
            first[row["template"]] = first.get(row["template"], 0) + right
    names = ["", *store.vocab.attribute]
    seen = {
        (split, template, names[attribute], answer): many
        for split, one in found.answers.items()
        for (template, attribute), group in by_template(facts, one, wide=True).items()
        for answer, many in zip(group.key.tolist(), group.count.tolist(), strict=True)
    }
    assert seen == answers and len(answers) > 100
    code, side = np.divmod(found.values.key, 2)
    place, value = np.divmod(code, facts.vocab)
    template, slot = np.divmod(place, 4)
    columns = (x.tolist() for x in (template, slot, value, side, found.values.count))
    assert {tuple(row[:4]): row[4] for row in zip(*columns, strict=True)} == values and len(values) > 100
    assert {n: int(found.first[n]) for n in np.flatnonzero(found.first).tolist()} == {
        n: k for n, k in first.items() if k
    }


def test_processes_and_batches_do_not_matter(outfit_set: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VQAStore(outfit_set.path)
    whole = plain(count(store, 1)[1])
    assert plain(count(store, 2)[1]) == whole
    monkeypatch.setattr(counts, "BATCH_ROWS", 97)
    assert plain(count(store, 1)[1]) == whole


def test_sparse_and_dense_tallies_agree() -> None:
    key = np.random.default_rng(0).integers(0, 50, 1000)
    dense, sparse = tally(key, 50), tally(key, 10**12)
    assert dense.key.tolist() == sparse.key.tolist() and dense.count.tolist() == sparse.count.tolist()
    assert dense.count.sum() == 1000 and tally(key[:0], 50).key.tolist() == []


def test_tallies_add_up_and_keep_fractions() -> None:
    total = Tally(np.array([1, 4]), np.array([2, 3])) + Tally(np.array([4, 9]), np.array([0.5, 1.5]))
    assert (total.key.tolist(), total.count.tolist()) == ([1, 4, 9], [2.0, 3.5, 1.5])


def change(path: Path, column: str, values: Any) -> None:
    """Writes a part with another column."""
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, values), path)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("template", 60_000, "no such template"),
        ("answer", 60_000, "no such answer"),
        ("answer", 0, "no such answer"),
        ("slot0", 60_000, "no such slot0"),
        ("image", 10**6, "no such image"),
        ("image", -1, "no such image"),
    ],
)
def test_ids_that_the_set_does_not_have(small_set: Path, column: str, value: int, problem: str) -> None:
    path = next((small_set / "samples" / "train").glob("*"))
    old = pq.read_table(path, partitioning=None)[column]
    change(path, column, pa.chunked_array([pa.array([value], old.type), *old.slice(1).chunks]))
    with pytest.raises(InputError, match=problem) as caught:
        count(VQAStore(small_set), 1)
    assert str(path) in str(caught.value) and caught.value.column == column and caught.value.found == value


def test_columns_that_are_missing_or_of_another_type(small_set: Path) -> None:
    path = next((small_set / "samples" / "train").glob("*"))
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["answer"]), path)
    with pytest.raises(InputError, match=r"column is missing(.|\n)*answer"):
        count(VQAStore(small_set), 1)
    pq.write_table(table, path)
    change(path, "answer", pa.array([None, *table["answer"].to_pylist()[1:]], pa.uint16()))
    with pytest.raises(InputError, match=r"without nulls(.|\n)*1 nulls"):
        count(VQAStore(small_set), 1)
    change(path, "answer", table["answer"].cast(pa.float64()))
    with pytest.raises(InputError, match=r"uint16(.|\n)*double"):
        count(VQAStore(small_set), 2)


def test_a_damaged_part_is_named(outfit_set: Made, tmp_path: Path) -> None:
    path = Path(shutil.copytree(outfit_set.path, tmp_path / "copy"))
    store = VQAStore(path)
    part = next((path / "samples" / "train").glob("*"))
    body = bytearray(part.read_bytes())
    body[4 : len(body) // 2] = bytes(len(body) // 2 - 4)
    part.write_bytes(body)
    with pytest.raises(InputError, match=part.name):
        count(store, 1)


def test_facts_name_the_slots_of_choices_and_attributes(outfit_set: Made) -> None:
    store = VQAStore(outfit_set.path)
    facts = facts_of(store)
    for number, (t, names) in enumerate(zip(store.pack.templates, store.slots, strict=True)):
        if t.balance == "choice":
            assert [names[i] for i in facts.options[number]] == list(option_slots(t))
        assert bool(t.attribute_slots) == (facts.asked[number] >= 0)
        assert facts.binary[number] == (t.balance == "binary" or t.family == "B5")
