"""Logit adjustment: tau times the log prior is added to the logits in training and left out afterwards.

    L = mean_B CE(y, z + tau log prior),   prediction: argmax z
"""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.card import Card
from modicum.core.settings import knob
from modicum.nn.supervise import Supervise

CARD = Card(
    title="Logit adjustment",
    role="learn",
    idea="The classifier of least balanced error is off by the log prior: learn with the prior, predict without.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1},
    year=2021,
    cites=("arXiv:2007.07314",),
    suits=(),
    cost=1.0,
    off={"objective": "cross-entropy"},
    changed="The loss of the paper, not its correction after training; at tau = 1 it is balanced softmax.",
)


@dataclass(frozen=True)
class LogitAdjustment(Supervise):
    """Menon et al., 2021."""

    objective: str = knob("logit-adjustment:tau=1", doc="what labelled images ask, and its knobs (nn/objective)")
