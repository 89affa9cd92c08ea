"""Grad-CAM: where a class's evidence lies, for any head: maps weighted by the mean of the logit's gradient.

    a_k = 1/Z sum_ij dS_c / dA_kij,   M_c = sum_k a_k A_k            A: maps (K,h,w);  S_c: logit;  Z = h w

Where the head is linear on averaged maps this is CAM / Z.  Sign kept: the paper's ReLU is for display.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.errors import ModelError
from modicum.core.method import Explain

CARD = Card(
    title="Grad-CAM",
    role="explain",
    idea="The gradient of a class's logit says how much each map matters to it.",
    needs=("image", "net:class"),
    makes=("maps",),
    year=2017,
    cites=("arXiv:1610.02391",),
    changed="The sign is kept: apply ReLU to show what speaks for the class alone.",
    cost=0.4,
)


@dataclass(frozen=True)
class GradCam(Explain):
    """Selvaraju et al., 2017."""

    gradient: ClassVar[bool] = True

    def weigh(self, acts: Tensor, grads: Tensor | None, head: Tensor | None, targets: Tensor) -> Tensor:
        if grads is None:
            raise ModelError("the gradient was not captured", where="grad-cam", fix="Take a network with maps, or cam.")
        return torch.einsum("btk,bkhw->bthw", grads.mean((-2, -1)), acts)
