"""Runs one plain function over many shard descriptions: in this process, over worker processes, or on a Ray cluster.

    shards ──► run_shards ──► pipe ──► worker: task(shard) ──► pipe ──► results, as they get ready
                        └───► pipe ──► worker: task(shard) ──►

A task makes its shard alone and writes it whole (`fashionkit.tables.write_table`); what comes back through the pipe is
small, such as a row count. A stage that continues an interrupted run passes only the shards that are not there yet.

Workers are forked on Linux. They then share the parent's tables without a copy, and start in milliseconds where a fresh
interpreter needs half a second to import Arrow. Forking beside threads is a trap where a thread holds a lock in that
moment: Arrow rebuilds its own thread pools in the child, the progress bar runs without its thread, and torch is never
loaded in the rooms that use this module. Elsewhere workers are spawned, and `initargs` are copied into each.

Each worker has its own pipe, so that a worker which dies is known together with the shard it was making; the pools of
the standard library can tell neither. How a Ray cluster does the same is in `fashionkit.engine.ray`.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeVar

from fashionkit.engine.progress import Progress

S = TypeVar("S")
R = TypeVar("R")
ENGINES = ("local", "ray")


class WorkerLost(RuntimeError):
    """A worker process ended without an answer, as when the system kills it for want of memory."""


def run_shards(
    task: Callable[[S], R],
    shards: Iterable[S],
    workers: int = 1,
    *,
    engine: str = "local",
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    describe: str = "",
    total_rows: int | None = None,
    rows: Callable[[R], int] | None = None,
) -> Iterator[R]:
    """Yields `task(shard)` for every shard, in the order in which they get ready.

    Args:
        task: A module-level function; it and its results must be picklable where `workers` is above 1.
        shards: Descriptions, read one at a time as workers get free, so the list may be long.
        workers: Processes; 1 runs everything in this one.
        engine: One of ENGINES. `ray` uses the session that `engine_session` holds open, or starts Ray for this call.
        initializer: Called once in each worker (or here), commonly to set a module global that tasks read.
        initargs: Its arguments. Forked workers see them without a copy, so large arrays belong here; Ray sends them to
            each node once, and arrays in them are read-only there.
        describe: Label of the progress; nothing is shown where it is empty.
        total_rows: Units of progress in all.
        rows: Units of one result; where it is missing, a shard counts as one.

    Raises:
        ValueError: `workers` is below 1.
        InputError: The engine is Ray, and it is not installed, does not answer, or a node is not fit.
        WorkerLost: A worker was killed (of Ray's: again and again). Whatever was yielded before stands.
        Exception: Whatever a task raised, with a note that names the shard.
    """
    if workers < 1:
        raise ValueError(f"at least 1 worker is needed, not {workers}")
    if engine not in ENGINES:
        raise ValueError(f"the engine is one of {', '.join(ENGINES)}, not {engine!r}")
    if engine == "ray":
        from fashionkit.engine.ray import run_on_ray

        results = run_on_ray(task, shards, workers, initializer, initargs)
    elif workers == 1:
        results = _run_here(task, shards, initializer, initargs)
    else:
        results = _run_in_workers(task, shards, workers, initializer, initargs)
    if not describe:
        yield from results
        return
    with Progress(describe, total_rows, "shards" if rows is None else "rows") as bar:
        for result in results:
            bar.add(1 if rows is None else rows(result))
            yield result


@contextlib.contextmanager
def engine_session(
    engine: str,
    workers: int = 1,
    address: str = "",
    folder: Path | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[None]:
    """Holds an engine ready, so that all `run_shards` inside the `with` share it; nothing to do for local processes.

    Args:
        engine: One of ENGINES.
        workers: Processes of a Ray that is started here.
        address: Of a running Ray cluster, `host:port` or `auto`; "" starts Ray here, when there is a shard to run.
        folder: Where tasks write; all nodes of a cluster must see it.
        say: Gets a line where something happens that a user should know.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """
    if engine != "ray":
        yield
        return
    from fashionkit.engine.ray import session

    with session(workers, address, folder, say):
        yield


def _run_here(
    task: Callable[[S], R], shards: Iterable[S], initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
) -> Iterator[R]:
    if initializer is not None:
        initializer(*initargs)
    for shard in shards:
        try:
            result = task(shard)
        except Exception as error:
            error.add_note(in_shard(shard))
            raise
        yield result


def _run_in_workers(
    task: Callable[[S], R],
    shards: Iterable[S],
    workers: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> Iterator[R]:
    queue = iter(shards)
    pool: dict[Connection, _Worker] = {}
    try:
        for shard in queue:
            worker = _Worker(task, workers, initializer, initargs)
            pool[worker.pipe] = worker
            worker.send(shard)
            if len(pool) == workers:
                break
        while pool:
            for pipe in wait(list(pool)):
                assert isinstance(pipe, Connection)
                worker = pool[pipe]
                result = worker.receive()
                try:
                    worker.send(next(queue))  # before the yield, so that no worker waits for a slow caller
                except StopIteration:
                    del pool[pipe]
                    worker.finish()
                yield result
    finally:
        for worker in pool.values():
            worker.kill()


class _Worker:
    """The parent's end of one worker process, and the shard that the process is making."""

    def __init__(
        self,
        task: Callable[[Any], Any],
        workers: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> None:
        context = _context()
        self.pipe, far_end = context.Pipe()
        self.shard: Any = None
        arguments = (far_end, task, workers, initializer, initargs)
        self.process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        far_end.close()

    def send(self, shard: Any) -> None:
        """Gives the worker its next shard."""
        self.shard = shard
        try:
            self.pipe.send((shard,))
        except BrokenPipeError:
            raise self._lost() from None

    def receive(self) -> Any:
        """The result that is waiting; raises what the task raised."""
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._lost() from None
        return opened(message, self.shard)

    def _lost(self) -> WorkerLost:
        self.process.join(5)
        code = self.process.exitcode or 0
        why = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if code == -signal.SIGKILL:
            why += ", most likely by the system for want of memory (fewer workers need less)"
        problem = f"a worker process {why}; finished shards are kept, and running the same command again continues"
        return WorkerLost(f"{problem}\n{in_shard(self.shard)}")

    def finish(self) -> None:
        """Lets the worker end by itself; closing the pipe is no sign, for later workers hold a copy of this end."""
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(None)
        self.process.join()
        self.pipe.close()

    def kill(self) -> None:
        """Ends the worker at once; a file that it was writing stays a temporary one."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _context() -> BaseContext:
    return multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def _work(
    pipe: Connection,
    task: Callable[[Any], Any],
    workers: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """A worker's life: `(shard,)` in and (result, error, traceback) out, until None comes in or something fails."""
    _settle(workers)
    try:
        if initializer is not None:
            initializer(*initargs)
        while (message := pipe.recv()) is not None:
            pipe.send((task(*message), None, ""))
    except Exception as error:
        pipe.send((None, portable(error), traceback.format_exc()))


def _settle(workers: int) -> None:
    """Makes the process a good worker: quiet on Ctrl-C, gone with its parent, a fair share of the cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends the workers
    gc.freeze()  # the collector would otherwise touch, and so copy, every page shared with the parent
    threading.Thread(target=_follow_parent, daemon=True).start()
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.set_cpu_count(max(1, (os.cpu_count() or 1) // workers))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def opened(message: tuple[Any, Exception | None, str], shard: object) -> Any:
    """The result in a worker's (result, error, traceback); raises the error with a note that names the shard."""
    result, error, remote_traceback = message
    if error is not None:
        error.add_note(in_shard(shard))
        raise error from RuntimeError(f"in a worker process:\n{remote_traceback}")
    return result


def portable(error: Exception) -> Exception:
    """`error`, or its words where it cannot travel through a pipe."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def in_shard(shard: object) -> str:
    """The note that names a shard."""
    text = str(shard)
    return f"  in shard {text if len(text) <= 200 else text[:199] + '…'}"
