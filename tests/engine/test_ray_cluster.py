"""Addresses that are no cluster, a Ray that is missing, machines that are not fit for work: told at once."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fashionkit.engine import engine_session, ray_cluster, run_shards
from fashionkit.engine.ray_cluster import Probe, probe, resolve
from fashionkit.tables import InputError

Serve = Callable[[bytes | None], str]


def _same(number: int) -> int:
    return number


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers every connection with these bytes, or never (None); gives its address."""
    sockets: list[socket.socket] = []

    def start(answer: bytes | None) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def greet() -> None:
            connection, _ = server.accept()
            sockets.append(connection)
            connection.recv(100)
            if answer is not None:
                connection.sendall(answer)

        threading.Thread(target=greet, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for one in sockets:
        one.close()


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.mark.usefixtures("without_ray")
def test_a_missing_ray_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(InputError, match=r"needs the package ray(.|\n)*pip install 'fashionkit\[ray\]'"):
        list(run_shards(_same, [1], 1, engine="ray"))
    with pytest.raises(InputError, match="needs the package ray"), engine_session("ray"):
        pass


@pytest.mark.usefixtures("without_ray")
def test_local_processes_need_no_ray() -> None:
    with engine_session("local", address="nowhere"):
        assert list(run_shards(_same, [1, 2], 1)) == [1, 2]


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="one of local, ray, not 'dask'"):
        list(run_shards(_same, [1], 1, engine="dask"))


@pytest.mark.parametrize("address", ["ray://host:10001", "host", ":6379", "host:port", "host:0", "host:70000", "6379"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InputError, match=r"no address of a Ray cluster(.|\n)*host:port") as caught:
        resolve(address)
    assert address in str(caught.value)


def test_an_address_where_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    start = time.monotonic()
    with pytest.raises(
        InputError, match=r"no Ray cluster answers at this address(.|\n)*is the cluster running"
    ) as caught:
        resolve(address)
    assert address in str(caught.value) and time.monotonic() - start < 2


def test_a_server_that_never_says_a_word(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "CONNECT", 0.2)
    with pytest.raises(InputError, match="no Ray cluster answers"):
        resolve(serve(None))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH"])
def test_a_server_of_another_kind(serve: Serve, answer: bytes) -> None:
    address = serve(answer)
    with pytest.raises(InputError, match="what answers at this address is no Ray cluster"):
        resolve(address)


def test_a_server_that_greets_as_a_cluster_does(serve: Serve) -> None:
    address = serve(bytes([0, 0, 6, 4, 0, 0, 0, 0, 0]))
    assert resolve(address) == address


def test_no_address_starts_ray_here() -> None:
    assert resolve("") == ""


def test_auto_is_the_cluster_that_the_environment_names(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    address = serve(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert resolve("auto") == address


def test_auto_is_else_the_cluster_of_this_machine(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "CURRENT", tmp_path / "current")
    with pytest.raises(InputError, match=r"no Ray cluster runs on this machine(.|\n)*ray start --head"):
        resolve("auto")
    address = serve(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    (tmp_path / "current").write_text(address + "\n")
    assert resolve("auto") == address


def test_a_deadline_ends_what_catches_every_exception() -> None:
    before = signal.getsignal(signal.SIGALRM)

    def stubborn() -> None:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.01)

    with pytest.raises(TimeoutError, match="no answer within 0 s"), ray_cluster._deadline(0.1):
        stubborn()
    with ray_cluster._deadline(0.1):
        pass
    time.sleep(0.15)  # nothing comes after the end
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("imported", [False, True])
def test_a_ray_that_is_started_here_gets_a_token_unless_the_program_has_decided(
    monkeypatch: pytest.MonkeyPatch, imported: bool
) -> None:
    ray_cluster._token.cache_clear()
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    if not imported:
        monkeypatch.delitem(sys.modules, "ray")
    for _ in range(2):  # a second session of the process has the same token
        with contextlib.ExitStack() as opened:
            ray_cluster._lock(opened)
            found = os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN")
            assert found == ((None, None) if imported else ("token", ray_cluster._token()))
            monkeypatch.setitem(sys.modules, "ray", None)
        assert "RAY_AUTH_MODE" not in os.environ and "RAY_AUTH_TOKEN" not in os.environ
    ray_cluster._token.cache_clear()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with contextlib.ExitStack() as opened:
        ray_cluster._lock(opened)
    assert os.environ["RAY_AUTH_MODE"] == "disabled" and "RAY_AUTH_TOKEN" not in os.environ


def test_what_a_killed_command_left_is_swept_away(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    names = [f"fk-ray-{ended.pid}-a", f"fk-ray-{os.getpid()}-b", "fk-ray-word-c", "other"]
    for name in names:
        (tmp_path / name / "session").mkdir(parents=True)
    ray_cluster._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_the_machine_of_the_command_is_fit_and_keeps_no_trace(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with probe(folder) as wanted:
        assert wanted.problem() == ""
        (kept,) = folder.iterdir()
        assert kept.name.startswith(".") and kept.name.endswith(".tmp")  # `sweep_temporary` finds it after a kill
        assert "engine/ray_cluster.py" in wanted.code and wanted.path is not None and wanted.path.is_absolute()
    assert list(folder.iterdir()) == []


def test_a_folder_is_not_needed_where_tasks_write_nothing() -> None:
    with probe(None) as wanted:
        assert wanted.path is None and wanted.problem() == ""


@pytest.fixture
def wanted(tmp_path: Path) -> Iterator[Probe]:
    """A probe that this machine meets."""
    with probe(tmp_path) as made:
        yield made


def test_a_machine_with_other_packages_is_not_fit(wanted: Probe) -> None:
    other = replace(wanted, packages={**wanted.packages, "pyarrow": "1.0"})
    assert other.problem().startswith("it has pyarrow ") and other.problem().endswith("has 1.0")


def test_a_machine_with_other_code_is_not_fit(wanted: Probe) -> None:
    for name in ("engine/shards.py", "engine/gone.py"):
        assert name in replace(wanted, code={**wanted.code, name: "0"}).problem()


def test_a_machine_that_sees_another_folder_is_not_fit(wanted: Probe, tmp_path: Path) -> None:
    assert "another folder" in replace(wanted, text="other").problem()
    missing = replace(wanted, path=tmp_path / "nowhere" / "file")
    assert missing.problem() == f"it cannot read and write {tmp_path / 'nowhere'}: No such file or directory"


def test_a_machine_that_cannot_write_is_not_fit(wanted: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert wanted.problem().endswith("Read-only file system")
