"""Tiny nets of ours for images of 16 to 64 pixels, fast on one CPU core, trained from scratch.

`tiny-conv` is five convolutions; `tiny-res` a Wide ResNet (Zagoruyko and Komodakis, 2016), of which depth 28, width 2
is the customary net of semi-supervised papers.  Weights are drawn from torch's global generator: seed it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.errors import ModelError
from modicum.core.net import Net
from modicum.core.settings import Settings, knob
from modicum.nn.norm import BatchNorm2d


@dataclass(frozen=True)
class ConvArgs(Settings):
    """Arguments of tiny-conv."""

    width: int = knob(0, 0, 512, doc="channels of the first layer; 0: 16 for images of up to 20 pixels, 24 above")


@dataclass(frozen=True)
class ResArgs(Settings):
    """Arguments of tiny-res."""

    depth: int = knob(10, 10, 202, doc="layers: 6n + 4 for n blocks a stage")
    width: int = knob(1, 1, 64, doc="channels of the three stages: 16, 32 and 64 times this")


class Tiny(Net):
    """Net whose maps are averaged over the image and read by one linear layer."""

    def spatial(self, x: Tensor) -> Tensor:
        return self.late(self.early(x))

    def pool(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))

    def _start(self) -> None:
        """Draw the weights: He et al. 2015 for convolutions, Glorot and Bengio 2010 for the head."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(part, nn.Linear):
                nn.init.xavier_normal_(part.weight)
                nn.init.zeros_(part.bias)


class TinyConv(Tiny):
    """Five 3x3 convolutions of w, 2w, 2w, 4w, 4w channels with batch norm and ReLU; the 2nd and 4th halve the side.

    70,000 parameters for w = 16, 157,000 for w = 24 (10 classes).  maps: (B, 4w, H/4, W/4); early: (B, 2w, H/2, W/2).
    """

    def __init__(self, *, classes: int, channels: int, side: int, width: int = 0) -> None:
        super().__init__(channels)
        w = width or first_width(side)
        widths = (channels, w, 2 * w, 2 * w, 4 * w, 4 * w)
        strides = (1, 2, 1, 2, 1)
        self.stages = nn.Sequential(*(_layer(a, b, s) for (a, b), s in zip(pairwise(widths), strides)))
        self.head = nn.Linear(4 * w, classes)
        self._start()

    def early(self, x: Tensor) -> Tensor:
        return self.stages[:3](x)

    def late(self, maps: Tensor) -> Tensor:
        return self.stages[3:](maps)

    def levels(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        fine = self.stages[:1](x)
        middle = self.stages[1:3](fine)
        maps = self.late(middle)
        return maps, [fine, middle, maps]


def first_width(side: int) -> int:
    """Channels of tiny-conv's first layer: 16 for images of up to 20 pixels, 24 above."""
    return 16 if side <= 20 else 24


def _layer(inside: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, out, 3, stride, 1, bias=False), BatchNorm2d(out), nn.ReLU(inplace=True))


class TinyRes(Tiny):
    """Pre-activation residual net: 3 stages of n = (depth - 4) / 6 blocks; the 2nd and 3rd stage halve the side.

    78,000 parameters at depth 10, width 1; 1.47 million at depth 28, width 2.  maps: (B, 64 width, H/4, W/4); early:
    (B, 32 width, H/2, W/2), not activated yet.
    """

    def __init__(self, *, classes: int, channels: int, side: int, depth: int = 10, width: int = 1) -> None:
        super().__init__(channels)
        if depth < 10 or (depth - 4) % 6:
            near = max(10, 6 * round((depth - 4) / 6) + 4)
            raise ModelError(f"depth {depth} is not 6n + 4", where="tiny-res", fix=f"The nearest depth is {near}.")
        widths = (16, 16 * width, 32 * width, 64 * width)
        self.stem = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        blocks: list[nn.Module] = []
        for stage, (inside, out) in enumerate(pairwise(widths)):
            for i in range((depth - 4) // 6):
                blocks.append(Block(out if i else inside, out, 2 if stage and not i else 1))
        self.blocks = nn.Sequential(*blocks)
        self.norm = BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], classes)
        self._start()

    def early(self, x: Tensor) -> Tensor:
        return self.blocks[: -len(self.blocks) // 3](self.stem(x))

    def late(self, maps: Tensor) -> Tensor:
        return F.relu(self.norm(self.blocks[-len(self.blocks) // 3 :](maps)), inplace=True)

    def levels(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return by_stage(self, x)


def by_stage(net: Tiny, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`levels` of a residual net of ours: the maps after each of its three stages, the last one activated."""
    stage = len(net.blocks) // 3  # type: ignore[arg-type]
    fine = net.blocks[:stage](net.stem(x))  # type: ignore[operator,index]
    middle = net.blocks[stage : 2 * stage](fine)  # type: ignore[operator,index]
    maps = net.late(middle)
    return maps, [fine, middle, maps]


class Block(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))); where the shape changes, a 1x1 convolution carries the activated x."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = BatchNorm2d(inside), BatchNorm2d(out)
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.skip = nn.Conv2d(inside, out, 1, stride, bias=False) if inside != out or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(x), inplace=True)
        y = self.conv2(F.relu(self.norm2(self.conv1(a)), inplace=True))
        return y + (x if self.skip is None else self.skip(a))


TINY: dict[str, tuple[type[Tiny], type[Settings]]] = {"tiny-conv": (TinyConv, ConvArgs), "tiny-res": (TinyRes, ResArgs)}
