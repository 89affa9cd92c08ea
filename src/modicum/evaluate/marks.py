"""What a map marks: numbers about one map, and one sentence that says no more than they do.

A map is float (h,w) of any size and is taken to cover the whole image, each of its cells an equal share.  What speaks
for the class, its *evidence*, is the positive part.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from modicum.evaluate.localise import scaled

NINTHS = (
    "upper left", "upper middle", "upper right", "middle left", "centre", "middle right", "lower left", "lower middle",
    "lower right",
)  # fmt: skip
FRAME, FRAME_AREA, MUCH = 0.1, 0.36, 0.45  # of each side; of the area; of the evidence, from which on it is said
EVEN = 2 / 9  # no field is named that holds less: an even map has 1 / 9 in each
NOT_FINITE, NOTHING, FLAT = "not finite", "nothing", "flat"
_WHY = {
    NOT_FINITE: "the map has values that are not numbers",
    NOTHING: "nothing in the map speaks for it",
    FLAT: "the map is the same everywhere and marks no place",
}


class Marks(NamedTuple):
    """fault: '', or why the map marks no place; then all numbers are NaN.  All are shares, 0 to 1.

    x, y: the middle of the highest cell, of the image's width and height.  half: least part of the image that holds
    half of the evidence.  border: of the evidence, in a frame of a tenth of each side (36 % of the area).  area: of the
    image, at or above half of the peak; energy: of the evidence, there.  place: the ninth of the image (3 x 3) that
    holds most of the evidence; held: its share.
    """

    fault: str
    x: float = math.nan
    y: float = math.nan
    half: float = math.nan
    border: float = math.nan
    area: float = math.nan
    energy: float = math.nan
    place: str = ""
    held: float = math.nan


class Rival(NamedTuple):
    """The most probable other class.  overlap: intersection over union of where half of each map's evidence lies, NaN
    where one marks no place."""

    name: str
    probability: float
    overlap: float


def marks(heat: np.ndarray) -> Marks:
    """The numbers about a map (h,w)."""
    if fault := fault_of(heat):
        return Marks(fault)
    found = evidence(heat)
    y, x = np.unravel_index(int(found.argmax()), found.shape)
    high, total = found >= 0.5, found.sum()
    ninths = _thirds(found.shape[0]) @ found @ _thirds(found.shape[1]).T / total
    most = int(ninths.argmax())
    return Marks(
        "", (int(x) + 0.5) / found.shape[1], (int(y) + 0.5) / found.shape[0], half_area(heat), border_share(heat),
        float(high.mean()), float(found[high].sum() / total), NINTHS[most], float(ninths.flat[most]),
    )  # fmt: skip


def fault_of(heat: np.ndarray) -> str:
    """Why a map marks no place: `not finite`, `nothing` (no positive value), `flat` (equal within rounding); or ''."""
    if not np.isfinite(heat).all():
        return NOT_FINITE
    if not (np.asarray(heat) > 0).any():
        return NOTHING
    return "" if scaled(heat).any() else FLAT


def evidence(heat: np.ndarray) -> np.ndarray:
    """What of a map speaks for its class: the positive part over its largest value, float32 (h,w) in [0,1].

    A map without any positive, finite value gives zeros.
    """
    positive = np.clip(np.nan_to_num(np.asarray(heat, np.float32), nan=0.0, posinf=0.0, neginf=0.0), 0, None)
    top = positive.max(initial=0.0)
    return np.asarray(positive / top if top > 0 else positive)


def border_share(heat: np.ndarray, frame: float = FRAME) -> float:
    """Share of a map's evidence that lies in a frame of a tenth of each side, where 36 % of the area lies; NaN if
    empty."""
    found = evidence(heat)
    if not found.sum():
        return math.nan
    across, down = (_covered(n, frame, 1 - frame) * n for n in reversed(found.shape))
    return float(1 - (found * np.multiply.outer(down, across)).sum() / found.sum())


def half_area(heat: np.ndarray) -> float:
    """Least share of the image that holds half of a map's evidence: 0.5 if spread evenly, small if it sits in one
    spot; NaN if empty."""
    values = np.sort(evidence(heat).ravel())[::-1]
    if not values.sum():
        return math.nan
    return float((np.searchsorted(np.cumsum(values), values.sum() / 2) + 1) / len(values))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of the cells where half of each map's evidence lies; equal values go in together.

    NaN where one of the maps (h,w) marks no place.
    """
    if fault_of(a) or fault_of(b):
        return math.nan
    first, second = _half(a), _half(b)
    return float((first & second).sum() / (first | second).sum())


def sentence(name: str, probability: float, found: Marks, rival: Rival | None = None) -> str:
    """What a map of class `name` shows.

    >>> sentence("cat", 0.9, marks(np.eye(1, 9, 4).reshape(3, 3)))
    'cat (0.90): half of its evidence lies in 11 % of the image; of nine fields the centre holds the most (100 %).'
    """
    said = f"{name} ({probability:.2f}): " if math.isfinite(probability) else f"{name}: "
    if found.fault:
        return f"{said}{_WHY[found.fault]}.{_next(rival, probability, found)}"
    said += f"half of its evidence lies in {_percent(found.half)} of the image; "
    share = _percent(found.held)
    most = f"of nine fields the {found.place} holds the most ({share})."
    said += most if found.held >= EVEN else f"no one of nine fields holds more than {share}."
    if found.border > MUCH:
        said += f" {_percent(found.border)} lies in the outer frame, which is {_percent(FRAME_AREA)} of the area."
    return said + _next(rival, probability, found)


def _next(rival: Rival | None, probability: float, found: Marks) -> str:
    if rival is None:
        return ""
    which = "More probable is" if rival.probability > probability else "Next is"
    said = f" {which} {rival.name} ({rival.probability:.2f})"
    if found.fault:
        return f"{said}."
    if math.isnan(rival.overlap):
        return f"{said}, whose map marks no place."
    return f"{said}; the halves of both overlap by {_percent(rival.overlap)}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 or share <= 0 else "less than 1 %"


def _half(heat: np.ndarray) -> np.ndarray:
    """Cells that hold half of the evidence, bool (h,w)."""
    found = evidence(heat)
    values = np.sort(found.ravel())[::-1]
    least = values[np.searchsorted(np.cumsum(values), values.sum() / 2)]
    return np.asarray(found >= least)


def _covered(n: int, low: float, high: float) -> np.ndarray:
    """How much of [low, high] each of n equal cells of [0, 1] covers, float64 (n,)."""
    edges = np.arange(n + 1) / n
    return np.asarray(np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None))


def _thirds(n: int) -> np.ndarray:
    """Share of each of n cells that lies in each third, (3,n)."""
    return n * np.stack([_covered(n, k / 3, (k + 1) / 3) for k in range(3)])
