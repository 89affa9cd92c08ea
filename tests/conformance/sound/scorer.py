"""A sound score: what is missing to certainty, one minus the largest probability of each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Score
from modicum.core.settings import knob

CARD = Card(
    title="Sound score",
    role="score",
    idea="A network that is unsure says so.",
    needs=("image", "net:class"),
    makes=("scores",),
    higher="less certain",
)


@dataclass(frozen=True)
class Scorer(Score):
    """One minus the largest probability."""

    scale: float = knob(1.0, 0.5, 2, doc="factor on the score")

    def score(self, table: Table) -> np.ndarray:
        probs = table.probs
        return self.scale * (1 - probs.max(1))
