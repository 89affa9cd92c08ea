"""LDAM-DRW: margins that grow as classes get rarer, and late in training weights that do.

    L = CE on scale * (cos_c - m_y [c = y]),  m_c ~ n_c^(-1/4);  from a share `defer` of training on weighted by class
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.card import Card
from modicum.core.method import Recipes
from modicum.core.recipe import Augment, Optim, Recipe
from modicum.core.settings import knob
from modicum.nn.supervise import Supervise

CARD = Card(
    title="LDAM-DRW",
    role="learn",
    idea="Rare classes get a larger margin first, and more weight only once the features are there.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1},
    year=2019,
    cites=("arXiv:1906.07413",),
    suits=(),
    cost=1.0,
    off={"objective": "cross-entropy"},
    changed="The learning rate falls as the recipe says, not by steps at epochs 160 and 180.",
)

CROP = Augment(shift=0.125, flip=True)


@dataclass(frozen=True)
class LdamDrw(Supervise):
    """Cao et al., 2019."""

    objective: str = knob("ldam:margin=0.5,scale=30,defer=0.8", doc="what labelled images ask, and its knobs")
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=20_000, batch=128, optim=Optim(lr=0.1, nesterov=False, weight_decay=2e-4), warmup=0.025, wraps=(),
            views={"weak": CROP, "strong": CROP, "plain": Augment()},
        ),
        "small": Recipe(),
    }  # fmt: skip
