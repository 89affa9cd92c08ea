"""Confident predictions: an image without a label gets the class that a network is sure of.

    c = argmax_k p_k,   labelled if p_c >= least            p = softmax(z / T);  z: logits;  T: temperature

The rule of self-training (Yarowsky, 1995; Lee, 2013) with a threshold.  `least` is a promise about accuracy only where
p is calibrated: give the temperature that was fitted on held-out labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import MODEL, Dataset, Table
from modicum.core.method import Label
from modicum.core.settings import knob

CARD = Card(
    title="Confident predictions",
    role="label",
    idea="What the network is sure of becomes a label; the rest stays open.",
    needs=("image", "net:class"),
    makes=("class:some~",),
    year=2013,
    changed="Every image above the threshold is labelled once, not the most confident few in rounds.",
    cost=0.3,
)


@dataclass(frozen=True)
class Confident(Label):
    """Reads the column `logits`; a row that is not finite stays open."""

    least: float = knob(0.95, 0, 1, doc="least calibrated probability")
    temperature: float = knob(1.0, 0.01, 100, doc="T, what logits are divided by: the run's calibration")

    def label(self, table: Table) -> Dataset:
        probs = replace(table, columns={**table.columns, "logits": table["logits"] / self.temperature}).probs
        confidence = probs.max(1)
        new = (table.cls < 0) & (confidence >= self.least)
        cls, sure = np.full(len(table.data), -1, np.int64), np.zeros(len(table.data))
        cls[table.rows[new]], sure[table.rows[new]] = probs[new].argmax(1), confidence[new]
        return table.data.delta_class(cls, source="confident", who=MODEL, confidence=sure)
