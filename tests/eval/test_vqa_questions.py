"""Which questions are asked, in which order, and what each asks for."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fashionkit.datagen.store import VQAStore
from fashionkit.datagen.vocab import NO, NOT_PRESENT, YES
from fashionkit.eval.vqa_asked import KINDS, Asking, plain_text
from fashionkit.eval.vqa_questions import EACH, QUESTIONS, Questions, cut, spread
from fashionkit.tables import InputError


def test_a_whole_split_by_picture(store: VQAStore) -> None:
    asked = Questions(store)
    part = asked.part(0, len(asked))
    assert len(asked) == store.manifest.counts["splits"]["test"] == part.table.num_rows
    assert part.table.schema.equals(QUESTIONS)
    assert (np.diff(asked.image) >= 0).all()
    rows = {row["qid"]: row for row in part.table.to_pylist()}
    for qid in list(rows)[::37]:
        sample, row = store[qid], rows[qid]
        assert [row[name] for name in ("image_id", "family", "template", "question", "answer", "answer_id")] == [
            sample[name] for name in ("image_id", "family", "template", "question", "answer", "answer_id")
        ]


def test_parts_together_are_the_whole(store: VQAStore) -> None:
    asked = Questions(store, "paraphrase")
    spans = cut(asked.image, 40)
    assert spans[0][0] == 0 and spans[-1][1] == len(asked)
    assert all(one[1] == two[0] and one[1] - one[0] >= 40 for one, two in pairwise(spans))
    for _, edge in spans[:-1]:
        assert asked.image[edge - 1] != asked.image[edge]  # no picture is in two parts
    whole = asked.part(0, len(asked)).table["qid"].to_pylist()
    assert [qid for lo, hi in spans for qid in asked.part(lo, hi).table["qid"].to_pylist()] == whole
    assert cut(np.zeros(0), 5) == [] and cut(np.array([3, 3, 3]), 1) == [(0, 3)]


def test_a_limit_takes_evenly_from_pictures_and_grows(store: VQAStore) -> None:
    def qids(limit: int, seed: int = 0) -> set[int]:
        asked = Questions(store, "test", limit, seed)
        return set(asked.part(0, len(asked)).table["qid"].to_pylist())

    few, more = qids(40), qids(90)
    assert (len(few), len(more)) == (40, 90) and few < more
    assert qids(40) == few != qids(40, seed=1)
    pictures = Counter(Questions(store, "test", 40).image.tolist())
    assert set(pictures.values()) == {EACH}
    assert len(qids(10**6)) == store.manifest.counts["splits"]["test"]


def test_a_limit_by_slow_steps() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 7, 200)
    taken = spread(picture, np.arange(200), 120, seed=3)
    assert len(set(taken.tolist())) == 120
    rounds, seen = [], Counter[int]()
    for row in taken.tolist():
        rounds.append(seen[picture[row]] // EACH)
        seen[picture[row]] += 1
    assert rounds == sorted(rounds)  # nobody is asked a ninth question before all had eight
    assert (spread(picture, np.arange(200), 50, seed=3) == taken[:50]).all()


def test_absent_is_what_is_not_there(store: VQAStore) -> None:
    asked = Questions(store, "absent")
    table = asked.part(0, len(asked)).table
    assert set(table["answer"].to_pylist()) == {"not present"} and set(table["family"].to_pylist()) == {"N1"}


def test_entailed_questions_come_with_their_samples(store: VQAStore) -> None:
    asked = Questions(store, "entailed:test", 60)
    table = asked.part(0, len(asked)).table
    follows = table.filter(table["source"].is_valid())
    samples = set(table.filter(table["source"].is_null())["qid"].to_pylist())
    assert set(follows["source"].to_pylist()) == samples
    assert 40 <= follows.num_rows <= 60
    whole = Questions(store, "entailed:test")
    counts = store.manifest.counts["entailed"]["test"]
    rows = whole.part(0, len(whole)).table
    assert rows.filter(rows["source"].is_valid()).num_rows == counts
    # All that follows from a sample came with it.
    every = Counter(rows["source"].to_pylist())
    assert Counter(follows["source"].to_pylist()) == Counter({one: every[one] for one in samples})


@pytest.mark.parametrize(
    ("split", "limit", "problem"),
    [
        ("tset", None, "no such split"),
        ("entailed:absent", None, "no such split"),
        ("entailed:train", None, "no entailed questions were made"),
        ("test", 0, "at least one question"),
    ],
)
def test_misuse(store: VQAStore, split: str, limit: int | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Questions(store, split, limit)


def test_a_split_without_questions(store: VQAStore) -> None:
    with pytest.raises(InputError, match="no questions of this split"):
        Questions(store, "compositional")


def slow_kind(program: str) -> str:
    return KINDS.get(program.split("(")[0], "yes/no")


def test_the_right_answer_is_allowed_and_found_again(store: VQAStore) -> None:
    """Of every question: its kind is that of its program, and its answer is one that it allows."""
    asked = Questions(store)
    part = asked.part(0, len(asked))
    seen = set()
    for row, one in zip(part.table.to_pylist(), part.asked, strict=True):
        assert one is not None and one.kind == slow_kind(store.pack.by_id(row["template"]).program.text())
        assert one.allowed[plain_text(row["answer"])] == row["answer_id"]
        assert asked.asking.id_of(row["answer"], one) == row["answer_id"]
        seen.add(one.kind)
    assert {"yes/no", "value", "choice", "region", "list"} <= seen


def test_what_is_allowed(store: VQAStore) -> None:
    asking, vocab = Asking(store), store.vocab
    of = {t.id: n for n, t in enumerate(store.pack.templates)}
    shirt, bag = vocab.category["shirt"], vocab.category["bag"]
    red, striped, colour = vocab.value["colour", "red"], vocab.value["pattern", "striped"], vocab.attribute["colour"]
    exist = asking.of(of["B1.exist"], [shirt])
    assert (exist.kind, exist.attribute, dict(exist.allowed)) == ("yes/no", "category", {"yes": YES, "no": NO})
    query = asking.of(of["C1.query"], [shirt, colour])
    assert query.attribute == "colour" and query.allowed["navy blue"] == vocab.value["colour", "navy"]
    assert query.allowed["not present"] == NOT_PRESENT and not {"yes", "striped", "shirt"} & set(query.allowed)
    choice = asking.of(of["C2.choose"], [shirt, red, vocab.value["colour", "blue"]])
    assert set(choice.allowed) == {"red", "blue"}  # the two that are offered, and no other colour
    exists = asking.of(of["C2.exist"], [shirt, bag])
    assert (exists.attribute, set(exists.allowed)) == ("category", {"shirt", "bag"})
    both = asking.of(of["B4.and"], [shirt, striped, red])
    assert both.attribute == "colour,pattern"
    assert asking.of(of["B3.exist"], [shirt, red]).attribute == "colour"
    assert asking.of(of["B2.kind_value"], [red, shirt]).attribute == "category"
    count = asking.of(of["C8.count"], [shirt])
    assert count.attribute == "number" and "3" in count.allowed and "not present" not in count.allowed
    assert asking.id_of("striped", query) == striped and asking.id_of("a colour nobody knows", query) is None


@pytest.mark.parametrize(
    ("one", "two"), [("T-Shirt", "t-shirt"), ("  navy   blue ", "navy blue"), ("Yes.", "yes"), ("ｒｅｄ", "red")]
)
def test_texts_that_are_the_same(one: str, two: str) -> None:
    assert plain_text(one) == plain_text(two)
    assert plain_text("navy") != plain_text("navy blue")
