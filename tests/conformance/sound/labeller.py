"""A sound labeller: a class where the network is sure and a person has said nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.method import Label
from modicum.core.settings import knob

CARD = Card(
    title="Sound labeller",
    role="label",
    idea="What the network is sure of becomes a label.",
    needs=("image", "net:class"),
    makes=("class:some~",),
)


@dataclass(frozen=True)
class Labeller(Label):
    """One threshold."""

    least: float = knob(0.8, 0, 1, doc="least probability of a label")

    def label(self, table: Table) -> Dataset:
        probs, cls = table.probs, np.full(len(table.data), -1, np.int64)
        new = (table.cls < 0) & (probs.max(1) >= self.least)
        cls[table.rows[new]] = probs[new].argmax(1)
        return table.data.delta_class(cls, source="sound", who=MODEL)
