"""Grad-CAM: where a class's evidence lies, for any head: maps weighted by the mean of the score's gradient.

    a_k = 1/Z sum_ij dS / dA_kij,   M = sum_k a_k A_k            A: maps (K,h,w);  S: score;  Z = h w

Where the head is linear on averaged maps this is CAM / Z.  Sign kept: the paper's ReLU is for display.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen

CARD = Card(
    title="Grad-CAM",
    role="explain",
    idea="The gradient of a class's score says how much each map matters to it.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2017,
    cites=("arXiv:1610.02391",),
    changed="The sign is kept: apply ReLU to show what speaks for the class alone.",
    cost=0.4,
)


@dataclass(frozen=True)
class GradCam(Explain):
    """Selvaraju et al., 2017."""

    def weigh(self, seen: Seen) -> Tensor:
        return torch.einsum("btk,bkhw->bthw", seen.gradient("grad-cam").mean((-2, -1)), seen.acts)
