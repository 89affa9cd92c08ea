"""What no network is needed for: the commonest class, and the nearest mean picture.

A net that does not beat these has learnt nothing from the pixels.  Letters: N images, L labelled, M asked, D features,
C classes.
"""

from __future__ import annotations

import numpy as np

from modicum.core.errors import DataError

SIDE = 8
_LUMA = np.array([0.299, 0.587, 0.114])


def majority(cls: np.ndarray, classes: int, asked: int) -> np.ndarray:
    """Shares of the classes among the labels (one added to each), for every image: float64 (M,C).

    cls: int64 (L,), -1 is left out.  The prediction is the commonest class, the first among equals.
    """
    cls = np.asarray(cls, np.int64)
    counts = np.bincount(cls[cls >= 0], minlength=classes) + 1.0
    return np.tile(counts / counts.sum(), (asked, 1))


def _bands(size: int, side: int) -> np.ndarray:
    """Area-averaging weights (side,size): each row sums to 1, also where size is no multiple of side."""
    edges = np.linspace(0, size, side + 1)
    overlap = np.minimum(edges[1:, None], np.arange(1, size + 1)) - np.maximum(edges[:-1, None], np.arange(size))
    return np.asarray(np.clip(overlap, 0, None) * side / size)


def reduced(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Pictures (N,H,W,c) or (N,H,W), any depth, as grey of side x side by area averaging: float64 (N, side*side).

    Three channels are weighted as by ITU-R BT.601; any other number is averaged.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim not in (3, 4):
        raise DataError(f"pictures of shape {pixels.shape}", where="baselines", fix="Give (N,H,W) or (N,H,W,c).")
    grey = pixels.astype(np.float64)
    if pixels.ndim == 4:
        grey = grey @ _LUMA if pixels.shape[-1] == 3 else grey.mean(-1)
    small = np.einsum("ah,nhw,bw->nab", _bands(grey.shape[1], side), grey, _bands(grey.shape[2], side), optimize=True)
    return small.reshape(len(pixels), -1)


def nearest_centroid(features: np.ndarray, cls: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (M,C) that fall with the squared distance to each class's mean; argmax is the nearest mean.

    features: (L,D) with cls (L,), -1 left out; asked: (M,D).  The width is the mean squared distance of labelled images
    to their own mean (of all labelled images where each class has but one); a class without labels gets 0.
    """
    features, asked, cls = np.asarray(features, np.float64), np.asarray(asked, np.float64), np.asarray(cls, np.int64)
    features, cls = features[cls >= 0], cls[cls >= 0]
    known = np.unique(cls)
    if not len(known):
        raise DataError("no labelled images", where="nearest centroid", fix="Label at least one image a class.")
    means = np.stack([features[cls == c].mean(0) for c in known])
    width = ((features - means[np.searchsorted(known, cls)]) ** 2).sum(1).mean()
    width = width or ((features - features.mean(0)) ** 2).sum(1).mean() or 1.0
    far = (asked**2).sum(1)[:, None] - 2 * asked @ means.T + (means**2).sum(1)
    near = np.exp(-(far - far.min(1, keepdims=True)) / (2 * width))
    out = np.zeros((len(asked), classes))
    out[:, known] = near / near.sum(1, keepdims=True)
    return out
