"""Networks that say where things are: a dense head over a network's maps of several sizes (FCOS, Tian et al., 2019).

At each position of each level it says how likely each class is, how far the four sides of the box are, and how near
the box's middle the position is.  The network keeps its weights; its classifier makes way for the head.

Letters: B images, P positions of all levels, C classes, M boxes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.batch import Boxes
from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.functional.boxes import clip, nms
from modicum.functional.losses import wide
from modicum.nn.edit import Levelled, black, noted, of

WIDTH, DEPTH = 64, 2
FINEST = 3.5  # pixels a step of the finest level, at least: nets halve, and odd sides are rounded up
USED = 3  # levels of the network that are used, at most
LEVELS = 5  # in all, at most
LEAST = 4  # pixels a side of the coarsest level
RARE, SPREAD = 0.05, 0.03  # before training: how likely a class is at a position; deviation of the last weights


class Dense(NamedTuple):
    """logits: (B,P,C), of sigmoids.  middle: (B,P), logits of centreness.  far: (B,P,4), pixels to the left, upper,
    right and lower side, positive.  at: (P,2), the positions, x and y in pixels of the view.  stride: (P,)."""

    logits: Tensor
    middle: Tensor
    far: Tensor
    at: Tensor
    stride: Tensor

    @property
    def xyxy(self) -> Tensor:
        """The boxes, (B,P,4)."""
        return torch.cat([self.at - self.far[..., :2], self.at + self.far[..., 2:]], -1)

    @property
    def score(self) -> Tensor:
        """How sure of a class in a box, (B,P,C): the geometric mean of its probability and of centreness."""
        return (wide(self.logits).sigmoid() * wide(self.middle).sigmoid()[..., None]).sqrt()


class Head(nn.Module):
    """Levels -> Dense.

    Where the coarsest maps are larger than LEAST, further levels halve them.  Coarser levels are added to finer ones
    (Lin et al., 2017, feature pyramid networks), and two towers of `depth` 3 x 3 convolutions, the same for all levels,
    read them: one for classes, one for sides and centreness.  Norms are of groups of channels, so an answer depends on
    its own image alone.

    channels: of the maps that are used, fine to coarse.  side: of the coarsest.  width: channels of a level.
    """

    def __init__(self, channels: list[int], side: int, classes: int, width: int = WIDTH, depth: int = DEPTH) -> None:
        super().__init__()
        more = min(LEVELS - len(channels), max(0, math.ceil(math.log2(side / LEAST))))
        deep = [channels[-1]] + [width] * more
        self.down = nn.ModuleList(nn.Sequential(*_layer(a, b, 2)) for a, b in pairwise(deep))
        self.side = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.what, self.where = (
            nn.Sequential(*(m for _ in range(depth) for m in _layer(width, width))) for _ in range(2)
        )
        self.scale = nn.Parameter(torch.ones(len(channels) + more))
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        self.cells, self.sides = nn.Conv2d(width, classes, 3, padding=1), nn.Conv2d(width, 5, 3, padding=1)
        for part in (self.cells, self.sides):
            nn.init.normal_(part.weight, std=SPREAD)
        nn.init.constant_(self.cells.bias, -math.log(1 / RARE - 1))  # type: ignore[arg-type]
        nn.init.zeros_(self.sides.bias)  # type: ignore[arg-type]

    def forward(self, levels: list[Tensor], size: tuple[int, int]) -> Dense:
        """Levels (B,K,h,w), fine to coarse, of images of `size`, (height, width)."""
        coarse = [levels[-1]]
        for down in self.down:
            coarse.append(down(coarse[-1]))
        x = [side(m) for side, m in zip(self.side, levels, strict=True)]
        for i in reversed(range(len(x))):
            above = x[i + 1] if i + 1 < len(x) else (coarse[1] if len(coarse) > 1 else None)
            if above is not None:
                x[i] = x[i] + F.interpolate(above, x[i].shape[-2:], mode="nearest")
        x = [smooth(m) for smooth, m in zip(self.smooth, x, strict=True)] + coarse[1:]
        said = [self._said(m, scale, size) for m, scale in zip(x, self.scale, strict=True)]
        logits, middle, far, at, stride = zip(*said)
        return Dense(torch.cat(logits, 1), torch.cat(middle, 1), torch.cat(far, 1), torch.cat(at), torch.cat(stride))

    def _said(self, maps: Tensor, scale: Tensor, size: tuple[int, int]) -> Dense:
        """What one level says."""
        logits, rest = (wide(m).flatten(2).transpose(1, 2) for m in (
            self.cells(self.what(maps)), self.sides(self.where(maps))))  # fmt: skip
        h, w = maps.shape[-2:]
        y, x = ((torch.arange(n, device=rest.device, dtype=rest.dtype) + 0.5) * whole / n
                for n, whole in ((h, size[0]), (w, size[1])))  # fmt: skip
        at = torch.stack([x.repeat(h), y.repeat_interleave(w)], 1)
        step = size[1] / w
        return Dense(logits, rest[..., 4], F.softplus(scale * rest[..., :4]) * step, at, at.new_full((h * w,), step))


def _layer(inside: int, out: int, stride: int = 1) -> list[nn.Module]:
    norm = nn.GroupNorm(math.gcd(out, max(1, out // 8)), out)
    return [nn.Conv2d(inside, out, 3, stride, 1, bias=False), norm, nn.ReLU(inplace=True)]


class Detecting(Levelled):
    """A network whose answer is `Out.boxes`, in evaluation mode; `logits` say where each class is at its clearest.

    A loss reads `dense`.  While it is exported it gives no boxes, since how many there are is not known before.
    """

    detector: Head

    def dense(self, x: Tensor) -> Dense:
        """Images (B,c,H,W) in [0,1] -> what is said of each position."""
        return self.both(x)[1]

    def forward(self, x: Tensor) -> Out:
        out, said = self.both(x)
        if self.training or torch.compiler.is_compiling():
            return out
        return out._replace(boxes=found(said, (x.shape[-2], x.shape[-1])))

    def both(self, x: Tensor) -> tuple[Out, Dense]:
        """Images (B,c,H,W) in [0,1] -> the answer without boxes, and what is said of each position."""
        maps, levels = self.seen(x)
        said = self.detector(levels[-len(self.detector.side) :], (x.shape[-2], x.shape[-1]))
        return Out(said.logits.amax(1), self.pool(maps), maps if maps.ndim == 4 else None), said


@torch.no_grad()
def found(
    said: Dense, size: tuple[int, int], *, least: float = 0.05, tau: float = 0.6, top: int = 1000, most: int = 100
) -> Boxes:
    """The boxes of each image, by falling score: of the `top` surest answers those of a score above `least`, one of
    those of a class that overlap by more than `tau`, and `most` in all.  size: height and width of the images."""
    score = said.score
    value, at = score.flatten(1).topk(min(top, score[0].numel()))
    image, rank = (value > least).nonzero(as_tuple=True)
    value, at = value[image, rank], at[image, rank]
    cls = at % score.shape[2]
    xyxy = clip(said.xyxy[image, at // score.shape[2]], size)
    kept = nms(xyxy, value, image * score.shape[2] + cls, tau)
    kept = kept[image[kept].argsort(stable=True)]
    mine = image[kept]
    place = torch.arange(len(kept), device=kept.device) - torch.searchsorted(mine, mine)
    kept = kept[place < most]
    return Boxes(xyxy[kept], cls[kept], torch.ones_like(kept, dtype=torch.int8), image[kept], value[kept])


def detecting(net: Net, width: int = WIDTH, depth: int = DEPTH) -> Net:
    """The network with a dense head in place of its classifier; noted in its `spec`.

    Used are the last levels of the network, at most USED, whose steps are FINEST pixels or more; else its last one.
    width, depth: of the head.  Weights of the head come from torch's global generator.  ModelError where the network
    shows no maps, or has a dense head already.
    """
    if not (8 <= width <= 1024 and 0 <= depth <= 16):
        found, fix = f"a head of width {width} and depth {depth}", "Give a width of 8 to 1024 and a depth of 0 to 16."
        raise ModelError(found, where="network", fix=fix)
    _, seen = black(net, net.levels)
    side = net.spec["args"]["side"]
    of(net, Detecting)
    used = [m for m in seen if side / m.shape[-1] >= FINEST][-USED:] or seen[-1:]
    head = Head([m.shape[1] for m in used], min(used[-1].shape[2:]), net.spec["args"]["classes"], width, depth)
    net.detector, net.head = head.to(net.mean.device), nn.Identity()
    return noted(net, {"edit": "detector", "width": width, "depth": depth})
