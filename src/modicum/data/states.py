"""What the system says of the files that images come from: by it an image is taken as unchanged.

That is the device, inode, size, time of change and, except on Windows, time of the last change to the file's name,
owner or rights, to the nanosecond.  Where one file holds many images, all files of the set must be unchanged.  A change
that the system does not record, such as one by a program that puts both times back, is not seen.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

import numpy as np

from modicum.core.dataset import Dataset
from modicum.data.formats import format_of
from modicum.data.split import draw
from modicum.data.tiff import page_of

STATE = np.dtype(
    [("device", "<u8"), ("inode", "<u8"), ("size", "<i8"), ("changed", "<i8"), ("touched", "<i8"), ("part", "<u8")]
)
_COARSE = 2_000_000_000  # nanoseconds
_AT_ONCE = 4096


def states(data: Dataset) -> np.ndarray:
    """The state of each image, (N,) of STATE: equal twice = unchanged.  Zeros where the system knows nothing of it."""
    try:
        _state(f"{data.root}/{page_of(data.ids[0])[0]}")
    except (OSError, ValueError, IndexError):
        return _together(data)
    return _apart(data)


def distrust(states: np.ndarray, looked: int) -> None:
    """Put zeros for files that were touched less than two seconds before `looked` (time.time_ns()).

    Clocks of disks are coarse: such a file may change again without another time.
    """
    states[np.maximum(states["changed"], states["touched"]) > looked - _COARSE] = 0


def _apart(data: Dataset) -> np.ndarray:
    """Each image is a file of its own, below the root, or a page of one."""
    out, root = np.zeros(len(data), STATE), data.root + "/"
    for start in range(0, len(data), _AT_ONCE):
        some = []
        for name in data.ids[start : start + _AT_ONCE]:
            file, page = page_of(name)
            try:
                some.append((*_state(root + file), page + 1))
            except (OSError, ValueError):  # gone, or no name of a file
                some.append((0,) * 6)
        out[start : start + len(some)] = some
    return out


def _together(data: Dataset) -> np.ndarray:
    """Images lie in files that hold many: the state of all files, and the image's name."""
    digest, latest = hashlib.blake2b(digest_size=16), 0
    for file in format_of(data).files(data):
        with suppress(OSError):
            state = _state(str(file))
            latest = max(latest, *state[3:])
            digest.update(f"{file}\0{state}".encode("utf-8", "surrogatepass"))
    out = np.zeros(len(data), STATE)
    if latest:
        out["device"], out["inode"] = np.frombuffer(digest.digest(), "<u8")
        out["changed"], out["part"] = latest, draw(data.ids, 0)
    return out


def _state(file: str) -> tuple[int, ...]:
    found = os.stat(file)  # noqa: PTH116 - a Path costs more than the call
    touched = 0 if os.name == "nt" else found.st_ctime_ns
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, touched
