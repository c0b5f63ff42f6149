"""Getting at a Ray cluster for `fashionkit.engine.ray`: its address, the connection, and whether its nodes are fit.

    address ─► does it answer? ─► connect ─► every node with a CPU: the same code? the same folder? ─► work

Ray tries an address that does not answer for minutes, so it is asked first whether it does. The cluster's own server
speaks gRPC, so whoever listens there must greet as HTTP/2 does (RFC 9113, section 3.4).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fashionkit
from fashionkit.tables import InputError

ROOT = Path(fashionkit.__file__).parent
CONNECT = 5.0  # seconds for an address to answer
JOIN = 90.0  # seconds for Ray to start or to let this program in
ANSWER = 60.0  # seconds for a node to answer before it gets work
STORE = 512 << 20  # bytes of shared memory for `initargs` where Ray is started here; what exceeds it lies on the disk
PLACE = Path("/tmp" if os.name == "posix" else tempfile.gettempdir())  # of Ray's sockets: their paths must be short
CURRENT = Path("/tmp/ray/ray_current_cluster")  # where `ray start` leaves the address of its cluster
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = 4  # the kind of frame that a server greets back with

# No reports to Ray's makers, no warning about GPUs that tasks do not see.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def require_ray() -> None:
    """Raises an InputError where Ray is not installed."""
    try:
        found = importlib.util.find_spec("ray")
    except ValueError:  # a module of that name without a spec
        found = None
    if found is None:
        raise InputError("the engine `ray` needs the package ray", hint="pip install 'fashionkit[ray]'")


def resolve(address: str) -> str:
    """`host:port` of a cluster that answers; "" stays as it is.

    Raises:
        InputError: It is written in another way, nothing answers there, or `auto` finds no cluster.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "") or _of_this_machine()
    if not address:
        return ""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        hint = "write host:port of the cluster, commonly port 6379, and run the command on one of its machines"
        raise InputError("this is no address of a Ray cluster", found=address, hint=hint)
    _greet(host.strip("[]"), int(port), address)
    return address


def _of_this_machine() -> str:
    try:
        return CURRENT.read_text(encoding="utf-8").strip()
    except OSError:
        hint = "start one with `ray start --head`, or give its host:port"
        raise InputError("no Ray cluster runs on this machine", column="ray_address", found="auto", hint=hint) from None


def _greet(host: str, port: int, address: str) -> None:
    """Raises an InputError where no server that speaks HTTP/2 answers."""
    hint = "is the cluster running, and its port (commonly 6379) open to this machine?"
    try:
        with socket.create_connection((host, port), CONNECT) as connection:
            connection.settimeout(CONNECT)
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # the greeting is encrypted
            connection.sendall(GREETING)
            frame = connection.recv(9)
    except OSError as error:
        why = f"{address}: {error}"
        raise InputError("no Ray cluster answers at this address", found=why, hint=hint) from None
    if len(frame) < 4 or frame[3] != SETTINGS:
        raise InputError("what answers at this address is no Ray cluster", found=address, hint=hint)


def connect(opened: contextlib.ExitStack, workers: int, address: str) -> None:
    """Joins the cluster at an address, or starts Ray here; a connection that the program has made is used as it is.

    Args:
        opened: Gets what is to be undone at the end.
        workers: CPUs of a Ray that is started here.
        address: `host:port` that `resolve` gave, or `auto`; "" starts Ray.

    Raises:
        InputError: Ray refuses.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not address:
        _lock(opened)
    import ray

    if ray.is_initialized():
        return
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        problem = "Ray does not let this program join the cluster"
        hint = "the command runs on a machine of the cluster, with its Ray, its Python and, where it has one, its token"
        settings |= {"address": address}
    else:
        problem, hint = "Ray could not be started here", "is /tmp full, or forbidden? `--engine local` needs no Ray"
        _sweep(PLACE)
        folder = tempfile.mkdtemp(prefix=f"fk-ray-{os.getpid()}-", dir=PLACE)
        opened.callback(shutil.rmtree, folder, ignore_errors=True)
        settings |= {"address": "local", "num_cpus": workers, "num_gpus": 0, "object_store_memory": STORE}
        settings |= {"include_dashboard": False, "_temp_dir": folder}
    kept = _keep_sigterm(opened)
    _silence(opened)
    opened.callback(ray.shutdown)
    try:
        with _deadline(JOIN):
            ray.init(**settings)
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        raise InputError(problem, found=f"{type(error).__name__}: {error}", hint=hint) from error
    kept()


class _Late(BaseException):
    """A deadline has passed."""


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Ends what takes longer by a TimeoutError, once it is back in Python; Ray itself would try for ever.

    In between it is no `Exception`, for Ray catches these and tries again.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Late:
        raise TimeoutError(f"no answer within {seconds:.0f} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _lock(opened: contextlib.ExitStack) -> None:
    """Keeps others out of a Ray that is started here: its ports are open to the network, and tasks are code.

    Ray knows tokens from 2.52 on; left to itself, it writes one into the home folder, or has none. It reads these when
    it is imported first, so that a program which has done that decides for itself.
    """
    ours = _token.cache_info().currsize > 0
    if ours or ("ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ):
        for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}.items():
            os.environ[name] = value
            opened.callback(os.environ.pop, name, None)


@functools.cache
def _token() -> str:
    """One for the life of the process, since Ray reads it once."""
    return secrets.token_hex(32)


def _sweep(place: Path) -> None:
    """Removes what a Ray that was started by a killed command left behind."""
    for folder in place.glob("fk-ray-*-*"):
        number = folder.name.split("-")[2]
        if number.isdecimal() and not _runs(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # somebody else's
    return True


def _keep_sigterm(opened: contextlib.ExitStack) -> Callable[[], None]:
    """Puts the program's own handling of SIGTERM back at the end; what it returns is called once Ray took that over.

    Ray prints where it was interrupted. Where the program had no handler, SIGTERM unwinds it, so that what was started
    ends, too.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = signal.getsignal(signal.SIGTERM)
    opened.callback(signal.signal, signal.SIGTERM, before)
    now = _leave if before in (signal.SIG_DFL, None) else before
    return lambda: (signal.signal(signal.SIGTERM, now), None)[1]


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)


def _silence(opened: contextlib.ExitStack) -> None:
    """Keeps the cluster's messages out of stdout, where Ray prints them whatever `log_to_driver` says."""
    module = sys.modules["ray._private.worker"]
    if hasattr(module, "print_to_stdstream"):
        opened.callback(setattr, module, "print_to_stdstream", module.print_to_stdstream)
        module.print_to_stdstream = lambda *_, **__: None  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Probe:
    """What a node must find to be fit for work.

    Attributes:
        path: A file in the folder that all nodes share; None where tasks need no files.
        text: What is in it.
        packages: Name → version, as the machine of the command has them.
        code: Module of fashionkit that the command has loaded, as a path in the package → hash.
    """

    path: Path | None
    text: str
    packages: dict[str, str]
    code: dict[str, str]

    def problem(self) -> str:
        """Why this machine is not fit; "" where it is."""
        for name, found in packages().items():
            if found != self.packages[name]:
                return f"it has {name} {found}, and the machine of the command has {self.packages[name]}"
        for name, digest in self.code.items():
            if _digest(name) != digest:
                return f"its fashionkit/{name} is not that of the command"
        return "" if self.path is None else self._trouble_with(self.path)

    def _trouble_with(self, path: Path) -> str:
        try:
            if path.read_text(encoding="utf-8") != self.text:
                return f"it sees another folder at {path.parent}"
            trial = path.with_name(f".ray-{uuid.uuid4().hex}.tmp")
            trial.write_text("", encoding="utf-8")
            trial.unlink()
        except OSError as error:
            return f"it cannot read and write {path.parent}: {error.strerror}"
        return ""


def unfit(node: str, problem: str) -> InputError:
    """The error of a node that has a problem."""
    hint = "all nodes run the same code and packages, and see one shared folder under one name"
    return InputError(f"a node of the Ray cluster is not fit: {problem}", found=node, hint=hint)


@contextlib.contextmanager
def probe(folder: Path | None) -> Iterator[Probe]:
    """A probe whose file lies in `folder` as long as the `with` lasts."""
    text = uuid.uuid4().hex
    if folder is None:
        yield Probe(None, text, packages(), code())
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = (folder / f".ray-{text}.tmp").absolute()  # a name that is swept away where a kill leaves it behind
    path.write_text(text, encoding="utf-8")
    try:
        yield Probe(path, text, packages(), code())
    finally:
        path.unlink(missing_ok=True)


@functools.cache
def packages() -> dict[str, str]:
    """Versions of this machine that must be equal on all nodes for the same bytes to come out."""
    return {"fashionkit": fashionkit.__version__, **{name: version(name) for name in ("numpy", "pyarrow")}}


@functools.cache
def code() -> dict[str, str]:
    """Hashes of the modules of fashionkit that are loaded when it is called first, by their path in the package."""
    loaded = [str(getattr(m, "__file__", "")) for n, m in sorted(sys.modules.items()) if n.startswith("fashionkit.")]
    names = [Path(file).relative_to(ROOT).as_posix() for file in loaded if Path(file).is_relative_to(ROOT)]
    return {name: _digest(name) for name in names}


def _digest(name: str) -> str:
    try:
        return hashlib.sha256((ROOT / name).read_bytes()).hexdigest()
    except OSError:
        return ""


def check_nodes(wanted: Probe, known: set[str]) -> None:
    """Asks every node that may get work, and is not in `known`, whether it is fit; adds those that are.

    Raises:
        InputError: One is not, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(_ask)
    asked = {}
    for node in ray.nodes():
        key = node["NodeID"]
        if node["Alive"] and node["Resources"].get("CPU") and key not in known:
            there = NodeAffinitySchedulingStrategy(key, soft=False)
            asked[ask.options(scheduling_strategy=there).remote(wanted)] = key, _name(node)
    if not asked:
        return
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER)
    if silent:
        raise unfit(asked[silent[0]][1], f"it does not answer within {ANSWER:.0f} s")
    for answer in ready:
        key, name = asked[answer]
        try:
            problem = ray.get(answer)
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            continue  # gone; it gets no work either
        except Exception as error:
            problem = f"it cannot run fashionkit: {_last_line(error)}"
        if problem:
            raise unfit(name, problem)
        known.add(key)


def _ask(wanted: Probe) -> str:
    return wanted.problem()


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
