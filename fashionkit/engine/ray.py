"""Runs the same shards on a Ray cluster (https://docs.ray.io): one that is started here, or one that is running.

    driver   shards ───► at most AHEAD tasks for each CPU ───► worker on some node: task(shard) ───► results, as ready
             initargs ─► object store, once ─────────────────► read once by each worker process

A session holds the connection, and every `run_shards(..., engine="ray")` inside it uses that:

    with engine_session("ray", workers=4, folder=out):
        for result in run_shards(task, shards, 4, engine="ray"):
            ...

Nothing is started before there is a shard to run. Tasks write their files themselves, so all nodes must see the same
folder and run the same code; each node shows that before it gets a shard (`fashionkit.engine.ray_cluster`).

A task that is lost with its node or worker runs again on another, for it is pure and its files are whole or absent. A
shard that is lost TRIES times is what kills its workers, and ends the run. What a task raises is not tried again. Ray's
own retries stay off: they know no limit where a worker is killed for want of memory.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from fashionkit.engine.ray_cluster import Probe, check_nodes, connect, probe, require_ray, resolve, unfit
from fashionkit.engine.shards import WorkerLost, in_shard, opened, portable

AHEAD = 2  # tasks in flight for each CPU: one that runs and one that is on its way
TRIES = 4  # how often a shard may be lost with its worker or node
ALONE = 60.0  # seconds to wait where the cluster has no CPU at all
TOLD = 10.0  # seconds between two lines about lost workers
CONTINUES = "finished shards are kept, and running the same command again continues"

_session: Session | None = None  # Ray has one connection a process


@contextlib.contextmanager
def session(
    workers: int = 1,
    address: str = "",
    folder: Path | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Session]:
    """Keeps one connection for all shards that are run inside the `with`; sessions do not nest.

    Args:
        workers: CPUs of a Ray that is started here; a cluster that is joined is used as far as it goes.
        address: `host:port` of a running cluster, `auto` for that of RAY_ADDRESS or of this machine; "" starts one.
        folder: What all nodes must see and may write; None where tasks need no files.
        say: Gets a line where something happens that a user should know.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """
    global _session
    assert _session is None, "a session is open already"
    _session = held = Session(workers, address, folder, say)
    try:
        yield held
    finally:
        _session = None
        held.close()


def run_on_ray(
    task: Callable[[Any], Any],
    shards: Iterable[Any],
    workers: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> Iterator[Any]:
    """The results of `run_shards`, by the open session or by one for this call alone."""
    if _session is not None:
        return _session.run(task, shards, initializer, initargs)
    return _run_alone(task, shards, workers, initializer, initargs)


def _run_alone(
    task: Callable[[Any], Any],
    shards: Iterable[Any],
    workers: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> Iterator[Any]:
    with session(workers) as held:
        yield from held.run(task, shards, initializer, initargs)


class Session:
    """A connection to Ray, made when the first shard needs it; see `session` for the arguments."""

    def __init__(self, workers: int, address: str, folder: Path | None, say: Callable[[str], object]) -> None:
        require_ray()
        self.workers, self.folder, self.say = workers, folder, say
        self.address, self._auto = resolve(address), address == "auto"
        self._opened = contextlib.ExitStack()
        self._connected = False
        self._fit: set[str] = set()  # nodes that were asked
        self._cpus, self._cpus_at, self._cpus_seen = 1, float("-inf"), time.monotonic()
        self._told_at = float("-inf")

    def close(self) -> None:
        """Ends what was started here, and leaves a cluster that was joined."""
        self._opened.close()

    def run(
        self,
        task: Callable[[Any], Any],
        shards: Iterable[Any],
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
    ) -> Iterator[Any]:
        """`task(shard)` for every shard, in the order in which they get ready; raises as `run_shards` does."""
        queue = iter(shards)
        first = list(islice(queue, 1))
        if not first:
            return iter(())
        self._connect()
        return self._run(chain(first, queue), (task, initializer, initargs))

    def _run(self, queue: Iterator[Any], setup: tuple[Any, ...]) -> Iterator[Any]:
        with probe(self.folder) as wanted:
            check_nodes(wanted, self._fit)
            yield from self._flow(queue, setup, wanted)

    def _connect(self) -> None:
        if self._connected:
            return
        self.say(f"joining Ray at {self.address}" if self.address else f"starting Ray here, {self.workers} CPUs")
        connect(self._opened, self.workers, "auto" if self._auto else self.address)
        self._connected = True

    def _flow(self, queue: Iterator[Any], setup: tuple[Any, ...], wanted: Probe) -> Iterator[Any]:
        import ray

        work = ray.remote(num_cpus=1, max_retries=0)(_work)
        same = ([ray.put(setup)], uuid.uuid4().hex, wanted)  # in a list: fetched once a worker and not for each task
        flying: dict[Any, tuple[Any, int]] = {}  # the answer to come → shard, and how often it was lost

        def send(shard: Any, lost: int = 0) -> None:
            flying[work.remote(*same, shard)] = shard, lost

        def refill() -> None:
            for shard in islice(queue, max(0, AHEAD * self._slots() - len(flying))):
                send(shard)

        try:
            refill()
            while flying:
                ready, _ = ray.wait(list(flying), num_returns=1, timeout=1)
                if not ready:
                    refill()  # the cluster may have grown, or have no CPU left
                for answer in ready:
                    shard, lost = flying.pop(answer)
                    try:
                        message = ray.get(answer)
                    except _losses() as error:
                        self._lost(error, shard, lost + 1)
                        send(shard, lost + 1)
                        continue
                    except Exception as error:
                        error.add_note(in_shard(shard))
                        raise
                    result = opened(message, shard)
                    refill()  # before the yield, so that no worker waits for a slow caller
                    yield result
        finally:
            for answer in flying:
                with contextlib.suppress(Exception):  # as where the cluster is gone
                    ray.cancel(answer, force=True)

    def _lost(self, error: Exception, shard: Any, times: int) -> None:
        """Says that a shard is made again; raises where that was tried often enough."""
        kind = type(error).__name__
        if times >= TRIES:
            problem = f"{times} Ray workers were lost while they made one shard, the last by {kind}; {CONTINUES}"
            raise WorkerLost(f"{problem}\n{in_shard(shard)}") from error
        if time.monotonic() - self._told_at > TOLD:
            self._told_at = time.monotonic()
            self.say(f"Ray lost a worker ({kind}); what it was making is made again on another")

    def _slots(self) -> int:
        """CPUs of the cluster as it is now, at least 1; asked for once a second."""
        import ray

        now = time.monotonic()
        if now - self._cpus_at < 1:
            return self._cpus
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if cpus:
            self._cpus_seen = now
        elif now - self._cpus_seen > ALONE:
            raise WorkerLost(f"the Ray cluster has had no CPU for {ALONE:.0f} s; {CONTINUES}")
        self._cpus, self._cpus_at = max(cpus, 1), now
        return self._cpus


def _losses() -> tuple[type[Exception], ...]:
    """What Ray raises where a worker went away, and not the task went wrong."""
    from ray import exceptions as e

    return (e.NodeDiedError, e.WorkerCrashedError, e.OutOfMemoryError, e.ObjectLostError, e.LocalRayletDiedError)


_adopted: tuple[str, Callable[[Any], Any]] | None = None  # in a worker: whose setup it holds, and the task


def _work(stored: list[Any], token: str, wanted: Probe, shard: Any) -> tuple[Any, Exception | None, str]:
    """What a worker does for one shard: (result, error, traceback)."""
    import ray

    try:
        return _adopt(stored, token, wanted)(shard), None, ""
    except ray.exceptions.RayError:  # the setup was lost
        raise
    except Exception as error:
        return None, portable(error), traceback.format_exc()


def _adopt(stored: list[Any], token: str, wanted: Probe) -> Callable[[Any], Any]:
    """The task, once this process is set up for it; a node that joined later shows here that it is fit."""
    global _adopted
    if _adopted is not None and _adopted[0] == token:
        return _adopted[1]
    import ray

    problem = wanted.problem()
    if problem:
        raise unfit(ray.util.get_node_ip_address(), problem)
    _adopted = None
    task, initializer, initargs = ray.get(stored[0])
    arrow = sys.modules.get("pyarrow")
    if arrow is not None:
        arrow.set_cpu_count(1)  # a task has one CPU
    if initializer is not None:
        initializer(*initargs)
    _adopted = token, task
    return task
