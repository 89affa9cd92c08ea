"""What was seen of the images of a set, kept between scans: the next scan decodes only the images that changed.

An image is taken as unchanged while what the system says of its file is the same (data/states.py) and Pillow has the
same version.  A file that was touched less than two seconds before it was looked at is looked at again, and so is every
image that could not be read.  `fresh` looks at everything.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL

from modicum.core.dataset import Dataset
from modicum.core.errors import ModicumWarning
from modicum.data.formats import Fault, Progress
from modicum.data.hashes import BYTES
from modicum.data.making import file_for
from modicum.data.states import STATE, distrust, states
from modicum.data.stream import FACTS, Part, stream

_START = b"modicum looks 1\n"
_AT_ONCE = 4096


@dataclass(frozen=True)
class Looks:
    """What is known of the images of a set.

    facts: (N,) of stream.FACTS, zeros where an image was not looked at or could not be read.  sketches: uint8
    (N, BYTES).  Both may be mapped from a file, read-only.  faults: images that could not be read.
    """

    facts: np.ndarray
    sketches: np.ndarray
    faults: list[Fault] = field(default_factory=list)


def look(
    data: Dataset, rows: np.ndarray | None = None, *, home: Path | None = None, fresh: bool = False,
    strict: bool = False, threads: int = 2, progress: Progress | None = None,
) -> Looks:  # fmt: skip
    """Look at the images of these rows, or at all: only then what was seen is kept for the next time.

    home: the folder where it is kept; None = nowhere.  fresh: trust nothing that was kept.  strict: DataError at the
    first image that cannot be read.  A folder that cannot be written gives a warning.
    """
    begun, count = time.time_ns(), len(data)
    asked = np.arange(count) if rows is None else rows
    now = states(data) if home else np.zeros(count, STATE)
    place = home / f"looks-{_key(data)}.bin" if home and now["changed"].any() else None
    old = _load(place) if place and not fresh else None
    at = np.full(count, -1) if old is None else _match(old, now, asked)
    rest = _Rest(data, asked[at[asked] < 0], len(asked), strict, threads, progress)
    same = old is not None and rows is None and np.array_equal(old.states, now)
    if old is not None and same and not any(part.facts["height"].any() for part in rest.parts()):
        return Looks(old.facts, old.sketches, rest.faults)
    distrust(now, begun)

    def fill(new: _File) -> None:
        known = np.flatnonzero(at >= 0)
        for some in np.split(known, range(_AT_ONCE, len(known), _AT_ONCE)):
            if old is not None:
                new.facts[some], new.sketches[some] = old.facts[at[some]], old.sketches[at[some]]
        for part in rest.parts():
            new.facts[part.rows], new.sketches[part.rows] = part.facts, part.sketches
        new.states[:] = now

    if place and rows is None and _write(place, count, fill) and (new := _load(place)):
        return Looks(new.facts, new.sketches, rest.faults)
    fill(new := _File(*(np.zeros((count, *shape), kind) for kind, shape in _SECTIONS)))
    return Looks(new.facts, new.sketches, rest.faults)


@dataclass
class _Rest:
    """The rows that have to be decoded, of `total` that were asked for, and the faults found in the last pass."""

    data: Dataset
    rows: np.ndarray
    total: int
    strict: bool
    threads: int
    progress: Progress | None
    faults: list[Fault] = field(default_factory=list)

    def parts(self) -> Iterator[Part]:
        """Decode them."""
        self.faults.clear()
        for part in stream(self.data, self.rows, None, self.threads, self._tell, self.strict):
            self.faults.extend(part.faults)
            yield part

    def _tell(self, done: int, _: int) -> None:
        if self.progress is not None:
            self.progress(self.total - len(self.rows) + done, self.total)


def _match(old: _File, states: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Where in the old file each image asked for is, -1 = not there, or not readable then: int64 (N,)."""
    out = np.full(len(states), -1)
    if np.array_equal(old.states, states):
        out[asked] = asked
    else:
        bytes_ = np.dtype(("V", STATE.itemsize))
        where = {state: at for at, state in enumerate(old.states.view(bytes_).tolist())}
        out[asked] = [where.get(state, -1) for state in states[asked].view(bytes_).tolist()]
    known = (states["changed"] > 0) & (out >= 0)
    known &= old.facts["height"][np.maximum(out, 0)] > 0
    out[~known] = -1
    return out


# -- the file ----------------------------------------------------------------------------------------------------------


class _File(NamedTuple):
    """What is kept, one behind the other: states (N,) of STATE, facts (N,) of FACTS, sketches uint8 (N, BYTES)."""

    states: np.ndarray
    facts: np.ndarray
    sketches: np.ndarray


_SECTIONS: tuple[tuple[Any, tuple[int, ...]], ...] = ((STATE, ()), (FACTS, ()), (np.uint8, (BYTES,)))
_ROW = STATE.itemsize + FACTS.itemsize + BYTES


def _key(data: Dataset) -> str:
    """A name for a set: which place it is, and by what it was decoded."""
    words = f"{PIL.__version__}\0{data.reader}\0{data.root}"
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _mapped(place: Path, count: int, mode: Literal["r", "r+"]) -> _File:
    parts, start = [], len(_START)
    for kind, shape in _SECTIONS:
        parts.append(np.memmap(place, kind, mode, start, (count, *shape)))
        start += parts[-1].nbytes
    return _File(*parts)


def _load(place: Path) -> _File | None:
    """What was kept; None where there is nothing, or nothing whole."""
    try:
        with place.open("rb") as file:
            good = file.read(len(_START)) == _START
        count, rest = divmod(place.stat().st_size - len(_START), _ROW)
        return _mapped(place, count, "r") if good and count and not rest else None
    except (OSError, ValueError):
        return None


def _write(place: Path, count: int, fill: Callable[[_File], None]) -> bool:
    """Fill a new file, which takes the place of the old one; False where that cannot be."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with file_for(place, len(_START) + count * _ROW) as making:
            new = _mapped(making, count, "r+")
            fill(new)
            with making.open("r+b") as file:
                file.write(_START)
    except OSError as error:
        why = f"what was seen cannot be kept, so the next scan is as slow: {error.strerror or error}: {place.parent}"
        warnings.warn(why, ModicumWarning, stacklevel=3)
        return False
    return True
