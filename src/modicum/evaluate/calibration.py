"""Whether 80 % sure means right 8 times out of 10: one temperature, or a refusal that says what it would take."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from modicum.core.errors import DataError
from modicum.core.kinds import KINDS
from modicum.evaluate import metrics
from modicum.evaluate.intervals import wilson

PER_CLASS = 10
LOW, HIGH = 1e-3, 1e3


@dataclass(frozen=True)
class Temperature:
    """Probabilities are softmax(logits / value).  labels_used: held-out labels it was fitted on, 0 where it was
    refused. note: '' or why it is 1."""

    value: float
    labels_used: int
    note: str = ""

    @property
    def fitted(self) -> bool:
        """Whether there is a temperature at all."""
        return not self.note

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def refuse(counts: np.ndarray, per_class: int = PER_CLASS) -> str:
    """'' if `counts` (C,), held-out labels of each class, are enough; otherwise a sentence that says what it would
    take.

    The rule is on the mean: one number is fitted to all classes together, so a rare class need not have its own ten.
    """
    counts = np.asarray(counts, np.int64)
    have, need = int(counts.sum()), per_class * len(counts)
    if have >= need:
        return ""
    missing = need - have
    minutes = max(1, round(missing * KINDS["class"].seconds / 60))
    return (
        f"not calibrated: {have} held-out labels for {len(counts)} classes, at least {per_class} a class are needed; "
        f"about {missing} more labels would do, {minutes} minute{'s' if minutes > 1 else ''} of work"
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N,C) -> probabilities, float64."""
    return np.exp(_log_softmax(logits.astype(np.float64)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    z = logits - logits.max(1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(1, keepdims=True)))


def temperature(logits: np.ndarray, cls: np.ndarray, per_class: int = PER_CLASS) -> Temperature:
    """The temperature of least NLL on held-out images (Guo et al., 2017), searched over its logarithm.

    logits: float (N,C); cls: int64 (N,).  The NLL is convex in 1/T, so the search finds the one minimum.  Where it
    lies at an end (all images right: infinitely sure; no better than chance: not at all), that is said and T is 1.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    logits, cls = np.asarray(logits, np.float64), np.asarray(cls, np.int64)
    if logits.ndim != 2 or len(logits) != len(cls) or not np.isfinite(logits).all():
        found = f"logits of shape {logits.shape} for {len(cls)} labels, or not finite"
        raise DataError(found, where="temperature", fix="One row an image, one column a class; look for NaN.")
    if ((cls < 0) | (cls >= logits.shape[1])).any():
        raise DataError("a class that is unknown", where="temperature", fix="Leave out images whose class is unknown.")
    if note := refuse(np.bincount(cls, minlength=logits.shape[1]), per_class):
        return Temperature(1.0, 0, note)
    if (logits.argmax(1) == cls).all():
        return Temperature(1.0, 0, "not calibrated: all held-out images are right, which leaves nothing to fit")
    n = np.arange(len(cls))

    def loss(log_t: float) -> float:
        return float(-_log_softmax(logits / math.exp(log_t))[n, cls].mean())

    best = math.exp(
        minimize_scalar(loss, bounds=(math.log(LOW), math.log(HIGH)), method="bounded", options={"xatol": 1e-6}).x
    )
    if best > HIGH * 0.99:
        return Temperature(1.0, 0, "not calibrated: the held-out predictions are no better than chance")
    return Temperature(best, len(cls))


def soften(probs: np.ndarray, value: float) -> np.ndarray:
    """Probabilities (N,C) at another temperature: softmax(log p / T), the same as softmax(logits / T)."""
    if value == 1.0:
        return probs
    return np.exp(_log_softmax(np.log(np.clip(probs, 1e-300, None)) / value))


def reliability(probs: np.ndarray, cls: np.ndarray) -> list[dict[str, Any]]:
    """The reliability curve: for each of 15 bins with images in it, {low, high, count, confidence, accuracy: [v, low,
    high]}."""
    probs, cls = metrics.check(probs, cls)
    p, sure = metrics.pieces(probs, cls), probs.max(1)
    curve = []
    for b in range(metrics.BINS):
        mine = p["bin"] == b
        if mine.any():
            share = wilson(float(p["right"][mine].sum()), float(mine.sum()))
            edges = {"low": b / metrics.BINS, "high": (b + 1) / metrics.BINS}
            curve.append(
                {**edges, "count": int(mine.sum()), "confidence": float(sure[mine].mean()), "accuracy": share.json()}
            )
    return curve
