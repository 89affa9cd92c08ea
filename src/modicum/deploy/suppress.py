"""Of what a detector says of many positions, the boxes that stay.  numpy alone: `nn.detect.found` without torch.

Letters: P positions, C classes, M boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST, TAU, TOP, MOST = 0.05, 0.6, 1000, 100  # as in nn/detect.py


class Located(NamedTuple):
    """Boxes of one image.  xyxy: float32 (M,4), pixel edges.  cls: int64 (M,).  score: float32 (M,) in [0,1],
    falling."""

    xyxy: np.ndarray
    cls: np.ndarray
    score: np.ndarray


def found(
    xyxy: np.ndarray, score: np.ndarray, size: tuple[int, int], *, least: float = LEAST, tau: float = TAU,
    top: int = TOP, most: int = MOST,
) -> Located:  # fmt: skip
    """The boxes of an image, by falling score: of the `top` surest answers those of a score above `least`, cut to the
    image; of those of a class that overlap by more than `tau` the surest; and `most` in all.

    xyxy: finite (P,4).  score: finite (P,C).  size: height and width.  A box without area is none.
    """
    flat = score.ravel()
    at = np.flatnonzero(flat > least)
    at = at[np.argsort(-flat[at], kind="stable")[:top]]
    boxes, cls = clipped(xyxy[at // score.shape[1]], size), at % score.shape[1]
    there = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, cls, value = boxes[there], cls[there], flat[at][there]
    stay = kept(boxes, cls, tau, most)
    return Located(boxes[stay].astype(np.float32), cls[stay].astype(np.int64), value[stay].astype(np.float32))


def clipped(xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (M,4) cut to an image of a height and width."""
    return np.clip(xyxy, 0, np.array([size[1], size[0]] * 2, xyxy.dtype))


def kept(xyxy: np.ndarray, cls: np.ndarray, tau: float, most: int) -> np.ndarray:
    """Places of the boxes that stay, int64 (K,): each, from the first on, unless one of its class that stays overlaps
    it by more than `tau`.  xyxy: (M,4), the surest first, with area.  cls: (M,)."""
    x0, y0, x1, y1 = np.ascontiguousarray(xyxy.T, np.float64)
    area, alive = (x1 - x0) * (y1 - y0), np.ones(len(xyxy), bool)
    stay: list[int] = []
    for i in range(len(xyxy)):
        if alive[i] and len(stay) < most:
            stay.append(i)
            wide, high = np.minimum(x1, x1[i]) - np.maximum(x0, x0[i]), np.minimum(y1, y1[i]) - np.maximum(y0, y0[i])
            both = np.maximum(wide, 0) * np.maximum(high, 0)
            alive &= (cls != cls[i]) | (both / (area + area[i] - both) <= tau)
    return np.array(stay, np.int64)
