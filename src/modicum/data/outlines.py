"""Outlines of objects as others write them, polygons and run lengths, as masks; and masks as PNG, many and quickly.

A mask of an object is handed about as its part: the bool array (h,w) of a window, and where that lies in the image.
Run lengths (RLE) are COCO's: background and object in turns, down one column after the other.
"""

from __future__ import annotations

import functools
import math
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modicum.data.images import decode

_ADLER = 65521
_FAR = 1e7  # pixels from the corner of the image
_MOST = 1 << 26  # crossings of an outline with rows of pixels: 1 GiB while it is filled


class Part(NamedTuple):
    """A window on an object.  mask: bool (h,w), some pixel in every row and column at its rim.  top, left: where."""

    mask: np.ndarray
    top: int
    left: int

    @property
    def frame(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in the image, half open."""
        return self.left, self.top, self.left + self.mask.shape[1], self.top + self.mask.shape[0]


def part_of(mask: np.ndarray, top: int = 0, left: int = 0) -> Part | None:
    """The smallest window on a mask, bool (H,W), whose own corner lies at (top, left); None where it is empty."""
    rows, columns = np.asarray(mask.any(1)), np.asarray(mask.any(0))
    if not rows.any():
        return None
    (a, b), (c, d) = ((int(x.argmax()), len(x) - int(x[::-1].argmax())) for x in (rows, columns))
    return Part(mask[a:b, c:d], top + a, left + c)


def stamp(part: Part, height: int, width: int) -> bytes:
    """A PNG of one bit a pixel at the size of the image; some tens of microseconds for a small object."""
    rows, columns = part.mask.shape
    lines = np.zeros((rows, 1 + (width + 7) // 8), np.uint8)  # each line begins with its filter: none
    shift = part.left % 8
    shifted = np.zeros((rows, shift + columns), bool)
    shifted[:, shift:] = part.mask
    packed = np.packbits(shifted, axis=1)
    at = 1 + part.left // 8
    lines[:, at : at + packed.shape[1]] = packed
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    above, below = (n * lines.shape[1] for n in (part.top, height - part.top - rows))
    chunks = ((b"IHDR", head), (b"IDAT", _between(above, lines.tobytes(), below)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def _between(above: int, data: bytes, below: int) -> bytes:
    """zlib's stream of so many zeros, data, and so many zeros: of the zeros it knows the blocks and the checksum."""
    check = zlib.adler32(data, above % _ADLER << 16 | 1)
    low, high = check & 0xFFFF, check >> 16
    check = (high + below * low) % _ADLER << 16 | low
    return b"\x78\x01" + _zeros(above) + _blocks(data) + _zeros(below) + b"\x03\x00" + struct.pack(">I", check)


@functools.lru_cache(maxsize=1 << 14)
def _zeros(count: int) -> bytes:
    return _blocks(bytes(count)) if count else b""


def _blocks(data: bytes) -> bytes:
    """Deflate's blocks of data, more to follow, up to a whole byte; runs alone are looked for."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -12, 5, zlib.Z_RLE)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def unstamp(data: bytes, where: object = "") -> np.ndarray:
    """A mask, bool (H,W), from any PNG of it; DataError where it is none."""
    return np.asarray(decode(data, where)[..., 0] > 0)


# -- polygons ----------------------------------------------------------------------------------------------------------


def filled(polygons: Sequence[np.ndarray], height: int, width: int) -> Part | None:
    """What any of these polygons, float64 (k,2) of x and y, covers: the pixels whose centres lie within (even-odd).

    None where that is no pixel.  ValueError for fewer than 3 points, or numbers that are far outside or not finite.
    """
    left, top, right, bottom = float(width), float(height), 0.0, 0.0
    for points in polygons:
        if len(points) < 3:
            raise ValueError(f"an outline of {len(points)} points")
        (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
        if not (-_FAR < x0 <= x1 < _FAR and -_FAR < y0 <= y1 < _FAR):  # also where there is a NaN
            raise ValueError(f"an outline from {x0:.3g}, {y0:.3g} to {x1:.3g}, {y1:.3g}")
        left, top, right, bottom = min(left, x0), min(top, y0), max(right, x1), max(bottom, y1)
    x0, y0 = int(max(left, 0)), int(max(top, 0))
    size = max(0, min(height, math.ceil(bottom)) - y0), max(0, min(width, math.ceil(right)) - x0)
    mask = _filled(polygons[0] - (x0, y0), *size)
    for points in polygons[1:]:
        mask |= _filled(points - (x0, y0), *size)
    return part_of(mask, y0, x0)


def _filled(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every edge turns the pixels right of it, in the rows whose centres it crosses: row after row, from one crossing
    to the next."""
    x, y = np.concatenate([points, points[:1]]).T
    at = np.minimum(np.maximum(np.ceil(y - 0.5), 0), height).astype(np.int64)  # the first row whose centre is below
    first, count = np.minimum(at[:-1], at[1:]), np.abs(at[1:] - at[:-1])
    total = int(count.sum())
    if total > _MOST:
        raise ValueError(f"an outline that crosses {total:,} rows of pixels")
    dy = y[1:] - y[:-1]
    dy[dy == 0] = 1  # such an edge crosses no row
    slope = (x[1:] - x[:-1]) / dy
    edge = np.arange(len(count)).repeat(count)
    row = np.arange(total) + (first - count.cumsum() + count)[edge]
    crossing = x[edge] + (row + 0.5 - y[edge]) * slope[edge]
    column = np.minimum(np.maximum(np.ceil(crossing - 0.5), 0), width).astype(np.int64)
    ends = np.zeros(total + 2, np.int64)
    ends[1:-1], ends[-1] = row * width + column, height * width
    ends.sort()  # in each row an even number
    inside = np.zeros(total + 1, bool)
    inside[1::2] = True
    return inside.repeat(ends[1:] - ends[:-1]).reshape(height, width)


# -- run lengths -------------------------------------------------------------------------------------------------------


def unrolled(counts: np.ndarray, height: int, width: int) -> Part | None:
    """The object that run lengths, int64 (n,), tell of; None where it has no pixel.

    ValueError where they are not those of height x width pixels.
    """
    total = height * width
    if counts.ndim != 1 or len(counts) > total + 1 or (len(counts) and not 0 <= counts.min() <= counts.max() <= total):
        raise ValueError(f"run lengths that are not those of {width} x {height} pixels")
    if (said := int(counts.sum())) != total:
        raise ValueError(f"run lengths of {said:,} pixels, the image has {total:,}")
    ends = np.cumsum(counts)
    start, end = ends[0::2][: len(ends) // 2], ends[1::2]
    some = end > start
    start, end = start[some], end[some]
    if not len(start):
        return None
    left, right = int(start[0]) // height, int(end[-1] - 1) // height + 1
    size, off = (right - left) * height, left * height
    turns = np.bincount(start - off, minlength=size + 1) - np.bincount(end - off, minlength=size + 1)
    return part_of(np.cumsum(turns[:size]).astype(bool).reshape(right - left, height).T, 0, left)


def rolled(mask: np.ndarray) -> np.ndarray:
    """Run lengths, int64 (n,), of a mask, bool (H,W); the first is of background."""
    flat = np.concatenate([[False], mask.T.ravel()])
    at = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], at, [mask.size]]))


def unpacked(text: str) -> np.ndarray:
    """Run lengths from COCO's string: digits of 5 bits, the least first, from `0` on, a sixth bit where more follow.

    From the fourth on, a length stands as what it is more than the last but one.  ValueError where it is no such text.
    """
    try:
        digits = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise ValueError("run lengths that are not text of COCO's kind") from None
    if not len(digits):
        return np.empty(0, np.int64)
    ends = np.flatnonzero((digits & 32) == 0)
    if digits.min() < 0 or digits.max() > 63 or not len(ends) or ends[-1] != len(digits) - 1:
        raise ValueError("run lengths that are not text of COCO's kind")
    starts = np.concatenate([[0], ends[:-1] + 1])
    power = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    if power.max() > 7:
        raise ValueError("a run length of more than 40 bits")
    values = np.add.reduceat((digits & 31) << (5 * power), starts)
    values -= np.where(digits[ends] & 16, 1 << (5 * (power[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return np.asarray(values)


def packed(counts: np.ndarray) -> str:
    """Run lengths as COCO's string."""
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2]
    out = bytearray()
    for value in values.tolist():
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            out.append(48 + digit + 32 * more)
            if not more:
                break
    return out.decode("ascii")
