"""Self-confidence: how little a network believes the label that an image was given.

    1 - p_y            0 (the network agrees) to 1 (the label is probably wrong);  y: the given label
    p = softmax of the column `logits_oof`: the outputs of a network that was not trained on this image

Out-of-fold outputs are what makes this work.  Where that column is missing `logits` is read, and then the score of an
image that the network was trained on is close to 0 whether its label is right or not: rank such rows among themselves
at most.  Rows without a label, or without a finite output, are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Table
from modicum.core.method import Score

CARD = Card(
    title="Self-confidence",
    role="score",
    idea="A label to which a network that never saw it gives little probability is probably wrong.",
    needs=("image", "class:some", "net:class"),
    makes=("scores",),
    year=2021,
    cites=("arXiv:1911.00068", "arXiv:2103.14749"),
    suits=("noisy",),
    of="image",
    higher="more likely mislabelled",
    changed="One minus the self-confidence, so that larger means worse.",
    cost=0.3,
)


@dataclass(frozen=True)
class SelfConfidence(Score):
    """The ranking by self-confidence of confident learning (Northcutt et al., 2021)."""

    def score(self, table: Table) -> np.ndarray:
        held_out = "logits_oof" in table.columns or "logits_oof" in table.data.columns
        logits = table["logits_oof" if held_out else "logits"]
        probs = replace(table, columns={**table.columns, "logits": logits}).probs
        cls = table.cls
        return np.where(cls >= 0, 1 - probs[np.arange(len(cls)), np.maximum(cls, 0)], np.nan)
