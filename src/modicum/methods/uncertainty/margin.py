"""Margin between the two most probable classes.

1 - (p_1 - p_2)            0 (certain) to 1 (two classes alike);  p_1, p_2: the two largest probabilities
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Score
from modicum.functional import uncertainty

CARD = Card(
    title="Margin",
    role="score",
    idea="An image between two classes is worth a look, however improbable the other classes are.",
    needs=("image", "net:class"),
    makes=("scores",),
    year=2001,
    cites=("doi:10.1007/3-540-44816-0_31",),
    of="image",
    higher="less certain",
    changed="One minus the margin, so that larger means less certain as for the other scores.",
    cost=0.3,
)


@dataclass(frozen=True)
class Margin(Score):
    """Scheffer, Decomain and Wrobel, 2001; of the softmax of the column `logits`."""

    def score(self, table: Table) -> np.ndarray:
        return uncertainty.margin(table.probs)
