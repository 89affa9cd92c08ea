"""Pictures from cut-outs: what a sentence names is pasted where it says, as large as it says, on such a ground.

    I = (1 - a) I + a O         a, O: alpha and colour of a cut-out, brought to its size

What a sentence leaves open is as in pictures of one thing: in the middle, large, on a plain ground.  The ground is
darker than bright objects and brighter than dark ones.  Colours are in [0, 1]; S side of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from modicum.functional.sentences import HUES, Scene, Thing

OPEN = 0.6  # longer side of an object of which no size is said, as a share of the picture's
LOOSE = 0.1  # share by which sizes and colours vary
TRIES = 12  # places in its ninth that an object tries, to lie on no other
NOISE = 0.06
LUMA = np.array([0.299, 0.587, 0.114])
_RGB: Mapping[str, tuple[float, float, float]] = {
    "grey": (1, 1, 1), "red": (1, 0.3, 0.3), "orange": (1, 0.6, 0.25), "yellow": (1, 0.9, 0.3),
    "green": (0.35, 0.9, 0.4), "blue": (0.35, 0.5, 1), "purple": (0.75, 0.35, 0.9), "brown": (0.8, 0.55, 0.35),
}  # fmt: skip


class Placed(NamedTuple):
    """An object as it lies: its class, and x0, y0, x1, y1 of the cut-out in pixels, half open."""

    cls: int
    frame: tuple[int, int, int, int]


def compose(
    scene: Scene, cutouts: Sequence[Sequence[np.ndarray]], side: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[Placed]]:
    """A picture of a scene, uint8 (S,S,3), and where its objects lie.  cutouts: of each class, uint8 (h,w,4)."""
    chosen = [cutouts[t.cls][int(rng.integers(len(cutouts[t.cls])))] for t in scene.things]
    bright = float(np.mean([brightness(c) for c in chosen])) if chosen else rng.random()
    image, placed = ground(scene.kind, scene.hue, bright < 0.5, side, rng), list[Placed]()
    _litter(image, scene.litter, [c for some in cutouts for c in some], side, rng)
    for thing, cutout in zip(scene.things, chosen, strict=True):
        longer = (thing.size or OPEN) * side * rng.uniform(1 - LOOSE, 1 + LOOSE)
        object_ = resized(cutout, longer)
        x, y = _spot(thing, object_.shape, side, [p.frame for p in placed], rng)
        lay(image, object_, x, y, rng.uniform(1 - LOOSE, 1))
        placed.append(Placed(thing.cls, (x, y, x + object_.shape[1], y + object_.shape[0])))
    image += NOISE * (rng.random(image.shape) - 0.5)
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8), placed


def brightness(cutout: np.ndarray) -> float:
    """Mean luma of what belongs to an object, in [0, 1]."""
    weight = cutout[..., 3].astype(np.float64)
    return float(((cutout[..., :3] @ LUMA) * weight).sum() / max(1.0, weight.sum()) / 255)


def resized(cutout: np.ndarray, longer: float) -> np.ndarray:
    """A cut-out with its longer side so many pixels, at least 3 each way, float64 (h,w,4) in [0, 1]."""
    height, width = cutout.shape[:2]
    scale = longer / max(height, width)
    size = max(3, round(width * scale)), max(3, round(height * scale))
    return np.asarray(Image.fromarray(cutout).resize(size, Image.Resampling.BICUBIC), np.float64) / 255


def lay(image: np.ndarray, object_: np.ndarray, x: int, y: int, gain: float = 1.0) -> None:
    """Put an object (h,w,4) on an image (H,W,3) in place, its left top at (x,y); what is outside is cut off."""
    top, left = max(0, -y), max(0, -x)
    there = image[max(0, y) : max(0, y + object_.shape[0]), max(0, x) : max(0, x + object_.shape[1])]
    mine = object_[top : top + there.shape[0], left : left + there.shape[1]]
    there += mine[..., 3:] * (gain * mine[..., :3] - there)


def _spot(
    thing: Thing, shape: tuple[int, ...], side: int, others: Sequence[Sequence[int]], rng: np.random.Generator
) -> tuple[int, int]:
    """x, y of an object's left top: whole in the picture, its middle in its ninth, on as little of others as may be."""
    (height, width), best, least = shape[:2], (0, 0), np.inf
    for _ in range(TRIES if others else 1):
        drawn = rng.uniform(-1 / 6, 1 / 6, 2)
        middle = (0.5, 0.5) if thing.at is None else (thing.at[0] + drawn[0], thing.at[1] + drawn[1])
        x, y = (
            int(np.clip(round(m * side - n / 2), 0, max(0, side - n))) for m, n in zip(middle, (width, height))
        )
        covered = sum(
            max(0, min(x + width, o[2]) - max(x, o[0])) * max(0, min(y + height, o[3]) - max(y, o[1])) for o in others
        )
        if covered < least:
            best, least = (x, y), covered
        if not covered:
            break
    return best


# -- grounds -----------------------------------------------------------------------------------------------------------


def ground(kind: str, hue: str, bright: bool, side: int, rng: np.random.Generator) -> np.ndarray:
    """A ground, float64 (S,S,3).  kind, hue: '' = plain, of any hue.  bright: whether it is lighter than most."""
    colour = np.array(_RGB[hue or HUES[rng.integers(len(HUES))]])
    level, swing = (rng.uniform(0.65, 0.95), 0.25) if bright else (rng.uniform(0.1, 0.4), 0.25)
    y, x = np.mgrid[:side, :side] / side
    pattern = _PATTERNS[kind or "plain"](x, y, rng)
    return (level + swing * rng.uniform(0.5, 1) * pattern)[..., None] * colour


def _turned(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    angle = rng.uniform(0, np.pi)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _wave(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stripes of even width with soft edges, in [-1, 1]."""
    return np.asarray(np.tanh(4 * np.sin(2 * np.pi * (rng.uniform(2, 9) * x + rng.random()))))


def _plain(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 0.4 * (_turned(x, y, rng)[0] - 0.5)


def _striped(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _wave(_turned(x, y, rng)[0], rng)


def _checked(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    one, two = _turned(x, y, rng)
    return _wave(one, rng) * _wave(two, rng)


def _spotted(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    spots, size = rng.random((int(rng.integers(6, 20)), 2)), rng.uniform(0.02, 0.07)
    away = np.stack([np.hypot(x - a, y - b) for a, b in spots]).min(0)
    return np.asarray(np.tanh(4 * (1 - away / size)).clip(-0.5, 1))


def _cloudy(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    waves = (_turned(x, y, rng)[0] * rng.uniform(0.5, 5) + rng.random() for _ in range(6))
    return np.asarray(sum(np.cos(2 * np.pi * w) for w in waves)) / 3


def _grainy(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grain = max(1, round(rng.uniform(0.015, 0.05) * len(x)))
    few = -(-len(x) // grain)
    return rng.uniform(-1, 1, (few, few)).repeat(grain, 0).repeat(grain, 1)[: len(x), : len(x)]


_PATTERNS: Mapping[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "plain": _plain, "striped": _striped, "checked": _checked, "spotted": _spotted, "cloudy": _cloudy,
    "grainy": _grainy,
}  # fmt: skip


# -- litter ------------------------------------------------------------------------------------------------------------


def _litter(image: np.ndarray, what: str, pieces: list[np.ndarray], side: int, rng: np.random.Generator) -> None:
    """Things of no class, on an image in place: pieces of objects too small to be known, lines, dots."""
    for _ in range(int(rng.integers(4, 12)) if what else 0):
        size = max(2, round(rng.uniform(0.06, 0.14) * side))
        if what == "scraps" and pieces:
            piece = resized(pieces[rng.integers(len(pieces))], rng.uniform(0.25, 0.45) * side)
            y, x = (int(rng.integers(max(1, n - size))) for n in piece.shape[:2])
            piece = piece[y : y + size, x : x + size]
        else:
            piece = np.ones((size, size, 4))
            piece[..., :3] = rng.random(3)
            b, a = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
            turned = _turned(a, b, rng)[0]
            away = np.abs(turned) * 3 if what == "lines" else np.hypot(a, b)
            piece[..., 3] = (2 - 2 * away).clip(0, 1)
        lay(image, piece, *rng.integers(-size // 2, side - size // 2, 2).tolist())
