"""FixMatch: confident guesses on a weak view teach the student on a strong view.

    q = softmax(f(weak(u)))  without gradient,   L = CE(y, f(weak(x))) + lambda * mean_U w(q) CE(argmax q, f(strong(u)))

U counts all unlabelled images, believed or not.  w is a trust rule (1[max q >= tau] in the paper).
B labelled, U = mu * B unlabelled images a step, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Nets, guessing
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import STRONG, Augment, Optim, Recipe
from modicum.core.settings import knob
from modicum.nn.align import Align
from modicum.nn.trust import make_trust, read_trust

CARD = Card(
    title="FixMatch",
    role="learn",
    idea="The student's own confident guess on a weakly augmented image is the label of the strongly augmented one.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1},
    year=2020,
    cites=("arXiv:2001.07685",),
    suits=("few",),
    cost=6.3,
    off={"weight": 0.0},
    changed=(
        "The weak view is a gentle affine map and the strong view an affine map with brightness, contrast and cutout "
        "(per image, on whole batches) instead of RandAugment's list.  The weak view is a forward of its own without "
        "gradient.  Guesses may be aligned to a class prior (ReMixMatch); the paper preset does not."
    ),
)


@dataclass(frozen=True)
class FixMatch(Learn):
    """Sohn et al., 2020."""

    weight: float = knob(1.0, 0, 100, doc="lambda, weight of the unlabelled term")
    mu: int = knob(7, 1, 64, doc="unlabelled images for each labelled one")
    view: str = knob("strong", doc="view of an unlabelled image that learns from the guess", choices=("strong", "weak"))
    trust: str = knob("fixed:tau=0.95", doc="trust rule and its knobs (nn/trust)")
    align: str = knob("none", doc="class prior the guesses are aligned to", choices=("none", "labelled", "uniform"))

    presets: ClassVar[Presets] = {"paper": {}, "small": {"mu": 4, "align": "labelled"}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=2**20, batch=64, optim=Optim(lr=0.03), schedule="cosine-7/16", wraps=("ema:decay=0.999",),
            views={"weak": Augment(shift=0.125, flip=True), "strong": STRONG.but(flip=True), "plain": Augment()},
        ),
        "small": Recipe(steps=600, batch=32, schedule="cosine-7/16", wraps=("ema:decay=0.995",)),
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        read_trust(self.trust)  # a wrong name or knob is refused before any work

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": make("net"), "align": Align(info, self.align), "trust": make_trust(self.trust, info)})

    def program(self, info: Info) -> Program:
        streams = {"l": Stream("class", info.recipe.batch, ("weak",))}
        if self.weight:
            streams["u"] = Stream("all", info.recipe.batch * self.mu, tuple(dict.fromkeys(("weak", self.view))))
        return [Train(streams, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        labelled, net = batch["l"], nets["net"]
        if "u" not in batch:
            return {
                "labelled": mean(cross_entropy(net(labelled["weak"]).logits, labelled.labels.cls, reduction="none"))
            }
        unlabelled = batch["u"]
        with guessing(net):
            probs = net(unlabelled["weak"]).logits.float().softmax(1)
            target, believed = nets["trust"](nets["align"](probs), unlabelled.rows)
        x = torch.cat([labelled["weak"], unlabelled[self.view]])
        known, guessed = net(x).logits.float().split([len(labelled.rows), len(unlabelled.rows)])
        return {
            "labelled": mean(cross_entropy(known, labelled.labels.cls, reduction="none")),
            "unlabelled": mean(cross_entropy(guessed, target, reduction="none"), believed, weight=self.weight),
            "believed": Term(believed.sum(), float(len(believed)), weight=0.0),
        }
