"""Scenes of one to three digits with everything said of them, boxes and masks to the pixel: for docs and tests.

The digits are scikit-learn's, enlarged by cubic interpolation; those of training and test scenes were written by other
people.  A scene is a function of its number: the same digits at the same places on three kinds of ground.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from modicum.core.dataset import Dataset
from modicum.data.formats import Found, Images
from modicum.data.formats.digits import digits
from modicum.data.objects import Objects
from modicum.data.outlines import Part, part_of, stamp

PLACE = "sample:scenes"
GROUNDS = ("plain", "texture", "clutter")
KINDS = ("tags", "points", "boxes", "masks", "instances")  # that are known of every scene
SIDE = 64
TRAIN, TEST = 1000, 300
_LEAST, _MOST = 16, 28  # pixels that a digit is enlarged to
_WRITTEN = 1347  # digits of the people whose digits are in training scenes
_TRIES = 30


class Digit(NamedTuple):
    """A digit in a scene.  cls: 0 to 9.  ink: float64 (h,w) in [0,1].  top, left: where.  part: where ink >= 1/2."""

    cls: int
    ink: np.ndarray
    top: int
    left: int
    part: Part


class Scenes(Images):
    """Generated scenes of digits, at the places 'sample:scenes' and 'sample:scenes-plain', '-texture', '-clutter'."""

    NAME = "scenes"
    LAYOUT = (
        "the word sample:scenes (1,300 generated scenes of one to three digits with tags, points, scribbles, boxes, "
        "masks, instances and captions), or one ground alone: sample:scenes-plain, -texture, -clutter"
    )

    def sniff(self, path: Path) -> tuple[int, str]:
        words = (PLACE, *(f"{PLACE}-{ground}" for ground in GROUNDS))
        return (100, "the sample of that name") if str(path) in words else (0, "not 'sample:scenes'")

    def find(self, path: Path) -> Found:
        only = str(path).removeprefix(PLACE).lstrip("-")
        n = TRAIN + TEST
        domain = np.array([only or GROUNDS[i % 3] for i in range(n)], object)
        ids = [f"{ground}-{i:04d}" for i, ground in enumerate(domain)]
        split = np.array(["train"] * TRAIN + ["test"] * TEST, object)
        names = [*map(str, range(10))]
        fields, unknown = {"split": split, "domain": domain}, np.full(n, -1, np.int64)
        return Found(self.NAME, str(path), ids, names, unknown, fields, drawn=_said(n).delta(names))

    def pixels(self, data: Dataset, row: int) -> np.ndarray:
        ground, _, number = str(data.ids[row]).rpartition("-")
        return paint(ground, int(number))

    def stored(self, data: Dataset, row: int) -> None:
        return None

    def all_pixels(self, data: Dataset) -> np.ndarray | None:
        return np.stack([self.pixels(data, row) for row in range(len(data))])

    def files(self, data: Dataset) -> Iterable[Path]:
        return ()


# -- what is in a scene ------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=TRAIN + TEST)
def scene(number: int) -> tuple[Digit, ...]:
    """The digits of a scene, one to three of different classes, whose frames do not meet."""
    rng = np.random.default_rng([7, number])
    pixels, cls = digits()
    pool = np.arange(_WRITTEN) if number < TRAIN else np.arange(_WRITTEN, len(cls))
    found: list[Digit] = []
    free = np.ones((SIDE, SIDE), bool)
    wanted = int(rng.integers(1, 4))
    for _ in range(_TRIES):
        if len(found) == wanted:
            break
        row = int(pool[rng.integers(len(pool))])
        height, width = rng.integers(_LEAST, _MOST + 1, 2).tolist()
        top, left = int(rng.integers(0, SIDE - height + 1)), int(rng.integers(0, SIDE - width + 1))
        ink = enlarged(pixels[row, ..., 0], height, width)
        part = part_of(ink >= 0.5, top, left)
        room = free[top : top + height, left : left + width]
        if part is None or any(d.cls == cls[row] for d in found) or not room.all():
            continue
        room[:] = False
        found.append(Digit(int(cls[row]), ink, top, left, part))
    return tuple(found)


def enlarged(digit: np.ndarray, height: int, width: int) -> np.ndarray:
    """A digit, uint8 (8,8), as ink, float64 (height,width) in [0,1]."""
    return np.clip(_weights(height) @ (digit / 255) @ _weights(width).T, 0, 1)


@functools.cache
def _weights(size: int) -> np.ndarray:
    """Cubic convolution (Keys, 1981, a = -1/2) from 8 to `size` samples, float64 (size,8); the rim is repeated."""
    at = (np.arange(size) + 0.5) * 8 / size - 0.5
    out = np.zeros((size, 8))
    first = np.floor(at).astype(int) - 1
    for k in range(4):
        t = np.abs(at - (first + k))
        near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        np.add.at(out, (np.arange(size), np.clip(first + k, 0, 7)), np.where(t < 1, near, np.where(t < 2, far, 0)))
    return out


def scribble(digit: Digit) -> np.ndarray:
    """A stroke along the ink, bool (h,w) of its part: in each row of the object the darkest pixel."""
    y, x = digit.part.top - digit.top, digit.part.left - digit.left
    height, width = digit.part.mask.shape
    ink = np.where(digit.part.mask, digit.ink[y : y + height, x : x + width], 0)
    return np.asarray((np.arange(width) == ink.argmax(1)[:, None]) & digit.part.mask)


def caption(digits: tuple[Digit, ...]) -> str:
    """The digits from left to right by the middles of their frames: `a 7 left of an 8`; `above` where both are at one
    place from the left."""
    order = sorted((sum(d.part.frame[::2]), sum(d.part.frame[1::2]), d.cls) for d in digits)
    words = [f"an {c}" if c == 8 else f"a {c}" for _, _, c in order]
    between = [" left of " if a[0] < b[0] else " above " for a, b in itertools.pairwise(order)]
    return "".join(itertools.chain(*itertools.zip_longest(words, between, fillvalue="")))


# -- its pixels --------------------------------------------------------------------------------------------------------


def paint(ground: str, number: int) -> np.ndarray:
    """The image of a scene, uint8 (SIDE,SIDE,3)."""
    rng = np.random.default_rng([11, number, GROUNDS.index(ground)])
    dark, bright = 0.35 * rng.random(3), 1 - 0.35 * rng.random(3)
    image = np.broadcast_to(dark, (SIDE, SIDE, 3)).copy()
    if ground == "texture":
        image += 0.35 * _waves(rng)[..., None]
    elif ground == "clutter":
        for _ in range(14):
            _stroke(image, rng, number, bright)
    for digit in scene(number):
        _lay(image, digit.ink, digit.top, digit.left, bright)
    image += 0.06 * (rng.random(image.shape) - 0.5)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _lay(image: np.ndarray, ink: np.ndarray, top: int, left: int, colour: np.ndarray) -> None:
    """Put ink of a colour on an image, in place."""
    there = image[top : top + ink.shape[0], left : left + ink.shape[1]]
    there += ink[..., None] * (colour - there)


def _stroke(image: np.ndarray, rng: np.random.Generator, number: int, colour: np.ndarray) -> None:
    """A piece of some digit, too small to be read."""
    pixels, cls = digits()
    row = int(rng.integers(0, _WRITTEN) if number < TRAIN else rng.integers(_WRITTEN, len(cls)))
    ink = enlarged(pixels[row, ..., 0], *rng.integers(_LEAST, _MOST + 1, 2).tolist())
    size = int(rng.integers(5, 9))
    y, x = rng.integers(0, _LEAST - 8, 2).tolist()
    top, left = rng.integers(0, SIDE - size, 2).tolist()
    _lay(image, ink[y : y + size, x : x + size], top, left, colour * (0.7 + 0.3 * rng.random()))


def _waves(rng: np.random.Generator) -> np.ndarray:
    """A sum of some waves, (SIDE,SIDE) in about [-1,1]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    out = np.zeros((SIDE, SIDE))
    for _ in range(4):
        angle, turns, phase = (rng.random(3) * (2 * np.pi, 10, 2 * np.pi)).tolist()
        out += np.sin(2 * np.pi * (2 + turns) * (x * np.cos(angle) + y * np.sin(angle)) + phase) / 2
    return out


# -- what is said of it ------------------------------------------------------------------------------------------------


@functools.cache
def _said(images: int) -> Objects:
    """Every kind of statement about every scene."""
    out = Objects()
    for row in range(images):
        for d in scene(row):
            mask, frame = stamp(d.part, SIDE, SIDE), d.part.frame
            y, x = np.unravel_index(int(d.ink.argmax()), d.ink.shape)
            point = d.left + int(x) + 0.5, d.top + int(y) + 0.5
            stroke = part_of(scribble(d), d.part.top, d.part.left)
            out.add("tags", row, d.cls, value=1)
            out.add("points", row, d.cls, (*point, *point))
            out.add("boxes", row, d.cls, frame)
            out.add("masks", row, d.cls, frame, mask)
            out.add("instances", row, d.cls, frame, mask)
            if stroke is not None:
                out.add("scribbles", row, d.cls, stroke.frame, stamp(stroke, SIDE, SIDE))
        out.add("text", row, -1, data=caption(scene(row)).encode())
        for kind in KINDS:
            out.look(kind, row)
    return out
