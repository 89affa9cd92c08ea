"""Networks that say of each pixel what it is: a decoder over a network's maps, from coarse to fine (U-Net).

The network keeps its weights; its classifier makes way for the decoder.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.nn.edit import Levelled, black, noted, of
from modicum.nn.norm import BatchNorm2d

MOST = 128  # channels of a decoder's level
LEAST = 8  # pixels a side of the coarsest maps


class Decoder(nn.Module):
    """Maps from coarse to fine, and a class for each pixel (Ronneberger et al., 2015).

    Where the coarsest maps are larger than LEAST, further levels halve them first: a net for small images sees too
    little of them at once.  Then, at each level: the coarser maps are thinned by a 1 x 1 convolution, brought to the
    level's size (bilinear), put beside the level's own and go through a 3 x 3 convolution with batch norm and ReLU.
    The paper has two, unpadded and without batch norm, and brings maps up by a strided convolution.

    channels: of the levels, fine to coarse.  side: of the coarsest.  most: a level has as many channels as the
    encoder's, at most so many.
    """

    def __init__(self, channels: list[int], side: int, classes: int, most: int = MOST) -> None:
        super().__init__()
        more = max(0, math.ceil(math.log2(side / LEAST)))
        deep = [channels[-1], *[min(2 ** (i + 1) * channels[-1], most) for i in range(more)]]
        self.down = nn.ModuleList(_layer(a, b, 2) for a, b in pairwise(deep))
        channels = [*channels, *deep[1:]]
        widths = [min(c, most) for c in channels[:-1]] + channels[-1:]
        steps = list(pairwise(range(len(channels))))
        self.thin = nn.ModuleList(nn.Conv2d(widths[b], widths[a], 1) for a, b in steps)
        self.join = nn.ModuleList(_layer(channels[a] + widths[a], widths[a]) for a, _ in steps)
        self.cells = nn.Conv2d(widths[0], classes + 1, 1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        nn.init.xavier_normal_(self.cells.weight)

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Levels (B,K,h,w), fine to coarse -> logits (B,C+1,*size), background first."""
        levels = list(levels)
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels[-1]
        for own, thin, join in reversed(list(zip(levels, self.thin, self.join))):
            x = join(torch.cat([own, _resized(thin(x), own.shape[-2:])], 1))
        return _resized(self.cells(x), size)


def _resized(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _layer(inside: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, out, 3, stride, 1, bias=False), BatchNorm2d(out), nn.ReLU(inplace=True))


class Segmenting(Levelled):
    """A network whose answer is `Out.masks`, (B,C+1,H,W); `logits` say where each class is at its clearest."""

    decoder: Decoder

    def forward(self, x: Tensor) -> Out:
        maps, levels = self.seen(x)
        masks = self.decoder(levels, (x.shape[-2], x.shape[-1]))
        return Out(clearest(masks), self.pool(maps), maps if maps.ndim == 4 else None, masks=masks)


def clearest(masks: Tensor) -> Tensor:
    """By how much a class is above all others, background too, at its best pixel: (B,C+1,H,W) -> (B,C).

    Positive where a pixel of the image has the class, so a sigmoid of it is an answer about tags.
    """
    top, best = masks.max(1, keepdim=True)
    mine = best == torch.arange(masks.shape[1], device=masks.device)[:, None, None]
    second = masks.masked_fill(mine, -torch.inf).amax(1, keepdim=True)
    return (masks - torch.where(mine, second, top))[:, 1:].amax((2, 3))


def segmenting(net: Net, most: int = MOST) -> Net:
    """The network with a decoder in place of its classifier; noted in its `spec`.

    most: channels of a level of the decoder.  Weights of the decoder come from torch's global generator.
    ModelError where the network shows no maps, or has a dense head already.
    """
    if not 1 <= most <= 1024:
        raise ModelError(f"a decoder of {most} channels", where="network", fix="Give it 1 to 1024.")
    _, seen = black(net, net.levels)
    of(net, Segmenting)
    decoder = Decoder([m.shape[1] for m in seen], min(seen[-1].shape[2:]), net.spec["args"]["classes"], most)
    net.decoder, net.head = decoder.to(net.mean.device), nn.Identity()
    return noted(net, {"edit": "decoder", "most": most})
