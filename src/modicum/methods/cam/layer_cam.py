"""Layer-CAM: each map times the positive part of its own gradient; sharp at early layers too.

    M = sum_k r(g_k) * A_k            A: maps (K,h,w);  g = dS / dA;  r: positive part

Where no map is negative, as after a ReLU, neither is M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen

CARD = Card(
    title="LayerCAM",
    role="explain",
    idea="Positions whose growth would raise the score, weighted by what is there: good at any layer.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2021,
    cites=("doi:10.1109/TIP.2021.3089943",),
    changed="The sign is kept where maps are negative: the paper's last ReLU is for display.",
    cost=0.4,
)


@dataclass(frozen=True)
class LayerCam(Explain):
    """Jiang et al., 2021."""

    def weigh(self, seen: Seen) -> Tensor:
        return torch.einsum("btkhw,bkhw->bthw", seen.gradient("layer-cam").relu(), seen.acts)
