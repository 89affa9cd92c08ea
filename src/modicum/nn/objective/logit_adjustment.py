"""Cross-entropy of z + tau log prior: rare classes must win by a margin, so that plain z is fair to them.

Menon et al., 2021.  With tau = 1 it is balanced softmax (Ren et al., 2020), which adds log n_c.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.objective import Objective


class LogitAdjustment(Objective):
    """tau: strength, 0 to 10; 0 is cross-entropy.

    The prior is the share of each class among visible labels.  A class without a label counts as half a label, since
    the logarithm of 0 would forbid it.
    """

    offset: Tensor

    def __init__(self, info: Info, *, tau: float = 1.0) -> None:
        super().__init__(info)
        counts = torch.tensor(info.counts, dtype=torch.float32).clamp_min(0.5)
        strength = within("objective logit-adjustment.tau", tau, 0, 10)
        self.register_buffer("offset", strength * (counts / counts.sum()).log())

    def forward(self, logits: Tensor, target: Tensor, done: float) -> tuple[Tensor, Tensor]:
        values = F.cross_entropy(logits + self.offset.to(logits.dtype), target, reduction="none")
        return values, torch.ones_like(values)
