"""Plots: bars as long as their figures, columns as tall as their counts, and the figures beside them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fashionkit.report.html import Html
from fashionkit.report.plots import Bar, against, bars, histogram

RECT = re.compile(r'<rect class="(s\d)" x="([\d.]+)%" width="([\d.]+)%"')


def rects(text: str) -> list[tuple[str, float, float]]:
    return [(name, float(x), float(width)) for name, x, width in RECT.findall(text)]


def test_bars_are_stacked_and_as_long_as_their_figures() -> None:
    made = bars("what", [Bar("a", (30, 0, 10)), Bar("b", (5, 5, 0))], ["x", "y", "z"])
    assert rects(made) == [("s0", 0, 75), ("s2", 75, 25), ("s0", 0, 12.5), ("s1", 12.5, 12.5)]
    assert '<td class="n">40</td><td class="n">30</td><td class="n">0</td><td class="n">10</td>' in made


def test_one_series_is_not_said_twice() -> None:
    made = bars("what", [Bar("a", (1200,), "note")], ["samples"], top=2400)
    assert made.count("1,200") == 1 and rects(made) == [("s0", 0, 50)] and "note" in made


def test_nothing_counted_draws_nothing_and_divides_by_nothing() -> None:
    assert rects(bars("what", [Bar("a", (0,))], ["x"])) == [] and "nan" not in bars("what", [], ["x"])


def test_bars_refuse_what_they_cannot_show() -> None:
    with pytest.raises(ValueError, match="series"):
        bars("what", [Bar("a", (1, 2))], ["x"])
    with pytest.raises(ValueError, match="series"):
        bars("what", [], list("abcdef"))


def test_labels_are_escaped() -> None:
    evil = "<img src=x>"
    parts = bars(evil, [Bar(evil, (1,), evil)], [evil], evil), histogram(evil, np.ones(3, np.int64), 0, 1, (), evil)
    assert all(isinstance(p, Html) and "<img" not in p and p.count("&lt;img") >= 3 for p in parts)


def test_a_value_is_drawn_against_its_limit() -> None:
    made = against(0.03, 0.05, 0.1, (0.02, 0.2))
    assert 'class="s0" y="3" width="30.00%"' in made and 'class="tick" x1="50.00%" x2="50.00%"' in made
    assert 'class="whisker" x1="20.00%" x2="100.00%"' in made, "what leaves the scale ends at its end"
    assert 'class="bad"' in against(0.03, 0.01, 0.1, bad=True) and "tick" not in against(1, None, 2)
    assert "0%" in against(0.0, 0.0, 0.0), "a scale of no length"


def test_columns_are_as_tall_as_their_counts() -> None:
    made = histogram("B1", np.array([0, 10, 40, 0]), -4, 4, (-4, 0, 4), "median +0.5")
    columns = re.findall(r"M([\d.]+) ([\d.]+)v-([\d.]+)h", made)
    assert [float(x) for x, _, _ in columns] == [65, 130]
    low, high = (float(tall) for _, _, tall in columns)
    assert high == pytest.approx(4 * low, abs=0.2)
    assert re.findall(r'text-anchor="(\w+)">([^<]+)<', made) == [("start", "-4"), ("middle", "0"), ("end", "+4")]
    assert 'role="img" aria-label="B1: median +0.5"' in made


def test_an_empty_histogram_has_an_axis_alone() -> None:
    made = histogram("none", np.zeros(4, np.int64), 0, 1, ())
    assert 'd=""' in made and "axis" in made
