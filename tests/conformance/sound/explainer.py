"""A sound map: maps weighed by the mean of their gradient, sign kept, each image alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.errors import ModelError
from modicum.core.method import Explain, Seen

CARD = Card(
    title="Sound map",
    role="explain",
    idea="The gradient says how much each map matters.",
    needs=("image", "net:class"),
    makes=("maps",),
)


@dataclass(frozen=True)
class Explainer(Explain):
    """Mean gradients."""

    def weigh(self, seen: Seen) -> Tensor:
        acts, grads = seen.acts, seen.grads
        if grads is None:
            raise ModelError("no gradient", where="explainer")
        weights = grads.mean((-2, -1))
        return torch.einsum("btk,bkhw->bthw", weights, acts)
