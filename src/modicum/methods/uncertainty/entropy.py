"""Entropy of the predicted probabilities.

H = - sum_c p_c log p_c            in nats: 0 (certain) to log C (all classes alike);  C: number of classes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Score
from modicum.functional import uncertainty

CARD = Card(
    title="Predictive entropy",
    role="score",
    idea="A network that spreads its probability over many classes does not know.",
    needs=("image", "net:class"),
    makes=("scores",),
    year=1948,
    cites=("doi:10.1002/j.1538-7305.1948.tb01338.x",),
    of="image",
    higher="less certain",
    cost=0.3,
)


@dataclass(frozen=True)
class Entropy(Score):
    """Shannon, 1948; of the softmax of the column `logits`."""

    def score(self, table: Table) -> np.ndarray:
        return uncertainty.entropy(table.probs)
