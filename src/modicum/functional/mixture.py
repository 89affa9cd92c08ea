"""Scores as a mixture of two Gaussians: where the upper ones begin.

Letters: C classes, K scores of each.  Scores are (C,K), above 0; 0 is none.  All is done in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROUNDS, LEAST = 20, 1e-4  # of expectation and maximisation; what is added to a variance
FEW = 4  # scores from which on a class has a line of its own


class Mixture(NamedTuple):
    """Means, variances and shares of the lower and the upper Gaussian of each class, (C,2) each."""

    mean: Tensor
    var: Tensor
    share: Tensor

    def log_density(self, scores: Tensor) -> Tensor:
        """Of scores (C,K) in each Gaussian, times its share, without the constant: (C,K,2)."""
        away = scores[..., None] - self.mean[:, None]
        return (self.share.log() - self.var.log() / 2)[:, None] - away.square() / (2 * self.var[:, None])


@torch.no_grad()
def mixed(scores: Tensor, rounds: int = ROUNDS) -> Mixture:
    """The mixture by so many rounds of expectation and maximisation (Dempster et al., 1977), from the least and the
    largest score of each class, a quarter of their distance as deviation, and equal shares."""
    known, x = scores > 0, scores.double()
    low = torch.where(known, x, torch.inf).amin(1).nan_to_num(posinf=0)
    high = torch.where(known, x, -torch.inf).amax(1).nan_to_num(neginf=0)
    var = ((high - low) / 4).square() + LEAST
    ends = torch.stack([low, high], 1)
    found = Mixture(ends, var[:, None].expand_as(ends), torch.full_like(ends, 0.5))
    for _ in range(rounds):
        belongs = found.log_density(x).softmax(-1) * known[..., None]
        count = belongs.sum(1) + 10 * torch.finfo(x.dtype).eps
        mean = (belongs * x[..., None]).sum(1) / count
        spread = (belongs * (x[..., None] - mean[:, None]).square()).sum(1) / count + LEAST
        found = Mixture(mean, spread, count / count.sum(1, keepdim=True))
    return found


@torch.no_grad()
def lines(scores: Tensor, given: float, strict: bool = False) -> Tensor:
    """The score of each class from which on one is an upper one, (C,), `given` where there are fewer than FEW.

    It is the least score, above the lower mean, that is likelier of the upper Gaussian.  strict: the likeliest of
    those scores, by the mixture.  Infinite where all scores are likelier of the lower one.
    """
    found, x = mixed(scores), scores.double()
    log = found.log_density(x)
    upper = (scores > 0) & (log[..., 1] > log[..., 0]) & (x > found.mean[:, :1])
    worth = torch.where(upper, log.logsumexp(-1) if strict else -x, -torch.inf)
    best = x.gather(1, worth.argmax(1, keepdim=True))[:, 0]
    line = torch.where(upper.any(1), best, torch.inf)
    return torch.where((scores > 0).sum(1) < FEW, given, line).to(scores.dtype)
