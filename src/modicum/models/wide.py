"""Wide ResNets as semi-supervised papers train them: `wrn-28-2` (CIFAR-10, SVHN) and `wrn-28-8` (CIFAR-100).

Zagoruyko and Komodakis 2016 with what Oliver et al. 2018 and FixMatch changed: leaky ReLU of slope 0.1, eps 0.001, and
a skip that carries the activated input in the first block alone.  `tiny-res` is the paper's own net, in any depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.settings import Settings, knob
from modicum.models.tiny import TINY, Tiny, by_stage
from modicum.models.tiny_vit import TinyVit, VitArgs
from modicum.nn.norm import BatchNorm2d


@dataclass(frozen=True)
class WideArgs(Settings):
    """Arguments of the wide nets."""

    momentum: float = knob(0.1, 1e-6, 1, doc="share of each batch in the running statistics; papers: 0.001")


class Wide(Tiny):
    """3 stages of (depth - 4) / 6 blocks of 16, 32 and 64 channels times width; the 2nd and 3rd halve the side.

    1.47 million parameters at depth 28, width 2.  maps: (B, 64 width, H/4, W/4); early: (B, 32 width, H/2, W/2).
    momentum: in torch's sense.  The papers' 0.001 fits their million steps: after 500 the running statistics would
    still be mostly those of the start.
    """

    def __init__(
        self, *, classes: int, channels: int, side: int, depth: int = 28, width: int = 2, momentum: float = 0.1
    ) -> None:
        super().__init__(channels)
        norm = partial(BatchNorm2d, eps=1e-3, momentum=momentum)
        widths = (16, 16 * width, 32 * width, 64 * width)
        self.stem = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        blocks: list[nn.Module] = []
        for stage, (inside, out) in enumerate(pairwise(widths)):
            for i in range((depth - 4) // 6):
                blocks.append(WideBlock(out if i else inside, out, 2 if stage and not i else 1, norm, not blocks))
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)
        self._start()

    def early(self, x: Tensor) -> Tensor:
        return self.blocks[: -len(self.blocks) // 3](self.stem(x))

    def late(self, maps: Tensor) -> Tensor:
        return active(self.norm(self.blocks[-len(self.blocks) // 3 :](maps)))

    def levels(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return by_stage(self, x)


class WideBlock(nn.Module):
    """x + conv(active(norm(conv(active(norm(x)))))); a 1x1 convolution carries x where the shape changes.

    first: it carries the activated x.  norm: makes a batch norm of so many channels.
    """

    def __init__(self, inside: int, out: int, stride: int, norm: partial[BatchNorm2d], first: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.first = norm(inside), norm(out), first
        self.conv1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.skip = nn.Conv2d(inside, out, 1, stride, bias=False) if inside != out or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        a = active(self.norm1(x))
        y = self.conv2(active(self.norm2(self.conv1(a))))
        return y + (x if self.skip is None else self.skip(a if self.first else x))


def active(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.1, in place."""
    return F.leaky_relu(x, 0.1, inplace=True)


# Every net of ours: what makes it, and its arguments.
OURS: dict[str, tuple[Callable[..., Tiny], type[Settings]]] = {
    **TINY,
    "tiny-vit": (TinyVit, VitArgs),
    "wrn-28-2": (partial(Wide, depth=28, width=2), WideArgs),
    "wrn-28-8": (partial(Wide, depth=28, width=8), WideArgs),
}
