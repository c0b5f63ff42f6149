"""The approximate index: the store's contract, its recall, and life without faiss."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from fashionkit.tables import InputError
from fashionkit.vectors import EmbeddingStore, FaissIndex, unit, write_vectors
from fashionkit.vectors.index import KINDS
from tests.vectors.conftest import PARAMS, drawn

needs_faiss = pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingStore:
    """3,000 vectors around 30 centres, as pictures of alike garments are; the first three are the same."""
    rng = np.random.default_rng(0)
    vectors = unit(np.repeat(drawn(30, 32), 100, axis=0) + rng.normal(0, 0.1, (3000, 32)))
    vectors[1:3] = vectors[0]
    path = tmp_path_factory.mktemp("index") / "vectors"
    write_vectors(path, [([f"i{n}" for n in range(3000)], vectors)], PARAMS, "float32")
    return EmbeddingStore(path)


@needs_faiss
@pytest.mark.parametrize("kind", KINDS)
def test_recall_against_exact(store: EmbeddingStore, kind: str) -> None:
    index = FaissIndex(store, kind)
    recall = index.recall(10, 200, seed=1)
    assert recall == 1.0 if kind == "flat" else 0.9 < recall <= 1.0
    assert index.recall(10, 200, seed=1) == recall
    ids, scores = index.nearest(["i0", "i7"], 5, exclude_self=True)
    assert set(ids[0][:2]) == {"i1", "i2"} and "i7" not in ids[1] and scores.shape == (2, 5)
    by_vector, cosines = index.nearest(store.get(["i7"]) * 9, 1)
    assert by_vector == [["i7"]] and cosines[0, 0] == pytest.approx(1, abs=1e-6)


@needs_faiss
def test_flat_agrees_with_the_store(store: EmbeddingStore) -> None:
    names = store.ids[110:160]
    rows, scores = FaissIndex(store, "flat").nearest_rows(names, 8, exclude_self=True)
    exact_rows, exact_scores = store.nearest_rows(names, 8, exclude_self=True)
    assert np.allclose(scores, exact_scores, atol=1e-6)
    assert (rows != exact_rows).mean() < 0.02, "only what is nearly as near may change places"


@needs_faiss
@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_few(tmp_path: Path, kind: str) -> None:
    write_vectors(tmp_path / "v", [(["a", "b", "c"], drawn(3))], PARAMS)
    index = FaissIndex(EmbeddingStore(tmp_path / "v"), kind)
    ids, scores = index.nearest(["b"], 10, exclude_self=True)
    assert sorted(ids[0]) == ["a", "c"] and scores.shape == (1, 2)
    assert index.nearest([], 3)[0] == [] and index.recall(2, 50) == 1.0


@needs_faiss
def test_lists_that_are_not_looked_into_leave_gaps(store: EmbeddingStore) -> None:
    index = FaissIndex(store, "ivf")
    index.index.nprobe = 1
    ids, scores = index.nearest(["i5"], 2999, exclude_self=True)
    assert 0 < len(ids[0]) < 2999 and np.isneginf(scores[0, len(ids[0]) :]).all() and np.isfinite(scores[0, 0])
    assert index.recall(50, 100) < 1.0 + 1e-9


@needs_faiss
def test_misuse(store: EmbeddingStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)no such kind.*hnsw"):
        FaissIndex(store, "hnws")
    index = FaissIndex(store, "flat")
    for call, words in (
        (lambda: index.nearest(["nope"]), "'nope'"),
        (lambda: index.nearest(["i1"], 0), "k must be"),
        (lambda: index.nearest(drawn(1, 31)), "another dimension"),
        (lambda: index.recall(n=0), "at least one query"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_without_faiss(store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'fashionkit\[faiss\]'"):
        FaissIndex(store)
