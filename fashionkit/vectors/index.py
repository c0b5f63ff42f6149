"""An approximate index for stores too large to search exactly each time, by faiss (https://faiss.ai, arXiv 2401.08281).

    store ──► blocks ──► FaissIndex ──► nearest(queries) ──► ids, scores     same contract as the store's, roughly
                             └────────► recall(k)        ──► how roughly: measured against the exact answer

It is an optional extra, and an index lives in memory: it is made from the store again where it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fashionkit.tables import InputError
from fashionkit.vectors.search import Floats, Rows, check_counts
from fashionkit.vectors.store import EmbeddingStore

KINDS = ("flat", "ivf", "hnsw")
LINKS = 32  # of each node of the HNSW graph (arXiv 1603.09320)
WIDTH = 128  # candidates that an HNSW search holds
PER_LIST = 64  # vectors that k-means gets for each list of an inverted file; faiss warns below 39
PROBED = 0.1  # share of the lists that a search of an inverted file looks into


def require_faiss() -> Any:
    """The module `faiss`.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        hint = "pip install 'fashionkit[faiss]'; the store's own nearest() is exact and needs nothing"
        raise InputError(f"an index needs faiss, which cannot be loaded: {error}", hint=hint) from error


class FaissIndex:
    """Nearest ids of a store, found quickly and mostly rightly.

    Args:
        store: What is searched.
        kind: `flat` (exact, all in memory), `ivf` (k-means lists) or `hnsw` (a graph; quickest, and slow to make). The
            graph is made by several threads and differs a little from run to run.
        seed: For k-means and the sample it is fed.

    Raises:
        InputError: faiss is not installed, or no such kind.
    """

    def __init__(self, store: EmbeddingStore, kind: str = "hnsw", seed: int = 0):
        if kind not in KINDS:
            raise InputError("no such kind of index", found=kind, allowed=KINDS)
        faiss = require_faiss()
        self.store, self.kind = store, kind
        self.index: Any
        if kind == "ivf":
            self.index = _inverted_file(faiss, store, seed)
        elif kind == "hnsw":
            self.index = faiss.IndexHNSWFlat(store.dim, LINKS, faiss.METRIC_INNER_PRODUCT)
            self.index.hnsw.efSearch = WIDTH
        else:
            self.index = faiss.IndexFlatIP(store.dim)
        for _, block in store.blocks():
            self.index.add(np.ascontiguousarray(block))

    def nearest(
        self, queries: ArrayLike | Sequence[str], k: int = 10, exclude_self: bool = False
    ) -> tuple[list[list[str]], Floats]:
        """As `EmbeddingStore.nearest`, roughly: ids may be missed, and equal scores come in any order.

        Returns:
            Q lists of ids, and cosines (Q, K); where fewer than K were found a list is shorter and its cosines end
            in -inf.

        Raises:
            InputError: As there.
        """
        rows, scores = self.nearest_rows(queries, k, exclude_self)
        names = self.store.ids
        return [[names[row] for row in line if row >= 0] for line in rows.tolist()], scores

    def nearest_rows(
        self, queries: ArrayLike | Sequence[str], k: int = 10, exclude_self: bool = False
    ) -> tuple[Rows, Floats]:
        """As `nearest`, with row numbers (Q, K), -1 where fewer were found."""
        check_counts(k, 1)
        vectors, own = self.store.as_queries(queries, exclude_self)
        wanted = min(k, len(self.store) - exclude_self)
        if not len(vectors) or not wanted:
            return np.empty((len(vectors), wanted), np.int64), np.empty((len(vectors), wanted), np.float32)
        scores, rows = self.index.search(np.ascontiguousarray(vectors), wanted + exclude_self)  # (Q, K) or (Q, K + 1)
        gone = rows < 0 if own is None else (rows < 0) | (rows == own[:, None])
        rows[gone], scores[gone] = -1, -np.inf
        order = np.argsort(gone, axis=1, kind="stable")[:, :wanted]
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)

    def recall(self, k: int = 10, n: int = 1000, seed: int = 0) -> float:
        """Share of the exact k nearest that the index finds, the query's own id left out.

        Of equally near vectors the index may give others than the exact search does; what is as near as the exact
        answer's last counts as found.

        Args:
            k: Neighbours.
            n: Queries, drawn from the store's ids; all of them where there are fewer.
            seed: Of the draw.

        Returns:
            0..1.

        Raises:
            InputError: k or n below 1, or a store of a single vector.
        """
        if n < 1 or len(self.store) < 2:
            raise InputError("recall needs at least one query and two vectors", found=f"n = {n}, {len(self.store)}")
        rows = np.sort(np.random.default_rng(seed).choice(len(self.store), min(n, len(self.store)), replace=False))
        names = [self.store.ids[row] for row in rows]
        _, exact = self.store.nearest_rows(names, k, exclude_self=True)
        _, rough = self.nearest_rows(names, k, exclude_self=True)
        slack = 4 * self.store.dim * 2.0**-24  # faiss sums in float32, in an order of its own
        return float((rough >= exact[:, -1:] - slack).mean())


def _inverted_file(faiss: Any, store: EmbeddingStore, seed: int) -> Any:
    lists = max(1, min(round(4 * len(store) ** 0.5), len(store) // PER_LIST))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(store.dim), store.dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1  # a small store has few; faiss would print a warning
    index.nprobe = max(1, round(lists * PROBED))
    wanted = min(len(store), lists * PER_LIST)
    index.train(store.take(np.sort(np.random.default_rng(seed).choice(len(store), wanted, replace=False))))
    return index
