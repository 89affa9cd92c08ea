"""Cells of pooled regions that are hidden in training, chosen by whoever would hurt most (Ren et al., 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modicum.functional.losses import wide

TEMPERATURE, NEVER = 0.3, 1e-4  # of the relaxed draws; how far chances and draws stay from 0 and 1


class ConcreteDrop(nn.Module):
    """Maps (M,K,S,S) and draws -> the maps with cells hidden, by the concrete relaxation of a coin a cell.

        hidden = sigmoid((logit p + logit u) / temperature),   p = most sigmoid(conv(relu(conv(maps))))

    What stays is scaled so that the mean of the mask is 1.  The coin's chance p, at most `most`, has the gradient with
    its sign turned: it learns to hide what the loss rests on.  No gradient of it reaches the maps.
    """

    def __init__(self, channels: int, most: float = 0.3) -> None:
        super().__init__()
        self.most = most
        self.look = nn.Sequential(
            nn.Conv2d(channels, max(1, channels // 4), 3, 1, 1), nn.ReLU(inplace=True),
            nn.Conv2d(max(1, channels // 4), 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, maps: Tensor, luck: Tensor) -> Tensor:
        """luck: (M,S,S) in [0,1)."""
        said = wide(self.look(maps.detach())[:, 0])
        said = 2 * said.detach() - said  # the same value, the other direction
        chance = (self.most * said.sigmoid()).clamp(NEVER, 1 - NEVER)
        drawn = luck.to(chance.dtype).clamp(NEVER, 1 - NEVER)
        shown = 1 - ((chance.logit() + drawn.logit()) / TEMPERATURE).sigmoid()
        scaled = shown / shown.mean((1, 2), keepdim=True).clamp_min(NEVER)
        return maps * scaled[:, None].to(maps.dtype)


def place(image: Tensor) -> Tensor:
    """The place of each of M in its image, int64 (M,), from `image` (M,), ascending."""
    return torch.arange(len(image), device=image.device) - torch.searchsorted(image, image)
