"""Losses for targets that may be unknown: a value and a weight a row, so that the caller decides what to divide by.

B rows, C classes.  Unknown rows have value 0, weight 0 and no gradient.  16-bit logits are lifted to float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats -> (values (B,), weights (B,): 1 known, 0 unknown).

    logits: float (B,C).  target: int (B,), negative unknown, or probabilities (B,C), rows with a NaN unknown.
    smoothing: share s of each target that is spread over all classes, (1-s) y + s/C (Szegedy et al., 2016).
    """
    logp = _log_softmax(logits)
    if target.is_floating_point():
        soft, known = _clean(target, logp)
        values = -(soft * logp).sum(1)
    else:
        known = target >= 0
        values = -logp.gather(1, target.clamp_min(0)[:, None])[:, 0]
    if smoothing:
        values = (1 - smoothing) * values - smoothing * logp.mean(1)
    return _only(values, known), known.to(logp.dtype)


def binary_cross_entropy(logits: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each class's own yes or no, in nats -> (values (B,C), weights (B,C): 1 known, 0 unknown).

    logits: float (B,C), of sigmoids.  tags: int (B,C), 1 present, 0 absent, negative unknown.
    """
    wide_, known = wide(logits), tags >= 0
    values = F.binary_cross_entropy_with_logits(wide_, tags.clamp_min(0).to(wide_.dtype), reduction="none")
    return _only(values, known), known.to(wide_.dtype)


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Each class's own yes or no, in nats, where easy answers count little (Lin et al., 2017): values like logits.

    -a (1-p)^gamma log p for a yes, -(1-a) p^gamma log(1-p) for a no.  target: 1 yes, 0 no.
    """
    x, yes = wide(logits), target.to(wide(logits).dtype)
    p = x.sigmoid()
    missing = p + yes - 2 * p * yes  # how much the answer lacks
    values = F.binary_cross_entropy_with_logits(x, yes, reduction="none")
    return (1 - alpha + (2 * alpha - 1) * yes) * missing**gamma * values


def kl(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """KL(target || softmax(logits)) in nats, at least 0 -> (values (B,), weights (B,)).

    target: probabilities (B,C), rows with a NaN unknown; a class of probability 0 adds 0.
    """
    logp = _log_softmax(logits)
    soft, known = _clean(target, logp)
    return _only((torch.xlogy(soft, soft) - soft * logp).sum(1), known), known.to(logp.dtype)


def mse_probs(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance of probabilities, mean over classes -> (values (B,) in [0, 2/C], weights (B,)).

    target: probabilities (B,C), rows with a NaN unknown.  Papers that sum over classes have C times this (Tarvainen
    and Valpola, 2017, divide by C).
    """
    logp = _log_softmax(logits)
    soft, known = _clean(target, logp)
    return _only((logp.exp() - soft).square().mean(1), known), known.to(logp.dtype)


def wide(x: Tensor) -> Tensor:
    """16-bit values as float32; float32 and float64 as they are."""
    return x.float() if x.dtype.itemsize < 4 else x


def _log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(wide(logits), 1)


def _clean(target: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Targets without NaN, and which rows had none; NaN times 0 is NaN, so they are replaced and not multiplied."""
    known = ~target.isnan().any(1)
    return torch.where(known[:, None], target, 0).to(like.dtype), known


def _only(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0)
