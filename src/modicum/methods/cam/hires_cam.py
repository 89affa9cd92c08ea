"""HiRes-CAM: each map times its own gradient, position by position.

    M = sum_k g_k * A_k            A: maps (K,h,w);  g = dS / dA

It shows no place that the score does not depend on, which averaging the gradient first may do.  Sign kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen

CARD = Card(
    title="HiResCAM",
    role="explain",
    idea="Maps times gradients, position by position, mark only what the score depends on.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2020,
    cites=("arXiv:2011.08891",),
    cost=0.4,
)


@dataclass(frozen=True)
class HiresCam(Explain):
    """Draelos and Carin, 2020."""

    def weigh(self, seen: Seen) -> Tensor:
        return torch.einsum("btkhw,bkhw->bthw", seen.gradient("hires-cam"), seen.acts)
