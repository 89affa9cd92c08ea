"""Believe a guess if its probability is at least tau.  FixMatch (Sohn et al., 2020)."""

from __future__ import annotations

from torch import Tensor

from modicum.core.errors import SettingsError
from modicum.core.program import Info
from modicum.nn.trust import Pseudo, Trust


class Fixed(Trust):
    """tau: least confidence, 0 to 1."""

    def __init__(self, info: Info, *, tau: float = 0.95) -> None:
        super().__init__(info)
        if not 0 <= tau <= 1:
            raise SettingsError(f"{tau!r} is not allowed", where="trust fixed.tau", fix="Allowed: 0 to 1.")
        self.tau = tau

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        return Pseudo(target, (confidence >= self.tau).to(probs.dtype))
