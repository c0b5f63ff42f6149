"""Folding and hashing texts, and which words say an answer."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.datagen.audit.wording import distinct, folded, hashes, words_of
from fashionkit.datagen.store import VQAStore
from tests.datagen.conftest import Made

texts = st.lists(st.text(st.sampled_from("aBz 09_-’'éÉß,?.\u0301字"), max_size=30), max_size=8)


@given(texts)
def test_folding_keeps_words_and_nothing_else(words: list[str]) -> None:
    for said, found in zip(words, folded(pa.array(words, pa.string())).to_pylist(), strict=True):
        plain = re.sub(r"[^\w\u0301]|_", " ", said.lower())
        assert found == " " + "".join(word + " " for word in plain.split())


@given(texts)
def test_plain_texts_are_folded_alike_among_others(words: list[str]) -> None:
    plain = ["".join(c for c in word if c < "\x80") for word in words]
    mixed = folded(pa.array([*plain, "É"], pa.string())).to_pylist()[:-1]
    assert mixed == folded(pa.array(plain, pa.string())).to_pylist()


@given(texts, texts)
def test_equal_texts_and_only_they_have_equal_hashes(some: list[str], others: list[str]) -> None:
    one, two = (folded(pa.array(words, pa.string())) for words in (some, others))
    both = [*zip(one.to_pylist(), hashes(one, 0).tolist(), strict=True)]
    both += zip(two.to_pylist(), hashes(two, 0).tolist(), strict=True)
    assert len({text for text, _ in both}) == len(set(both)) == len({code for _, code in both})


def test_hashes_tell_like_texts_apart() -> None:
    said = [f" is the {a}{' ' * (a % 2)}{b} {'shirt' if a < b else 'skirt'} " for a in range(300) for b in range(300)]
    one = hashes(pa.array(said), 0)
    assert len(np.unique(one)) == len(set(said))
    moved = [
        " aaaaaaa bbbbbbb ccccccc ",
        " bbbbbbb aaaaaaa ccccccc ",
        " aaaaaaa ccccccc bbbbbbb ",
    ]  # by whole words of 8
    assert len(np.unique(hashes(pa.array(moved), 0))) == 3
    assert not (one == hashes(pa.array(said), 1)).any()
    assert not (one == hashes(pa.array([text[::-1] for text in said]), 0)).any()


@given(
    st.lists(st.tuples(*[st.integers(0, 60_000)] * 5), min_size=1, max_size=40),
    st.sampled_from([60_001, 1 << 16, 1 << 20]),
)
def test_distinct_rows_are_found_however_many_numbers_there_could_be(rows: list[tuple[int, ...]], limit: int) -> None:
    rows += rows[::2]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    row, combination, key = distinct(columns, [limit] * 5)
    assert [rows[at] for at in row] == sorted(set(rows))
    assert [rows[row[number]] for number in combination] == rows
    assert all(rows.index(rows[at]) == at for at in row)
    assert (np.diff(key, prepend=-1) > 0).all()


def test_keys_mean_the_same_for_all_columns() -> None:
    _, _, key = distinct([np.array([3, 0, 3]), np.array([1, 5, 4])], [4, 6])
    assert key.tolist() == [5, 19, 22]


def said(store: VQAStore, key: str) -> set[str]:
    return {word.strip() for word in words_of(store, store.vocab.key.index(key))}


def test_words_of_an_answer(outfit_set: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(outfit_set.path, tmp_path / "set")
    path = folder / "ontology.yaml"
    text = (
        path.read_text()
        .replace("hat: {", "hat: {synonyms: [Bobble-Hat], ")
        .replace("plain: {}", "plain: {synonyms: [uni]}")
    )
    path.write_text(text)
    store = VQAStore(folder)
    assert said(store, "hat") == {"hat", "hats", "bobble hat"}
    assert said(store, "pattern/plain") == {"plain", "uni"}
    assert said(store, "colour/navy") == {"navy blue"}
    assert said(store, "sleeves/short") == {"short sleeves", "short sleeved", "with short sleeves"}
    assert said(store, "details/bow+logo") == {"bow", "a bow", "with a bow", "logo", "a logo", "with a logo"}
    assert said(store, "head") == {"head"}
    assert said(store, "not_present") == {"not present"}
    assert said(store, "colour") == set()


@pytest.mark.parametrize("texts", [[], [""], ["", "?", "a"]])
def test_nothing_is_a_text_too(texts: list[str]) -> None:
    found = folded(pa.array(texts, pa.string()))
    assert len(found) == len(hashes(found, 0)) == len(texts)
