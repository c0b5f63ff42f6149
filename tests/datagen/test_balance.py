"""Balance, on any counts: sides equal, open answers tempered, families capped; only counts are seen here."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionkit.datagen.balance import (
    BalanceOptions,
    Cells,
    drop_empty,
    equal_sides,
    family_targets,
    scale,
    temper,
    tempered_counts,
)

COUNTS = st.lists(st.integers(1, 5000), min_size=2, max_size=12)
CELLS = st.dictionaries(st.integers(0, 400), st.integers(1, 500), min_size=1, max_size=40)


def cells_of(counts: dict[int, int], sides: int = 2) -> Cells:
    code = np.array(sorted(counts), np.int64)
    return Cells(code, np.array([counts[c] for c in code.tolist()], np.int64), sides)


def by_cell(cells: Cells) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for cell, keep in zip(cells.cell.tolist(), cells.keep.tolist(), strict=True):
        found.setdefault(cell, []).append(keep)
    return found


def test_both_sides_keep_what_the_rarer_has() -> None:
    cells = cells_of({0: 7, 1: 3, 2: 5, 5: 9, 6: 1, 7: 1})
    equal_sides(cells)
    assert by_cell(cells) == {0: [3, 3], 1: [0], 2: [0], 3: [1, 1]}
    assert cells.total == 8


@given(CELLS)
def test_sides_are_always_equal_and_never_more_than_there_are(counts: dict[int, int]) -> None:
    cells = cells_of(counts)
    equal_sides(cells)
    for cell, keep in by_cell(cells).items():
        both = [counts.get(2 * cell, 0), counts.get(2 * cell + 1, 0)]
        assert keep == ([min(both)] * 2 if min(both) else [0])


def test_no_cells_at_all() -> None:
    cells = cells_of({})
    equal_sides(cells)
    assert cells.total == 0 and temper(cells, BalanceOptions()) == 0


def tempered(counts: list[int], options: BalanceOptions) -> np.ndarray:
    """What one cell keeps, worked out beside another cell."""
    kept, target = tempered_counts(np.array([counts, counts[::-1]]), options)
    assert abs(target.sum(1) - 1).max() < 1e-9 and (kept[0] == tempered_counts(np.array([counts]), options)[0]).all()
    return kept[0]


@given(COUNTS, st.floats(0, 1), st.floats(1, 20), st.sampled_from([0.0, 0.01, 0.1]))
def test_tempered_answers(counts: list[int], rho: float, ratio: float, slack: float) -> None:
    count = np.array(counts)
    options = BalanceOptions(temper=rho, ratio=ratio, slack=slack)
    kept = tempered(counts, options)
    assert (kept >= 0).all() and (kept <= count).all()
    order = np.argsort(-count, kind="stable")
    assert (np.diff(kept[order]) <= 0).all(), "a more frequent answer stays at least as frequent"
    capped = count[order].astype(float)
    for i in range(len(capped) - 2, -1, -1):
        capped[i] = min(capped[i], ratio * capped[i + 1])
    share = capped**rho / (capped**rho).sum()
    total = max(kept.sum(), 1)
    assert kept.max() / total <= share[0] + slack + len(counts) / total, "the head has no more than its tempered share"
    if (capped == count[order]).all():  # the ratio caps nothing, which would raise the head's share of the rest
        assert kept.max() / total <= count.max() / count.sum() + slack + len(counts) / total, "the head never gains"


@given(COUNTS)
def test_no_tempering_leaves_all_within_the_ratio(counts: list[int]) -> None:
    kept = tempered(counts, BalanceOptions(temper=1.0, ratio=1e9))
    assert all(0 <= count - n <= 1 for count, n in zip(counts, kept.tolist(), strict=True)), "rounding aside"


@given(COUNTS)
def test_full_tempering_evens_the_head(counts: list[int]) -> None:
    kept = tempered(counts, BalanceOptions(temper=0.0, ratio=1e9, slack=0.0))
    assert kept.max() <= min(counts) + 1


@given(COUNTS, st.integers(1, 5))
def test_the_ratio_caps_an_answer_by_the_next(counts: list[int], ratio: int) -> None:
    kept = sorted(tempered(counts, BalanceOptions(temper=1.0, ratio=float(ratio))).tolist())
    for rare, frequent in pairwise(kept):
        assert frequent <= ratio * rare + ratio, (kept, counts)


def test_tempering_leaves_single_answers_out_unless_they_are_wanted() -> None:
    counts = {0: 10, 4: 8, 5: 4}  # cells of four sides: cell 0 has one answer, cell 1 two
    cells = cells_of(counts, sides=4)
    assert temper(cells, BalanceOptions()) == 10
    assert by_cell(cells)[0] == [0] and all(by_cell(cells)[1])
    assert temper(cells, BalanceOptions(), single_too=True) == 0
    assert by_cell(cells)[0] == [10]


@given(CELLS, st.floats(0, 1.2))
def test_scaling_keeps_sides_equal_and_the_total_right(counts: dict[int, int], factor: float) -> None:
    cells = cells_of(counts)
    equal_sides(cells)
    drop_empty(cells)
    before = cells.keep.copy()
    scale(cells, factor, 2)
    assert (cells.keep <= before).all() and (cells.keep >= 0).all()
    assert all(len(sides) == 2 and sides[0] == sides[1] for sides in by_cell(cells).values())
    wanted = min(factor, 1.0) * before.sum()
    assert wanted - 2 <= cells.total <= wanted + 2e-6


@given(CELLS, st.floats(0, 1))
def test_scaling_open_answers_spreads_the_rounding(counts: dict[int, int], factor: float) -> None:
    cells = cells_of(counts, sides=5)
    cells.keep = cells.count.copy()
    scale(cells, factor, 1)
    assert abs(cells.total - factor * cells.count.sum()) <= 1 + 1e-6
    assert (np.abs(cells.keep - factor * cells.count) <= 1 + 1e-6).all(), "no cell pays for the others' rounding"


WEIGHTS = st.dictionaries(st.sampled_from("ABCDEFGHIJ"), st.floats(0.1, 10))
AVAILABLE = st.dictionaries(st.sampled_from("ABCDEFGHIJ"), st.integers(0, 100_000), min_size=1)


@given(AVAILABLE, WEIGHTS, st.integers(1, 300_000) | st.none(), st.floats(0.1, 1))
def test_no_family_above_its_share(
    available: dict[str, int], weight: dict[str, float], samples: int | None, cap: float
) -> None:
    targets = family_targets(available, weight, samples, cap)
    have = {f: n for f, n in available.items() if n}
    assert set(targets) == set(have)
    assert all(0 <= targets[f] <= have[f] for f in have)
    total = sum(targets.values())
    assert samples is None or total <= samples
    limit = max(cap, 1 / max(len(have), 1))
    assert all(n <= limit * total + len(have) + 1 for n in targets.values())


def test_no_family_gives_more_where_all_may() -> None:
    even = {"A": 100, "B": 100, "C": 100, "D": 100}
    assert family_targets(even, {}, None, 0.25) == even
    assert sum(family_targets({"A": 1000, "B": 10, "C": 10, "D": 10}, {}, None, 0.25).values()) == 40
    assert family_targets({}, {}, None, 0.25) == {}


@pytest.mark.parametrize("samples", [60, 200])
def test_weights_share_what_is_scarce(samples: int) -> None:
    targets = family_targets({"A": 1000, "B": 1000, "C": 1000}, {"A": 1.0, "B": 2.0, "C": 3.0}, samples, 1.0)
    assert [round(6 * targets[f] / samples) for f in "ABC"] == [1, 2, 3] and sum(targets.values()) >= samples - 3


def test_what_a_poor_family_lacks_the_others_give() -> None:
    targets = family_targets({"A": 5, "B": 1000, "C": 1000}, {}, 105, 1.0)
    assert targets["A"] == 5 and targets["B"] == targets["C"] == 50
