"""Shards over workers: every result once, errors with their shard, no worker left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from fashionkit.engine import WorkerLost, run_shards
from fashionkit.tables import InputError

shared_array: np.ndarray | None = None


def _set_shared(array: np.ndarray) -> None:
    global shared_array
    shared_array = array


def _square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def _look(start: int) -> float:
    assert shared_array is not None
    return float(pc.sum(shared_array[start : start + 10]).as_py())


def _fail(number: int) -> int:
    if number == 2:
        raise InputError("no such colour", file="a.csv", row=7)
    return number


def _end_of_file(_: int) -> int:
    raise EOFError("truncated picture")


class _Stubborn(Exception):
    """An error that no pipe can carry: it cannot be made from its own arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def _stubborn(_: int) -> int:
    raise _Stubborn("cannot ", "travel")


def _lambda(_: int) -> Any:
    return lambda: None


def _die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _pid_then_sleep(number: int) -> int:
    if number:
        time.sleep(60)
    return os.getpid()


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended but was not collected by its parent yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _gone(pids: list[int], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while any(map(_alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(_alive, pids))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_every_shard_comes_back_once(workers: int) -> None:
    results = list(run_shards(_square, range(50), workers))
    assert sorted(value for value, _ in results) == [n * n for n in range(50)]
    pids = {pid for _, pid in results}
    assert (pids == {os.getpid()}) if workers == 1 else (os.getpid() not in pids and len(pids) <= workers)


def test_no_shards_and_fewer_shards_than_workers() -> None:
    assert list(run_shards(_square, [], 3)) == []
    assert [value for value, _ in run_shards(_square, [5], 3)] == [25]


@pytest.mark.parametrize("workers", [1, 2])
def test_initializer_shares_an_array_with_arrow_at_work(workers: int) -> None:
    array = np.arange(1000)
    assert pc.sum(array).as_py() == 499500  # Arrow's threads are running when the workers are forked
    found = run_shards(_look, range(0, 1000, 10), workers, initializer=_set_shared, initargs=(array,))
    assert sum(found) == 499500


def test_shards_are_read_as_workers_get_free() -> None:
    read = []

    def shards() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    results = run_shards(_square, shards(), 2)
    next(results)
    assert len(read) <= 4
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_kind_and_names_the_shard(workers: int) -> None:
    with pytest.raises(InputError, match=r"a\.csv, row 7: no such colour") as caught:
        list(run_shards(_fail, range(9), workers))
    assert caught.value.row == 7
    assert caught.value.__notes__ == ["  in shard 2"]


def test_errors_that_look_like_the_end_of_the_pipe_or_cannot_travel() -> None:
    with pytest.raises(EOFError, match="truncated picture"):
        list(run_shards(_end_of_file, range(3), 2))
    with pytest.raises(RuntimeError, match="_Stubborn: cannot travel"):
        list(run_shards(_stubborn, range(3), 2))
    with pytest.raises(Exception, match="pickle"):
        list(run_shards(_lambda, range(3), 2))


def test_a_killed_worker_is_reported_with_its_shard_and_earlier_results_stand() -> None:
    got = []
    with pytest.raises(WorkerLost, match=r"SIGKILL.*memory.*again continues\n  in shard 3"):
        for result in run_shards(_die, range(8), 2):
            got.append(result)  # one by one: a list made at once would be lost with the error
    assert got and 3 not in got
    assert len(got) == len(set(got))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_a_caller_that_stops_early_leaves_no_worker() -> None:
    results = run_shards(_pid_then_sleep, [0, 1, 1], 2)
    pid = next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5
    assert _gone([pid])


def test_workers_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 worker"):
        list(run_shards(_square, [1], 0))


_SCRIPT = """
    import os, sys, time
    from fashionkit.engine import run_shards
    def slow(n):
        os.write(1, b"%d\\n" % os.getpid())  # in one piece, beside the other workers
        time.sleep(60)
    try:
        list(run_shards(slow, range(9), 3))
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)])
def test_workers_end_with_their_parent(sign: signal.Signals, code: int, root: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_SCRIPT)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=root, start_new_session=True, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            workers = [int(process.stdout.readline()) for _ in range(3)]
            if sign == signal.SIGINT:
                os.killpg(process.pid, sign)  # a terminal's Ctrl-C goes to the workers, too
            else:
                process.send_signal(sign)
            assert process.wait(10) == code
            assert _gone(workers)
            assert process.stderr.read() == ""
        finally:
            process.kill()
