"""One run at a time in a folder."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

from fashionkit.tables import InputError

LOCK = ".lock"


@contextlib.contextmanager
def alone(folder: Path, check: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Keeps a second run out of a folder; the system lets go of the lock however this one ends.

    Args:
        folder: It is made where it is not there. check: Called before anything is made; raises where the folder is not
            to be written to.

    Raises:
        InputError: Another run writes to it, or its path leads through a file.
    """
    if folder.is_file():
        raise InputError("there is something already, and it is a file", file=folder, hint="name a new folder")
    check()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError("a part of this path is a file", file=folder, hint="name a new folder") from error
    with open(folder / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError("another run writes to this folder", file=folder, hint="wait for it, or end it") from error
        yield
