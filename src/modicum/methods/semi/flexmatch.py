"""FlexMatch: FixMatch whose threshold for a class rises as the class is learned.

    believe if max q >= tau * beta_c / (2 - beta_c),   beta_c: how far class c is learned (nn/trust/curriculum.py)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.card import Card
from modicum.core.method import Presets
from modicum.core.settings import knob
from modicum.nn.match import Match

CARD = Card(
    title="FlexMatch",
    role="learn",
    idea="A class that is hard to learn is believed at a lower confidence, so that it is not left behind.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1, "step": 500},
    year=2021,
    cites=("arXiv:2110.08263",),
    suits=("few",),
    cost=6.3,
    off={"weight": 0.0},
    changed="Views and the forward without gradient are FixMatch's here.  The small preset does not align guesses.",
)


@dataclass(frozen=True)
class FlexMatch(Match):
    """Zhang et al., 2021: curriculum pseudo-labelling."""

    trust: str = knob("curriculum:tau=0.95", doc="trust rule and its knobs (nn/trust)")
    presets: ClassVar[Presets] = {"paper": {}, "small": {"mu": 4}}
