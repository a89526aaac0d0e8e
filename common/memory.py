"""The C library's memory, fitted to processes that move buffers of 256 KiB all day."""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["keep_freed_memory"]

# mallopt(3)
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3

_KEPT: Final = 4 * 1024 * 1024
"""Bytes at the end of the heap that a process keeps when they are free: sixteen of the largest reads."""
_LARGEST: Final = 1024 * 1024
"""Bytes of a buffer from which on it is mapped by itself, and given back when it is freed."""
_STEP: Final = 512 * 1024
"""Bytes by which the heap grows at least."""


def keep_freed_memory() -> bool:
    """Keep a few MiB of freed memory for the next read, instead of giving them back to the kernel. Call it once, first.

    By default glibc gives the end of its heap back as soon as 128 KiB of it are free, or a few times that when it has
    learnt better, and asks for it anew at the next read: the kernel then clears a page for every 4 KiB that a bulk
    transfer moves. Whether it does depends on what happens to lie behind the buffer.

    Returns:
        Whether there was something to set: other C libraries have no such function.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _KEPT), (_M_TOP_PAD, _STEP))
    return all(mallopt(name, value) for name, value in settings)
