"""Nearest neighbours on the features of a network that is not trained: the labelled images themselves vote.

    p(c | x) ~ sum over the k nearest f_i of [y_i = c] w_i,    w_i = 1, or exp(cos(f, f_i) / T)

Nothing is fitted: a new label counts at once, and each answer can be shown by the images that gave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.method import Learn, Make, Recipes
from modicum.core.net import Nets
from modicum.core.program import Info, Program
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.nn.probe import neighbours_head, passes

CARD = Card(
    title="Nearest neighbours on features",
    role="learn",
    idea="An image is what the labelled images nearest to it are, by a network that has seen other images.",
    needs=("image", "class:some", "net:features"),
    makes=("net:class",),
    least={"class": 1},
    year=2018,
    cites=("doi:10.1109/TIT.1967.1053964", "arXiv:1805.01978"),
    suits=(),
    cost=0.01,
    changed=(
        "All neighbours as near as the k-th vote, so that ties do not hang on an order.  k = 20, for few labels, where "
        "Wu et al. take 200 of ImageNet's.  The logits are logarithms of vote shares, of at least 1e-6."
    ),
)
RECIPE = Recipe(steps=50, optim=Optim(lr=0.01), wraps=())  # of labels-only twins: the method itself takes no step


@dataclass(frozen=True)
class Knn(Learn):
    """Cover and Hart, 1967, with the weights of Wu et al., 2018."""

    k: int = knob(20, 1, 10_000, doc="how many neighbours vote")
    metric: str = knob("cosine", doc="what is near: angle, or distance", choices=("cosine", "l2"))
    weights: str = knob("distance", doc="nearer ones count more, or all alike", choices=("distance", "uniform"))
    temperature: float = knob(0.07, 1e-3, 1e3, doc="T: how much more nearer ones count")
    looks: int = knob(0, 0, 16, doc="weak views of each image beside the plain one")
    recipes: ClassVar[Recipes] = {"paper": RECIPE, "small": RECIPE}

    def build(self, info: Info, make: Make) -> Nets:
        rows = max(1, sum(info.counts)) * (1 + self.looks)
        net = neighbours_head(make("net"), rows, self.k, self.metric, self.weights, self.temperature)
        return Nets({"net": net.requires_grad_(False)})

    def program(self, info: Info) -> Program:
        return passes("remember", self.looks)

    def remember(self, nets: Nets, batch: Batch) -> None:
        """Put away the features of labelled images."""
        part, net = batch["all"], nets["net"]
        net.head.add(net.body(part[next(iter(part.views))]), part.labels.cls)
