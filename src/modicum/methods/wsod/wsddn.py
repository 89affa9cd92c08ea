"""WSDDN: an image shows a class if one of its regions does; which one it is, the regions settle among themselves.

    s_rc = softmax_c(A h_r)_c  softmax_r(D h)_rc,     S_c = sum_r s_rc
    L = sum_c BCE(S_c, t_c)                           r: proposals of one image;  h: their features;  t: its tags

Unknown tags do not count.  Proposals are made from pixels before training and move with the view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.card import Card
from modicum.core.method import Recipes
from modicum.core.recipe import Optim, Recipe
from modicum.nn.proposing import MIRRORED, SHORT, Proposing

CARD = Card(
    title="Weakly supervised deep detection networks (WSDDN)",
    role="learn",
    idea="Regions of an image are classified and, for each class, compared with each other: their sum must tell tags.",
    needs=("image", "tags:some"),
    makes=("net:boxes.chosen",),
    year=2016,
    cites=("arXiv:1511.02853",),
    cost=8.0,
    changed="Any network, from scratch; region features by RoIAlign in place of spatial pyramid pooling; proposals by "
    "our own selective search, and the whole image, in place of edge boxes and their scores; layers of 512 in place of "
    "4,096.  One scale; no spatial regulariser; `paper` keeps its rate to the end.",
)


@dataclass(frozen=True)
class Wsddn(Proposing):
    """Bilen and Vedaldi, 2016, with the run's network as backbone."""

    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=100_000, batch=1, optim=Optim(lr=1e-3, nesterov=False), schedule="constant", wraps=(), views=MIRRORED
        ),
        "small": SHORT,
    }
