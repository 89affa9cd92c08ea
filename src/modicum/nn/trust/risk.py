"""Believe from the confidence on at which held-out guesses are right often enough.  Learn then test (Angelopoulos et
al., 2021), on out-of-fold labels.

    believe if confidence >= tau,  tau the lowest confidence at which, with probability `level`, at most a share
    `share` of guesses is wrong (exact binomial bound, from the surest guess down: evaluate/risk.py)

`fit` trains the method in folds first, with the tau given here, and settles it; with fewer than about
log(1 - level) / log(1 - share) unseen labels (59 for 5 % at 95 %), or too many mistakes, it refuses.
"""

from __future__ import annotations

from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class Risk(Trust):
    """share: of believed guesses that may be wrong, 0.001 to 0.9.  level: how sure of that, 0.5 to 0.999.  tau: least
    confidence until it is settled, 0 to 1."""

    settles = ("share", "level")

    def __init__(self, info: Info, *, share: float = 0.05, level: float = 0.95, tau: float = 0.95) -> None:
        super().__init__(info)
        self.share = within("trust risk.share", share, 0.001, 0.9)
        self.level = within("trust risk.level", level, 0.5, 0.999)
        self.tau = within("trust risk.tau", tau, 0, 1)

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        return Pseudo(target, (confidence >= self.tau).to(probs.dtype))
