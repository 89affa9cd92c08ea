"""Memory of the allocator: freed blocks stay with the process while it trains.

glibc gives large blocks back to the system when they are freed, and every step asks for the same ones again: on a
processor a third of a wide net's step went into the kernel clearing pages.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_USUAL = 32 << 20  # bytes: the most that glibc's own moving threshold reaches
_MOST = 2**31 - 1


@contextmanager
def kept() -> Iterator[None]:
    """Inside, what is freed stays at hand for the next step; on leaving it goes back.  Without glibc, nothing.

    The process then holds what its largest step needed, and no more than a little beyond it.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP, _MOST)
    libc.mallopt(_TRIM, _MOST)
    try:
        yield
    finally:
        libc.mallopt(_MMAP, _USUAL)
        libc.mallopt(_TRIM, 2 * _USUAL)
        libc.malloc_trim(0)


def give_back() -> None:
    """Return what is free but held: reading a set leaves Arrow and the C library with much more than is used."""
    pa.default_memory_pool().release_unused()
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    try:
        found = sys.platform == "linux" and (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        found = False
    return ctypes.CDLL(None) if found else None
