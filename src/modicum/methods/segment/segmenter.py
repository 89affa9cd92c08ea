"""Segmenter: a class for each pixel, from masks that people drew or that maps gave.

    L = mean_known CE(f(x)_p, m_p)  +  dice * mean (1 - (2 sum_p y_p t_p + 1) / (sum_p y_p + sum_p t_p + 1))

x, m: the weak view and the masks moved with it; y: softmax, t: one-hot; p: the pixels that are known.  The Dice term
(Milletari et al., 2016) counts a small thing as much as a large one; its mean is over images and the classes in each,
background too.  Pixels of masks that are less sure than `sure` are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.batch import Batch, Part
from modicum.core.card import Card
from modicum.core.errors import NeedsError
from modicum.core.kinds import UNKNOWN
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Learn, Make, Presets, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.geometry import warp_maps
from modicum.functional.losses import wide
from modicum.nn.segment import segmenting

CARD = Card(
    title="U-Net (supervised segmentation)",
    role="learn",
    idea="A decoder brings a classifier's maps back to the image's size; each known pixel is a label.",
    needs=("image", "masks:some~"),
    makes=("net:masks",),
    year=2015,
    cites=("arXiv:1505.04597", "arXiv:1606.04797"),
    cost=3.5,
    changed="Any encoder; convolutions are padded and normalised, maps are brought up by interpolation, and no pixel "
    "weighs more than another.",
)


@dataclass(frozen=True)
class Segmenter(Learn):
    """Ronneberger et al., 2015, with the run's network as encoder."""

    dice: float = knob(0.0, 0, 10, doc="weight of the Dice term")
    sure: float = knob(0.0, 0, 1, doc="least confidence of a mask that is believed; the pixels of others are unknown")
    most: int = knob(128, 1, 1024, doc="channels of a level of the decoder, at most")

    presets: ClassVar[Presets] = {"paper": {}, "small": {"dice": 1.0}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=40_000, batch=1, optim=Optim(lr=0.01, momentum=0.99, nesterov=False), wraps=()),
        "small": Recipe(optim=Optim("adamw", 3e-3, weight_decay=0.01), wraps=()),
    }

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": segmenting(make("net"), self.most)})

    def program(self, info: Info) -> Program:
        return [Train({"l": Stream("masks", info.recipe.batch, ("weak",))}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        target = self.target(batch["l"])
        logits = wide(nets["net"](batch["l"]["weak"]).masks)
        total = F.cross_entropy(logits, target, ignore_index=UNKNOWN, reduction="sum")
        loss = {"pixels": Term(total, (target != UNKNOWN).sum())}
        if self.dice:
            values, there = dice(logits, target)
            loss["dice"] = mean(values, there, there.sum(), weight=self.dice)
        return loss

    def target(self, part: Part) -> Tensor:
        """The class of each pixel of the weak view, int64 (B,H,W): 0 background, 255 unknown."""
        masks, view = part.labels.masks(self.sure), part.views["weak"]
        if masks is None:
            raise NeedsError("no image has masks", where="segmenter", fix="Give masks, or tags and `--want masks`.")
        size = (view.pixels.shape[-2], view.pixels.shape[-1])
        return warp_maps(masks[:, None], view.affine, size, view.size, mode="nearest", fill=UNKNOWN)[:, 0].long()


def dice(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One minus the soft Dice overlap of each class in each image, (B,C+1), and where the class is in it.

    logits: float (B,C+1,H,W).  target: int (B,H,W), 255 left out.
    """
    known = target != UNKNOWN
    true = F.one_hot(torch.where(known, target, 0), logits.shape[1]).movedim(3, 1) * known[:, None]
    said = logits.softmax(1) * known[:, None]
    both = said.sum((2, 3)) + true.sum((2, 3))
    values = 1 - (2 * (said * true).sum((2, 3)) + 1) / (both + 1)
    return values, true.any(2).any(2).to(values.dtype)
