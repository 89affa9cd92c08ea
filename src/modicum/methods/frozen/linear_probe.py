"""Linear probe: a linear classifier on the features of a network that is not trained.

    f_i = body(x_i) / |body(x_i)|,    min over W, b of (|W|^2 + |b|^2) / 2 + C sum_i l(W f_i + b, y_i)

One pass over the labelled images, then one convex problem: nothing is drawn, nothing depends on a learning rate.  It is
the first thing to try on a network that has seen other images, and what training must beat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Nets
from modicum.core.program import Change, Info, Program
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.linear import fit_linear
from modicum.nn.probe import Memory, passes, probe_head

CARD = Card(
    title="Linear probe (CNN features off the shelf)",
    role="learn",
    idea="A network that has seen other images describes ours well enough for a linear SVM on a few labels.",
    needs=("image", "class:some", "net:features"),
    makes=("net:class",),
    least={"class": 1},
    year=2014,
    cites=("arXiv:1403.6382", "arXiv:1411.1792"),
    suits=(),
    cost=0.01,
    changed=(
        "The features are those before the network's own classifier, pooled over positions, not of one chosen layer.  "
        "Further views are the recipe's weak ones, each an example of its own, not crops whose answers are averaged.  "
        "The SVM's margins are the logits: their softmax orders classes well and is no calibrated probability."
    ),
)
RECIPE = Recipe(steps=50, optim=Optim(lr=0.01), wraps=())  # of labels-only twins: the method itself takes no step


@dataclass(frozen=True)
class LinearProbe(Learn):
    """Razavian et al., 2014: a linear SVM with squared hinge, one class against the rest; or logistic regression."""

    classifier: str = knob("svm", doc="which convex loss on the features", choices=("svm", "logistic"))
    C: float = knob(1.0, 1e-4, 1e4, doc="weight of the examples against that of small weights")
    balance: str = knob("none", doc="examples count alike, or classes do", choices=("none", "balanced"))
    norm: str = knob("l2", doc="features at length 1, or as they are", choices=("l2", "none"))
    looks: int = knob(0, 0, 16, doc="weak views of each image beside the plain one")
    presets: ClassVar[Presets] = {"paper": {}, "small": {"C": 10.0}}
    recipes: ClassVar[Recipes] = {"paper": RECIPE, "small": RECIPE}

    def build(self, info: Info, make: Make) -> Nets:
        net = probe_head(make("net"), self.norm).requires_grad_(False)
        rows = max(1, sum(info.counts)) * (1 + self.looks)
        return Nets({"net": net, "memory": Memory(rows, net.head.in_features, self.norm)})  # type: ignore[arg-type]

    def program(self, info: Info) -> Program:
        return [*passes("remember", self.looks), Change("solve")]

    def remember(self, nets: Nets, batch: Batch) -> None:
        """Put away the features of labelled images."""
        part = batch["all"]
        nets["memory"].add(nets["net"].body(part[next(iter(part.views))]), part.labels.cls)

    def solve(self, nets: Nets) -> None:
        """Fit the head to what was put away."""
        memory, head = nets["memory"], nets["net"].head
        known = memory.cls >= 0
        balanced = self.balance == "balanced"
        weight, bias = fit_linear(
            memory.features[known], memory.cls[known], head.out_features, loss=self.classifier, c=self.C,
            balanced=balanced,
        )  # fmt: skip
        with torch.no_grad():
            head.weight.copy_(weight)
            head.bias.copy_(bias)
