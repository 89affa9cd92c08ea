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

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from modicum.core.batch import Batch, Boxes
from modicum.core.card import Card
from modicum.core.errors import NeedsError
from modicum.core.loss import Loss, Term
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.assign import atss, by_centre, centreness, class_targets, distances, in_view, objects
from modicum.functional.boxes import giou
from modicum.functional.losses import focal
from modicum.nn.detect import Dense, detecting

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
class Detector(Learn):
    """Tian et al., 2019, with the run's network as backbone."""

    assign: str = knob("centre", doc="which positions are to find a box: FCOS's or ATSS's", choices=("centre", "atss"))
    radius: float = knob(1.5, 0.1, 100, doc="of `centre`: farthest from a box's centre", unit="strides")
    near: int = knob(9, 1, 1000, doc="of `atss`: positions of each level that are looked at for a box")
    scale: float = knob(8.0, 0.1, 100, doc="of a level: farthest side (centre), anchor (atss)", unit="strides")
    least: float = knob(0.4, 0, 1, doc="share of a box in the view from which on it is to be found")
    width: int = knob(64, 8, 256, doc="channels of the head")
    depth: int = knob(2, 0, 8, doc="convolutions of each of the head's two towers")

    presets: ClassVar[Presets] = {"paper": {"width": 256, "depth": 4}, "small": {}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=90_000, batch=16, optim=Optim(lr=0.01, nesterov=False, weight_decay=1e-4), wraps=()),
        "small": Recipe(steps=2000, batch=16, optim=Optim("adamw", 3e-3, weight_decay=0.01), warmup=0.1, wraps=()),
    }

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": detecting(make("net"), self.width, self.depth)})

    def program(self, info: Info) -> Program:
        return [Train({"l": Stream("boxes", info.recipe.batch, ("weak",))}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part = batch["l"]
        if part.labels.boxes is None:
            raise NeedsError("no image has boxes", where="detector", fix="Give boxes of some images.")
        boxes = in_view(part.labels.boxes, part.views["weak"], self.least)
        return self.against(nets["net"].dense(part["weak"]), boxes, part.labels.looked)

    def against(self, said: Dense, boxes: Boxes, looked: Tensor | None) -> Loss:
        """The loss of what a network says, for boxes in the view."""
        images, _, classes = said.logits.shape
        known = objects(boxes)
        owner = self.owner(said, known, images)
        target, asked = class_targets(owner, known, boxes, looked, said.at, classes)
        b, p = (owner >= 0).nonzero(as_tuple=True)
        mine = owner[b, p]
        true = known.xyxy[mine].to(said.far.dtype)
        middle = centreness(distances(said.at[p], true))
        gap = 1 - giou(said.xyxy[b, p], true)
        lost = len(known.cls) - len(mine.unique())
        return {
            "class": Term((focal(said.logits, target) * asked).sum(), float(len(mine) + images)),
            "sides": Term((gap * middle).sum(), middle.sum()),
            "middle": Term(bce(said.middle[b, p], middle, reduction="sum"), float(len(b))),
            "lost": Term(middle.new_tensor(float(lost)), float(len(known.cls)), weight=0.0),
        }

    def owner(self, said: Dense, boxes: Boxes, images: int) -> Tensor:
        """Which box each position is to find, int64 (B,P), -1 none."""
        given = said.at, said.stride, boxes.xyxy.to(said.at.dtype), boxes.image, images
        if self.assign == "atss":
            return atss(*given, self.near, self.scale)
        return by_centre(*given, self.radius, self.scale)
