"""Files that are whole or not there: written under another name, synced, renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a name beside `path` to write to; what was written there takes the place of `path` on leaving.

    After an exception, or a power cut, `path` is what it was.  A link at either place is replaced, never written
    through.  OSError is the caller's to put into words.
    """
    making = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(exist_ok=True)  # not its parents: a run that was removed meanwhile must not come back in part
    making.unlink(missing_ok=True)
    try:
        yield making
        sync(making)
        making.replace(path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            making.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk (Windows cannot do that for a folder)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """`whole` for a folder of plain files: they are synced before the folder gets its name.

    A folder that was at `path` goes first: between the two there is none.
    """
    making = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        yield making
        for part in (*making.iterdir(), making):
            sync(part)
        shutil.rmtree(path, ignore_errors=True)
        making.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed writers left of the two above; only for who knows that no other writes here now."""
    for left in folder.glob(".*.tmp"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
