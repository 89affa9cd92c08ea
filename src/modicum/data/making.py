"""How processes share a cache: each thing in it is made by one of them, whole or not at all, while the others wait.

Whoever makes something holds a lock on it, which the system takes back when the process ends, however it ends.  So what
a killed process left behind is known for certain, and the next one removes it.  Where there are no such locks (Windows,
some network disks) every process makes its own, the first to finish wins, and remains go when they are a day old.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modicum.core.disk import sync

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_START = ".making-"
_STALE = 24 * 3600.0


@contextmanager
def folder_for(home: Path) -> Iterator[Path]:
    """An empty folder beside `home`, to be filled and renamed by `finish`; what is left of it is removed on leaving.

    Waits while another process fills one for the same `home`: look again afterwards whether it is there.
    """
    sweep(home.parent)
    making = home.with_name(_START + home.name)
    handle = _own(making)
    if handle is None:
        making = home.with_name(f"{making.name}-{uuid.uuid4().hex}")
        making.mkdir()
    try:
        for left in making.iterdir():
            left.unlink()
        yield making
    finally:
        shutil.rmtree(making, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def finish(making: Path, home: Path) -> None:
    """Give a filled folder its name.  Where the name is taken meanwhile, the first one stays."""
    for part in (*making.iterdir(), making):
        sync(part)
    try:
        making.rename(home)
    except OSError:
        if not home.is_dir():
            raise
    sync(home.parent)


@contextmanager
def file_for(home: Path, size: int) -> Iterator[Path]:
    """A file of `size` zeros that has its room on the disk, to be filled; on leaving it takes the place of `home`.

    After an exception `home` is what it was.  Nobody waits: of several processes, the last to finish wins.
    """
    sweep(home.parent)
    while True:
        making = home.with_name(f"{_START}{home.name}-{uuid.uuid4().hex}")
        handle = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        if _lock(handle) is None or _is(handle, making):  # else another process swept it before it was locked
            break
        os.close(handle)
    try:
        _room(handle, size)
        yield making
        os.fsync(handle)
        making.replace(home)
        sync(home.parent)
    finally:
        with suppress(OSError):
            making.unlink(missing_ok=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what processes that are no more have left behind."""
    for left in folder.glob(_START + "*"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                mine = _lock(handle)
                age = time.time() - max(p.stat().st_mtime for p in (left, *(left.iterdir() if left.is_dir() else ())))
                if _is(handle, left) and (mine or (mine is None and age > _STALE)):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(handle)


def _own(making: Path) -> int | None:
    """The handle by which this process alone has a folder, which is made if need be; None = there are no locks."""
    if fcntl is None:
        return None
    while True:
        with suppress(FileExistsError):  # not exist_ok, which looks twice: it may be gone in between
            making.mkdir()
        try:
            handle = os.open(making, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if _lock(handle, wait=True) is None:
            os.close(handle)
            making.rmdir()
            return None
        if _is(handle, making):
            return handle
        os.close(handle)  # what was waited for has got its name, or was swept


def _lock(handle: int, wait: bool = False) -> bool | None:
    """Whether the lock on an open file or folder was had; None where there are no locks.  It goes with the handle."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is(handle: int, path: Path) -> bool:
    """Whether an open file or folder is the one that now has this name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _room(handle: int, size: int) -> None:
    """Take the room on the disk now: a mapped file that runs out of it later ends the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
        return
    block = bytes(min(size, 1 << 20))
    for start in range(0, size, len(block) or 1):
        os.write(handle, block[: size - start])
