"""What FixMatch and its kin share: a guess on a weak view, believed by a trust rule, teaches a strong view.

    q = align(softmax f(weak(u))) without gradient
    L = O(f(weak(x)), y) + lambda * mean_U w(q) CE(argmax q, f(view(u)))

U counts all unlabelled images, believed or not.  B labelled, U = mu * B unlabelled images a step, C classes.  O is the
objective of the labelled images (nn/objective), w the trust rule (nn/trust).  A method of this kin is a subclass that
sets its paper's parts, and changes at most one of `guess`, `looks` and `extra`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch, Part
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Nets, guessing
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import CROP, PLAIN, RANDAUGMENT, Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.losses import wide
from modicum.nn.align import Align
from modicum.nn.objective import make_objective, read_objective
from modicum.nn.trust import Pseudo, make_trust, read_trust, unsettled


@dataclass(frozen=True)
class Match(Learn):
    """Not a method: the frame of one."""

    weight: float = knob(1.0, 0, 100, doc="lambda, weight of the unlabelled term")
    mu: int = knob(7, 1, 64, doc="unlabelled images for each labelled one")
    view: str = knob("strong", doc="view of an unlabelled image that learns from the guess", choices=("strong", "weak"))
    trust: str = knob("fixed:tau=0.95", doc="trust rule and its knobs (nn/trust)")
    align: str = knob("none", doc="class prior the guesses are aligned to", choices=("none", "labelled", "uniform"))
    objective: str = knob("cross-entropy", doc="what labelled images ask, and its knobs (nn/objective)")

    presets: ClassVar[Presets] = {"paper": {}, "small": {"mu": 4, "align": "labelled"}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=2**20, batch=64, optim=Optim(lr=0.03), schedule="cosine-7/16", wraps=("ema:decay=0.999",),
            views={"weak": CROP, "strong": RANDAUGMENT, "plain": PLAIN},
        ),
        "small": Recipe(steps=600, batch=32, schedule="cosine-7/16", wraps=("ema:decay=0.995",)),
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        read_trust(self.trust)  # a wrong name or knob is refused before any work
        read_objective(self.objective)

    def build(self, info: Info, make: Make) -> Nets:
        objective = make_objective(self.objective, info)
        net = objective.dress(make("net"))
        align, trust = Align(info, self.align), make_trust(self.trust, info)
        return Nets({"net": net, "objective": objective, "align": align, "trust": trust})

    def program(self, info: Info) -> Program:
        streams = {"l": Stream("class", info.recipe.batch, ("weak",))}
        if self.weight:
            streams["u"] = Stream("all", info.recipe.batch * self.mu, tuple(dict.fromkeys(("weak", self.view))))
        return [Train(streams, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        x, y = self.labelled(batch, clock)
        if "u" not in batch:
            return {"labelled": nets["objective"].term(nets["net"](x).logits, y, clock.done)}
        unlabelled = batch["u"]
        target, believed = self.guess(nets, unlabelled, clock)
        known, guessed, seen = self.looks(nets, x, y, unlabelled[self.view], target, believed)
        return {
            "labelled": nets["objective"].term(known, y, clock.done),
            "unlabelled": mean(cross_entropy(guessed, target, reduction="none"), believed, weight=self.lam(clock)),
            "believed": Term(believed.sum(), float(len(believed)), weight=0.0),
            **self.extra(nets, seen, target, believed),
        }

    def risk(self) -> tuple[float, ...]:
        return unsettled(self.trust)

    def settled(self, tau: float) -> dict[str, Any]:
        return {"trust": f"{self.trust}{',' if ':' in self.trust else ':'}tau={tau!r}"}

    def labelled(self, batch: Batch, clock: Clock) -> tuple[Tensor, Tensor]:
        """Pixels (B,c,H,W) and classes (B,) of the labelled images."""
        return batch["l"]["weak"], batch["l"].labels.cls

    def guess(self, nets: Nets, unlabelled: Part, clock: Clock) -> Pseudo:
        """Guessed classes of the weak views, and how much each is believed."""
        with guessing(nets["net"]):
            probs = wide(nets["net"](unlabelled["weak"]).logits).softmax(1)
            return nets["trust"].judge(nets["align"](probs), unlabelled.rows)

    def looks(
        self, nets: Nets, x: Tensor, y: Tensor, strong: Tensor, target: Tensor, believed: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the labelled (B,C) and of the strong views (U,C) from one forward, and what `extra` is to see."""
        known, guessed = wide(nets["net"](torch.cat([x, strong])).logits).split([len(x), len(strong)])
        return known, guessed, guessed

    def extra(self, nets: Nets, seen: Tensor, target: Tensor, believed: Tensor) -> Loss:
        """Further terms of the strong views; none."""
        return {}

    def lam(self, clock: Clock) -> float:
        """The weight of the unlabelled term now."""
        return self.weight
