"""What methods share that train a dense detector (nn/detect.py): which position is to find which box, and the loss.

The equation stands in methods/boxes/detector.py, the plain case.  Letters: B images, P positions, C classes, M boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from modicum.core.batch import Boxes
from modicum.core.loss import Loss, Term
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Info
from modicum.core.settings import knob
from modicum.functional.assign import atss, by_centre, by_cost, by_iou, centreness, class_targets, distances, objects
from modicum.functional.boxes import giou
from modicum.functional.losses import focal
from modicum.functional.teacher import weighed
from modicum.nn.detect import Dense, detecting


@dataclass(frozen=True)
class Finder(Learn):
    """Not a method: the frame of one."""

    assign: str = knob(
        "centre", doc="which positions are to find a box: FCOS's, ATSS's, those whose anchor overlaps it by half, or "
        "those where it costs least", choices=("centre", "atss", "iou", "cost"),
    )  # fmt: skip
    radius: float = knob(1.5, 0.1, 100, doc="of `centre`: farthest from a box's centre", unit="strides")
    near: int = knob(9, 1, 1000, doc="of `atss`: positions of each level that are looked at for a box")
    scale: float = knob(8.0, 0.1, 100, doc="of a level: farthest side (centre), anchor (atss, iou)", unit="strides")
    least: float = knob(0.4, 0, 1, doc="share of a box in the view from which on it is to be found")
    width: int = knob(64, 8, 256, doc="channels of the head")
    depth: int = knob(2, 0, 4, doc="convolutions of each of the head's two towers")

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": detecting(make("net"), self.width, self.depth)})

    def against(self, said: Dense, boxes: Boxes, looked: Tensor | None, trust: Tensor | None = None) -> Loss:
        """The loss of what a network says, for boxes in the view.  trust: (B,P,C), how far each "no" is believed."""
        images, _, classes = said.logits.shape
        known = objects(boxes)
        owner = self.owner(said, known, images)
        target, asked = class_targets(owner, known, boxes, looked, said.at, classes)
        asked = asked if trust is None else weighed(asked, target, trust)
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
        if self.assign == "cost":
            return by_cost(said.at, said.stride, boxes, said.logits, said.xyxy)
        given = said.at, said.stride, boxes.xyxy.to(said.at.dtype), boxes.image, images
        if self.assign == "atss":
            return atss(*given, self.near, self.scale)
        if self.assign == "iou":
            return by_iou(*given, self.scale)
        return by_centre(*given, self.radius, self.scale)
