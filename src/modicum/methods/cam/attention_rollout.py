"""Attention rollout: which patches reach the answer, through all layers of attention and around them.

    R = Ahat_L ... Ahat_1,   Ahat = rows of (mean_heads A + I), each divided by its sum;   M = R[class token, patches]

Where the head averages patches, M is the mean of their rows.  No gradient and no class: every target has the same map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.errors import ModelError
from modicum.core.method import Explain, Seen
from modicum.core.settings import knob

CARD = Card(
    title="Attention rollout",
    role="explain",
    idea="Attention of all layers, multiplied, says which patches reach the answer, whatever the class.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2020,
    cites=("arXiv:2005.00928",),
    changed="Heads may be joined by their greatest or least, and the least attention left out, as others propose.",
    cost=0.5,
    xfail={"map of the object": "it knows no class: where two objects are, every target has the same map"},
)


@dataclass(frozen=True)
class AttentionRollout(Explain):
    """Abnar and Zuidema, 2020."""

    gradient: ClassVar[bool] = False
    attention: ClassVar[bool] = True

    heads: str = knob("mean", choices=("mean", "max", "min"), doc="how heads are joined")
    discard: float = knob(0.0, 0, 1, doc="share of each image's least attention left out, but to the first token")

    def weigh(self, seen: Seen) -> Tensor:
        told = seen.attention
        if told is None:
            raise ModelError("attention was not captured", where="attention-rollout", fix="Give a pass with attention.")
        reach = told.query.expand(len(seen.acts), 1, -1).to(told.weights[0])
        for block in reversed(told.weights):
            joined = block.mean(1) if self.heads == "mean" else block.amax(1) if self.heads == "max" else block.amin(1)
            joined = self._without_least(joined)
            step = joined + torch.eye(joined.shape[-1], dtype=joined.dtype, device=joined.device)
            reach = reach @ (step / step.sum(-1, keepdim=True))
        maps = reach[..., told.prefix :].unflatten(2, seen.acts.shape[2:])
        return maps.expand(-1, seen.count, -1, -1)

    def _without_least(self, joined: Tensor) -> Tensor:
        """Attention (B,N,N) with the least of each image set to 0."""
        flat = joined.flatten(1)
        count = int(self.discard * flat.shape[1])
        if not count:
            return joined
        least = flat.topk(count, 1, largest=False).indices
        keep = torch.ones_like(flat).scatter(1, least, 0).view_as(joined)
        keep[:, :, 0] = 1
        return joined * keep
