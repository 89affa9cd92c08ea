"""BAS: a map is good if nothing that the classifier needs is left outside of it, and it is small.

    M = sigmoid(conv3x3(E))_y            E: maps before the last stage;  late, h: that stage and the head;  y: the class
    S = r(f_y(x)),    S_b = r(h_y(late'(E' (1 - M))))           ': weights and E are constants;  r: positive part
    L = CE(f(x), y) + amc min(1, S_b / S) + frg CE(h(late(E) pool(M)), y) + area mean(M)

A map that is too small leaves evidence outside (amc) and too little inside (frg); area keeps it from being all 1.
With tags, a map is asked of each class that is present.  What a classifier that knows nothing needs is nothing, so
the classifier learns first: before `after` of the steps L = CE(f(x), y), and M stays as it was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Net, Nets
from modicum.core.program import Clock, Info, Program
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.losses import binary_cross_entropy, cross_entropy, wide
from modicum.functional.told import asked, present
from modicum.nn.norm import settled
from modicum.nn.stages import constant, placed
from modicum.nn.told import training

CARD = Card(
    title="Background Activation Suppression (BAS)",
    role="learn",
    idea="A generator of maps learns to cover all that the classifier needs, by what the rest is still worth to it.",
    needs=("image", "class:some"),
    makes=("net:class.maps",),
    least={"class": 1},
    year=2022,
    cites=("arXiv:2112.00580", "arXiv:2309.12943"),
    cost=1.3,
    off={"amc": 0.0, "frg": 0.0, "area": 0.0},
    changed=(
        "From scratch on small networks, at our learning rates; the generator reads the maps before the network's last "
        "stage, whatever they are.  What is outside the map goes through the last stage with its running statistics, "
        "not with those of a batch of backgrounds.  `after` is ours, in the place of the paper's pretrained weights: "
        "asked for from the first step, the map learns what an untrained classifier looks at, and is worse than CAM.  "
        "`own-map` draws the map of the class that is asked for, not the "
        "mean over the most probable ones.  `labels=tags` is for images of several classes: then the network tells "
        "tags, and is a step before another (`--via bas:labels=tags`).  Maps better than CAM's were measured on scenes "
        "of digits; on blood cells, which fill their tiles, there was no clear gain."
    ),
)


@dataclass(frozen=True)
class Bas(Learn):
    """Wu et al., 2022; weights of the `paper` preset are those of ResNet-50 on CUB."""

    amc: float = knob(1.0, 0, 100, doc="weight of what the background is still worth")
    frg: float = knob(0.5, 0, 100, doc="weight of naming the foreground alone")
    area: float = knob(1.5, 0, 100, doc="weight of the map's size")
    after: float = knob(0.0, 0, 1, doc="share of training before anything is asked of the map")
    labels: str = knob("class", doc="what images are labelled with: one class, or tags", choices=("class", "tags"))

    presets: ClassVar[Presets] = {"paper": {}, "small": {"area": 1.0, "after": 0.75}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=22_500, batch=32, optim=Optim(lr=0.001), schedule="constant", wraps=()),
        "small": Recipe(wraps=()),
    }

    @property
    def maps(self) -> bool:
        """Whether anything is asked of a map."""
        return bool(self.amc or self.frg or self.area)

    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        return Nets({"net": placed(net) if self.maps else net})

    def program(self, info: Info) -> Program:
        return training(self.labels, info, self.after if self.maps else 1.0)

    def named(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        """The classifier's loss alone."""
        labelled = batch["l"]
        return {"labelled": asked(nets["net"](labelled["weak"]).logits, labelled.labels, self.labels)}

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        net, labelled = nets["net"], batch["l"]
        early = net.early(net.normalise(labelled["weak"]))
        late = net.late(early)
        logits = net.head(net.pool(late))
        image, cls = present(labelled.labels, logits.shape[1])
        shown = net.generator(early)[image, cls][:, None]
        score = wide(logits)[image, cls].relu().detach()
        inside = net.head(net.pool(late[image] * adaptive_avg_pool2d(shown, late.shape[2:])))
        return {
            "labelled": asked(logits, labelled.labels, self.labels),
            "background": mean(left(self.outside(net, early, image, cls, shown), score), weight=self.amc),
            "foreground": mean(self.of_class(inside, cls), weight=self.frg),
            "area": mean(wide(shown).mean((1, 2, 3)), weight=self.area),
        }

    def outside(self, net: Net, early: Tensor, image: Tensor, cls: Tensor, shown: Tensor) -> Tensor:
        """What the live weights, as constants, still see of each class outside its map: (P,), at least 0."""
        with constant(net), settled(net):
            rest = net.late(early.detach()[image] * (1 - shown))
            return wide(net.head(net.pool(rest))).gather(1, cls[:, None])[:, 0].relu()

    def of_class(self, logits: Tensor, cls: Tensor) -> Tensor:
        """The loss of each foreground (P,C) as an image of its class, (P,)."""
        if self.labels == "class":
            return cross_entropy(logits, cls)[0]
        return binary_cross_entropy(logits.gather(1, cls[:, None]), torch.ones_like(cls)[:, None])[0][:, 0]


def left(background: Tensor, score: Tensor) -> Tensor:
    """Share of a score (P,) that the background keeps, (P,) in [0, 1]: 1, and no gradient, where it exceeds it."""
    return torch.where(background > score, 1, background / (score + 1e-8))
