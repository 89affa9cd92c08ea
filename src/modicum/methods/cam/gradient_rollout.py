"""Gradient rollout: which patches reach the score, through attention that the score gains from.

    R = I;  for each block, first to last:  R <- R + Abar R,   Abar = mean_heads r(A * dS / dA)
    M = (R - I)[class token, patches]

r: positive part.  Where the head averages patches, M is the mean of their rows; I, which is the same for all patches
there, would outweigh the rest.  This is the recursion of Chefer et al. with gradient times attention in the place of
relevance, which they propose for attention to itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.errors import ModelError
from modicum.core.method import Explain, Seen

CARD = Card(
    title="Gradient rollout",
    role="explain",
    idea="Attention counts as far as the class's score gains from it, and is followed through all layers.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2021,
    cites=("arXiv:2103.15679", "arXiv:2012.09838"),
    changed="Relevance is attention times its gradient; that propagated layer by layer, of 2012.09838, is left out.",
    cost=1.0,
)


@dataclass(frozen=True)
class GradientRollout(Explain):
    """Chefer et al., 2021."""

    gradient: ClassVar[bool] = True
    attention: ClassVar[bool] = True

    def weigh(self, seen: Seen) -> Tensor:
        told = seen.attention
        if told is None or not told.slopes:
            fix = "Give a pass with attention and gradient."
            raise ModelError("the gradient of attention was not captured", where="gradient-rollout", fix=fix)
        query = told.query.expand(len(seen.acts), seen.count, 1, -1).to(told.weights[0])
        gained = torch.zeros_like(query)
        for block, slope in zip(reversed(told.weights), reversed(told.slopes)):
            gained = gained + (query + gained) @ (block[:, None] * slope).relu().mean(2)
        return gained[:, :, 0, told.prefix :].unflatten(2, seen.acts.shape[2:])
