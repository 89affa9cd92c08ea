"""Ablation-CAM: maps weighted by how much the score falls without each of them.

    w_k = y - y(A_k = 0),   M = sum_k w_k A_k            A: maps (K,h,w);  y: score

Only what follows the layer is run for each map.  Where the head is linear on averaged maps, w_k = W[c, k] mean(A_k),
and nothing is run.  No gradient.  Sign kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen

CARD = Card(
    title="Ablation-CAM",
    role="explain",
    idea="A map matters as much as the score falls when it is set to zero.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2020,
    cites=("doi:10.1109/WACV45572.2020.9093360",),
    changed="The fall is not divided by the score: a negative score would turn every sign.  The sign is kept.",
    cost=20.0,
)
CHUNK = 2**24  # numbers in the copies that are run in a pass


@dataclass(frozen=True)
class AblationCam(Explain):
    """Desai and Ramaswamy, 2020."""

    gradient: ClassVar[bool] = False

    def weigh(self, seen: Seen) -> Tensor:
        if seen.rows is None:
            weights = torch.stack([_falls(seen, i) for i in range(len(seen.acts))])
        else:
            weights = seen.rows * seen.acts.mean((2, 3))[:, None]
        return torch.einsum("btk,bkhw->bthw", weights, seen.acts)


def _falls(seen: Seen, i: int) -> Tensor:
    """How much each target's score falls without each map of one image, (T,K).  Maps of zeros are not run."""
    acts = seen.acts[i]
    out = acts.new_zeros(seen.count, len(acts))
    for some in acts.flatten(1).any(1).nonzero()[:, 0].split(max(16, CHUNK // acts.numel())):
        copies = acts.repeat(1 + len(some), 1, 1, 1)  # the first stays whole
        copies[torch.arange(1, len(copies)), some] = 0
        scores = seen.rest(i, copies).scores
        out[:, some] = (scores[0] - scores[1:]).T.to(out.dtype)
    return out
