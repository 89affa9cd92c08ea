"""LBBA: boxes learned from tags, with the help of a network that learned to move boxes on images of other classes.

    L = MIST's, without its boxes  +  a fast head's: class, by the refinements; offsets, by F_t(image, region)

F_t: the adjuster (lbba-adjuster), frozen; its stages are used one after the other, each for as many steps.  It alone is
brought: no other image is seen here.  The scores of boxes are the mean of the refinements and the fast head; the fast
head's offsets move them.  The equations stand in nn/boosting.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.errors import NeedsError
from modicum.core.loss import Loss
from modicum.core.method import Make, Presets, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.nn.adjusting import Adjusting
from modicum.nn.boosting import Boosting
from modicum.nn.proposing import MIRRORED, PAPER, SHORT

CARD = Card(
    title="Learned bounding-box adjusters (LBBA)",
    role="learn",
    idea="A frozen network that moves boxes, learned on other classes, tells a detector from tags where boxes belong.",
    needs=("image", "tags:some", "net:boxes.adjust"),
    makes=("net:boxes.chosen",),
    year=2021,
    cites=("arXiv:2108.01499",),
    cost=12.0,
    origin="settings of public code (DongSky/lbba_boosted_wsod) at second hand; none of it was read or copied",
    changed="Any network, from scratch; proposals by our own selective search, and the whole image; no region proposal "
    "network; one scale; layers of 512 in place of 4,096.  All regions of a batch are learned from in place of 128 of "
    "an image, and means are over them.  The rule of the mask, and how long a stage lasts, are ours: the paper names "
    "both.  A centre is told to move by half a side at most, and a move to a box that overlaps the region by less than "
    "0.3 teaches nothing.  The fast head answers on proposals alone; its scores and the refinements' are averaged.  "
    "`paper` keeps its rate to the end; `after` is ours.",
)
ALL, FIRST, LAST, NONE = "all", "first", "last", "none"


@dataclass(frozen=True)
class Lbba(Boosting):
    """Dong et al., 2021, with the run's network as backbone."""

    use: str = knob(ALL, doc="stages of the adjuster that are used, in turn", choices=(ALL, FIRST, LAST, NONE))

    presets: ClassVar[Presets] = {"paper": PAPER, "small": {}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=200_000, batch=1, optim=Optim(lr=1e-3, nesterov=False, weight_decay=1e-4), schedule="constant",
            wraps=(), views=MIRRORED,
        ),
        "small": SHORT,
    }  # fmt: skip

    def build(self, info: Info, make: Make) -> Nets:
        nets = Nets({"net": self.reader(make, self.heads, fast=True)})
        if self.use == NONE:
            return nets
        nets["adjust"] = net = make("adjust", frozen=True)
        if not isinstance(net, Adjusting):
            fix = "Bring one that lbba-adjuster trained, or give --set use=none."
            raise NeedsError("the network that was brought does not move boxes", where="net:boxes.adjust", fix=fix)
        return nets

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        return self.boosted(nets, batch["l"], clock, self.stage(nets, clock.done))

    def stage(self, nets: Nets, done: float) -> int:
        """Which stage of the adjuster helps when a share `done` of the steps is over; -1: none."""
        if self.use == NONE:
            return -1
        stages = len(nets["adjust"].mover.stages)
        return {FIRST: 0, LAST: stages - 1}.get(self.use, min(int(done * stages), stages - 1))
