"""Progress: a line now and then where there is no terminal, right figures, nothing on stdout."""

from __future__ import annotations

import io
import sys

import pytest

from fashionkit.engine import Progress, progress, run_shards

module = sys.modules["fashionkit.engine.progress"]  # `fashionkit.engine.progress` itself is the function


class _Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(
    clock: _Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("questions", 4000) as bar:
        for _ in range(40):
            clock.now += 1
            bar.add(100)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "questions: 1,000 of 4,000 rows, 100/s, 30.0 s left",
        "questions: 2,000 of 4,000 rows, 100/s, 20.0 s left",
        "questions: 3,000 of 4,000 rows, 100/s, 10.0 s left",
        "questions: 4,000 of 4,000 rows, 100/s, 0.0 s left",
        "questions: 4,000 rows in 40.0 s, 100/s",
    ]


def test_work_done_before_is_counted_but_not_timed(clock: _Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("photos", 300, "photos", done=100) as bar:
        clock.now += 20
        bar.add(20)
    assert capsys.readouterr().err.splitlines()[0] == "photos: 120 of 300 photos, 1/s, 3 min 0 s left"


def test_items_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(["a", "bb"], "words", unit="letters", size=len)) == ["a", "bb"]
    assert capsys.readouterr().err.startswith("words: 3 letters in ")


def test_an_error_ends_it_without_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Progress("photos"):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    list(progress(range(5), "photos"))
    assert "photos: 100%" in terminal.getvalue()


def test_shards_show_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(run_shards(abs, [-3, -4], describe="samples", total_rows=7, rows=int)) == [3, 4]
    assert capsys.readouterr().err.startswith("samples: 7 rows in ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert module._duration(seconds) == text


@pytest.mark.parametrize(("rate", "text"), [(0.1234, "0.123"), (12.34, "12.3"), (816_432.1, "816,000"), (100, "100")])
def test_rates(rate: float, text: str) -> None:
    assert module._figure(rate) == text
