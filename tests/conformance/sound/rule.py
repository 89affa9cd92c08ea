"""A sound trust rule: the surer a guess is than guesses were of late, the more it is believed.

    level <- m level + (1 - m) mean confidence,   weight = min(1, confidence / (power * level))
"""

from __future__ import annotations

import torch
from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class Rule(Trust):
    """decay: m of the moving average, 0 to 1.  power: how many times the level is certain, 1 to 4."""

    level: Tensor

    def __init__(self, info: Info, *, decay: float = 0.9, power: float = 2.0) -> None:
        super().__init__(info)
        self.decay, self.power = within("trust rule.decay", decay, 0, 1), within("trust rule.power", power, 1, 4)
        self.register_buffer("level", torch.tensor(1 / len(info.classes)))

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        self.level.lerp_(confidence.mean().to(self.level.dtype), 1 - self.decay)
        weight = (confidence / (self.power * self.level)).clamp(0, 1)
        return Pseudo(target, weight.to(probs.dtype))
