"""Files are whole or absent, whatever ends the writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionkit.tables import InputError, sha256_file, sweep_temporary, write_atomic, write_table, write_text


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    """safetensors makes files that only their owner reads; a model that is shared is for a web server, too."""

    def write(path: Path) -> None:
        path.write_text("x")
        path.chmod(0o600)

    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a", write)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["a.txt"]


def test_full_disk_is_reported_with_the_files_name(tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*part-00000\.parquet'"):
        write_atomic(tmp_path / "part-00000.parquet", fail)


def test_folders_are_made_and_text_is_utf8_with_unix_lines(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.txt"
    write_text(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"


def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="device or pipe"):
        write_text(pipe, "x")
    assert pipe.is_fifo()


def test_table_bytes_depend_on_content_only(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b"], "n": [1, 2]})
    for name in ("one", "two"):
        write_table(tmp_path / name, table)
    assert sha256_file(tmp_path / "one") == sha256_file(tmp_path / "two")
    assert pq.read_table(tmp_path / "one").equals(table)


def test_killed_writer_leaves_a_temporary_file_that_the_next_run_sweeps(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from fashionkit.tables import write_atomic\n"
        "def slow(path):\n    path.write_text('half'); time.sleep(60)\n"
        "write_atomic(Path(sys.argv[1]), slow)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "sub" / "a.txt")]) as process:
        end = time.monotonic() + 30
        while not list(tmp_path.glob("sub/.*.tmp")) and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "sub" / "a.txt").exists()
    assert sweep_temporary(tmp_path) == 1
    assert list((tmp_path / "sub").iterdir()) == []
