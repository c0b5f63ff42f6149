"""Consistency: of what a model gets right, how much of what follows from it does it get right, too?

    samples      (qid, correct) ──┐
    entailed     (qid, correct) ──┼─► of each right sample the share of its entailed questions that are right ─► mean
    which follows from which ─────┘   (qid, source)

The measure of GQA (Hudson and Manning 2019, arXiv 1902.09506). Everything is joined by id; the order of rows means
nothing. In a question set of fashionkit, the entailed questions and their sources are those of `VQAStore.entailed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Consistency:
    """How consistent the answers are, and of what.

    Attributes:
        consistency: Mean of `score`, 0 to 1; NaN where there is no right sample from which anything follows.
        sources: Samples that count: answered correctly, and something follows from them.
        entailed: Entailed questions of those samples.
        source: (sources,) int64 their ids, ascending. score: (sources,) float64 share of right entailed questions, 0 to
            1; for intervals (resample by picture) and for means by family.
    """

    consistency: float
    sources: int
    entailed: int
    source: Array
    score: Array


def consistency(
    qid: npt.ArrayLike,
    correct: npt.ArrayLike,
    entailed_qid: npt.ArrayLike,
    entailed_correct: npt.ArrayLike,
    table: pa.Table,
) -> Consistency:
    """GQA's consistency of a model's answers.

    Args:
        qid: (n,) ids of samples; others than the sources of `table` may be among them.
        correct: (n,) bool, whether the model answered each correctly.
        entailed_qid: (m,) ids of entailed questions; those of samples answered wrongly may be left out.
        entailed_correct: (m,) bool.
        table: Which question follows from which: `qid` (entailed) and `source` (sample), each entailed question once.

    Raises:
        ValueError: An id stands twice or is missing, or an array is of another type or length.
    """
    samples = _answers(qid, correct, "samples")
    entailed = _answers(entailed_qid, entailed_correct, "entailed questions")
    follows, source = (_ids(_column(table, name), f"column {name!r} of the table") for name in ("qid", "source"))
    if len(np.unique(follows)) < len(follows):
        raise ValueError("an entailed question stands twice in the table; it follows from one sample")
    if np.any(missing := ~np.isin(source, samples[0])):
        raise ValueError(_missing("sample", source[missing], "every sample that the table names needs an answer"))
    counts = samples[1][np.searchsorted(samples[0], source)]
    follows, source = follows[counts], source[counts]
    if np.any(missing := ~np.isin(follows, entailed[0])):
        raise ValueError(_missing("entailed question", follows[missing], "what follows from a right answer needs one"))
    right = entailed[1][np.searchsorted(entailed[0], follows)]
    sources, place, many = np.unique(source, return_inverse=True, return_counts=True)
    score = np.bincount(place, right, len(sources)) / np.maximum(many, 1)
    mean = float(score.mean()) if len(score) else float("nan")
    return Consistency(mean, len(sources), len(follows), sources, score)


def _answers(qid: npt.ArrayLike, correct: npt.ArrayLike, what: str) -> tuple[Array, Array]:
    """Ids, ascending, and whether each was answered correctly."""
    ids, right = _ids(qid, f"ids of the {what}"), np.asarray(correct)
    if right.dtype != bool and not (right.size == 0):
        raise ValueError(f"whether the {what} were answered correctly is told by booleans, not by {right.dtype}")
    if right.shape != ids.shape:
        raise ValueError(f"{len(ids):,} ids of the {what}, and {right.size:,} times whether that was correct")
    order = np.argsort(ids, kind="stable")
    ids, right = ids[order], right[order].astype(bool)
    if np.any(ids[1:] == ids[:-1]):
        twice = ids[1:][ids[1:] == ids[:-1]]
        raise ValueError(f"{len(twice):,} ids of the {what} stand more than once, such as {twice[0]}")
    return ids, right


def _ids(values: npt.ArrayLike, what: str) -> Array:
    ids = np.asarray(values)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(f"the {what} are one row of whole numbers, not {ids.ndim} dimensions of {ids.dtype}")
    return ids.astype(np.int64)


def _column(table: pa.Table, name: str) -> Array:
    if name not in table.column_names:
        raise ValueError(f"the table lacks the column {name!r}; it has {', '.join(table.column_names) or 'none'}")
    if table[name].null_count:
        raise ValueError(f"{table[name].null_count:,} rows of the table have no {name!r}")
    values: Array = table[name].to_numpy()
    return values


def _missing(what: str, ids: Array, rule: str) -> str:
    found = np.unique(ids)
    return f"no answer to {len(found):,} {what}{'s' if len(found) > 1 else ''}, such as {found[0]}; {rule}"
