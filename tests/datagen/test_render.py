"""Text from ids: whole columns say the same as one row at a time, in any order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fashionkit.datagen.packs import Place
from fashionkit.datagen.samples import SLOTS
from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import LOOK
from tests.datagen.conftest import Made


@pytest.fixture(scope="module", params=["outfit_set", "product_set"])
def store(request: pytest.FixtureRequest) -> VQAStore:
    found: Made = request.getfixturevalue(request.param)
    return VQAStore(found.path)


def said(store: VQAStore, row: dict[str, int]) -> str:
    """One question, place by place."""
    t = store.pack.templates[row["template"]]
    slots = {name: row[f"slot{i}"] for i, name in enumerate(store.slots[row["template"]])}
    slots |= {"look": LOOK, "root": store.renderer.grammar.root}
    for slot in t.slots:
        if slot.of is not None:
            slots[slot.of] = store.vocab.attribute[store.vocab.attribute_of(slots[slot.name])]
    parts = t.paraphrases[row["paraphrase"]].parts
    text = "".join(
        store.renderer.grammar.say(p.function, tuple(slots[s] for s in p.slots)) if isinstance(p, Place) else p
        for p in parts
    )
    return text[0].upper() + text[1:]


def test_columns_say_what_rows_say(store: VQAStore) -> None:
    table = pa.concat_tables(store.iter("test")).slice(0, 4000)
    rendered = store.render(table)
    rows = table.to_pylist()
    assert rendered["question"].to_pylist() == [said(store, row) for row in rows]
    assert rendered["answer_text"].to_pylist() == [store.vocab.text[row["answer"]] for row in rows]
    assert rendered["image_id"].to_pylist() == [store.image_ids[row["image"]] for row in rows]


def test_any_order_and_any_part_say_the_same(store: VQAStore) -> None:
    table = pa.concat_tables(store.iter("train"))
    texts = store.render(table)["question"].to_pylist()
    order = np.random.default_rng(0).permutation(table.num_rows)[:3000]
    assert store.render(table.take(pa.array(order)))["question"].to_pylist() == [texts[i] for i in order]
    for row in (0, 77, table.num_rows - 1):
        assert store.render(table.slice(row, 1))["question"].to_pylist() == [texts[row]]


def test_no_rows_give_no_texts(store: VQAStore) -> None:
    empty = next(store.iter("train")).slice(0, 0)
    assert store.render(empty)["question"].to_pylist() == []
    assert (
        len(store.renderer.questions(np.zeros(0, np.uint16), np.zeros(0, np.uint8), [np.zeros(0, np.uint16)] * SLOTS))
        == 0
    )


def test_every_question_of_a_set_is_a_sentence(store: VQAStore) -> None:
    for split in ("train", "val", "test", "paraphrase"):
        for batch in store.iter(split, rendered=True):
            for text in batch["question"].to_pylist():
                assert text[0].isupper() and text[-1] in "?." and "  " not in text and not set("{}_<>") & set(text), (
                    text
                )


def test_a_question_never_holds_its_own_answer(store: VQAStore) -> None:
    """Open questions; a choice names both of its options, and a yes or no is no word of a question."""
    checked = 0
    for family in ("C1", "C3", "C4", "C6", "C7", "G1", "N1"):
        for batch in store.iter("test", family=family, rendered=True):
            for row in batch.select(["question", "answer_text", "template"]).to_pylist():
                if not store.pack.templates[row["template"]].leak or row["answer_text"] in ("yes", "no"):
                    continue
                words = f" {row['question'].lower().rstrip('?.').replace(',', '')} "
                assert f" {row['answer_text'].lower()} " not in words, row
                checked += 1
    assert checked > 100


def test_one_question_has_one_answer(store: VQAStore) -> None:
    """Two equal texts about one picture with different answers would be a contradiction."""
    answers: dict[tuple[str, str], set[str]] = {}
    for split in ("train", "val", "test"):
        for batch in store.iter(split, rendered=True):
            for row in batch.select(["image_id", "question", "answer_text"]).to_pylist():
                answers.setdefault((row["image_id"], row["question"]), set()).add(row["answer_text"])
    assert [key for key, found in answers.items() if len(found) > 1] == []


def test_no_text_stands_twice_about_a_picture(store: VQAStore) -> None:
    """Different programs may be said in the same words; each pair of picture and text counts once."""
    seen: dict[tuple[str, str], int] = {}
    rows = 0
    for batch in store.iter("train", rendered=True):
        for row in batch.select(["image_id", "question"]).to_pylist():
            seen[row["image_id"], row["question"]] = seen.get((row["image_id"], row["question"]), 0) + 1
            rows += 1
    assert rows - len(seen) == 0, [key for key, count in seen.items() if count > 1][:10]
