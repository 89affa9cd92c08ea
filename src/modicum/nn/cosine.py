"""A head whose logits are cosines between features and class directions, times a scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.errors import ModelError
from modicum.core.net import Net


class CosineLinear(nn.Module):
    """features (B,D) -> scale * cos(feature, weight_c), (B,C), in float32 at least; no bias.

    Source: Wang et al., NormFace, 2017, as used by LDAM (Cao et al., 2019).
    """

    def __init__(self, inside: int, classes: int, scale: float = 30.0) -> None:
        super().__init__()
        self.in_features, self.out_features, self.scale = inside, classes, scale
        self.weight = nn.Parameter(torch.empty(classes, inside))
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            wide = x if x.dtype == torch.float64 else x.float()
            return self.scale * F.linear(F.normalize(wide, dim=1), F.normalize(self.weight.to(wide.dtype), dim=1))


def cosine_head(net: Net, scale: float = 30.0) -> Net:
    """The network with a cosine head in place of its linear one, from the same weights; noted in its `spec`.

    ModelError where the head is not linear or the scale is not a positive number.
    """
    if not isinstance(net.head, nn.Linear):
        fix = "Choose another network."
        raise ModelError(f"the head is {type(net.head).__name__}, not linear", where="cosine head", fix=fix)
    if not 0 < scale <= 1000:
        raise ModelError(f"scale {scale!r} is not allowed", where="cosine head", fix="Allowed: above 0, up to 1000.")
    head = CosineLinear(net.head.in_features, net.head.out_features, scale)
    if not net.head.weight.is_meta:
        with torch.no_grad():
            head.weight.copy_(net.head.weight)
    net.head = head.to(net.mean.device)
    net.spec = {**net.spec, "edits": [*net.spec.get("edits", []), {"edit": "cosine-head", "scale": scale}]}
    return net
