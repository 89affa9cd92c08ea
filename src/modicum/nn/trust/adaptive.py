"""Thresholds that follow the student's own confidence.  FreeMatch (Wang et al., 2023), self-adaptive thresholding.

    t <- m t + (1 - m) mean confidence,   p <- m p + (1 - m) mean q,   both from 1/C
    believe if confidence >= t * p_c / max p,  c the guessed class
"""

from __future__ import annotations

import torch
from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class Adaptive(Trust):
    """decay: m of the moving averages, 0 to 1.  They are moved before they are used."""

    level: Tensor
    share: Tensor

    def __init__(self, info: Info, *, decay: float = 0.999) -> None:
        super().__init__(info)
        self.decay, start = within("trust adaptive.decay", decay, 0, 1), 1 / len(info.classes)
        self.register_buffer("level", torch.tensor(start))
        self.register_buffer("share", torch.full((len(info.classes),), start))

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        self.level.lerp_(confidence.mean().to(self.level.dtype), 1 - self.decay)
        self.share.lerp_(probs.mean(0).to(self.share.dtype), 1 - self.decay)
        least = self.level * self.share / self.share.max()
        return Pseudo(target, (confidence >= least[target]).to(probs.dtype))
