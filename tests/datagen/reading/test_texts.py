"""The table of texts against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.datagen.counter import STEP
from fashionkit.datagen.reading import texts as module
from fashionkit.datagen.reading.texts import Texts

numbers = st.integers(0, 2**62)


@given(st.lists(st.dictionaries(numbers, st.text(max_size=9), max_size=40), max_size=8), st.lists(numbers, max_size=20))
def test_it_is_a_dict(parts: list[dict[int, str]], others: list[int]) -> None:
    table, known = Texts(10_000), {}
    for part in parts:
        new = {code: text.encode("utf-8", "replace").decode() for code, text in part.items() if code not in known}
        table.add(np.array(list(new), np.int64), list(new.values()))
        known |= new
    assert len(table) == len(known)
    asked = np.array([*known, *others], np.int64)
    at = table.find(asked)
    assert (at >= 0).tolist() == [code in known for code in asked.tolist()]
    assert table.take(at[at >= 0]) == [known[code] for code in asked.tolist() if code in known]


@pytest.mark.parametrize("parts", [1, 50])
def test_it_grows_and_neighbours_do_not_mix(parts: int) -> None:
    """Codes that all want one slot are found as well as those that lie apart."""
    inverse = pow(STEP, -1, 2**64)
    same = [code for code in (inverse * k % 2**64 for k in range(1, 4000)) if code < 2**62]
    codes = np.unique(np.array([*same, *range(20_000)], np.int64))
    table = Texts(100_000)
    for some in np.array_split(np.random.default_rng(0).permutation(codes), parts):
        table.add(some, [f"text {code}" for code in some.tolist()])
    assert len(same) > 500 and table.take(table.find(codes)) == [f"text {code}" for code in codes.tolist()]
    assert (table.find(codes + 10**15) == -1).all()


@pytest.mark.parametrize("limit", ["texts", "bytes"])
def test_what_has_no_room_is_left_out(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Texts(150 if limit == "texts" else 10**6)
    if limit == "bytes":
        monkeypatch.setattr(module, "MOST_BYTES", 1500)
    assert table.add(np.arange(100), ["ten letter"] * 100)
    assert not table.add(np.arange(100, 200), ["ten letter"] * 100)
    assert len(table) == 100 and table.find(np.array([5, 105])).tolist() == [5, -1]


def test_nothing_is_in_an_empty_table() -> None:
    table = Texts(10)
    table.add(np.zeros(0, np.int64), [])
    assert table.find(np.array([0, 1])).tolist() == [-1, -1] and table.take(np.zeros(0, np.int64)) == []
