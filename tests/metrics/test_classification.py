"""Labels and probabilities against plain loops, and intervals against those of means and known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fashionkit.metrics.classification import (
    LEAST,
    accuracy,
    calibration_error,
    f1,
    f1_by_class,
    grouped_bootstrap,
    macro_f1,
    negative_log_likelihood,
    paired_difference,
)
from fashionkit.metrics.intervals import group_sums, intervals


def slow_f1(truth: list[Any], predicted: list[Any], label: Any) -> float:
    """From precision and recall, by counting."""
    both = sum(t == p == label for t, p in zip(truth, predicted, strict=True))
    if not both:
        return 0.0
    precision, recall = both / predicted.count(label), both / truth.count(label)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("texts", [False, True])
def test_f1_is_that_of_a_plain_loop(seed: int, texts: bool) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, 6, 40), rng.integers(2, 9, 40)  # some only true, some only predicted
    if texts:
        truth, predicted = truth.astype(str), predicted.astype(str)
    classes, score, support = f1_by_class(truth, predicted)
    one, two = truth.tolist(), predicted.tolist()
    assert classes.tolist() == sorted({*one, *two})
    assert score == pytest.approx([slow_f1(one, two, label) for label in classes.tolist()])
    assert support.tolist() == [one.count(label) for label in classes.tolist()]
    assert macro_f1(truth, predicted) == pytest.approx(sum(score) / len(score))
    assert accuracy(truth, predicted) == pytest.approx(sum(a == b for a, b in zip(one, two, strict=True)) / 40)


def test_what_scikit_learn_says() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 6, 200), rng.integers(0, 6, 200)
    assert macro_f1(truth, predicted) == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))
    given = rng.dirichlet(np.ones(6), 200)
    assert negative_log_likelihood(truth, given) == pytest.approx(metrics.log_loss(truth, given, labels=range(6)))


def test_a_class_that_was_only_predicted_counts_and_one_that_occurs_nowhere_does_not() -> None:
    assert macro_f1([0, 0, 0, 0], [0, 0, 0, 5]) == pytest.approx((6 / 7 + 0) / 2)
    assert macro_f1([0, 0], [0, 0]) == 1


def test_texts_as_pyarrow_gives_them() -> None:
    assert accuracy(pa.array(["a", "b"]).to_numpy(zero_copy_only=False), ["a", "a"]) == 0.5


def test_f1_of_yes() -> None:
    assert f1([True, True, False], [True, False, True]) == 0.5
    assert f1([True, False], [False, False]) == 0
    assert math.isnan(f1([False, False], [False, False]))


def slow_ece(confidence: list[float], correct: list[bool], bins: int) -> float:
    """Equal width, bin by bin."""
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        rows = [i for i, c in enumerate(confidence) if low <= c < high or (c == 1 and b == bins - 1)]
        if rows:
            gap = sum(confidence[i] for i in rows) / len(rows) - sum(correct[i] for i in rows) / len(rows)
            total += len(rows) / len(confidence) * abs(gap)
    return total


def test_calibration_error_of_equal_width_is_that_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    sure = np.append(rng.random(200), [0.0, 1.0])
    right = rng.random(202) < sure**2
    for bins in (1, 4, 16):
        expected = slow_ece(sure.tolist(), right.tolist(), bins)
        assert calibration_error(sure, right, bins, "width") == pytest.approx(expected)


def test_calibration_error_of_equal_mass() -> None:
    sure = np.array([0.1, 0.2, 0.6, 0.9])
    right = np.array([False, False, True, True])
    assert calibration_error(sure, right, 2) == pytest.approx((0.3 + 0.5) / 4)
    assert calibration_error(sure, right, 4) == pytest.approx((0.1 + 0.2 + 0.4 + 0.1) / 4)
    assert calibration_error(sure, right, 100) == pytest.approx((0.1 + 0.2 + 0.4 + 0.1) / 4)


def test_rows_of_one_confidence_share_a_bin_so_their_order_means_nothing() -> None:
    sure, right = np.full(100, 0.7), np.arange(100) < 70
    assert calibration_error(sure, right, 10) == pytest.approx(0)
    assert calibration_error(sure, right[::-1], 10) == pytest.approx(0)
    # They go where their middle lies: of two bins, to the upper one.
    assert calibration_error([0.1, 0.5, 0.5, 0.5], [False, True, True, True], 2) == pytest.approx((0.1 + 1.5) / 4)


@pytest.mark.parametrize("equal", ["mass", "width"])
def test_honest_confidences_have_a_small_error_and_boasting_ones_theirs(equal: Any) -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.3, 0.8, 50_000)
    right = rng.random(50_000) < sure
    assert calibration_error(sure, right, equal=equal) < 0.015
    assert calibration_error(sure + 0.2, right, equal=equal) == pytest.approx(0.2, abs=0.015)


def test_likelihood_is_that_of_a_plain_loop() -> None:
    given = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    assert negative_log_likelihood([1, 1], given) == pytest.approx(-math.log(0.25) / 2)
    assert negative_log_likelihood([0, 0], given) == pytest.approx((math.log(2) - math.log(LEAST)) / 2)
    assert negative_log_likelihood([True, False], [0.5, 0.75]) == pytest.approx((math.log(2) + math.log(4)) / 2)


def grouped(seed: int = 0, pictures: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Answers of four questions a picture, right or wrong together more often than not."""
    rng = np.random.default_rng(seed)
    right = rng.random(pictures).repeat(4) + rng.normal(0, 0.3, 4 * pictures) > 0.4
    return right, np.arange(pictures).repeat(4)


def test_of_a_mean_the_interval_is_that_of_intervals() -> None:
    right, picture = grouped()
    of_means = intervals(*group_sums(right, picture, np.zeros(len(right), int), 1), resamples=200, seed=3)
    found = grouped_bootstrap(lambda r: float(r.mean()), [right], picture, resamples=200, seed=3)
    assert found == pytest.approx((of_means.value[0], of_means.low[0], of_means.high[0]))


def test_groups_may_have_any_names_and_rows_any_order() -> None:
    right, picture = grouped()
    once = grouped_bootstrap(accuracy, [np.ones_like(right), right], picture, 100, seed=1)
    order, names = (
        np.random.default_rng(0).permutation(len(right)),
        np.char.add("p", np.char.zfill(picture.astype(str), 3)),
    )
    again = grouped_bootstrap(accuracy, [np.ones_like(right), right[order]], names[order], 100, seed=1)
    assert once == pytest.approx(again)
    assert once != grouped_bootstrap(accuracy, [np.ones_like(right), right], picture, 100, seed=2)


def test_rows_that_go_together_make_the_interval_wider() -> None:
    right, picture = grouped()
    _, low, high = grouped_bootstrap(macro_f1, [np.ones_like(right), right], picture, 200)
    _, low_alone, high_alone = grouped_bootstrap(macro_f1, [np.ones_like(right), right], np.arange(len(right)), 200)
    assert high - low > 1.3 * (high_alone - low_alone)


def test_it_holds_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 80)
        predicted = np.where(rng.random(80) < 0.75, truth, 1 - truth)  # macro-F1 of 0.75 in the long run
        _, low, high = grouped_bootstrap(macro_f1, [truth, predicted], np.arange(80), 100, seed)
        held += low <= 0.75 <= high
    assert 89 <= held <= 100


def test_a_statistic_that_does_not_vary_and_one_that_is_nothing() -> None:
    truth = np.ones(6, bool)
    assert grouped_bootstrap(accuracy, [truth, truth], np.arange(6), 50) == (1, 1, 1)
    value, low, high = grouped_bootstrap(f1, [~truth, ~truth], np.arange(6), 50)
    assert math.isnan(value) and math.isnan(low) and math.isnan(high)
    rare = np.arange(6) == 0  # some draws hold no yes at all
    value, low, high = grouped_bootstrap(f1, [rare, rare], np.arange(6), 50)
    assert (value, low, high) == (1, 1, 1)


def test_paired_differences() -> None:
    rng = np.random.default_rng(0)
    truth, group = rng.integers(0, 3, 300), np.arange(300) // 2
    one = np.where(rng.random(300) < 0.7, truth, 0)
    two = np.where(rng.random(300) < 0.1, (truth + 1) % 3, one)  # the same, but for a tenth that is wrong
    value, low, high = paired_difference(accuracy, truth, one, two, group, 300)
    assert value == pytest.approx(accuracy(truth, one) - accuracy(truth, two))
    assert 0 < low < value < high
    _, low_one, high_one = grouped_bootstrap(accuracy, [truth, one], group, 300)
    assert high - low < 0.8 * (high_one - low_one), "what both find hard cancels out"
    assert paired_difference(accuracy, truth, two, one, group, 300) == pytest.approx((-value, -high, -low))
    assert paired_difference(macro_f1, truth, one, one, group, 50) == (0, 0, 0)


NAN = float("nan")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: accuracy([], []),
        lambda: accuracy([1, 2], [1]),
        lambda: accuracy([[1]], [[1]]),
        lambda: accuracy([1.0, NAN], [1.0, 2.0]),
        lambda: macro_f1([1, 2], ["1", "2"]),
        lambda: macro_f1([None, 1], [1, 1]),
        lambda: accuracy(pa.array(["a", None]).to_numpy(zero_copy_only=False), ["a", "a"]),
        lambda: f1([1, 0], [1, 0]),
        lambda: calibration_error([0.5, NAN], [True, True]),
        lambda: calibration_error([0.5, 1.1], [True, True]),
        lambda: calibration_error([0.5], [1]),
        lambda: calibration_error([0.5], [True, False]),
        lambda: calibration_error([], []),
        lambda: calibration_error([0.5], [True], bins=0),
        lambda: calibration_error([0.5], [True], equal="size"),  # type: ignore[arg-type]
        lambda: negative_log_likelihood([0, 1], [[0.5, 0.5], [NAN, 0.5]]),
        lambda: negative_log_likelihood([0], [[0.5, 0.4]]),
        lambda: negative_log_likelihood([2], [[0.5, 0.5]]),
        lambda: negative_log_likelihood([-1], [[0.5, 0.5]]),
        lambda: negative_log_likelihood([0, 1], [[0.5, 0.5]]),
        lambda: negative_log_likelihood([1], [0.5]),
        lambda: negative_log_likelihood([], []),
        lambda: grouped_bootstrap(accuracy, [[1, 1], [1, 0]], [0, 0]),
        lambda: grouped_bootstrap(accuracy, [[1, 1], [1, 0]], [0, 1, 2]),
        lambda: grouped_bootstrap(accuracy, [], [0, 1]),
        lambda: grouped_bootstrap(accuracy, [[1, 1], [1, 0]], [0, 1], level=1),
        lambda: grouped_bootstrap(accuracy, [[1, 1], [1, 0]], [0, 1], resamples=1),
        lambda: paired_difference(accuracy, [1, 1], [1, 0], [1], [0, 1]),
    ],
)
def test_misuse_raises(wrong: Any) -> None:
    with pytest.raises(ValueError):
        wrong()
