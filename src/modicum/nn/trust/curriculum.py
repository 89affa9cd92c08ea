"""A threshold for each class that rises as the class is learned.  FlexMatch (Zhang et al., 2021).

    n_c = images whose last guess above tau was c;  beta_c = n_c / max(max_c n_c, images never above tau)
    believe if confidence >= tau * beta_c / (2 - beta_c),  c the guessed class
"""

from __future__ import annotations

import torch
from torch import Tensor

from modicum.core.program import Info
from modicum.core.settings import within
from modicum.nn.trust import Pseudo, Trust


class Curriculum(Trust):
    """tau: the threshold of a class that is learned as well as the best one, 0 to 1.

    warmup: 1 counts the images that were never believed among the competitors (the paper's warm-up), 0 does not.
    """

    last: Tensor

    def __init__(self, info: Info, *, tau: float = 0.95, warmup: int = 1) -> None:
        super().__init__(info)
        self.tau = within("trust curriculum.tau", tau, 0, 1)
        self.warmup = within("trust curriculum.warmup", warmup, 0, 1)
        self.classes, self.pool = len(info.classes), info.pool or info.images
        self.register_buffer("last", torch.full((info.images,), -1, dtype=torch.int32))

    def forward(self, probs: Tensor, rows: Tensor) -> Pseudo:
        confidence, target = probs.max(1)
        weight = (confidence >= self.thresholds()[target]).to(probs.dtype)
        sure = confidence > self.tau
        self.last[rows[sure]] = target[sure].to(self.last.dtype)
        return Pseudo(target, weight)

    def thresholds(self) -> Tensor:
        """The least confidence of each class now, float (C,)."""
        learned = torch.bincount(self.last[self.last >= 0].long(), minlength=self.classes)
        most = int(learned.max())
        if self.warmup:
            most = max(most, self.pool - int(learned.sum()))
        beta = learned / max(1, most)
        return self.tau * beta / (2 - beta)
