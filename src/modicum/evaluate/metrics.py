"""Metrics of a classifier, each a function of sums over images, so that a bootstrap is the same function of weighted
sums.

Letters: N images, C classes, `...` any leading axes (resamples).  `probs` is float64 (N,C), rows summing to 1; `cls` is
int64 (N,), 0 to C-1.  The prediction is the class of highest probability, the first among equals.

Empty classes, as in scikit-learn: balanced accuracy averages recall over the classes that occur in `cls`; macro F1
averages over the classes that occur in `cls` or among the predictions, so a class that is only ever predicted by
mistake counts 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from modicum.core.errors import DataError

BINS = 15
TINY = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Sums:
    """What all metrics are made of.  count, nll, brier: (...,).  right, true, named: (...,C), images of a class that
    are named rightly, that are there, that were named so.  gap: (...,BINS), sum of confidence minus right in a bin."""

    count: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    right: np.ndarray
    true: np.ndarray
    named: np.ndarray
    gap: np.ndarray


def check(probs: np.ndarray, cls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`probs` as float64 (N,C) and `cls` as int64 (N,), or a DataError that names the first bad row."""
    probs, cls = np.asarray(probs, np.float64), np.asarray(cls, np.int64)
    if probs.ndim != 2 or len(probs) != len(cls) or not probs.shape[1]:
        raise DataError(
            f"probabilities of shape {probs.shape} for {len(cls)} labels",
            where="evaluate",
            fix="One row an image, one column a class.",
        )
    if not len(cls):
        raise DataError("no labelled images to measure on", where="evaluate", fix="Label some test images.")
    outside = np.flatnonzero((cls < 0) | (cls >= probs.shape[1]))
    if len(outside):
        raise DataError(
            f"class {cls[outside[0]]} of {probs.shape[1]}",
            where=f"row {outside[0]}",
            fix="Leave out images whose class is unknown.",
        )
    bad = np.flatnonzero(~((probs >= -1e-9).all(1) & (np.abs(probs.sum(1) - 1) < 1e-3)))
    if len(bad):
        raise DataError(
            "a row that is no probability distribution",
            where=f"row {bad[0]}",
            fix="Apply softmax to the logits; look for NaN.",
        )
    return probs, cls


def pieces(probs: np.ndarray, cls: np.ndarray) -> dict[str, np.ndarray]:
    """What each image adds: pred, bin int64 (N,); right bool (N,); nll, brier, gap float64 (N,).

    A probability is taken as at least 2.2e-16 in the logarithm.  Bins are (low, high], of equal width, over the
    confidence.
    """
    n = np.arange(len(cls))
    pred = probs.argmax(1)
    sure, right = probs[n, pred], pred == cls
    true = probs[n, cls]
    return {
        "pred": pred,
        "right": right,
        "nll": -np.log(np.clip(true, TINY, 1.0)),
        "brier": (probs**2).sum(1) - 2 * true + 1,
        "gap": sure - right,
        "bin": np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1),
    }


def sums(probs: np.ndarray, cls: np.ndarray) -> Sums:
    """The sums over all images, each with weight 1."""
    probs, cls = check(probs, cls)
    p, c = pieces(probs, cls), probs.shape[1]
    return Sums(
        np.asarray(float(len(cls))),
        p["nll"].sum(),
        p["brier"].sum(),
        np.bincount(cls[p["right"]], minlength=c).astype(float),
        np.bincount(cls, minlength=c).astype(float),
        np.bincount(p["pred"], minlength=c).astype(float),
        np.bincount(p["bin"], p["gap"], minlength=BINS),
    )


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=np.asarray(b) > 0)


def class_recall(s: Sums) -> np.ndarray:
    """Share of a class's images that are named so, (...,C); NaN where the class does not occur."""
    return _ratio(s.right, s.true)


def class_precision(s: Sums) -> np.ndarray:
    """Share of the images named so that are right, (...,C); NaN where the class was never named."""
    return _ratio(s.right, s.named)


def class_f1(s: Sums) -> np.ndarray:
    """Harmonic mean of precision and recall, (...,C); NaN where the class neither occurs nor was named."""
    return _ratio(2 * s.right, s.true + s.named)


def _mean_over_known(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return np.where(known, values, 0.0).sum(-1) / np.maximum(known.sum(-1), 1)


@dataclass(frozen=True)
class Metric:
    """title: as printed.  higher: whether larger is better.  doc: one sentence for a reader who does not know it."""

    title: str
    higher: bool
    doc: str
    of: Callable[[Sums], np.ndarray]


def _accuracy(s: Sums) -> np.ndarray:
    return np.asarray(s.right.sum(-1) / s.count)


def _balanced(s: Sums) -> np.ndarray:
    return _mean_over_known(class_recall(s))


def _macro_f1(s: Sums) -> np.ndarray:
    return _mean_over_known(class_f1(s))


def _ece(s: Sums) -> np.ndarray:
    return np.asarray(np.abs(s.gap).sum(-1) / s.count)


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("Accuracy", True, "share of images named rightly", _accuracy),
    "balanced_accuracy": Metric(
        "Balanced accuracy",
        True,
        "mean over classes of the share named rightly: rare classes count as common ones",
        _balanced,
    ),
    "macro_f1": Metric(
        "Macro F1", True, "mean over classes of F1: falls if a class is missed or named too often", _macro_f1
    ),
    "nll": Metric(
        "Negative log-likelihood",
        False,
        "surprise at the true class: high if sure and wrong",
        lambda s: s.nll / s.count,
    ),
    "brier": Metric(
        "Brier score", False, "squared distance of probabilities from the truth, 0 to 2", lambda s: s.brier / s.count
    ),
    "ece": Metric(
        "Calibration error", False, f"distance between confidence and accuracy (ECE), {BINS} bins of equal width", _ece
    ),
}


def measure(probs: np.ndarray, cls: np.ndarray) -> dict[str, float]:
    """Every metric by name."""
    s = sums(probs, cls)
    return {name: float(metric.of(s)) for name, metric in METRICS.items()}


def accuracy(probs: np.ndarray, cls: np.ndarray) -> float:
    """Share of images named rightly."""
    return measure(probs, cls)["accuracy"]


def balanced_accuracy(probs: np.ndarray, cls: np.ndarray) -> float:
    """Mean recall over the classes that occur in `cls`."""
    return measure(probs, cls)["balanced_accuracy"]


def macro_f1(probs: np.ndarray, cls: np.ndarray) -> float:
    """Mean F1 over the classes that occur in `cls` or among the predictions."""
    return measure(probs, cls)["macro_f1"]


def nll(probs: np.ndarray, cls: np.ndarray) -> float:
    """Mean negative natural logarithm of the true class's probability."""
    return measure(probs, cls)["nll"]


def brier(probs: np.ndarray, cls: np.ndarray) -> float:
    """Mean squared distance to the one-hot truth, summed over classes (Brier, 1950): 0 to 2."""
    return measure(probs, cls)["brier"]


def ece(probs: np.ndarray, cls: np.ndarray) -> float:
    """Expected calibration error over 15 bins of equal width (Guo et al., 2017), 0 to 1."""
    return measure(probs, cls)["ece"]


def confusion(probs: np.ndarray, cls: np.ndarray) -> np.ndarray:
    """Images of true class (row) that were named so (column), int64 (C,C)."""
    probs, cls = check(probs, cls)
    c = probs.shape[1]
    return np.bincount(cls * c + probs.argmax(1), minlength=c * c).reshape(c, c)
