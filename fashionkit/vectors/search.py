"""Exact top-k by inner product in bounded memory, with the same answer for every block size and batch.

    base block ──► fast float32 matmul ──► all that can still be among the k best ──► each pair again, in float64
                                                                                      └──► merged by (score, row)

A matmul sums in an order that depends on the shapes it is given, so its last bits differ from batch to batch, and so
would the order of near-equal rows. Here it only proposes: its error is at most D * 2^-24 * |q| * |b| in any order of
summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1), and nothing within that of the
k-th best is left out. What is proposed is summed again pair by pair, in one fixed order, and rounded to float32 once.

Letters: Q queries, N base rows, M queries of a chunk, B rows of a block, D dimensions, P proposed pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashionkit.tables import InputError

BLOCK = 8192  # base rows at a time
SCORE_BYTES = 16 << 20  # most memory of one matmul's result
PAIR_BYTES = 32 << 20  # most memory of the pairs that are summed again at a time
ROUNDING = 2.0**-24  # of float32, relative
TINY = np.finfo(np.float32).tiny  # products below this lose digits
LARGEST = 1e18  # norm of a vector: products of two such are far from float32's end
UNIT = 1e-5  # how far the norm of a unit vector may be from 1
CROWD = 8  # proposals for each asked neighbour from which it pays to find a better limit

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


def top_k(
    queries: ArrayLike, base: ArrayLike, k: int, block: int = BLOCK, exclude: ArrayLike | None = None
) -> tuple[Rows, Floats]:
    """The k base rows with the largest inner product with each query; the cosine where both have unit norm.

    Args:
        queries: (Q, D); read as float32.
        base: (N, D); read as float32, `block` rows at a time.
        k: Neighbours of each query; where the base has fewer rows, all of them are given.
        block: Base rows at a time. It changes speed and memory, never the result.
        exclude: (Q,) a base row that each query must not find, or -1.

    Returns:
        Rows (Q, K) and scores (Q, K), best first, equal scores by row; K = min(k, N), or min(k, N - 1) with `exclude`.

    Raises:
        InputError: Shapes that do not fit, NaN or infinity, k or block below 1.
    """
    check_counts(k, block)
    rows = as_matrix(base)
    asked = _single(as_matrix(queries, dim=rows.shape[1]))
    _longest(asked)
    search = TopK(asked, min(k, len(rows) - (exclude is not None)), None if exclude is None else np.asarray(exclude))
    for start in range(0, len(rows), block):
        part = _single(rows[start : start + block])
        search.add(start, part, _longest(part, start))
    return search.rows, search.scores


class TopK:
    """The k best rows so far of each query, fed with blocks of the base.

    Args:
        queries: (Q, D) finite float32.
        k: Neighbours kept; at most the rows that will be added (one less with `exclude`), else the rest stays -1.
        exclude: (Q,) the row that each query must not find, or -1.

    Attributes:
        rows: (Q, k) best first. scores: (Q, k) float32.
    """

    def __init__(self, queries: Floats, k: int, exclude: NDArray[np.integer] | None = None):
        if exclude is not None and exclude.shape != (len(queries),):
            raise InputError("one row to leave out is needed for each query", found=exclude.shape)
        self.queries, self.k, self.exclude = queries, max(k, 0), exclude
        self.rows: Rows = np.full((len(queries), self.k), -1, np.int64)
        self.scores: Floats = np.full((len(queries), self.k), -np.inf, np.float32)
        self._lengths = norms_of(queries).astype(np.float32)

    def add(self, first: int, base: Floats, longest: float = 1.001) -> None:
        """Takes in base rows `first`, `first + 1`, …

        Args:
            first: Row number of the block's first row.
            base: (B, D) finite float32.
            longest: No row's norm is above this.
        """
        if not self.k or not len(base):
            return
        chunk = max(1, SCORE_BYTES // (4 * len(base)))
        for start in range(0, len(self.queries), chunk):
            part = slice(start, start + chunk)
            queries = self.queries[part]
            fast = queries @ base.T  # (M, B)
            if self.exclude is not None:
                own = self.exclude[part] - first
                inside = np.flatnonzero((own >= 0) & (own < len(base)))
                fast[inside, own[inside]] = -np.inf
            margin = self._lengths[part] * np.float32(longest * 1.01 * (base.shape[1] + 4) * ROUNDING) + TINY
            query, row = np.divmod(self._propose(fast, self.scores[part, -1], margin), len(base))
            if self.exclude is not None:  # where all of a block is proposed, what is left out is, too
                allowed = row != own[query]
                query, row = query[allowed], row[allowed]
            self._merge(query + start, row + first, pair_scores(queries, base, query, row))

    def _propose(self, fast: Floats, kth: Floats, margin: Floats) -> NDArray[np.intp]:
        """Flat positions in (M, B) that can be among the k best, by the k-th scores so far and the block's own."""
        floor = kth - margin  # (M,)
        if np.isfinite(floor).all():
            hits = np.flatnonzero(fast >= floor[:, None])
            if len(hits) <= CROWD * self.k * len(fast):
                return hits
        floor = np.maximum(floor, _low_kth(fast, self.k) - 2 * margin)
        return np.flatnonzero(fast >= floor[:, None])

    def _merge(self, query: NDArray[np.intp], row: NDArray[np.intp], score: Floats) -> None:
        if not len(query):
            return
        touched, query = np.unique(query, return_inverse=True)
        kept = self.rows[touched] >= 0  # (T, k)
        query = np.concatenate([np.nonzero(kept)[0], query])
        row = np.concatenate([self.rows[touched][kept], row])
        score = np.concatenate([self.scores[touched][kept], score])
        order = np.lexsort((row, -score, query))
        query, row, score = query[order], row[order], score[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        best = rank < self.k
        place = touched[query[best]], rank[best]
        self.rows[place], self.scores[place] = row[best], score[best]


def pair_scores(queries: Floats, base: Floats, query: NDArray[np.integer], row: NDArray[np.integer]) -> Floats:
    """Inner products (P,) of `queries[query]` with `base[row]`; each depends on its two vectors alone.

    Products of float32 are exact in float64, and NumPy sums a contiguous row in one order whatever stands beside it.
    """
    step = max(1, PAIR_BYTES // (8 * max(1, base.shape[1])))
    found = np.empty(len(query), np.float32)
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        products = np.multiply(queries[query[part]], base[row[part]], dtype=np.float64)  # (P, D)
        found[part] = products.sum(axis=1)
    return found


def _low_kth(fast: Floats, k: int) -> Floats:
    """A bound (M,) that at least k of the B entries of each line reach, and mostly few more do.

    The k-th largest of the maxima of 4 k groups: finding maxima is many times faster than a partition of all.
    """
    count = fast.shape[1]
    if count <= k:
        return np.full(len(fast), -np.inf, np.float32)
    if count >= 8 * k:
        groups = 4 * k
        width = count // groups
        fast = fast[:, : groups * width].reshape(len(fast), groups, width).max(axis=2)  # (M, 4 k)
    low: Floats = np.partition(fast, -k, axis=1)[:, -k]
    return low


def unit(vectors: ArrayLike, file: str | Path | None = None) -> NDArray[np.float32]:
    """Rows divided by their norm; a row that has unit norm already stays as it is, bit for bit.

    Args:
        vectors: (n, D) numbers. file: What errors name.

    Returns:
        (n, D) float32.

    Raises:
        InputError: Not a matrix, NaN, infinity, or a row of zeros, which has no direction.
    """
    found = as_matrix(vectors, file)
    norms = norms_of(found, file)
    zero = np.flatnonzero(norms == 0)
    if len(zero):
        raise InputError("a vector of zeros has no direction", file=file, row=int(zero[0]) + 1)
    norms[np.abs(norms - 1) <= UNIT] = 1
    return (found / norms[:, None]).astype(np.float32)


def as_matrix(vectors: ArrayLike, file: str | Path | None = None, dim: int | None = None) -> NDArray[np.floating]:
    """`vectors` as floats of shape (n, D).

    Raises:
        InputError: Not numbers, another shape, or another D than `dim`.
    """
    found = np.asarray(vectors)
    if found.dtype.kind not in "fiu" or found.ndim != 2 or found.shape[1] < 1:
        problem = "the vectors must be numbers of shape (rows, dimensions)"
        raise InputError(problem, file=file, found=f"{found.dtype} {found.shape}")
    if dim is not None and found.shape[1] != dim:
        raise InputError(f"the vectors have another dimension than {dim}", file=file, found=found.shape[1])
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def norms_of(vectors: NDArray[np.floating], file: str | Path | None = None, first: int = 0) -> NDArray[np.float64]:
    """Norms (n,) of rows; errors count rows from `first`.

    Raises:
        InputError: NaN or infinity.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise InputError("a vector holds NaN, infinity or too large a number", file=file, row=int(bad[0]) + 1)
    return norms


def _longest(rows: Floats, first: int = 0) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", rows, rows)  # several times as fast as `norms_of`, and enough for a bound
    bad = np.flatnonzero(~(squares <= LARGEST**2))  # NaN fails every comparison, so it is found, too
    if len(bad):
        raise InputError("a vector holds NaN, infinity or too large a number", row=first + int(bad[0]) + 1)
    return float(np.sqrt(squares.max(initial=0.0)))


def _single(values: NDArray[np.floating]) -> Floats:
    with np.errstate(over="ignore"):  # becomes infinite, and is refused with its row
        return np.ascontiguousarray(values, np.float32)


def check_counts(k: int, block: int) -> None:
    """Refuses what is no number of neighbours or rows."""
    for name, value in (("k", k), ("block", block)):
        if value < 1:
            raise InputError(f"{name} must be at least 1", found=value)
