"""Of each guessed class the most confident few of the batch.  Class-balanced self-training (Zou et al., 2018).

    believe guess i of class c if at most k - 1 guesses of c in the batch are more confident,  k = ceil(share * U / C)

Changed: the share is one of the batch and does not grow over rounds; no class gets more than k, so that the believed
labels are balanced also where the guesses are not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class TopK(Trust):
    """share: most that is believed of a batch whose guesses are balanced, 0 to 1.  tau: least confidence, 0 to 1."""

    def __init__(self, info: Info, *, share: float = 0.5, tau: float = 0.0) -> None:
        super().__init__(info)
        self.share, self.tau = within("trust top-k.share", share, 0, 1), within("trust top-k.tau", tau, 0, 1)

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        k = math.ceil(self.share * len(probs) / probs.shape[1])
        order = torch.argsort(confidence, descending=True, stable=True)
        grouped = order[torch.argsort(target[order], stable=True)]  # by class, and in it the most confident first
        counts = torch.bincount(target, minlength=probs.shape[1])
        first = (counts.cumsum(0) - counts)[target[grouped]]
        rank = torch.empty_like(target)
        rank[grouped] = torch.arange(len(target), device=target.device) - first
        return Pseudo(target, ((rank < k) & (confidence >= self.tau)).to(probs.dtype))
