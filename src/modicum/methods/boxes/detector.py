"""Detector: boxes and their classes from boxes, by one network in one look.

    L = sum_known focal(f(x)_pc, t_pc) / (N + B)  +  sum_own s_p (1 - GIoU(b_p, b*_p)) / sum_own s_p
        +  mean_own BCE(m_p, s_p)

x, b*: the weak view and the boxes moved with it; p: positions, of which N own a box; B: images; t: one-hot; s: how near
the box's middle a position is, m what the network says of that.  A class is absent only where its boxes are complete;
boxes of value 0, and those that the view cuts, are neither object nor background.  `lost`: the share of boxes that no
position finds, since they are too small; it is only told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.errors import NeedsError
from modicum.core.loss import Loss
from modicum.core.method import Presets, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import Optim, Recipe
from modicum.functional.assign import in_view
from modicum.nn.finder import Finder

CARD = Card(
    title="FCOS (supervised detection)",
    role="learn",
    idea="Each position of a network's maps says what object it is in, and how far that object's sides are.",
    needs=("image", "boxes:some~"),
    makes=("net:boxes",),
    year=2019,
    cites=("arXiv:1904.01355", "arXiv:1912.02424"),
    cost=3.5,
    changed="Any network, of which up to three levels are used; sides are softplus(x) strides, not exp(x); the last "
    "weights start larger and classes likelier, for short training; a batch's images are added to what the class term "
    "is divided by, so that images without objects teach, too.",
)


@dataclass(frozen=True)
class Detector(Finder):
    """Tian et al., 2019, with the run's network as backbone."""

    presets: ClassVar[Presets] = {"paper": {"width": 256, "depth": 4}, "small": {}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=90_000, batch=16, optim=Optim(lr=0.01, nesterov=False, weight_decay=1e-4), wraps=()),
        "small": Recipe(steps=500, batch=16, optim=Optim("adamw", 3e-3, weight_decay=0.01), warmup=0.1, wraps=()),
    }

    def program(self, info: Info) -> Program:
        return [Train({"l": Stream("boxes", info.recipe.batch, ("weak",))}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part = batch["l"]
        if part.labels.boxes is None:
            raise NeedsError("no image has boxes", where="detector", fix="Give boxes of some images.")
        boxes = in_view(part.labels.boxes, part.views["weak"], self.least)
        return self.against(nets["net"].dense(part["weak"]), boxes, part.labels.looked)
