"""A sketch of an image and its 64-bit hash, by which near-duplicates are found, and the search for close hashes.

`sketch` is for one image, `sketches` for a block of equal size; both are pure, need numpy and Pillow alone, and take a
reduced decode (JPEG draft mode, the pixel cache) as well as the whole image: what is averaged away first changes a
sketch by a level or two.  `hashed` turns sketches into the signs of their 64 lowest frequencies (Zauner 2010,
"Implementation and benchmarking of perceptual image hash functions").  `Index` finds hashes within a Hamming distance
by bands (Norouzi, Punjani, Fleet 2012, "Fast search in Hamming space with multi-index hashing").
Letters: N, B images; c channels, 1 or 3; P pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from PIL import Image

SIDE = 32  # luma
COLOUR = 8  # each of the two colour differences
BYTES = SIDE * SIDE + 2 * COLOUR * COLOUR
SURE = 7  # distance up to which every pair is found: of four bands one then differs in one bit at most
MOST = 16  # nearest partners kept of each asked hash
_ENOUGH = 4 * SIDE  # whole pixels are averaged first as long as both sides stay this long
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_BANDS, _BITS, _WINDOW, _AT_ONCE = 4, 16, 256, 1 << 21

# -- sketches ----------------------------------------------------------------------------------------------------------


def sketch(image: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (H,W,c), any size, at least 2 SIDE a side where the stored image is -> uint8 (BYTES,).

    Zeros for an image without pixels.
    """
    if 0 in image.shape:
        return np.zeros(BYTES, np.uint8)
    times = min(image.shape[:2]) // _ENOUGH
    if times > 1 and image.dtype == np.uint8:
        small = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).reduce(times)
        image = np.asarray(small).reshape(small.height, small.width, -1)
    return np.asarray(sketches(image[None])[0])


def sketches(images: np.ndarray) -> np.ndarray:
    """uint8 or uint16 (B,H,W,c) -> uint8 (B,BYTES): luma (32,32) by area, then blue and red difference (8,8) each.

    The whole image fills the square, whatever its shape.  16-bit images are stretched over their own range, since
    microscopes often use a small part of it.
    """
    small = _averaged(images)
    if images.dtype == np.uint16:
        low, high = small.min((1, 2, 3), keepdims=True), small.max((1, 2, 3), keepdims=True)
        small = 255 * (small - low) / np.maximum(high - low, 1)
    if small.shape[3] == 1:
        grey, differences = small[..., 0], np.full((len(small), 2 * COLOUR**2), 128, np.uint8)
    else:
        grey = small @ _LUMA
        apart = np.stack([(small[..., 2] - grey) * 0.564, (small[..., 0] - grey) * 0.713], 1)
        step = SIDE // COLOUR
        differences = 128 + apart.reshape(-1, 2, COLOUR, step, COLOUR, step).mean((3, 5)).reshape(len(small), -1)
    out = np.concatenate([grey.reshape(len(small), -1), differences], 1)
    return np.rint(np.clip(out, 0, 255)).astype(np.uint8)


def luma(sketched: np.ndarray) -> np.ndarray:
    """The grey picture of sketches (N,BYTES): float32 (N,SIDE,SIDE), 0 to 255."""
    return sketched[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE).astype(np.float32)


def colour(sketched: np.ndarray) -> np.ndarray:
    """Blue and red difference of sketches (N,BYTES): float32 (N,2,COLOUR,COLOUR), -128 to 127, 0 = grey."""
    return sketched[:, SIDE * SIDE :].reshape(-1, 2, COLOUR, COLOUR).astype(np.float32) - 128


def _averaged(images: np.ndarray) -> np.ndarray:
    """(B,H,W,c) -> float32 (B,SIDE,SIDE,c), each value the mean of its part of the image."""
    count, height, width, channels = images.shape
    rows = areas(height, 0, 1) @ images.reshape(count, height, width * channels).astype(np.float32)
    rows = rows.reshape(count * SIDE, width, channels)
    return np.asarray((areas(width, 0, 1) @ rows).reshape(count, SIDE, SIDE, channels))


@functools.lru_cache(maxsize=64)
def areas(length: int, first: float, last: float) -> np.ndarray:
    """The share of each of `length` cells in the mean of each of SIDE equal parts of [first, last] of their extent.

    first < last in [0,1]; float32 (SIDE,length), rows sum to 1.
    """
    edges = np.linspace(first, last, SIDE + 1)[:, None] * length
    cell = np.arange(length)
    shared = np.clip(np.minimum(edges[1:], cell + 1) - np.maximum(edges[:-1], cell), 0, None)
    return np.asarray(shared / shared.sum(1, keepdims=True), np.float32)


# -- hashes ------------------------------------------------------------------------------------------------------------

Part = tuple[float, float, float, float]
WHOLE: Part = (0.0, 1.0, 0.0, 1.0)
_LOWEST = [*((v, h) for v in range(8) for h in range(8) if v + h), (8, 0)]
_LOWEST.sort(key=lambda f: (f[0] ** 2 + f[1] ** 2, f))
_FREQUENCIES = [_LOWEST[band + _BANDS * k] for band in range(_BANDS) for k in range(_BITS)]  # low and high in each band
_ODD = np.uint64(sum(1 << k for k, (_, across) in enumerate(_FREQUENCIES) if across % 2))


def hashed(sketched: np.ndarray, part: Part = WHOLE, rows: np.ndarray | None = None) -> np.ndarray:
    """uint8 (N,BYTES) -> uint64 (N,): signs of the lowest frequencies (cosine transform) of the luma, 8 x 8.

    part: top, bottom, left, right of what is looked at, in [0,1]; it is stretched over the square.  rows: int (R,), of
    these alone, in this order.
    """
    waves, rows = _waves(part), np.arange(len(sketched)) if rows is None else rows
    out = np.empty(len(rows), np.uint64)
    for k in range(0, len(rows), 8192):
        grey = sketched[rows[k : k + 8192], : SIDE * SIDE].astype(np.float32)
        out[k : k + 8192] = np.packbits(grey @ waves > 0, axis=1, bitorder="little").view(np.uint64)[:, 0]
    return out


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """Hashes (N,) of the same images, left and right exchanged: odd horizontal frequencies change their sign."""
    return hashes ^ _ODD


@functools.cache
def _waves(part: Part) -> np.ndarray:
    """(SIDE * SIDE, 64): the products whose signs are the bits, with the cut-out folded in."""
    at = np.pi * (np.arange(SIDE) + 0.5) / SIDE
    down, across = (np.cos(np.multiply.outer([f[k] for f in _FREQUENCIES], at)) for k in (0, 1))
    down, across = down @ areas(SIDE, part[0], part[1]), across @ areas(SIDE, part[2], part[3])
    return np.asarray((down[:, :, None] * across[:, None, :]).reshape(64, -1).T, np.float32)


# -- search ------------------------------------------------------------------------------------------------------------


class Index:
    """Hashes (N,) in which close ones are found in nearly linear time.

    A hash is four bands of 16 bits; those that agree in a band but for one bit at most are compared in full.  So every
    pair up to a distance of SURE is found, and of farther ones most.  Two guards keep it linear where thousands are
    alike: of more than 256 that share a band those next in order are compared, and the MOST nearest are kept.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._bands = []
        for band in range(_BANDS):
            turned = _turned(hashes, band)
            order = np.argsort(turned, kind="stable")
            counts = np.bincount((turned >> np.uint64(48)).astype(np.int64), minlength=1 << _BITS)
            self._bands.append((order, turned[order], np.r_[0, np.cumsum(counts)]))

    def near(self, asked: np.ndarray, most: int) -> np.ndarray:
        """asked (Q,) -> int64 (3,P), no pair twice: place in `asked`, row of the index, distance, at most `most`.

        Ordered by place, distance, row.
        """
        found = np.zeros((3, 0), np.int64)
        for band, (order, table, starts) in enumerate(self._bands):
            turned, here = _turned(asked, band), [found]
            enough = np.bincount(found[0], minlength=len(asked)) >= MOST
            count = np.zeros(len(asked), np.int64)
            for bit in range(-1, _BITS):
                for place, at in _met(turned, np.flatnonzero(~enough & (count < MOST)), bit, table, starts):
                    distance = np.bitwise_count(turned[place] ^ table[at]).astype(np.int64)
                    close = distance <= most
                    here.append(_nearest(np.stack([place[close], order[at[close]], distance[close]])))
                    count += np.bincount(here[-1][0], minlength=len(asked))
            found = _nearest(np.concatenate(here, 1))
        return found


def _turned(hashes: np.ndarray, band: int) -> np.ndarray:
    """Hashes with a band's bits in front."""
    left = np.uint64(_BITS * band)
    return hashes << left | hashes >> (np.uint64(64) - left) if band else hashes


def _met(
    turned: np.ndarray, rows: np.ndarray, bit: int, table: np.ndarray, starts: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows, places in the table) that share the first band but for one bit (-1: but for none), millions at once."""
    asked = turned[rows] ^ (np.uint64(1) << np.uint64(48 + bit) if bit >= 0 else np.uint64(0))
    band = (asked >> np.uint64(48)).astype(np.int64)
    low, high = starts[band], starts[band + 1]
    crowd = high - low > _WINDOW
    if crowd.any():
        beside = np.searchsorted(table, asked[crowd]) - _WINDOW // 2
        low[crowd] = np.clip(beside, low[crowd], high[crowd] - _WINDOW)
        high[crowd] = low[crowd] + _WINDOW
    some = np.flatnonzero(high > low)
    ends = np.cumsum(high[some] - low[some])
    cuts = np.searchsorted(ends, np.arange(_AT_ONCE, ends[-1] if len(ends) else 0, _AT_ONCE))
    for part in np.split(some, cuts):
        count = high[part] - low[part]
        first = np.repeat(low[part] - np.cumsum(count) + count, count)
        yield np.repeat(rows[part], count), first + np.arange(len(first))


def _nearest(found: np.ndarray) -> np.ndarray:
    """(3,P) place, row, distance: no pair twice, of each place the MOST nearest, ordered by place, distance, row."""
    found = found[:, np.lexsort((found[1], found[2], found[0]))]
    new = np.r_[True, (found[:, 1:] != found[:, :-1]).any(0)][: found.shape[1]]
    found = found[:, new]
    rank = np.arange(found.shape[1]) - np.searchsorted(found[0], found[0])
    return np.asarray(found[:, rank < MOST])
