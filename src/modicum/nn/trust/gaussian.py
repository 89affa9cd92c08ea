"""Every guess counts, the less the further it lies below the mean confidence.  SoftMatch (Chen et al., 2023).

    mu, v <- moving mean and variance of the confidence (from 1/C and 1)
    weight = exp(-min(confidence - mu, 0)^2 / (2 v / sigmas^2))
"""

from __future__ import annotations

import torch
from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class Gaussian(Trust):
    """sigmas: how many deviations below the mean a guess is down to exp(-1/2), as a divisor; at least 0.

    decay: of the moving moments, 0 to 1.  They are moved before they are used.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, info: Info, *, sigmas: float = 2.0, decay: float = 0.999) -> None:
        super().__init__(info)
        self.sigmas = within("trust gaussian.sigmas", sigmas, 0, 100)
        self.decay = within("trust gaussian.decay", decay, 0, 1)
        self.register_buffer("mean", torch.tensor(1 / len(info.classes)))
        self.register_buffer("variance", torch.tensor(1.0))

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        wide = confidence.to(self.mean.dtype)
        self.mean.lerp_(wide.mean(), 1 - self.decay)
        if len(wide) > 1:
            self.variance.lerp_(wide.var(), 1 - self.decay)
        below = (wide - self.mean).clamp_max(0)
        weight = torch.exp(-(self.sigmas**2) * below.square() / (2 * self.variance.clamp_min(1e-12)))
        return Pseudo(target, weight.to(probs.dtype))
