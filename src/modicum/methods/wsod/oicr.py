"""OICR: what WSDDN finds is told to classifiers of single regions, each the next one's teacher.

    L = sum_c BCE(S_c, t_c)  -  sum_k (1/R) sum_r w^k_r log p^k_{r, y^k_r}                S, t: as in WSDDN
    y^k_r = c where r overlaps the best region of a present class c, by the scores before, by tau or more; else nothing
    w^k_r = the score of that region;    scores before: s of WSDDN for k = 1, then p^{k-1}

The scores of boxes are the mean of p^k.  Nothing is asked of background where a tag is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Presets, Recipes
from modicum.core.recipe import Optim, Recipe
from modicum.functional.seeds import Seeds, top
from modicum.nn.proposing import MIRRORED, PAPER, SHORT, Looked, Refining

CARD = Card(
    title="Online instance classifier refinement (OICR)",
    role="learn",
    idea="The best region of each class teaches its neighbours the class and the others background, again and again.",
    needs=("image", "tags:some"),
    makes=("net:boxes.chosen",),
    year=2017,
    cites=("arXiv:1704.00138",),
    cost=8.0,
    changed="Any network, from scratch; RoIAlign in place of RoI pooling; proposals by our own selective search, and "
    "the whole image; one scale; layers of 512 in place of 4,096.  Means are over the regions of a batch, and `paper` "
    "keeps its rate to the end.  `least` and `first` are those of public code; `after` is ours.",
)


@dataclass(frozen=True)
class Oicr(Refining):
    """Tang et al., 2017, with the run's network as backbone."""

    presets: ClassVar[Presets] = {"paper": PAPER, "small": {"first": 3.0}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=70_000, batch=2, optim=Optim(lr=1e-3, nesterov=False), schedule="constant", wraps=(), views=MIRRORED
        ),
        "small": SHORT,
    }

    def seeds(self, scores: Tensor, found: Looked) -> Seeds:
        return top(scores, found.image, found.tags)
