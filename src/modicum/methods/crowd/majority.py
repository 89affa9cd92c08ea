"""Majority vote: the class that most annotators said, and the shares of the votes as probabilities.

    p_tk = (n_tk + a) / (n_t + a C)         n_tk: votes on image t for class k;  a: smoothing;  C: number of classes

Ties go to the class with more votes overall, then to the first, and are flagged in the column `tied`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modicum.core.card import Card
from modicum.core.dataset import Dataset, Table
from modicum.core.method import Label
from modicum.core.settings import knob
from modicum.functional.votes import say, votes_of

CARD = Card(
    title="Majority vote",
    role="label",
    idea="Every annotator counts the same: the class with most votes, and the shares of the votes as probabilities.",
    needs=("votes:some",),
    makes=("probs:some~",),
    year=1785,
    changed="Shares may be smoothed by a Dirichlet prior; ties are broken by the overall vote and flagged.",
    cost=0.01,
)


@dataclass(frozen=True)
class Majority(Label):
    """Normalised counts."""

    smoothing: float = knob(0.0, 0, 100, doc="a, votes added to every class of every image")

    def label(self, table: Table) -> Dataset:
        votes = votes_of(table)
        counts = votes.counts()
        smooth = counts + self.smoothing
        total = smooth.sum(1, keepdims=True)
        probs = np.divide(smooth, total, out=np.full_like(smooth, 1 / votes.classes), where=total > 0)
        return say(table, votes, probs, counts.sum(0) / counts.sum(), "majority")
