"""Distribution alignment: guesses are rescaled so that their average matches a class prior.

ReMixMatch (Berthelot et al., 2020): q <- normalise(q * prior / running mean of q).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modicum.core.program import Info
from modicum.nn.ranks import world_mean


class Align(nn.Module):
    """prior: "labelled" (the visible labels' shares, +1 a class), "uniform", or "none" (guesses pass unchanged).

    decay: of the running mean of the guesses, (C,), which starts uniform (the paper: the mean over the
    last 128 batches; a slower mean did no worse here).
    """

    average: Tensor
    prior: Tensor

    def __init__(self, info: Info, prior: str = "labelled", decay: float = 0.999) -> None:
        super().__init__()
        counts = torch.tensor(info.counts, dtype=torch.float32) + 1
        shares = counts / counts.sum() if prior == "labelled" else torch.full_like(counts, 1 / len(counts))
        self.active, self.decay = prior != "none", decay
        self.register_buffer("prior", shares)
        self.register_buffer("average", torch.full_like(shares, 1 / len(shares)))

    def forward(self, probs: Tensor) -> Tensor:
        """probs (U,C) -> aligned (U,C); the running mean follows the raw guesses of all processes."""
        if not self.active:
            return probs
        self.average.lerp_(world_mean(probs.to(self.average.dtype)), 1 - self.decay)
        aligned = probs * (self.prior / self.average.clamp_min(1e-6)).to(probs.dtype)
        return aligned / aligned.sum(1, keepdim=True)
