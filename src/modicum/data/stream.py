"""All images of a set, one part after the other: decoded, measured, hashed, sketched and made smaller by a few threads.

The decoders leave Python's lock while they work, so threads suffice for photographs.  Images below 128 x 128 decode so
fast that threads would only wait for each other: they are done in large parts by one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from modicum.core.dataset import Dataset
from modicum.core.errors import DataError
from modicum.data.formats import Fault, Images, Progress, format_of
from modicum.data.hashes import BYTES, SIDE, sketch, sketches
from modicum.data.images import decode, glimpse, resize

FACTS = np.dtype(
    [
        ("height", "<i4"), ("width", "<i4"), ("channels", "i1"), ("bits", "i1"), ("hash", "S32"),
    ]
)  # fmt: skip
_SMALL = 128 * 128
_MOST, _PIXELS = 64, 1 << 21  # images and pixels of a part


@dataclass(frozen=True, slots=True)
class Part:
    """Some images.

    rows: int64 (k,).  facts: (k,) of FACTS: size as stored, channels (1 or 3), bits a value (8 or 16), and `content`;
    height 0 = could not be read, and `faults` says why.  sketches: uint8 (k, BYTES), see data/hashes.py.
    pixels: uint8 or uint16 (h,w,c) each, None where not asked for or not readable.
    """

    rows: np.ndarray
    facts: np.ndarray
    sketches: np.ndarray
    pixels: list[np.ndarray | None]
    faults: list[Fault] = field(default_factory=list)


def content(stored: bytes | np.ndarray) -> str:
    """A hash, 32 hexadecimal digits: of a file's bytes, or where pixels are all there is, of them, shape and dtype."""
    if isinstance(stored, bytes):
        return hashlib.blake2b(stored, digest_size=16).hexdigest()
    digest = hashlib.blake2b(f"{stored.shape}{stored.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(stored).data)
    return digest.hexdigest()


def content_of(data: Dataset, row: int) -> str:
    """`content` of an image, as a pass over the set finds it; DataError where it cannot be had."""
    form = format_of(data)
    stored = form.stored(data, row)
    return content(form.pixels(data, row) if stored is None else stored)


def refuse(faults: Sequence[Fault]) -> None:
    """What `strict` means: DataError for the first fault, if there is one."""
    if faults:
        raise DataError(faults[0].reason, where=faults[0].where, fix="Mend or remove it, or leave out --strict.")


def stream(
    data: Dataset, rows: Sequence[int] | np.ndarray, side: int | None = None, threads: int = 2,
    progress: Progress | None = None, strict: bool = False,
) -> Iterator[Part]:  # fmt: skip
    """Looks at rows, in their order, holding few images at a time.

    side: the shorter side wanted (0 = as it is); None = no pixels, and JPEGs are decoded no finer than a sketch needs.
    progress: called with (done, total).  strict: DataError at the first image that cannot be read.
    """
    form, rows = format_of(data), np.asarray(rows, np.int64)
    if not len(rows):
        return
    look = _Look(data, form, form.all_pixels(data), side)
    done = 0
    for part in _ahead(look, rows, threads):
        if strict:
            refuse(part.faults)
        yield part
        done += len(part.rows)
        if progress is not None:
            progress(done, len(rows))


@dataclass(frozen=True, slots=True)
class _Look:
    """Looks at some rows of a set.  block: its pixels, where they are had at once."""

    data: Dataset
    form: Images
    block: np.ndarray | None
    side: int | None

    def __call__(self, rows: np.ndarray) -> Part:
        out = Part(rows, np.zeros(len(rows), FACTS), np.zeros((len(rows), BYTES), np.uint8), [None] * len(rows))
        small: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        found = []
        for at, row in enumerate(rows.tolist()):
            try:
                array, height, width, digest = self.one(row)
            except DataError as error:
                out.faults.append(Fault(str(self.data.ids[row]), error.found))
                continue
            found.append((at, height, width, array.shape[2], 8 * array.itemsize, digest))
            if self.side is not None:
                out.pixels[at] = kept = resize(array, self.side)
                array = kept if min(kept.shape[:2]) >= 2 * SIDE else array
            if array.shape[0] * array.shape[1] < _SMALL:
                small.setdefault((*array.shape, array.itemsize), []).append((at, array))
            else:
                out.sketches[at] = sketch(array)
        if found:
            where, *columns = zip(*found)
            for name, values in zip(FACTS.names or (), columns):
                out.facts[name][list(where)] = values
        for same in small.values():  # together: a tenth of the time
            out.sketches[[at for at, _ in same]] = sketches(np.stack([array for _, array in same]))
        return out

    def one(self, row: int) -> tuple[np.ndarray, int, int, str]:
        """Pixels, perhaps fewer than there are, height and width of the whole, and the hash of its content."""
        stored = self.form.stored(self.data, row) if self.block is None else None
        if stored is None:
            array = self.form.pixels(self.data, row) if self.block is None else self.block[row]
            return array, *array.shape[:2], content(array)
        where = self.data.ids[row]
        if self.side is None:
            return *glimpse(stored, 2 * SIDE, where), content(stored)
        array = decode(stored, where)
        return array, *array.shape[:2], content(stored)


def _ahead(look: Callable[[np.ndarray], Part], rows: np.ndarray, threads: int) -> Iterator[Part]:
    """Parts in order, with no more than a few under way; the last one seen decides how large and where the next is."""
    pool = ThreadPoolExecutor(threads)
    under_way: deque[Future[Part]] = deque()
    start, area = 0, _PIXELS  # of an image
    try:
        while start < len(rows) or under_way:
            some = rows[start : start + max(1, min(_MOST, _PIXELS // area))]
            if area >= _SMALL and len(some) and len(under_way) <= 2 * threads:
                under_way.append(pool.submit(look, some))
                start += len(some)
                continue
            if under_way:
                part = under_way.popleft().result()
            else:
                part = look(some)
                start += len(some)
            good = part.facts[part.facts["height"] > 0]
            if len(good):
                area = max(1, int((good["height"].astype(np.int64) * good["width"]).mean()))
            yield part
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
