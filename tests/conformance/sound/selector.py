"""A sound selection: the rows with the smallest largest probability, equals by lot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Select
from modicum.functional.rows import unlabelled

CARD = Card(
    title="Sound selection",
    role="select",
    idea="Ask about what the network does not know.",
    needs=("image", "net:class"),
    makes=("ids",),
)


@dataclass(frozen=True)
class Selector(Select):
    """Least confidence."""

    def select(self, table: Table, budget: int, rng: np.random.Generator) -> np.ndarray:
        free = rng.permutation(unlabelled(table, budget))
        return free[np.argsort(table.probs[free].max(1), kind="stable")][:budget]
