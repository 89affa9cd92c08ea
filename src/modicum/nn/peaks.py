"""Networks whose classifier reads the strongest answer of any patch, and so says where each class is.

    f(x) = W max_n T_n,    M_c = r(W_c T) / max r(W_c T)        T: the last maps or tokens of patches;  r: positive part

An edit that models/files.py knows: the head becomes one without bias, and `M` is the network's `Out.places`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from modicum.core.net import Net, Out
from modicum.functional.tokens import evidence, gridded
from modicum.nn.cosine import CosineLinear
from modicum.nn.edit import noted, of
from modicum.nn.stages import shown


class Evidence(nn.Module):
    """Maps of evidence (B,C,h,w) -> the same in [0,1]: its positive part over the greatest of each map."""

    def forward(self, maps: Tensor) -> Tensor:
        return evidence(maps)


class Peaked(Net):
    """Patches are pooled by the greatest of each channel; explain method `own-map` draws `Out.places`."""

    global_pool: ClassVar[str] = "max"  # the head reads the patches, also where there is a class token
    generator: nn.Module

    def late(self, maps: Tensor) -> Tensor:
        return gridded(self.tokens(maps))

    def tokens(self, maps: Tensor) -> Tensor:
        """The last stage: tokens with the class token, or maps."""
        return super().late(maps)

    def summary(self, tokens: Tensor) -> Tensor:
        """The class token, or the mean of maps: (B,K)."""
        return super().pool(tokens)

    def pool(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3))

    def forward(self, x: Tensor) -> Out:
        out = super().forward(x)
        assert out.maps is not None
        return out._replace(places=self.generator(torch.einsum("ck,bkhw->bchw", self.head.weight, out.maps)))


def peaked(net: Net) -> Net:
    """The network with its strongest patches read by a new head without bias; noted in its `spec`.

    ModelError where it does not show its early maps or tokens.
    """
    shown(net)
    of(net, Peaked)
    head = nn.Linear(net.head.in_features, net.spec["args"]["classes"], bias=False)  # type: ignore[arg-type]
    net.head, net.generator = head.to(net.mean.device), Evidence()
    return noted(net, {"edit": "peaks"})


def projector(width: int, hidden: int) -> nn.Sequential:
    """Tokens (B,width) -> (B,hidden/2) for contrast: a layer of `hidden` with GELU, one of hidden/8, and cosines.

    The last layer has weights of length 1 (Caron et al., DINO, 2021).
    """
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden // 8),
        CosineLinear(hidden // 8, hidden // 2, 1.0),
    )  # fmt: skip
