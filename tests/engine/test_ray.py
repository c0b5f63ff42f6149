"""Shards on a real Ray cluster of two nodes: the same results and files as local, with a node killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fashionkit.cli import main
from fashionkit.datagen.packs import FAMILIES
from fashionkit.engine import WorkerLost, engine_session, ray_cluster, run_shards
from fashionkit.engine import ray as engine
from fashionkit.engine.ray_cluster import QUIET, check_nodes, probe
from fashionkit.tables import InputError, verify
from tests.datagen.conftest import fingerprint, make_catalog, random_pictures

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STORE = 100 << 20
SPEC = "shard_images: 6\nphrasings: 2\nper_image: 100\n"

held: np.ndarray | None = None


def _hold(array: np.ndarray, log: str) -> None:
    global held
    held = array
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")


def _look(start: int) -> tuple[int, bool, int]:
    assert held is not None
    return int(held[start : start + 10].sum()), held.flags.writeable, os.getpid()


def _square(number: int) -> int:
    print("a word from the worker")
    return number * number


def _fail(number: int) -> int:
    if number == 2:
        raise InputError("no such colour", file="a.csv", row=7)
    return number


def _die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _die_once(step: tuple[int, str]) -> int:
    number, mark = step
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _nowhere(_: int) -> Any:
    return threading.Lock()  # no other process can have it


def _mark_and_wait(step: tuple[int, str]) -> int:
    number, folder = step
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)
    return number


def _node(_: int) -> str:
    import ray

    time.sleep(0.2)
    return str(ray.get_runtime_context().get_node_id())


def around() -> dict[str, str]:
    """An environment in which commands find this checkout from anywhere."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, on this machine."""
    pytest.importorskip("ray", reason="needs fashionkit[ray]")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**around(), **QUIET}.items():
            patch.setenv(name, value)  # the nodes' workers have it from here
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1, object_store_memory=STORE)
        made.wait_for_nodes()
        yield made
        made.shutdown()


@pytest.fixture
def joined(cluster: Any, tmp_path: Path) -> Iterator[list[str]]:
    """A session on the cluster with a shared folder; gives the lines that it says."""
    said: list[str] = []
    with engine_session("ray", address=cluster.address, folder=tmp_path, say=said.append):
        yield said
    assert list(tmp_path.glob(".*")) == []


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up catalogue of 60 outfits."""
    folder = tmp_path_factory.mktemp("ray") / "catalog"
    pictures = random_pictures(folder, 60, 8, one=False)
    return make_catalog(folder, pictures, closed_categories=["item"], countable=["item"])


class Runs:
    """Makes the same set again and again."""

    def __init__(self, catalog: Path):
        self.catalog, self.spec = catalog, catalog.parent / "mine.yaml"
        self.spec.write_text(SPEC)

    def words(self, out: Path, *more: str) -> list[str]:
        """The command line that makes the set in `out`."""
        return ["datagen", "run", str(self.spec), "--catalog", str(self.catalog), "--out", str(out), *more]

    @contextlib.contextmanager
    def start(self, out: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
        """Starts the command in a session of its own, in the folder above `out`, which is named relative to that."""
        command = [sys.executable, "-m", "fashionkit", *self.words(Path(out.name), *more)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=out.parent, env=around(), start_new_session=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    def make(self, out: Path, *more: str) -> tuple[str, str]:
        """Runs the command to its end; gives stdout and stderr."""
        with self.start(out, *more) as process:
            told, said = process.communicate()
        assert process.returncode == 0, said
        return told, said


@pytest.fixture(scope="module")
def runs(catalog: Path) -> Runs:
    return Runs(catalog)


@pytest.fixture(scope="module")
def whole(runs: Runs) -> tuple[dict[str, str], int]:
    """The fingerprint of the set that one local process makes, and how many steps of counting it takes."""
    out = runs.catalog.parent / "whole"
    _, said = runs.make(out, "--workers", "1")
    return fingerprint(out), counted(said)


def counted(said: str) -> int:
    """How many shards a run's last line about counting names; none where it had nothing to count."""
    lines = [line for line in said.splitlines() if line.startswith("counting: ") and " in " in line]
    return int(lines[0].split()[1].replace(",", "")) if lines else 0


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    """Waits for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def made(out: Path, name: str = "count") -> int:
    """How many files of a step are there."""
    return len(list(out.glob(f".work/*/{name}-*")))


def living(session: int) -> list[int]:
    """Processes of a session that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, sid = path.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(sid) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_every_shard_comes_back_once_and_workers_are_not_heard(
    joined: list[str], capfd: pytest.CaptureFixture[str], cluster: Any
) -> None:
    assert sorted(run_shards(_square, range(50), engine="ray", describe="squares")) == [n * n for n in range(50)]
    time.sleep(3)  # what workers print would come late
    told = capfd.readouterr()
    assert told.out == "" and told.err.startswith("squares: 50 shards in ") and told.err.count("\n") == 1
    assert joined == [f"joining Ray at {cluster.address}"]


def test_both_nodes_work_and_shards_are_read_as_they_get_free(joined: list[str]) -> None:
    read = []

    def shards() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    results = run_shards(_node, shards(), engine="ray")
    nodes = {next(results) for _ in range(6)}
    assert len(nodes) == 2
    assert len(read) <= 6 + 2 * engine.AHEAD
    results.close()


def test_nothing_is_started_where_there_is_nothing_to_do(joined: list[str]) -> None:
    assert list(run_shards(_square, [], engine="ray")) == []
    assert joined == []


def test_each_worker_is_set_up_once_and_arrays_are_read_only(joined: list[str], tmp_path: Path) -> None:
    for factor in (1, 3):  # workers of the first run take the second's array
        log, array = tmp_path / f"log{factor}", factor * np.arange(1000)
        found = list(run_shards(_look, range(0, 1000, 10), engine="ray", initializer=_hold, initargs=(array, str(log))))
        assert sum(total for total, _, _ in found) == factor * 499500
        assert not any(writeable for _, writeable, _ in found)
        pids = {pid for _, _, pid in found}
        assert sorted(map(int, log.read_text().split())) == sorted(pids)


def test_an_error_keeps_its_kind_names_the_shard_and_is_not_tried_again(joined: list[str]) -> None:
    with pytest.raises(InputError, match=r"a\.csv, row 7: no such colour") as caught:
        list(run_shards(_fail, range(9), engine="ray"))
    assert caught.value.row == 7
    assert caught.value.__notes__ == ["  in shard 2"]
    assert not any("lost" in line for line in joined)
    assert sorted(run_shards(_square, range(3), engine="ray")) == [0, 1, 4]  # the session lives on


def test_a_result_that_cannot_travel_names_its_shard(joined: list[str]) -> None:
    with pytest.raises(Exception, match="pickle") as caught:
        list(run_shards(_nowhere, [5], engine="ray"))
    assert caught.value.__notes__ == ["  in shard 5"]


def test_a_killed_worker_is_survived(joined: list[str], tmp_path: Path) -> None:
    steps = [(number, str(tmp_path / "died")) for number in range(8)]
    assert sorted(run_shards(_die_once, steps, engine="ray")) == list(range(8))
    assert [line for line in joined if "lost" in line] == [
        "Ray lost a worker (WorkerCrashedError); what it was making is made again on another"
    ]


def test_a_shard_that_kills_every_worker_ends_the_run_and_earlier_results_stand(joined: list[str]) -> None:
    got = []
    problem = rf"{engine.TRIES} Ray workers(.|\n)*again continues\n  in shard 3"
    with pytest.raises(WorkerLost, match=problem):
        for result in run_shards(_die, range(8), engine="ray"):
            got.append(result)
    assert got and 3 not in got and len(got) == len(set(got))


def test_a_caller_that_stops_early_leaves_no_task(joined: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "pids"
    folder.mkdir()
    results = run_shards(_mark_and_wait, [(n, str(folder)) for n in range(9)], engine="ray")
    waiting = threading.Thread(target=lambda: until(lambda: len(list(folder.iterdir())) == 2))
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        interrupt_when(waiting)
        next(results)
    pids = [int(path.name) for path in folder.iterdir()]
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10)


def interrupt_when(waiting: threading.Thread) -> None:
    """Sends this process a Ctrl-C when the thread has ended."""

    def send() -> None:
        waiting.join()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()


def test_nodes_show_that_they_are_fit(joined: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(run_shards(_square, [1], engine="ray"))  # connects
    with probe(tmp_path) as wanted:
        with monkeypatch.context() as patch:
            patch.setattr(ray_cluster, "ANSWER", 0)
            with pytest.raises(InputError, match="not fit: it does not answer within 0 s"):
                check_nodes(wanted, set())
        fit: set[str] = set()
        check_nodes(wanted, fit)
        assert len(fit) == 2
        check_nodes(replace(wanted, packages={**wanted.packages, "numpy": "0.1"}), fit)  # not asked again
        with pytest.raises(InputError, match=r"not fit: it has numpy .* has 0\.1(.|\n)*found: .*\("):
            check_nodes(replace(wanted, packages={**wanted.packages, "numpy": "0.1"}), set())
        with pytest.raises(InputError, match="cannot read and write /nowhere: No such file"):
            check_nodes(replace(wanted, path=Path("/nowhere/file")), set())


def test_a_cluster_without_any_cpu_ends_the_run(joined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.cluster_resources", lambda: {"memory": 1.0})
    monkeypatch.setattr(engine, "ALONE", 0)
    with pytest.raises(WorkerLost, match="no CPU for 0 s; finished shards are kept"):
        list(run_shards(_square, range(9), engine="ray"))


def test_a_node_that_joins_later_shows_it_with_its_first_shard(
    joined: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "check_nodes", lambda wanted, fit: None)
    monkeypatch.setattr(ray_cluster, "code", lambda: {"engine/shards.py": "0"})
    with pytest.raises(InputError, match=r"not fit: its fashionkit/engine/shards\.py is not that of the command"):
        list(run_shards(_square, [1], engine="ray"))


def test_a_cluster_is_left_and_found_again_by_auto(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    for address in (cluster.address, "auto"):
        with engine_session("ray", address=address):
            assert list(run_shards(_square, [3], engine="ray")) == [9]
            assert ray.is_initialized()
        assert not ray.is_initialized() and signal.getsignal(signal.SIGTERM) is before
    assert cluster.remaining_processes_alive()


def test_the_same_bytes_and_words_as_local(
    cluster: Any, runs: Runs, whole: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    told, said = runs.make(tmp_path / "set", "--engine", "ray", "--ray-address", cluster.address)
    assert fingerprint(tmp_path / "set") == whole[0]
    assert counted(said) == whole[1] > 100
    assert told.startswith("set: ") and "raylet" not in told + said
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["params"].keys().isdisjoint({"engine"})
    assert main(runs.words(tmp_path / "set", "--engine", "local")) == 0  # another engine finds it complete


def at_work(node: Any) -> bool:
    """Whether a worker of a node has a task of ours: workers call themselves after what they do."""
    raylet = node.all_processes["raylet"][0].process.pid
    for child in Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"ray::_work" in Path(f"/proc/{child}/cmdline").read_bytes():
                return True
    return False


def test_a_node_killed_in_the_middle_is_survived_with_the_same_bytes(
    cluster: Any, runs: Runs, whole: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    for attempt in range(4):  # on a busy machine the node may be between two tasks when it dies
        out = tmp_path / f"set{attempt}"
        (node,) = cluster.worker_nodes
        with runs.start(out, "--engine", "ray", "--ray-address", cluster.address) as process:
            until(lambda o=out, n=node, p=process: (made(o) > 0 and at_work(n)) or p.poll() is not None)
            cluster.remove_node(node, allow_graceful=False)
            left = whole[1] - made(out)
            told, said = process.communicate()
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
        assert process.returncode == 0, said
        assert "raylet" not in told + said
        assert fingerprint(out) == whole[0]
        assert verify(out) is not None
        if "Ray lost a worker (NodeDiedError)" in said and left > whole[1] // 4:
            return
    pytest.fail("in no attempt was a shard lost with the node in the middle of the run")


def test_a_killed_driver_leaves_no_task_and_the_next_goes_on(
    cluster: Any, runs: Runs, whole: tuple[dict[str, str], int], tmp_path: Path
) -> None:
    out = tmp_path / "set"
    words = ("--engine", "ray", "--ray-address", cluster.address)
    with runs.start(out, *words) as process:
        until(lambda: made(out) > whole[1] // 3 or process.poll() is not None)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    _, said = runs.make(out, *words)
    assert 0 < counted(said) < whole[1] - whole[1] // 3
    assert fingerprint(out) == whole[0]
    assert not list(out.rglob(".*"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_ray_that_was_started_here_ends_with_the_command(
    runs: Runs, whole: tuple[dict[str, str], int], tmp_path: Path, sign: signal.Signals, code: int
) -> None:
    pytest.importorskip("ray", reason="needs fashionkit[ray]")
    out = tmp_path / "set"
    with runs.start(out, "--engine", "ray", "--workers", "2") as process:
        until(lambda: made(out) > 3 or process.poll() is not None)
        if sign == signal.SIGINT:
            os.killpg(process.pid, sign)  # as a terminal sends it: to every process
        else:
            process.send_signal(sign)
        told, said = process.communicate()
    assert process.returncode == code, said
    until(lambda: not living(process.pid), 150)  # Ray's agents look for their parent once a minute
    folders = list(Path("/tmp").glob(f"fk-ray-{process.pid}-*"))
    assert bool(folders) == (sign == signal.SIGKILL)  # the next Ray that is started here removes it
    for folder in folders:
        shutil.rmtree(folder)
    assert "Traceback" not in said and told == ""
    assert main(runs.words(out, "--workers", "1")) == 0
    assert fingerprint(out) == whole[0]


_LOCKED = """
import os, subprocess, sys
from fashionkit.engine import engine_session, run_shards

def address(_):
    import ray
    return ray.get_runtime_context().gcs_address

with engine_session("ray", 1):
    (there,) = run_shards(address, [1], engine="ray")
    around = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    join = (
        "from fashionkit.engine import engine_session, run_shards\\n"
        f"with engine_session('ray', address='{there}'): print(list(run_shards(abs, [1], engine='ray')))"
    )
    other = subprocess.run([sys.executable, "-c", join], env=around, capture_output=True, text=True)
    assert other.returncode and "does not let this program join" in other.stderr, other
with engine_session("ray", 1):
    assert list(run_shards(abs, [-1], engine="ray")) == [1]
"""


def test_a_ray_that_was_started_here_lets_nobody_else_in(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs fashionkit[ray]")
    if tuple(map(int, ray.__version__.split(".")[:2])) < (2, 52):
        pytest.skip("this Ray knows no tokens")
    home = {**around(), "HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", _LOCKED], capture_output=True, text=True, env=home)
    assert found.returncode == 0, found.stderr
    assert not list(tmp_path.iterdir())  # no token is left in the home folder


def test_benchmark_of_engines_gives_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs fashionkit[ray]")
    kept = ("B1", "C1", "N1")
    (tmp_path / "spec.yaml").write_text(f"families: {{{', '.join(f'{f}: 0' for f in FAMILIES if f not in kept)}}}")
    words = ["--images", "60", "--samples", "900", "--runs", "1", "--spec", str(tmp_path / "spec.yaml")]
    command = [sys.executable, str(ROOT / "benchmarks/engines.py"), *words, "--json", str(tmp_path / "figures.json")]
    found = subprocess.run(command, capture_output=True, text=True, env=around())
    assert found.returncode == 0, found.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["samples"] > 300 and set(figures["seconds"]) == {"local", "ray", "starting ray"}
    assert figures["ratio"] > 0 and "the same bytes" in found.stdout
