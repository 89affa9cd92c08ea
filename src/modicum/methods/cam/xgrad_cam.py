"""XGrad-CAM: maps weighted by their gradient's mean, taken where the map is active.

    a_k = <A_k, g_k> / (<A_k, 1> + 1e-7),   M = sum_k a_k A_k            A: maps (K,h,w);  g = dS / dA

The weights are those that come nearest to two axioms: removing a map changes the score by its weight, and the weights
add up to the score.  A map that changes sign may add up to almost nothing: a warning says so.  Sign kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen

CARD = Card(
    title="XGrad-CAM",
    role="explain",
    idea="Gradients are averaged where the map is active, so that the weights add up to the score.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2020,
    cites=("arXiv:2008.02312",),
    changed="The sign is kept: the paper's ReLU is for display.  A sum of less than 1e-7 counts as that.",
    cost=0.4,
)


@dataclass(frozen=True)
class XgradCam(Explain):
    """Fu et al., 2020."""

    def weigh(self, seen: Seen) -> Tensor:
        grads, total = seen.gradient("xgrad-cam"), seen.acts.sum((2, 3))
        if bool((seen.acts < 0).any()):
            seen.notes.append("xgrad-cam: maps are negative in places, and their sums may be near 0: take hires-cam")
        total = torch.where(total.abs() < 1e-7, 1e-7, total)
        weights = torch.einsum("btkhw,bkhw->btk", grads, seen.acts) / total[:, None]
        return torch.einsum("btk,bkhw->bthw", weights, seen.acts)
