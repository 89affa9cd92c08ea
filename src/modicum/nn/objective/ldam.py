"""LDAM with deferred re-weighting (Cao et al., 2019): margins that grow as classes get rarer, later also weights.

    m_c = margin * n_c^(-1/4) / max_j n_j^(-1/4);   CE on scale * (cos_c - m_y [c = y]);   the head is a cosine
    once a share `defer` of training is over:  w_c = (1 - beta) / (1 - beta^n_c), rescaled to sum to C
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.loss import Term, mean
from modicum.core.net import Net
from modicum.core.program import Info
from modicum.core.settings import within
from modicum.functional.losses import wide
from modicum.nn.cosine import cosine_head
from modicum.nn.objective import Objective


class Ldam(Objective):
    """margin: of the rarest class, as a cosine.  scale: of the cosines, which the head's logits already carry.

    defer: share of training before the weights; 1 = never.  beta: 0 to 1, the nearer 1 the nearer to 1 / n_c.
    A class without a label has the margin of one with one label, and no weight.  Sums are divided by the weights' sum.
    """

    margins: Tensor
    weights: Tensor

    def __init__(
        self, info: Info, *, margin: float = 0.5, scale: float = 30.0, defer: float = 0.8, beta: float = 0.9999
    ) -> None:
        super().__init__(info)
        self.scale = within("objective ldam.scale", scale, 0, 1000)
        self.defer = within("objective ldam.defer", defer, 0, 1)
        beta = within("objective ldam.beta", beta, 0, 1 - 1e-9)
        counts = torch.tensor(info.counts, dtype=torch.float64)
        root = counts.clamp_min(1) ** -0.25
        self.register_buffer("margins", (within("objective ldam.margin", margin, 0, 2) * root / root.max()).float())
        weights = torch.where(counts > 0, (1 - beta) / (1 - beta ** counts.clamp_min(1)), 0)
        self.register_buffer("weights", (weights * len(counts) / weights.sum().clamp_min(1e-12)).float())

    def forward(self, logits: Tensor, target: Tensor, done: float) -> tuple[Tensor, Tensor]:
        margins = F.one_hot(target, logits.shape[1]) * self.margins[target][:, None]
        values = F.cross_entropy(logits - self.scale * margins.to(logits.dtype), target, reduction="none")
        weights = self.weights[target] if done >= self.defer else torch.ones_like(self.margins[target])
        return values, weights.to(values.dtype)

    def term(self, logits: Tensor, target: Tensor, done: float) -> Term:
        values, weights = self(wide(logits), target, done)
        return mean(values, weights, weights.sum())

    def dress(self, net: Net) -> Net:
        return cosine_head(net, self.scale)
