"""Consistency against GQA's definition, worked out by hand and by plain loops; and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fashionkit.metrics.consistency import Consistency, consistency


def links(*pairs: tuple[int, int]) -> pa.Table:
    """A table of (entailed question, sample it follows from), with columns that are of no matter here."""
    columns = {"qid": [q for q, _ in pairs], "source": [s for _, s in pairs], "answer": [1] * len(pairs)}
    return pa.table({name: pa.array(column, pa.int64()) for name, column in columns.items()})


LINKS = links((640, 10), (641, 10), (642, 10), (700, 11), (800, 12), (801, 12))


def test_an_example_worked_out_by_hand() -> None:
    # 10 is right: 2 of 3 follow. 11 is wrong, and counts for nothing. 12 is right: 0 of 2. 13 entails nothing.
    found = consistency(
        [10, 11, 12, 13],
        [True, False, True, True],
        [640, 641, 642, 700, 800, 801],
        [True, False, True, True, False, False],
        LINKS,
    )
    assert found.consistency == pytest.approx((2 / 3 + 0) / 2)
    assert (found.sources, found.entailed) == (2, 5)
    assert found.source.tolist() == [10, 12]
    assert found.score.tolist() == pytest.approx([2 / 3, 0])


def slow(samples: dict[int, bool], entailed: dict[int, bool], table: pa.Table) -> float:
    """The definition, word for word."""
    scores = []
    for qid, correct in samples.items():
        mine = [row["qid"] for row in table.to_pylist() if row["source"] == qid]
        if correct and mine:
            scores.append(sum(entailed[q] for q in mine) / len(mine))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_plain_loops_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    qid = rng.choice(10**12, 200, replace=False)
    source = rng.choice(qid[:150], 400)
    follows = rng.choice(10**12, 400, replace=False)
    correct, right = rng.random(200) < 0.7, rng.random(400) < 0.6
    table = links(*zip(follows.tolist(), source.tolist(), strict=True))
    answers = (
        dict(zip(qid.tolist(), correct.tolist(), strict=True)),
        dict(zip(follows.tolist(), right.tolist(), strict=True)),
    )
    one, two, three = rng.permutation(200), rng.permutation(400), rng.permutation(400)
    found = consistency(qid[one], correct[one], follows[two], right[two], table.take(pa.array(three)))
    assert found.consistency == pytest.approx(slow(*answers, table), rel=1e-12)


@pytest.mark.parametrize("right", [True, False])
def test_always_right_is_one_and_never_right_after_a_right_answer_is_nought(right: bool) -> None:
    found = consistency([10, 11, 12], [True] * 3, LINKS["qid"], [right] * 6, LINKS)
    assert (found.consistency, found.sources, found.entailed) == (float(right), 3, 6)


def test_what_follows_from_wrong_answers_need_not_be_asked() -> None:
    found = consistency([10, 11, 12], [False, True, False], [700], [True], LINKS)
    assert (found.consistency, found.source.tolist()) == (1.0, [11])


@pytest.mark.parametrize(
    ("samples", "table"),
    [([10, 11, 12], LINKS), ([10], links()), ([], links())],
    ids=["all wrong", "no links", "nothing"],
)
def test_nothing_to_judge_by_is_no_number(samples: list[int], table: pa.Table) -> None:
    found = consistency(samples, [False] * len(samples), [], [], table)
    assert math.isnan(found.consistency)
    assert (found.sources, found.entailed, len(found.source), len(found.score)) == (0, 0, 0, 0)


GOOD: dict[str, Any] = {
    "qid": [10, 11, 12],
    "correct": [True, True, False],
    "entailed_qid": [640, 641, 642, 700],
    "entailed_correct": [True, True, False, True],
    "table": LINKS,
}


def test_the_base_of_the_refusals_is_fine() -> None:
    found = consistency(**GOOD)
    assert isinstance(found, Consistency) and found.consistency == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"qid": [10, 11], "correct": [True, True]}, "no answer to 1 sample, such as 12"),
        ({"qid": [1, 2, 3]}, "no answer to 3 samples, such as 10"),
        ({"entailed_qid": [640, 641, 642, 701]}, "no answer to 1 entailed question, such as 700"),
        ({"entailed_qid": [], "entailed_correct": []}, "no answer to 4 entailed questions, such as 640"),
        ({"qid": [10, 11, 11]}, "1 ids of the samples stand more than once, such as 11"),
        ({"entailed_qid": [640, 641, 640, 640]}, "2 ids of the entailed questions stand more than once, such as 640"),
        ({"correct": [True, False]}, "3 ids of the samples, and 2 times"),
        ({"correct": [1.0, float("nan"), 0.0]}, "told by booleans, not by float64"),
        ({"correct": [1, 0, 1]}, "told by booleans, not by int64"),
        ({"entailed_correct": ["yes", "no", "no", "no"]}, "told by booleans"),
        ({"qid": [10.0, 11.0, 12.0]}, "whole numbers, not 1 dimensions of float64"),
        ({"qid": [[10, 11, 12]]}, "whole numbers, not 2 dimensions"),
        ({"table": links((640, 10), (640, 11))}, "an entailed question stands twice"),
        ({"table": pa.table({"qid": [640]})}, "lacks the column 'source'; it has qid"),
        ({"table": pa.table({"qid": [640, 641], "source": [10, None]})}, "1 rows of the table have no 'source'"),
    ],
)
def test_mistakes_are_told(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        consistency(**{**GOOD, **changed})
