"""Uncertainty sampling: the images of which the network is least certain.

    the `budget` largest u(p) among images without a label            p: predicted probabilities;  u: a measure

u is the entropy, one minus the margin, or one minus the largest probability.  Equals are drawn by lot; rows whose
outputs are not finite come last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Select
from modicum.core.settings import knob
from modicum.functional.rows import unlabelled
from modicum.functional.uncertainty import MEASURES

CARD = Card(
    title="Uncertainty sampling",
    role="select",
    idea="A label teaches most where the network does not know the answer.",
    needs=("image", "net:class"),
    makes=("ids",),
    year=1994,
    cites=("arXiv:cmp-lg/9407020",),
    changed="A whole batch is chosen at once, equals by lot.",
    cost=0.3,
)


@dataclass(frozen=True)
class UncertaintySampling(Select):
    """Lewis and Gale, 1994."""

    score: str = knob("entropy", doc="measure of uncertainty", choices=tuple(MEASURES))

    def select(self, table: Table, budget: int, rng: np.random.Generator) -> np.ndarray:
        free = rng.permutation(unlabelled(table, budget))
        return free[np.argsort(-MEASURES[self.score](table.probs[free]), kind="stable")][:budget]
