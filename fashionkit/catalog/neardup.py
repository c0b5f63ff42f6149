"""Finds near-duplicate pictures: a perceptual hash proposes pairs, a comparison of small pictures confirms them.

    pHash, 64 bit ──► tables of sorted keys ──► pairs within `radius` bits ──► coarse bound ──► 32 x 32 RGB ──► pairs

Alone, neither half will do: product photos on white chain together by their hashes (measured: 37 % of 8,128 photos in
two groups at 6 bits), and two white garments on white differ by less than 2/255 although they are unlike. A comparison
of all pairs of those photos found no true copy under 2/255 that lies more than 6 bits apart.

Proposals are exact, by the pigeonhole of multi-index hashing (Norouzi, Punjani, Fleet 2012, arXiv 1307.2982): of
`radius + 3` chunks of the hash, a pair within `radius` bits agrees in at least 3. So one table for each choice of 3
chunks (84 for 6 bits), sorted by those bits, brings each such pair under the same key. Within a key the rows are sorted
by brightness, which a pair within the pixel difference must share too, and only that window is compared.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

THUMB_BYTES = 32 * 32 * 3
_AGREE = 3  # chunks that must agree: more make finer keys, but more tables
_BLOCK = 4096  # pairs compared pixel by pixel at a time (25 MB)
_PENDING = 500_000  # proposed pairs held before they are compared

Pairs = NDArray[np.int64]


def near_duplicates(
    phash: NDArray[np.uint64],
    thumbs: NDArray[np.uint8],
    radius: int = 6,
    difference: float = 2.0,
    window: int = 256,
) -> Pairs:
    """Pairs of near-duplicate pictures, enough of them to join each group of such pairs.

    A pair that others join already may be left out: a thousand copies of one picture give 999 pairs, not half a
    million.

    Args:
        phash: `[n]`, perceptual hashes.
        thumbs: `[n, 3072]`, 32 x 32 RGB bytes of the same pictures.
        radius: Hashes that differ by at most so many of their 64 bits are proposed, 0..16.
        difference: Mean absolute difference of the bytes (0..255) that a confirmed pair stays under.
        window: Neighbours in brightness that a picture is compared with, for each key it shares with them. It bounds
            the work where very many pictures look alike; those are then joined through their neighbours.

    Returns:
        `[m, 2]`, row numbers, smaller first, sorted, none twice.

    Raises:
        ValueError: The arrays do not fit each other, or the radius is out of range.
    """
    if thumbs.shape != (len(phash), THUMB_BYTES) or thumbs.dtype != np.uint8 or phash.dtype != np.uint64:
        raise ValueError(f"[n] uint64 and [n, {THUMB_BYTES}] uint8 are needed, not {phash.shape} and {thumbs.shape}")
    if not 0 <= radius <= 16:
        raise ValueError(f"a radius of 0 to 16 bits is needed, not {radius}")
    limit = difference * THUMB_BYTES
    if limit <= 0 or len(phash) < 2:
        return np.empty((0, 2), np.int64)
    copies = _copies(phash, thumbs)
    first = np.delete(np.arange(len(phash)), copies[:, 1])  # one picture of each set of equal ones
    found = _Search(phash, thumbs, first, radius, limit).run(window)
    pairs = np.concatenate([copies, found])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def components(count: int, pairs: Pairs) -> NDArray[np.int64]:
    """Connected components of a graph of `count` nodes.

    Args:
        count: Nodes, numbered from 0.
        pairs: `[m, 2]`, the edges.

    Returns:
        `[count]`, for each node the smallest node of its component.
    """
    label = np.arange(count)
    while True:
        ends = label[pairs]
        pairs, ends = (rows[ends[:, 0] != ends[:, 1]] for rows in (pairs, ends))
        if not len(pairs):
            return label
        np.minimum.at(label, ends.max(1), ends.min(1))  # hooks each root under the smallest root it meets
        while not np.array_equal(label, up := label[label]):
            label = up


def pixel_sums(thumbs: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.int64]:
    """Sum of the absolute differences of the bytes of each pair: `[m]`, 0..783,360."""
    sums = np.empty(len(pairs), np.int64)
    for start in range(0, len(pairs), _BLOCK):
        a, b = (thumbs[pairs[start : start + _BLOCK, side]] for side in (0, 1))
        sums[start : start + _BLOCK] = (np.maximum(a, b) - np.minimum(a, b)).sum(1, dtype=np.int64)
    return sums


def _copies(phash: NDArray[np.uint64], thumbs: NDArray[np.uint8]) -> Pairs:
    """(first, later) for each picture whose hash and bytes an earlier one has: the search meets each content once."""
    words = np.ascontiguousarray(thumbs).view(np.uint64)  # [n, 384]
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], dtype=np.uint64) | np.uint64(1)
    digest = np.concatenate([words[at : at + _BLOCK] @ factors for at in range(0, len(words), _BLOCK)]) ^ phash
    _, first, of = np.unique(digest, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[of] != np.arange(len(words)))
    pairs = np.stack([first[of[later]], later], 1)
    same = (pixel_sums(thumbs, pairs) == 0) & (phash[pairs[:, 0]] == phash[pairs[:, 1]])
    return pairs[same]  # equal digests are a hint, not a proof


class _Search:
    """One search over the rows `first`; `label` knows which of them are joined, so no dense group is compared twice."""

    def __init__(
        self, phash: NDArray[np.uint64], thumbs: NDArray[np.uint8], first: NDArray[np.int64], radius: int, limit: float
    ):
        self.thumbs, self.first, self.radius, self.limit = thumbs, first, radius, limit
        self.phash = phash[first]
        self.coarse = _block_sums(thumbs, first)
        self.total = self.coarse.sum(1, dtype=np.int64)  # brightness
        self.label = np.arange(len(first))
        self.pending: list[Pairs] = []
        self.waiting = 0
        self.found: list[Pairs] = []

    def run(self, window: int) -> Pairs:
        bits = np.array_split(np.uint64(1) << np.arange(64, dtype=np.uint64), self.radius + _AGREE)
        chunks = [np.bitwise_or.reduce(chunk) for chunk in bits]
        for chosen in combinations(range(len(chunks)), _AGREE):
            others = [chunks[c] for c in range(chosen[-1]) if c not in chosen]
            self._table(np.bitwise_or.reduce([chunks[c] for c in chosen]), others, window)
        self._confirm()
        return np.concatenate(self.found)

    def _table(self, mask: np.uint64, others: list[np.uint64], window: int) -> None:
        """Proposes pairs that agree in `mask`: each row meets the next ones in order of brightness.

        A pair that agrees in one of the chunks `others` too was met in an earlier table.
        """
        key = self.phash & mask
        order = np.lexsort((self.total, key))
        _, run = np.unique(key[order], return_inverse=True)
        place = (run << 21) + self.total[order]  # brightness needs 20 bits; the margin keeps runs apart
        reach = np.searchsorted(place, place + min(self.limit, 2**20 - 1)) - np.arange(len(order)) - 1
        phash, left = self.phash[order], np.arange(len(order))
        for step in range(1, window + 1):
            left = left[reach[left] >= step]
            if not len(left):
                return
            differ = phash[left] ^ phash[left + step]
            near = np.flatnonzero(np.bitwise_count(differ) <= self.radius)
            for chunk in others:
                near = near[differ[near] & chunk != 0]
            self._propose(order[left[near]], order[left[near] + step])

    def _propose(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        apart = self.label[a] != self.label[b]
        a, b = a[apart], b[apart]
        bound = np.abs(self.coarse[a] - self.coarse[b]).sum(1, dtype=np.int64)  # never above the pixel difference
        keep = bound < self.limit
        self.pending.append(np.stack([np.minimum(a, b)[keep], np.maximum(a, b)[keep]], 1))
        self.waiting += len(self.pending[-1])
        if self.waiting > _PENDING:
            self._confirm()

    def _confirm(self) -> None:
        """Compares what is pending pixel by pixel, and joins what is near."""
        pairs = np.concatenate([np.empty((0, 2), np.int64), *self.pending])
        self.pending, self.waiting = [], 0
        good = pairs[pixel_sums(self.thumbs, self.first[pairs]) < self.limit]
        self.label = components(len(self.label), self.label[good])[self.label]
        self.found.append(self.first[good])


def _block_sums(thumbs: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.int16]:
    """Sums over blocks of 8 x 8 pixels: `[len(rows), 48]`. Their differences bound those of the pixels from below."""
    sums = np.empty((len(rows), 48), np.int16)  # at most 64 * 255
    for start in range(0, len(rows), _BLOCK):
        block = thumbs[rows[start : start + _BLOCK]].reshape(-1, 4, 8, 4, 8, 3)  # n, row, y, column, x, channel
        sums[start : start + _BLOCK] = block.sum((2, 4), dtype=np.int16).reshape(-1, 48)
    return sums
