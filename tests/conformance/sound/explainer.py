"""A sound map: maps weighed by the mean of their gradient, sign kept, each image alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.errors import ModelError
from modicum.core.method import Explain

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

    def weigh(self, acts: Tensor, grads: Tensor | None, head: Tensor | None, targets: Tensor) -> Tensor:
        if grads is None:
            raise ModelError("no gradient", where="explainer")
        weights = grads.mean((-2, -1))
        return torch.einsum("btk,bkhw->bthw", weights, acts)
