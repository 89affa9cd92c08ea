"""Pseudo-Label: the student's own confident guesses are labels of the same view.

    L = CE(y, f(weak(x))) + lambda(t) * mean_U 1[max q >= tau] CE(argmax q, f(weak(u))),   lambda(t) rises linearly
"""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.card import Card
from modicum.core.program import Clock
from modicum.core.settings import knob
from modicum.nn.match import Match

CARD = Card(
    title="Pseudo-Label",
    role="learn",
    idea="A guess is taken for the truth, more and more: the entropy of the guesses goes down.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1, "step": 500},
    year=2013,
    cites=("arXiv:1804.09170",),
    suits=("few",),
    cost=6.3,
    off={"weight": 0.0},
    changed=(
        "Lee's workshop paper has no identifier: the one given is of Oliver et al., whose form this is.  Guesses below "
        "tau do not count; the weight rises from 0 over the first "
        "`ramp` of training (the paper: between two epochs) and up to 1 (the paper: 3)."
    ),
)


@dataclass(frozen=True)
class PseudoLabel(Match):
    """Lee, 2013."""

    mu: int = knob(1, 1, 64, doc="unlabelled images for each labelled one")
    view: str = knob("weak", doc="view of an unlabelled image that learns from the guess", choices=("strong", "weak"))
    ramp: float = knob(0.4, 0, 1, doc="share of training over which the weight rises")

    def lam(self, clock: Clock) -> float:
        return self.weight * (min(1.0, clock.done / self.ramp) if self.ramp else 1.0)
