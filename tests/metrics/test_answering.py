"""Measures of answers against plain loops and examples worked out by hand; intervals that cover what they should."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from fashionkit.metrics.answering import (
    Weighted,
    calibration,
    confusions,
    coverage_risk,
    detection,
    distribution,
    estimate,
    gain,
    mean,
    mean_over,
    reliability,
    swap,
    swap_pairs,
)
from fashionkit.metrics.classification import calibration_error, f1
from fashionkit.metrics.intervals import group_sums, intervals

GROUP = np.repeat(np.arange(10), 6)
SIZE = 10


def value(found: Weighted) -> float:
    return estimate(found, 20).value


@pytest.fixture
def right() -> np.ndarray:
    return np.random.default_rng(1).random(60) < 0.7


def test_a_mean_has_the_interval_of_the_room(right: np.ndarray) -> None:
    found = estimate(mean(right, GROUP, SIZE), 500, seed=3)
    sums, counts = group_sums(right.astype(float), GROUP, np.zeros(60, np.int64), 1)
    other = intervals(sums, counts, 500, seed=3)
    assert (found.value, found.n) == (pytest.approx(right.mean()), 60)
    assert found.low == pytest.approx(other.low[0]) and found.high == pytest.approx(other.high[0])


def test_what_is_not_known_does_not_count() -> None:
    found = mean([1.0, np.nan, 0.0, 1.0], [0, 1, 2, 2], 3)
    assert (value(found), found.n, found.groups) == (pytest.approx(2 / 3), 3, 2)
    assert np.isnan(value(mean([np.nan], [0], 1))) and np.isnan(value(mean([], np.zeros(0, np.int64), 3)))


def test_one_group_has_no_interval_and_shares_stay_within_nought_and_one() -> None:
    alone = estimate(mean([True, False], [0, 0], 1))
    assert alone.value == 0.5 and np.isnan(alone.low) and alone.to_dict()["low"] is None
    near = estimate(mean([True] * 11 + [False], np.arange(12) // 4, 3))
    assert near.high == 1.0 and near.low < near.value
    assert estimate(mean([5.0, 9.0, 1.0], [0, 1, 2], 3)).high > 5  # a loss has no such bound


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        hard = rng.beta(6, 3, 30)
        group = np.repeat(np.arange(30), 8)
        measured = estimate(mean(rng.random(240) < hard[group], group, 30), 200, seed=int(rng.integers(1000)))
        held += measured.low <= 2 / 3 <= measured.high
    assert 0.90 <= held / 200 <= 0.99


def slow_mean_over(right: np.ndarray, label: list[str], harmonic: bool) -> float:
    shares = [float(np.mean([r for r, name in zip(right, label, strict=True) if name == one])) for one in set(label)]
    if not harmonic:
        return sum(shares) / len(shares)
    return 0.0 if 0 in shares else len(shares) / sum(1 / share for share in shares)


@pytest.mark.parametrize("harmonic", [False, True])
def test_means_over_labels_agree_with_plain_loops(right: np.ndarray, harmonic: bool) -> None:
    label = np.random.default_rng(2).choice(["C1", "B2", "N1"], 60, p=[0.6, 0.3, 0.1])
    found = mean_over(right, label, GROUP, SIZE, harmonic)
    assert value(found) == pytest.approx(slow_mean_over(right, label.tolist(), harmonic))
    measured = estimate(found, 200)
    assert measured.low < measured.value < measured.high


def test_a_family_that_always_fails_makes_the_harmonic_mean_nought() -> None:
    label = ["a", "a", "b"]
    assert value(mean_over([1, 1, 0], label, [0, 1, 2], 3, harmonic=True)) == 0
    assert value(mean_over([1, 1, 0], label, [0, 1, 2], 3)) == 0.5


def test_normalised_means_count_answers_alike_within_their_family() -> None:
    right, answer = [1, 1, 1, 0, 1, 0], ["red", "red", "red", "blue", "yes", "no"]
    family = ["C1"] * 4 + ["B2"] * 2
    found = mean_over(right, answer, [0, 1, 2, 3, 4, 5], 6, within=family)
    assert value(found) == pytest.approx(((1 + 0) / 2 + (1 + 0) / 2) / 2)
    assert value(mean_over(right, family, [0, 1, 2, 3, 4, 5], 6)) == pytest.approx((3 / 4 + 1 / 2) / 2)
    # The same answer in two families is two cells.
    assert value(mean_over([1, 0, 1], ["x", "x", "x"], [0, 1, 2], 3, within=["a", "b", "b"])) == pytest.approx(0.75)


def test_detection_of_an_answer() -> None:
    rng = np.random.default_rng(3)
    truth, said = rng.random(60) < 0.3, rng.random(60) < 0.4
    found = {name: value(part) for name, part in detection(truth, said, GROUP, SIZE).items()}
    both = (truth & said).sum()
    assert found["precision"] == pytest.approx(both / said.sum())
    assert found["recall"] == pytest.approx(both / truth.sum())
    assert found["f1"] == pytest.approx(f1(truth, said))
    never = detection(np.zeros(4, bool), np.zeros(4, bool), [0, 1, 2, 3], 4)
    assert all(np.isnan(value(part)) for part in never.values())


def test_calibration_error_is_that_of_the_room_and_its_plot_adds_up(right: np.ndarray) -> None:
    sure = np.round(np.random.default_rng(4).random(60), 1)  # many equal ones
    found = estimate(calibration(sure, right, GROUP, SIZE), 100)
    assert found.value == pytest.approx(calibration_error(sure, right))
    assert found.low <= found.value <= found.high
    bins = reliability(sure, right)
    assert sum(one["n"] for one in bins) == 60
    gap = sum(one["n"] * abs(one["probability"] - one["right"]) for one in bins) / 60
    assert gap == pytest.approx(found.value)


def test_coverage_and_risk_by_plain_loops(right: np.ndarray) -> None:
    sure = np.random.default_rng(5).random(60)
    coverage, risk = coverage_risk(sure, right)
    for at in (0, 7, 59):
        surest = sorted(range(60), key=lambda row: -sure[row])[: at + 1]
        assert coverage[at] == pytest.approx((at + 1) / 60)
        assert risk[at] == pytest.approx(1 - np.mean([right[row] for row in surest]))
    _, level = coverage_risk([0.5] * 4, [True, False, False, True])
    assert level.tolist() == [0.5] * 4  # whatever the order of equally sure ones
    assert len(coverage_risk([], [])[0]) == 0


def test_pairs_share_the_question_and_nothing_else() -> None:
    rng = np.random.default_rng(6)
    question, answer = rng.integers(0, 12, 300), rng.choice(["yes", "no", "red"], 300)
    picture = np.arange(300) // 2
    pairs = swap_pairs(question, picture, answer, seed=1)
    assert len(pairs) > 100 and len(np.unique(pairs)) == pairs.size  # each row once at most
    for one, two in pairs:
        assert question[one] == question[two] and picture[one] != picture[two] and answer[one] != answer[two]
    assert (swap_pairs(question, picture, answer, seed=1) == pairs).all()
    assert not np.array_equal(swap_pairs(question, picture, answer, seed=2), pairs)
    assert swap_pairs([], [], []).shape == (0, 2)


def test_as_many_pairs_as_the_rarer_answer_allows() -> None:
    answer = np.array(["yes"] * 30 + ["no"] * 10)
    assert len(swap_pairs(np.zeros(40), np.arange(40), answer)) == 10


def test_the_swap_counts_a_pair_only_where_both_are_right() -> None:
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    found = swap([True, True, True, False, False, False], pairs, [0, 1, 2, 3, 4, 5], 6)
    assert (value(found), found.n, found.groups) == (pytest.approx(1 / 3), 3, 6)
    # Who always says yes is right in half of the rows and in no pair.
    answer = np.array(["yes", "no"] * 20)
    pairs = swap_pairs(np.zeros(40), np.arange(40), answer)
    assert value(swap(answer == "yes", pairs, np.arange(40), 40)) == 0


def test_resamples_of_pairs_are_those_of_their_groups() -> None:
    pairs, right = np.array([[0, 1], [2, 3]]), np.array([1, 1, 1, 0])
    found = swap(right, pairs, [0, 1, 1, 2], 3)
    assert found.of(np.array([[1.0, 1, 1], [2, 1, 0], [0, 1, 2], [3, 0, 0]])).tolist()[:3] == [[0.5], [1.0], [0.0]]
    assert np.isnan(found.of(np.array([[3.0, 0, 0]]))).all()


def test_a_gain_is_paired() -> None:
    rng = np.random.default_rng(7)
    hard = rng.random(40)
    group = np.repeat(np.arange(40), 5)
    one = rng.random(200) < hard[group]
    two = one.copy()
    two[::20] = ~two[::20]
    apart = gain(mean(one, group, 40), mean(two, group, 40))
    found = estimate(apart, 300)
    assert found.value == pytest.approx(one.mean() - two.mean())
    alone = estimate(mean(one, group, 40), 300)
    assert found.high - found.low < (alone.high - alone.low) / 1.5
    same = estimate(gain(mean(one, group, 40), mean(one, group, 40)), 50)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_seeds_are_the_outer_level() -> None:
    rng = np.random.default_rng(8)
    group = np.repeat(np.arange(50), 4)
    skill = [0.6, 0.7, 0.8]
    several = np.stack([rng.random(200) < one for one in skill])
    found = estimate(mean(several, group, 50), 400)
    assert found.value == pytest.approx(several.mean())
    alike = estimate(mean(np.stack([several[1]] * 3), group, 50), 400)
    single = estimate(mean(several[1], group, 50), 400)
    assert (alike.value, alike.low) == (pytest.approx(single.value), pytest.approx(single.low))
    spread = several.mean(1).std(ddof=1) / np.sqrt(3)
    assert found.high - found.low > 2 * 1.96 * spread  # no narrower than the seeds alone would make it


def test_three_seeds_tell_less_of_other_seeds_than_thirty() -> None:
    rng = np.random.default_rng(9)
    group = np.repeat(np.arange(400), 2)
    held, width = {3: 0, 20: 0}, {3: 0.0, 20: 0.0}
    for count, _ in product(held, range(60)):
        skill = np.clip(rng.normal(0.7, 0.05, count), 0, 1)
        found = estimate(mean(rng.random((count, 800)) < skill[:, None], group, 400), 60)
        held[count] += found.low <= 0.7 <= found.high
        width[count] += found.high - found.low
    assert min(held.values()) >= 52 and width[3] > 2 * width[20]


def test_sides_of_unlike_many_seeds_keep_their_variance() -> None:
    rng = np.random.default_rng(10)
    group = np.arange(100)
    one, two = rng.random((3, 100)) < 0.8, rng.random((2, 100)) < 0.5
    found = gain(mean(one, group, 100), mean(two, group, 100))
    each = found.of(np.ones((1, 100)))[0]
    assert each.mean() == pytest.approx(one.mean() - two.mean())
    spread = one.mean(1).var(ddof=1) / 3 + two.mean(1).var(ddof=1) / 2
    assert each.var(ddof=1) / len(each) == pytest.approx(spread)
    with pytest.raises(ValueError, match="not the same questions"):
        gain(mean(one, group, 100), mean(two, group, 101))


def slow_distribution(label: list[str], truth: list[str], said: list[str]) -> float:
    """As GQA's evaluation has it, word for word."""
    total, weight = 0.0, 0
    for name in set(label):
        gold = Counter(t for n, t in zip(label, truth, strict=True) if n == name)
        given = Counter(s for n, s in zip(label, said, strict=True) if n == name)
        score = sum((given.get(answer, 0) - expected) ** 2 / expected for answer, expected in gold.items())
        total, weight = total + score * sum(gold.values()), weight + sum(gold.values())
    return total / weight / 100


def test_the_distribution_is_that_of_gqa() -> None:
    rng = np.random.default_rng(11)
    label = rng.choice(["colour", "pattern"], 200).tolist()
    truth, said = (rng.choice(["red", "blue", "green", "plain"], 200).tolist() for _ in range(2))
    assert distribution(label, truth, said) == pytest.approx(slow_distribution(label, truth, said))
    assert distribution(label, truth, truth) == 0
    assert np.isnan(distribution([], [], []))


def test_confusions_by_how_often() -> None:
    truth = ["navy"] * 5 + ["black"] * 3
    said = ["black", "black", "navy", "blue", "navy", "navy", "black", "black"]
    assert confusions(truth, said)[:2] == [
        {"answer": "navy", "given": "black", "n": 2, "share": 0.4},
        {"answer": "black", "given": "navy", "n": 1, "share": pytest.approx(1 / 3)},
    ]
    assert confusions(truth, truth) == [] and len(confusions(truth, said, 1)) == 1


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: mean([True, False], [0], 1), "do not go with"),
        (lambda: mean([True], [0.0], 1), "do not go with"),
        (lambda: mean([True], [3], 3), "within 0..2"),
        (lambda: mean([True], [-1], 3), "within 0..2"),
        (lambda: mean_over([True, True], ["a"], [0, 0], 1), "do not go together"),
        (lambda: mean_over([True], ["a"], [0], 1, within=["a", "b"]), "do not go together"),
        (lambda: calibration([1.5], [True], [0], 1), "within 0 to 1"),
        (lambda: calibration([0.5, 0.5], [True], [0], 1), "do not go with"),
        (lambda: coverage_risk([0.5, 0.6], [True]), "do not go together"),
        (lambda: swap_pairs([1, 2], [1], [1]), "one length"),
        (lambda: distribution(["a"], ["x"], []), "one length"),
        (lambda: estimate(mean([True], [0], 1), 1), "no interval follows"),
        (lambda: estimate(mean([True], [0], 1), level=1.0), "no interval follows"),
        (lambda: confusions(["a"], []), "argument 2 is shorter"),
    ],
)
def test_misuse_is_refused(call: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        call()  # type: ignore[operator]
