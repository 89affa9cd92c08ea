"""Balanced softmax: log n_c is added to the logits in training and left out afterwards.

    L = mean_B CE(y, z + log n),   prediction: argmax z
"""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.card import Card
from modicum.core.settings import knob
from modicum.nn.supervise import Supervise

CARD = Card(
    title="Balanced softmax",
    role="learn",
    idea="Where common classes are common for the sample's sake only, the softmax is told how common they are.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1},
    year=2020,
    cites=("arXiv:2007.10740",),
    suits=("full", "tail"),
    cost=1.0,
    off={"objective": "cross-entropy"},
)


@dataclass(frozen=True)
class BalancedSoftmax(Supervise):
    """Ren et al., 2020: logit adjustment with tau = 1."""

    objective: str = knob("logit-adjustment:tau=1", doc="what labelled images ask, and its knobs (nn/objective)")
