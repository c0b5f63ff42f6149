"""Exact top-k against a slow reference: ties, block sizes, batches, and what must be refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fashionkit.tables import InputError
from fashionkit.vectors import search, top_k, unit


def reference(
    queries: NDArray[np.floating], base: NDArray[np.floating], k: int, exclude: list[int] | None = None
) -> tuple[list[list[int]], list[list[float]]]:
    """One pair at a time, summed without rounding, sorted by (score, row)."""
    rows, scores = [], []
    for number, query in enumerate(queries.tolist()):
        found = [
            (-float(np.float32(math.fsum(a * b for a, b in zip(query, line, strict=True)))), row)
            for row, line in enumerate(base.tolist())
            if exclude is None or row != exclude[number]
        ]
        best = sorted(found)[:k]
        rows.append([row for _, row in best])
        scores.append([-score for score, _ in best])
    return rows, scores


@pytest.mark.parametrize("block", [1, 7, 64, 8192])
@pytest.mark.parametrize("k", [1, 5, 300, 400])
def test_equals_the_reference(block: int, k: int) -> None:
    rng = np.random.default_rng(1)
    base = unit(rng.standard_normal((300, 16)))
    base[100:140] = base[7]  # one vector 41 times
    queries = np.concatenate([base[[7, 8, 100]], unit(rng.standard_normal((4, 16)))])
    rows, scores = top_k(queries, base, k, block)
    wanted_rows, wanted_scores = reference(queries, base, k)
    assert rows.tolist() == wanted_rows and scores.tolist() == wanted_scores
    assert rows.shape == (7, min(k, 300)) and (rows.dtype, scores.dtype) == (np.int64, np.float32)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.integers(1, 70), st.integers(1, 70))
def test_coarse_values_tie_often_and_go_by_row(seed: int, count: int, dim: int, k: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    base, queries = (rng.integers(-1, 2, (n, dim)).astype(np.float32) for n in (count, 3))
    own = rng.integers(-1, count, 3)
    for exclude in (None, own.tolist()):
        width = min(k, count - (exclude is not None))
        rows, scores = top_k(queries, base, k, block, exclude)
        wanted_rows, wanted_scores = reference(queries, base, width, exclude)
        assert rows.tolist() == wanted_rows and scores.tolist() == wanted_scores


def test_batch_block_and_place_change_no_bit() -> None:
    """Near-copies differ in their last digits, where a matmul's own rounding decides the order."""
    rng = np.random.default_rng(2)
    base = unit(np.repeat(unit(rng.standard_normal((40, 96))), 50, axis=0) + rng.normal(0, 3e-8, (2000, 96)))
    queries = unit(rng.standard_normal((33, 96)))
    rows, scores = top_k(queries, base, 20)
    for block in (13, 500, 1999):
        again = top_k(queries, base, 20, block)
        assert np.array_equal(again[0], rows) and np.array_equal(again[1], scores)
    for number in range(len(queries)):
        single = top_k(queries[number : number + 1], base, 20)
        assert np.array_equal(single[0][0], rows[number]) and np.array_equal(single[1][0], scores[number])
    assert rows[:5].tolist() == reference(queries[:5], base, 20)[0]


def test_little_memory_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    base, queries = rng.standard_normal((500, 8)), rng.standard_normal((50, 8))
    wanted = top_k(queries, base, 9)
    monkeypatch.setattr(search, "SCORE_BYTES", 1)
    monkeypatch.setattr(search, "PAIR_BYTES", 1)
    found = top_k(queries, base, 9, 100)
    assert np.array_equal(found[0], wanted[0]) and np.array_equal(found[1], wanted[1])


def test_norms_may_differ_widely() -> None:
    rng = np.random.default_rng(4)
    base = (rng.standard_normal((200, 12)) * 10.0 ** rng.integers(-20, 15, (200, 1))).astype(np.float32)
    queries = (rng.standard_normal((6, 12)) * 10.0 ** rng.integers(-20, 15, (6, 1))).astype(np.float32)
    assert top_k(queries, base, 150, 64)[0].tolist() == reference(queries, base, 150)[0]


def test_ascending_base_is_still_exact() -> None:
    """Each row beats all before it: the worst case for a limit that is learnt on the way."""
    angles = np.linspace(np.pi / 2, 0, 3000)
    base = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert top_k([[1.0, 0.0]], base, 3, 100)[0].tolist() == [[2999, 2998, 2997]]


def test_nothing_asked_or_nothing_there() -> None:
    assert top_k(np.empty((0, 4)), np.ones((3, 4)), 2)[0].shape == (0, 2)
    assert top_k(np.ones((2, 4)), np.empty((0, 4)), 2)[0].shape == (2, 0)
    assert top_k(np.ones((1, 4)), np.ones((1, 4)), 2, exclude=[0])[0].shape == (1, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"block": 0}, "block must be at least 1"),
        ({"queries": np.ones((2, 5))}, "another dimension than 4"),
        ({"queries": np.ones(4)}, "shape"),
        ({"queries": [["a", "b", "c", "d"]]}, "must be numbers"),
        ({"queries": [[np.nan, 0, 0, 0]]}, "row 1: a vector holds NaN"),
        ({"base": np.array([[1, 0, 0, 0], [np.inf, 0, 0, 0]])}, "row 2: a vector holds NaN"),
        ({"base": np.array([[1, 0, 0, 0], [1e300, 0, 0, 0]]), "block": 1}, "row 2: a vector holds NaN"),
        ({"base": [[1e25, 0, 0, 0]]}, "too large"),
        ({"queries": [[0, 1e19, 0, 0]]}, "too large"),
        ({"exclude": [1, 2, 3]}, "one row to leave out"),
    ],
)
def test_refuses_with_words(changes: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"queries": np.ones((2, 4)), "base": np.ones((3, 4)), "k": 1, **changes}
    with pytest.raises(InputError, match=words):
        top_k(**arguments)  # type: ignore[arg-type]
