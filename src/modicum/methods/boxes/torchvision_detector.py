"""torchvision's detectors: boxes and their classes from boxes, by Faster R-CNN or FCOS over the run's network.

    L = sum of torchvision's losses over the images whose boxes are complete

The network's maps of up to three sizes are handed to torchvision's pyramid and heads.  torchvision knows neither
classes that nobody looked for nor objects to be ignored: what is in no box is background to it.  So images are drawn
only where the boxes of all classes are complete, and what is to be ignored is painted over with the mean colour.
`hidden`: the share of boxes that are painted over; it is only told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.batch import Batch, Boxes, Part
from modicum.core.card import Card
from modicum.core.errors import NeedsError
from modicum.core.loss import Loss, Term
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Net, Nets
from modicum.core.program import Clock, Collect, Info, Program, Stream, Train
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.assign import distances, in_view, objects
from modicum.nn.torchvision_detect import visioned

CARD = Card(
    title="torchvision's Faster R-CNN and FCOS",
    role="learn",
    idea="Regions that may hold an object are proposed and named, or each position says what object it is in.",
    needs=("image", "boxes:some~"),
    makes=("net:boxes",),
    year=2015,
    cites=("arXiv:1506.01497", "arXiv:1904.01355"),
    cost=4,
    changed="The heads are torchvision's, over any network, of which up to three levels are used, at the size that it "
    "has: nothing is resized, and anchors follow the levels' strides. Images of which some class was not looked for "
    "are left out; boxes to be ignored, or cut by the view, are painted over with the network's mean colour, since "
    "torchvision would take them for background.",
    origin="torchvision (BSD-3-Clause) is called, no code is copied",
)


@dataclass(frozen=True)
class TorchvisionDetector(Learn):
    """Ren et al., 2015, or Tian et al., 2019, as torchvision has them, with the run's network as backbone."""

    kind: str = knob("faster-rcnn", doc="which of torchvision's detectors", choices=("faster-rcnn", "fcos"))
    width: int = knob(256, 64, 256, doc="channels of the pyramid, a multiple of 32")
    cells: int = knob(7, 2, 14, doc="of `faster-rcnn`: cells a side into which a region is pooled")
    regions: int = knob(512, 8, 4096, doc="of `faster-rcnn`: regions of an image, at most, that its head learns from")
    least: float = knob(0.4, 0, 1, doc="share of a box in the view from which on it is to be found")

    presets: ClassVar[Presets] = {"paper": {}, "small": {"width": 64, "cells": 3, "regions": 64}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=90_000, batch=16, optim=Optim(lr=0.02, nesterov=False, weight_decay=1e-4), wraps=()),
        "small": Recipe(steps=500, batch=16, optim=Optim("adamw", 1e-3, weight_decay=0.01), warmup=0.1, wraps=()),
    }

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": visioned(make("net"), self.kind, self.width, self.cells, self.regions)})

    def program(self, info: Info) -> Program:
        size = info.recipe.batch
        return [
            Collect("complete", Stream("boxes", size, ("plain",)), into="complete"),
            Train({"l": Stream("boxes & complete > 0.5", size, ("weak",))}, info.recipe.steps),
        ]

    def complete(self, nets: Nets, batch: Mapping[str, Part]) -> Tensor:
        """Whether the boxes of all classes are there: float (B,), 1 or 0."""
        part = batch["all"]
        looked = part.labels.looked
        return torch.zeros(len(part.rows)) if looked is None else looked.all(1).float()

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part = batch["l"]
        if part.labels.boxes is None:
            raise NeedsError("no image has boxes", where="torchvision-detector", fix="Give boxes of some images.")
        net, boxes = nets["net"], in_view(part.labels.boxes, part.views["weak"], self.least)
        known = objects(boxes)
        of = [known.image == i for i in range(len(part.rows))]
        targets = [{"boxes": known.xyxy[mine], "labels": known.cls[mine]} for mine in of]
        terms = net.losses(painted(part["weak"], boxes, net), targets)
        hidden = known.xyxy.new_tensor(float(len(boxes.cls) - len(known.cls)))
        return {
            **{name: Term(share.mean * share.over, share.over) for name, share in terms.items()},
            "hidden": Term(hidden, float(len(boxes.cls)), weight=0.0),
        }


def painted(x: Tensor, boxes: Boxes, net: Net) -> Tensor:
    """Images (B,c,H,W) with the network's mean colour at pixels that lie in a box of state 0 and in none of state 1."""
    height, width = x.shape[-2:]
    y, left = (torch.arange(n, device=x.device, dtype=boxes.xyxy.dtype) + 0.5 for n in (height, width))
    at = torch.stack([left.repeat(height), y.repeat_interleave(width)], 1)
    inside = distances(at, boxes.xyxy[:, None]).amin(-1) > 0
    count = torch.zeros(2, len(x), len(at), device=x.device, dtype=torch.int64)
    count.index_put_((boxes.state.long(), boxes.image), inside.long(), accumulate=True)
    over = ((count[0] > 0) & (count[1] == 0)).view(len(x), 1, height, width)
    return torch.where(over, net.mean[:, None, None].to(x.dtype), x)
