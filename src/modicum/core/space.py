"""Room on a disk, and plain words for what an operating system refuses to write."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modicum.core.errors import ModicumError, RunError

_AGAIN = "then repeat the command: it goes on where it stopped"
_FIXES = {
    errno.ENOSPC: f"Free some space, {_AGAIN}.",
    errno.EDQUOT: f"Your quota on this disk is used up: free some of it, {_AGAIN}.",
    errno.EFBIG: f"Files may not be this large here: raise the limit (ulimit -f), {_AGAIN}.",
    errno.EIO: f"The disk does not work as it should: see to it, {_AGAIN}.",
    errno.ENOENT: "The folder was removed or renamed meanwhile: put it back and repeat the command, or begin anew.",
}
_ELSEWHERE = "Choose another folder, or change who may write there."


def size(count: float) -> str:
    """Bytes for a person: 512 bytes, 4.2 MB, 1.3 GB (powers of ten, as disks are sold)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def free(path: Path) -> int:
    """Bytes that may still be written at a place, or where its nearest folder is that exists."""
    place = next((p for p in (path, *path.absolute().parents) if p.exists()), Path("/"))
    return shutil.disk_usage(place).free


def check(path: Path, needed: int, what: str, fix: str = "", kind: type[ModicumError] = RunError) -> None:
    """An error, naming both numbers, where fewer than `needed` bytes are free at a place.  what: what they are for."""
    if (left := free(path)) < needed:
        found = f"{what} needs about {size(needed)} here, and {size(left)} are free"
        raise kind(found, where=path, fix=fix or "Free some space, or choose another folder.")


def refused(
    error: Exception, path: Path, what: str = "", *, needed: int = 0, kind: type[ModicumError] = RunError
) -> ModicumError:
    """What the system said about writing at a path, as an error to raise.

    what: what was written, in words.  needed: its bytes, where known.
    """
    code = code_of(error)
    why = os.strerror(code) if code else " ".join(str(error).split())[:160]
    found = f"cannot write{what and ' ' + what}: {why}"
    if code in (errno.ENOSPC, errno.EDQUOT, 0):
        with suppress(OSError):
            told = f"{size(free(Path(path)))} free"
            found += f" ({told}, {size(needed)} needed)" if needed else f" ({told})"
    return kind(found, where=path, fix=_FIXES.get(code, _ELSEWHERE if code else _FIXES[errno.ENOSPC]))


def code_of(error: Exception) -> int:
    """The system's number for an error, also out of the text of libraries that keep it there alone; 0 if unknown."""
    found = re.search(r"os error (\d+)", str(error))
    return getattr(error, "errno", None) or (int(found[1]) if found else 0)


@contextmanager
def writing(
    path: Path, what: str = "", *, needed: int = 0, kind: type[ModicumError] = RunError,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:  # fmt: skip
    """Inside, what the system refuses is raised as `refused` says.  also: errors of libraries that hide an OSError."""
    caught: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except caught as error:
        raise refused(error, path, what, needed=needed, kind=kind) from None
