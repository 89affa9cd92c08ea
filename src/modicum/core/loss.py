"""Losses are named Terms.  A Term is a sum and the count it is to be divided by, so that two ranks agree with one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Term(NamedTuple):
    """`weight * total / count`.  The engine sums `total` and `count` over ranks before it divides.

    total: scalar tensor, with gradient.  count: how many values `total` is a sum of (may be 0: the term is then 0).
    weight: factor; 0 makes it a diagnostic that is logged and not trained.
    """

    total: Tensor
    count: Tensor | float  # type: ignore[assignment]
    weight: float = 1.0


Loss = dict[str, Term]


def mean(
    values: Tensor, weights: Tensor | None = None, count: Tensor | float | None = None, weight: float = 1.0
) -> Term:
    """The mean of values (B,) as a Term: sum(values * weights) over `count` (default: how many values there are).

    FixMatch divides by all unlabelled images, accepted or not: that is this default.  Pass `count=weights.sum()` for a
    mean over the accepted ones.
    """
    total = (values if weights is None else values * weights).sum()
    return Term(total, float(values.numel()) if count is None else count, weight)


def value(loss: Loss) -> Tensor:
    """The scalar of one process: the sum of weighted means."""
    parts = [t.weight * t.total / torch.as_tensor(t.count).clamp_min(1e-12) for t in loss.values() if t.weight]
    return torch.stack(parts).sum()
