"""One writer a run: a lock that the system lets go when its process ends, however it ends.

Promised on one machine, between containers too.  On a network disk it is what the disk promises for locks: NFS 4, SMB,
CephFS and Lustre with flock tell machines of each other; NFS mounted with `nolock` or `local_lock` does not, and there
two machines could write one run.  A disk without locks falls back to the process that the file names.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from modicum.core.errors import RunError
from modicum.core.space import refused

NAME = ".lock"


@contextmanager
def lock(folder: Path) -> Iterator[dict[str, Any]]:
    """Hold a folder, which is made and, if nothing came into it, removed again.

    -> who held it before and ended without a word (killed, or the power failed), {} if nobody did.  RunError names
    process, machine and time where another holds it.
    """
    new = not folder.exists()
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _open(path) or _again(path)
    except OSError as error:
        raise refused(error, path.parent, "here") from None
    try:
        before = _read(path)
        if file is None:
            raise RunError(f"another process is writing this run: {told(before)}", where=folder, fix=_fix(path, before))
        _write(file, path)
        yield before
    finally:
        if file is not None:
            if _named(file, path):
                path.unlink()
            file.close()
        if new:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def holder(folder: Path) -> dict[str, Any]:
    """Who is writing a run now: pid, host, boot, since; {} if nobody is."""
    path = folder / NAME
    try:
        with path.open("r+") as file:
            return {} if _take(file, path) else _read(path)
    except OSError:
        return {}


def told(who: dict[str, Any]) -> str:
    """`process 4711 on box, since 2025-01-31 12:00`."""
    since = f", since {who['since']}" if who.get("since") else ""
    return f"process {who.get('pid', '?')} on {who.get('host', '?')}{since}"


def _fix(path: Path, who: dict[str, Any]) -> str:
    far = who.get("host") not in (None, socket.gethostname())
    gone = f"  If nothing runs on {who['host']} any more, delete {path}." if far else ""
    return f"Wait for it, stop it, or choose another --out.{gone}"


def _open(path: Path) -> IO[str] | None:
    """The lock file, held; None where another holds it."""
    while True:
        file = path.open("a+")
        if not _take(file, path):
            file.close()
            return None
        if _named(file, path):
            return file
        file.close()  # its last holder removed it just now


def _again(path: Path) -> IO[str] | None:
    """Once more: somebody may only have looked who holds it."""
    time.sleep(0.1)
    return _open(path)


def _named(file: IO[str], path: Path) -> bool:
    """Whether the open file is still the one at the path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _take(file: IO[str], path: Path) -> bool:
    """Whether the open file is ours from now on, as the system says; where it knows no locks, as the content says."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(1 << 30)  # a byte that nobody reads
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # no locks on this disk
        return not _lives(_read(path))
    return True


def _lives(who: dict[str, Any]) -> bool:
    """Whether the process that a lock file names may still be there: always, if it is on another machine."""
    if not who or who.get("pid") == os.getpid():
        return False
    if who.get("host") != socket.gethostname() or os.name == "nt":  # signal 0 would stop the other process there
        return True
    if who.get("boot") != _boot():
        return False
    try:
        os.kill(int(who["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError):
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: IO[str], path: Path) -> None:
    since = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    mine = {"pid": os.getpid(), "host": socket.gethostname(), "boot": _boot(), "since": since}
    try:
        file.truncate(0)
        file.write(json.dumps(mine))
        file.flush()
    except OSError as error:
        raise refused(error, path.parent, "here") from None


def _boot() -> str:
    """A name for this start of the machine; '' where it tells none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
