"""Makes glibc keep memory that was freed, for the next block of that size."""

from __future__ import annotations

import ctypes
from typing import Final

# Parameters of mallopt(3), from glibc's <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8

_LARGEST_MMAP: Final = 32 * 1024 * 1024
"""Bytes; glibc takes no larger threshold. A block of this size or more is an mmap of its own, as ever."""


def keep_freed_memory(max_bytes: int, *, every_size: bool = False) -> None:
    """Let blocks be reused instead of given back to the kernel. Elsewhere than on glibc: nothing.

    By default blocks of 128 kB and more come from the kernel, which fills their pages with zeros at first
    touch, and go back to it. An image is such a block, several times over; so is a tensor. One arena, because
    the others cannot hold large blocks. Call it before other threads start.

    Measured: docs/performance.md and docs/training.md.

    Args:
        max_bytes: bytes freed at the end of the heap that are kept, below 2 GiB.
        every_size: also for blocks of 32 MiB and more, as a training has by the dozen.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have none, Windows no such library
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP)
    mallopt(_M_TRIM_THRESHOLD, max_bytes)
    if every_size:
        mallopt(_M_MMAP_MAX, 0)
