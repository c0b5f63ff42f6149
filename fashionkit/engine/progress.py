"""How far a long command is: a bar on a terminal, a quiet line now and then in a log, both on stderr.

A log gets a line at most every `EVERY` seconds and one at the end, so that a night's run stays readable:

    questions: 1,200,000 of 5,000,000 rows, 812,000/s, 5 s left
    questions: 5,000,000 rows in 6.2 s, 806,000/s
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Self, TypeVar

EVERY = 10.0  # seconds between two lines where there is no terminal

T = TypeVar("T")


class Progress:
    """Counts units of work and shows the count; a context manager.

    Args:
        label: What is being done, in a word or two.
        total: Units in all, where that is known.
        unit: What is counted, in the plural.
        done: Units that an earlier, interrupted run already made; shown, but left out of the rate.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "rows", done: int = 0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._before = done
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.monitor_interval = 0  # its watching thread would be forked with the workers
            self._bar = tqdm(desc=label, total=total, unit=f" {unit}", initial=done, unit_scale=True, file=sys.stderr)

    def add(self, units: int = 1) -> None:
        """Says that so many more units are done."""
        self.done += units
        if self._bar is not None:
            self._bar.update(units)
        elif time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _rate(self) -> float:
        return (self.done - self._before) / max(time.monotonic() - self._start, 1e-9)

    def _line(self) -> str:
        rate = self._rate()
        text = f"{self.label}: {self.done:,}"
        if self.total is not None:
            text += f" of {self.total:,}"
        text += f" {self.unit}, {_figure(rate)}/s"
        if self.total is not None and rate > 0:
            text += f", {_duration((self.total - self.done) / rate)} left"
        return text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None:
            taken = time.monotonic() - self._start
            summary = f"{self.label}: {self.done:,} {self.unit} in {_duration(taken)}, {_figure(self._rate())}/s"
            print(summary, file=sys.stderr, flush=True)


def progress(
    items: Iterable[T],
    label: str,
    total: int | None = None,
    unit: str = "rows",
    size: Callable[[T], int] | None = None,
) -> Iterator[T]:
    """Passes `items` through and shows how many went by.

    Args:
        items: What is worked on; an item counts as done when the next one is asked for.
        label: What is being done.
        total: Units in all; where it is missing and `items` has a length, that.
        unit: What is counted, in the plural.
        size: Units of one item; where it is missing, each item is one.
    """
    if total is None and size is None and isinstance(items, Sized):
        total = len(items)
    with Progress(label, total, unit) as bar:
        for item in items:
            yield item
            bar.add(1 if size is None else size(item))


def _figure(rate: float) -> str:
    """Three significant digits, without an exponent."""
    if rate >= 100:
        digits = len(str(int(rate))) - 3
        return f"{round(rate / 10**digits) * 10**digits:,}"
    return f"{rate:.3g}"


def _duration(seconds: float) -> str:
    """Seconds as `4.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
