"""Plots as inline SVG: bars in the rows of a table, a histogram, a measured value against its limit.

    rows of (label, figures) ──► bars ──► a table: label, bar, figures (so that a screen reader reads the plot)
    counts of equal bins ──► histogram ──► a figure with a sentence that says it

Bars are as wide as their column: their SVG has no fixed width, so that a phone and paper show them whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fashionkit.report.html import Html, escape
from fashionkit.report.parts import Cell, Text, table

MAX_SERIES = 5
HIDDEN = Html('<span class="hidden">bar</span>')  # heads a column of drawings, for those who hear the page
_HEIGHT = 14  # of a bar, in pixels


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart.

    Attributes:
        label: What is counted. values: A count for each series, from 0. note: Beside the label.
    """

    label: Text
    values: tuple[int, ...]
    note: Text = ""


def bars(head: Text, rows: Sequence[Bar], series: Sequence[Text], caption: Text = "", top: float = 0) -> Html:
    """A table with a stacked bar in each row, the sum, and (of several series) each figure.

    Args:
        head: Name of the first column. rows: From top to bottom. series: Their names; at most `MAX_SERIES`.
        caption: What the table tells. top: The sum that fills the column; the largest sum if that is more.

    Raises:
        ValueError: Too many series, or a row with other than one value each.
    """
    if not 1 <= len(series) <= MAX_SERIES or any(len(row.values) != len(series) for row in rows):
        raise ValueError(f"1 to {MAX_SERIES} series are drawn, with a value each in every row")
    most = max([top, *(sum(row.values) for row in rows)]) or 1
    several = len(series) > 1
    head_row = [head, HIDDEN, *(["all", *series] if several else series)]
    cells: list[list[Cell]] = []
    for row in rows:
        figures = (sum(row.values), *(row.values if several else ()))
        cells.append([_label(row), _bar(row.values, most), *figures])
    return table(head_row, cells, caption, plot=1)


def _label(row: Bar) -> Html:
    note = f' <span class="note">{escape(row.note)}</span>' if row.note else ""
    return Html(f"{escape(row.label)}{note}")


def _bar(values: Sequence[int], most: float) -> Html:
    at, made = 0.0, []
    for number, value in enumerate(values):
        width = 100 * value / most
        if value:
            made.append(f'<rect class="s{number}" x="{at:.3f}%" width="{width:.3f}%" height="{_HEIGHT}"/>')
        at += width
    return Html(f'<svg width="100%" height="{_HEIGHT}" aria-hidden="true">{"".join(made)}</svg>')


def against(
    value: float, limit: float | None, top: float, interval: tuple[float, float] | None = None, bad: bool = False
) -> Html:
    """A bar from 0 to a measured value, a tick at its limit, a thin line over its interval.

    Args:
        value: From 0 to `top`, as the limit. interval: Low and high. bad: Drawn in the colour of what failed.
    """

    def at(number: float) -> str:
        return f"{100 * min(max(number / top, 0.0), 1.0) if top > 0 else 0:.2f}%"

    shapes = f'<rect class="track" width="100%" height="{_HEIGHT}"/>'
    shapes += f'<rect class="{"bad" if bad else "s0"}" y="3" width="{at(value)}" height="{_HEIGHT - 6}"/>'
    middle = _HEIGHT // 2
    if interval is not None:
        shapes += f'<line class="whisker" x1="{at(interval[0])}" x2="{at(interval[1])}" y1="{middle}" y2="{middle}"/>'
    if limit is not None:
        shapes += f'<line class="tick" x1="{at(limit)}" x2="{at(limit)}" y1="0" y2="{_HEIGHT}"/>'
    return Html(f'<svg width="100%" height="{_HEIGHT}" aria-hidden="true">{shapes}</svg>')


def histogram(
    title: Text, counts: NDArray[np.int64], low: float, high: float, marks: Sequence[float], note: Text = ""
) -> Html:
    """Columns over equal bins.

    Args:
        title: Above the plot. counts: (bins,) from 0. low, high: Ends of the axis.
        marks: Numbers under the axis. note: A sentence beside the title; it says to all what the plot shows.
    """
    width, height, foot = 260, 92, 16
    most, step = max(int(counts.max(initial=0)), 1), width / max(len(counts), 1)
    columns = []
    for number, count in enumerate(counts.tolist()):
        if count:
            tall = max((height - foot) * count / most, 0.7)
            columns.append(f"M{number * step:.1f} {height - foot}v{-tall:.1f}h{step - 0.8:.1f}v{tall:.1f}z")
    axis = f'<line class="axis" x1="0" x2="{width}" y1="{height - foot}" y2="{height - foot}"/>'
    words = []
    for mark in marks:
        x = width * (mark - low) / (high - low)
        side = "start" if mark == low else "end" if mark == high else "middle"
        text = f"{mark:+g}" if mark else "0"
        words.append(f'<text x="{x:.0f}" y="{height - 3}" text-anchor="{side}">{text}</text>')
    said = escape(f"{title}: {note}" if note else title)
    svg = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{said}"><path class="s0" d="{"".join(columns)}"/>'
    )
    side_note = f' <span class="note">{escape(note)}</span>' if note else ""
    return Html(
        f"<figure><figcaption><b>{escape(title)}</b>{side_note}</figcaption>{svg}{axis}{''.join(words)}</svg></figure>"
    )
