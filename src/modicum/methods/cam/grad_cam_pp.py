"""Grad-CAM++: gradients weighted so that every instance of a class counts, not only the largest.

    w_k = sum_ij alpha_kij r(g_kij),   alpha = g^2 / (2 g^2 + S_k g^3),   M = sum_k w_k A_k

A: maps (K,h,w);  g = dS / dA;  S_k = sum of A_k;  r: positive part.  The score is exp(S), whose factor drops out.
Where g > 0, alpha r(g) = g / (2 + S_k g), which is what is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen

CARD = Card(
    title="Grad-CAM++",
    role="explain",
    idea="Gradients are weighted so that several instances of a class count alike.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2018,
    cites=("arXiv:1710.11063",),
    changed=(
        "The sign is kept: the paper's ReLU is for display.  Where maps add up to less than 0, alpha is kept to 1 at "
        "most, with a warning."
    ),
    cost=0.4,
)


@dataclass(frozen=True)
class GradCamPp(Explain):
    """Chattopadhyay et al., 2018."""

    def weigh(self, seen: Seen) -> Tensor:
        grads, total = seen.gradient("grad-cam-pp").relu(), seen.acts.sum((2, 3))
        below = 2 + total[:, None, :, None, None] * grads
        if bool((below < 1).any()):
            seen.notes.append("grad-cam-pp: maps add up to less than 0: its weights are not to be trusted here")
        weights = (grads / below.clamp_min(1)).sum((-2, -1))
        return torch.einsum("btk,bkhw->bthw", weights, seen.acts)
