"""SoftMatch: every guess counts, weighted by a truncated Gaussian of its confidence.

    w(q) = exp(-min(max q - mu, 0)^2 / (2 v / 2^2)),  mu and v moving moments of max q,  q aligned to the uniform prior
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.card import Card
from modicum.core.method import Presets
from modicum.core.settings import knob
from modicum.nn.match import Match

CARD = Card(
    title="SoftMatch",
    role="learn",
    idea="Unsure guesses are many and often right: they count less instead of not at all.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1, "step": 500},
    year=2023,
    cites=("arXiv:2301.10921",),
    suits=("few",),
    cost=6.3,
    off={"weight": 0.0},
    changed=(
        "Views and the forward without gradient are FixMatch's here.  The small preset aligns to the visible labels' "
        "shares, which is the uniform prior where every class has as many labels."
    ),
)


@dataclass(frozen=True)
class SoftMatch(Match):
    """Chen et al., 2023."""

    trust: str = knob("gaussian:sigmas=2", doc="trust rule and its knobs (nn/trust)")
    align: str = knob("uniform", doc="class prior the guesses are aligned to", choices=("none", "labelled", "uniform"))
    presets: ClassVar[Presets] = {"paper": {}, "small": {"mu": 4, "align": "labelled"}}
