"""Random sample: images without a label, drawn uniformly without replacement.  What every other selection must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Select
from modicum.functional.rows import unlabelled

CARD = Card(
    title="Random sample",
    role="select",
    idea="A uniform draw shows the data as they are, and estimates made from it are unbiased.",
    needs=("image",),
    makes=("ids",),
    cost=0.0,
)


@dataclass(frozen=True)
class RandomSample(Select):
    """Uniform without replacement."""

    def select(self, table: Table, budget: int, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(unlabelled(table, budget))[:budget]
