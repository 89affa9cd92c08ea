"""EigenGrad-CAM: what most of the maps times their gradients have in common.

    F = U S V^T,   M = F v_1            F: g * A as (h w, K);  g = dS / dA;  v_1: first principal direction

Eigen-CAM made to know the class.  The sign, which is free, is the one that agrees with the sum over k of g_k * A_k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen
from modicum.core.settings import knob
from modicum.functional.heat import principal

CARD = Card(
    title="EigenGradCAM",
    role="explain",
    idea="The first principal direction of maps times gradients shows what stands out for a class.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2021,
    cites=(),
    origin="no paper: first seen in pytorch-grad-cam (MIT), read for what it computes",
    changed="The sign of the direction is chosen by the map of HiRes-CAM, and nothing is centred unless asked.",
    cost=0.6,
)


@dataclass(frozen=True)
class EigenGradCam(Explain):
    """Gildenblat and contributors, 2021."""

    center: bool = knob(False, doc="subtract each map's mean first")

    def weigh(self, seen: Seen) -> Tensor:
        parts = seen.gradient("eigen-grad-cam") * seen.acts[:, None]
        maps = principal(parts.flatten(0, 1), self.center).unflatten(0, parts.shape[:2])
        plain = parts.sum(2)
        agree = (maps * (plain - plain.mean((2, 3), keepdim=True))).sum((2, 3), keepdim=True)
        return torch.where(agree < 0, -maps, maps)
