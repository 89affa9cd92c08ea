"""Least confidence: what is missing to certainty.

1 - max_c p_c            0 (certain) to 1 - 1/C (all classes alike);  C: number of classes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Score
from modicum.functional import uncertainty

CARD = Card(
    title="Least confidence",
    role="score",
    idea="The network's own estimate of how probably its answer is wrong.",
    needs=("image", "net:class"),
    makes=("scores",),
    year=1994,
    cites=("arXiv:cmp-lg/9407020",),
    of="image",
    higher="less certain",
    cost=0.3,
)


@dataclass(frozen=True)
class LeastConfidence(Score):
    """Lewis and Gale, 1994; of the softmax of the column `logits`."""

    def score(self, table: Table) -> np.ndarray:
        return uncertainty.least_confidence(table.probs)
