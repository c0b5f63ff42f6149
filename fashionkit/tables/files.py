"""Files that are whole or absent: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fashionkit.tables.errors import InputError


def write_atomic(path: Path, write: Callable[[Path], object], sync: bool = True) -> None:
    """Lets `write` fill a temporary file and moves it to `path` only when that ended well.

    A kill or a full disk in the middle leaves at most a `.tmp` file, never half of `path`.

    Args:
        path: The file. write: Fills the path it is given.
        sync: Flush to disk, so that a power cut loses nothing either; not needed for what can be worked out again.

    Raises:
        InputError: `path` is a device or pipe, which the rename would replace by a plain file.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError("this is a device or pipe, not a file that can be replaced", file=path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        if temporary.is_file():
            temporary.chmod(0o666 & ~_umask())  # some writers, safetensors among them, let nobody else read
        if sync:
            sync_path(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk is reported without the name of the file
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if sync:
        sync_path(path.parent)


def _umask() -> int:
    """What new files of this process do not allow; it can only be read by setting it."""
    found = os.umask(0o077)
    os.umask(found)
    return found


def sync_path(path: Path) -> None:
    """Flushes a file, or a folder's entries (so that a rename in it survives a power cut)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    write_atomic(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def write_table(path: Path, table: pa.Table, sync: bool = True, **options: object) -> None:
    """Writes one Parquet file, whole or not at all; `options` go to `pyarrow.parquet.write_table`."""
    settings: dict[str, object] = {"compression": "zstd", "compression_level": 1, **options}
    write_atomic(path, lambda temporary: pq.write_table(table, temporary, **settings), sync)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sweep_temporary(folder: Path) -> int:
    """Removes what killed runs left half-written below `folder`; returns how many files that were."""
    stale = [path for path in folder.rglob(".*.tmp") if path.is_file()]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)
