"""Keeps what a network's layers hand back to the allocator, which CPU inference is faster with.

glibc returns large blocks to the system after each layer and asks for them again at the next one; the pages are then
zeroed anew every time. `benchmarks/embed.py` prints what keeping them is worth. It holds for the whole process, so it
is done only where pictures are embedded on the CPU, and not at all where `FASHIONKIT_KEEP_MEMORY=0` is set.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

# <malloc.h>: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
_SETTINGS = ((-4, 0), (-1, 2**31 - 1), (-2, 1 << 26))


@cache
def keep_memory() -> bool:
    """Tells glibc to keep freed memory; once a process. False where there is no glibc, or it was switched off."""
    if os.environ.get("FASHIONKIT_KEEP_MEMORY") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False  # another C library
    return all(mallopt(key, value) == 1 for key, value in _SETTINGS)
