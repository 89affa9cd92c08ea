"""CAM: where a class's evidence lies, read from the weights of the linear layer after average pooling.

    M_c = sum_k W[c, k] A_k            A: maps before pooling (K,h,w);  W: weights of the head (C,K)

No backward pass.  The mean of M_c over positions plus the bias is the logit of c, exactly.  Sign kept.
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
    title="CAM (class activation map)",
    role="explain",
    idea="A class's weights, applied before the pooling instead of after it, show where its evidence lies.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2016,
    cites=("arXiv:1512.04150",),
    cost=0.35,
)


@dataclass(frozen=True)
class Cam(Explain):
    """Zhou et al., 2016."""

    gradient: ClassVar[bool] = False

    def weigh(self, seen: Seen) -> Tensor:
        if seen.rows is None:
            found = "the head is not linear on the averaged maps of this layer"
            fix = "Take grad-cam, which equals it elsewhere, or the last layer before pooling."
            raise ModelError(found, where="cam", fix=fix)
        return torch.einsum("btk,bkhw->bthw", seen.rows, seen.acts)
