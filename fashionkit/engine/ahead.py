"""One step of work ahead: while the network has a batch, a thread prepares the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

P = TypeVar("P")
R = TypeVar("R")


def ahead(prepare: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
    """`prepare(part)` for every part, in order, each begun before the one before it has been used.

    Decoding and resizing let go of Python's lock, so a second core is put to use. An error of `prepare` is raised where
    its result would have come.
    """
    with ThreadPoolExecutor(1) as worker:
        coming = None
        for part in parts:
            following = worker.submit(prepare, part)
            if coming is not None:
                yield coming.result()
            coming = following
        if coming is not None:
            yield coming.result()
