"""Believe a guess if its probability is at least tau.  FixMatch (Sohn et al., 2020)."""

from __future__ import annotations

from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class Fixed(Trust):
    """tau: least confidence, 0 to 1."""

    def __init__(self, info: Info, *, tau: float = 0.95) -> None:
        super().__init__(info)
        self.tau = within("trust fixed.tau", tau, 0, 1)

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        return Pseudo(target, (confidence >= self.tau).to(probs.dtype))
