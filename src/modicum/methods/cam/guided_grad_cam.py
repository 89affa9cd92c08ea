"""Guided Grad-CAM: the pixels that matter, where Grad-CAM says that the class's evidence lies.

    M = r(up(sum_k a_k A_k)) * sum_c G_c            a_k A_k: Grad-CAM;  up: to the image's size;  r: positive part

G: the score's gradient by the image's channels c, passing each ReLU only where it is positive (guided backpropagation).
Maps have the image's size.  A second forward and backward pass, through the whole network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen
from modicum.functional.heat import resized

CARD = Card(
    title="Guided Grad-CAM",
    role="explain",
    idea="Grad-CAM chooses the place, guided backpropagation the pixels.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2017,
    cites=("arXiv:1610.02391", "arXiv:1412.6806"),
    changed="Channels of the image are added up, and the sign of the gradient is kept.  Only ReLU is guided.",
    cost=2.0,
)


@dataclass(frozen=True)
class GuidedGradCam(Explain):
    """Selvaraju et al., 2017; Springenberg et al., 2014."""

    def weigh(self, seen: Seen) -> Tensor:
        place = torch.einsum("btk,bkhw->bthw", seen.gradient("guided-grad-cam").mean((-2, -1)), seen.acts).relu()
        size = (seen.images.shape[2], seen.images.shape[3])
        return resized(place, size) * seen.guided().sum(2).to(place.dtype)
