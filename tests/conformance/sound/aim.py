"""A sound objective: cross-entropy, weighted by how rare a class is among the labels.

    w_c = n_c^(-power), 0 where n_c = 0;   L = sum_B w_y CE / B
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.objective import Objective


class Aim(Objective):
    """power: how much rare classes weigh, 0 to 1."""

    weights: Tensor

    def __init__(self, info: Info, *, power: float = 0.5) -> None:
        super().__init__(info)
        counts = torch.tensor(info.counts, dtype=torch.float32)
        rare = counts.clamp_min(1) ** -within("objective aim.power", power, 0, 1)
        self.register_buffer("weights", torch.where(counts > 0, rare, 0))

    def forward(self, logits: Tensor, target: Tensor, done: float) -> tuple[Tensor, Tensor]:
        values = F.cross_entropy(logits, target, reduction="none")
        return values, self.weights[target].to(values.dtype)
