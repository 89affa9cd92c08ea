"""Mean Teacher: the student agrees with a moving average of itself.

    theta' <- a theta' + (1 - a) theta
    L = CE(y, f(x)) + w(t) mean_U || softmax f(view1(u)) - softmax f'(view2(u)) ||^2

w rises from 0 to `weight` over the first `ramp` of training as exp(-5 (1 - t)^2).  The teacher is delivered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Net, Nets, guessing
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.nn.ema import EMA

CARD = Card(
    title="Mean Teacher",
    role="learn",
    idea="A moving average of the student labels unlabelled images softly; the student is to agree on another view.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1, "step": 500},
    year=2017,
    cites=("arXiv:1703.01780",),
    suits=("few",),
    cost=6.4,
    off={"weight": 0.0},
    changed=(
        "Both views are gentle affine maps; the teacher normalises by its own batch.  Squared distance is summed over "
        "classes, as in the paper, so `weight` does not depend on their number."
    ),
)


@dataclass(frozen=True)
class MeanTeacher(Learn):
    """Tarvainen and Valpola, 2017."""

    weight: float = knob(10.0, 0, 1000, doc="weight of the agreement term at its height")
    ramp: float = knob(0.4, 0, 1, doc="share of training over which the weight rises")
    decay: float = knob(0.999, 0, 1, doc="a, how much of the teacher is kept at each step")
    mu: int = knob(1, 1, 64, doc="unlabelled images for each labelled one")

    presets: ClassVar[Presets] = {"paper": {}, "small": {"mu": 4, "decay": 0.995}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=40_000, batch=100, optim=Optim(lr=0.05), wraps=()),
        "small": Recipe(steps=600, batch=32, wraps=()),
    }

    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        return Nets({"net": net, "ema": EMA(net)})

    def program(self, info: Info) -> Program:
        streams = {"l": Stream("class", info.recipe.batch, ("weak",))}
        if self.weight:
            streams["u"] = Stream("all", info.recipe.batch * self.mu, ("weak", "strong"))
        return [Train(streams, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        labelled, net, teacher = batch["l"], nets["net"], nets["ema"].net
        if "u" not in batch:
            return {
                "labelled": mean(cross_entropy(net(labelled["weak"]).logits, labelled.labels.cls, reduction="none"))
            }
        unlabelled = batch["u"]
        with guessing(teacher):
            target = teacher(unlabelled["weak"]).logits.float().softmax(1)
        x = torch.cat([labelled["weak"], unlabelled["strong"]])
        known, guessed = net(x).logits.float().split([len(labelled.rows), len(unlabelled.rows)])
        distance = (guessed.softmax(1) - target).square().sum(1)
        return {
            "labelled": mean(cross_entropy(known, labelled.labels.cls, reduction="none")),
            "agreement": mean(distance, weight=self.weight * self.rise(clock.done)),
        }

    def rise(self, done: float) -> float:
        """The paper's sigmoid-shaped ramp, 0 to 1, at a share `done` of training."""
        return math.exp(-5 * (1 - min(1.0, done / self.ramp)) ** 2) if self.ramp else 1.0

    def after_step(self, nets: Nets, clock: Clock) -> None:
        nets["ema"].update(nets["net"], self.decay, int(clock.total))

    def deliver(self, nets: Nets) -> Net:
        return nets["ema"].net
