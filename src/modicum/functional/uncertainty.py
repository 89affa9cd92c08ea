"""How unsure a row of probabilities is: shared by scores and selections.

probs: float (N,C), rows sum to 1.  Every measure: float64 (N,), larger means less certain; a row with a NaN gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def entropy(probs: np.ndarray) -> np.ndarray:
    """H = -sum_c p_c log p_c, in nats, 0 to log C (Shannon, 1948)."""
    p = np.asarray(probs, np.float64)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(1)


def margin(probs: np.ndarray) -> np.ndarray:
    """1 - (p_1 - p_2), the two largest probabilities: 0 to 1 (Scheffer et al., 2001)."""
    p = np.asarray(probs, np.float64)
    if p.shape[1] < 2:
        return np.where(np.isnan(p[:, 0]), np.nan, 0.0)
    top = np.partition(p, p.shape[1] - 2, axis=1)[:, -2:]
    return np.where(np.isnan(p).any(1), np.nan, 1 - (top[:, 1] - top[:, 0]))


def least_confidence(probs: np.ndarray) -> np.ndarray:
    """1 - max_c p_c: 0 to 1 - 1/C (Lewis and Gale, 1994)."""
    return 1 - np.asarray(probs, np.float64).max(1)


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": entropy,
    "margin": margin,
    "least-confidence": least_confidence,
}
