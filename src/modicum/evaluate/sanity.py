"""What a map must beat, and what must change it.

Maps that never saw a network: chance, the middle of the picture, and the picture's own edges.  A score that does not
beat them says nothing about the network.  And a map that stays as it is when the network's weights are drawn anew shows
the picture, not what was learned (Adebayo et al., 2018).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modicum.core.errors import DataError

LIMIT = 0.5


def random_maps(n: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Uniform noise, float32 (n,H,W)."""
    return np.random.default_rng(seed).random((n, *size), np.float32)


def centre_maps(n: int, size: tuple[int, int], width: float = 0.25) -> np.ndarray:
    """A Gaussian in the middle, its deviation a share of each side, float32 (n,H,W)."""
    y, x = (((np.arange(s) + 0.5) / s - 0.5) / width for s in size)
    one = np.exp(-(y[:, None] ** 2 + x[None] ** 2) / 2).astype(np.float32)
    return np.repeat(one[None], n, 0)


def edge_maps(images: np.ndarray) -> np.ndarray:
    """The height of the grey value's Sobel gradient, float32 (B,H,W).  images: (B,c,H,W)."""
    from scipy.ndimage import correlate1d  # type: ignore[import-untyped]

    grey = np.asarray(images, np.float32).mean(1)
    slopes = (
        correlate1d(correlate1d(grey, [-1, 0, 1], along, mode="nearest"), [1, 2, 1], 3 - along, mode="nearest")
        for along in (1, 2)  # scipy's own sobel smooths over every other axis, and so over images
    )
    return np.hypot(*slopes)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each map with its partner, float64 (N,), -1 to 1; ties share their ranks.

    A constant map has no order: 1 with another constant map, 0 with any other.  a, b: (N,...) of one shape.
    """
    from scipy.stats import rankdata  # type: ignore[import-untyped]

    x, y = (rankdata(np.asarray(m).reshape(len(m), -1), axis=1) for m in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    xx, yy = (x * x).sum(1), (y * y).sum(1)
    found = np.divide((x * y).sum(1), np.sqrt(xx * yy), out=np.zeros(len(x)), where=(xx > 0) & (yy > 0))
    return np.where((xx == 0) & (yy == 0), 1.0, found)


class Sanity(NamedTuple):
    """correlation: mean over maps of the size of the rank correlation, 0 to 1.  each: (N,), with sign.  passed: whether
    the maps changed.  said: a sentence; where the check failed it belongs beside every map."""

    correlation: float
    each: np.ndarray
    passed: bool
    said: str


def sanity(before: np.ndarray, after: np.ndarray, limit: float = LIMIT, what: str = "the top layers") -> Sanity:
    """Whether maps changed when `what` was drawn anew.

    before, after: (N,...), maps of the same images, targets and method.  The sign is left aside: a new head may turn a
    map into its negative, which marks the same places.  limit: our choice, above which maps count as unchanged.
    DataError for maps that do not pair up, are none, or are not finite.
    """
    before, after = np.asarray(before), np.asarray(after)
    if before.shape != after.shape or not len(before):
        found = f"maps of shape {before.shape} before, {after.shape} after"
        raise DataError(found, where="sanity check", fix="Give the maps of the same images, at least one.")
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise DataError("a map with values that are not finite", where="sanity check", fix="Leave the map out.")
    each = rank_correlation(before, after)
    mean = float(np.abs(each).mean())
    count = f"mean rank correlation {mean:.2f} over {len(each)} {'map' if len(each) == 1 else 'maps'}, limit {limit:g}"
    if mean <= limit:
        return Sanity(mean, each, True, f"Drawing {what} anew changes the maps ({count}).")
    warning = f"Drawing {what} anew hardly changes the maps ({count}): they show the picture, not what was learned."
    return Sanity(mean, each, False, warning)
