"""A tiny vision transformer of ours, for images of 32 to 64 pixels: `tiny-vit`.

Dosovitskiy et al. 2020, with what lets it learn from few images: patches are read by 3x3 convolutions (Xiao et al.
2021), and positions are learned from sines and cosines of row and column on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.errors import ModelError
from modicum.core.settings import Settings, knob
from modicum.models.tiny import Tiny
from modicum.nn.norm import BatchNorm2d


@dataclass(frozen=True)
class VitArgs(Settings):
    """Arguments of tiny-vit."""

    depth: int = knob(6, 2, 48, doc="blocks")
    width: int = knob(64, 8, 1024, doc="values a token")
    heads: int = knob(2, 1, 64, doc="heads of each attention")
    patch: int = knob(4, 2, 64, doc="pixels a side of a patch: 2, 4, 8, ...")


class TinyVit(Tiny):
    """A class token and one for each patch go through `depth` blocks; the head reads the class token.

    336,000 parameters at 64 pixels, one channel and 10 classes.  tokens: (B, 1 + h w, width), the class token first,
    then patches in rows; early: the tokens after two thirds of the blocks.  Positions are learned for images of `side`
    and interpolated for others.  ModelError for numbers that do not divide each other.
    """

    def __init__(
        self, *, classes: int, channels: int, side: int, depth: int = 6, width: int = 64, heads: int = 2, patch: int = 4
    ) -> None:
        super().__init__(channels)
        halvings = patch.bit_length() - 1
        for what, whole, part in (
            ("a width", width, max(4, 2**halvings)), ("a width", width, heads), ("a side", side, patch),
            ("a patch", patch, 2**halvings),
        ):  # fmt: skip
            if whole % part:
                raise ModelError(f"{what} of {whole} is not a multiple of {part}", where="tiny-vit", fix="Change one.")
        self.grid = side // patch
        widths = (channels, *(width >> i for i in reversed(range(halvings))))
        self.stem = nn.Sequential(*(_halved(a, b, b < width) for a, b in pairwise(widths)))
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(_waves(self.grid, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self._start()

    def pool(self, maps: Tensor) -> Tensor:
        return maps[:, 0]

    def early(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        maps = maps + self.placed(maps.shape[2], maps.shape[3])
        tokens = torch.cat([self.cls.expand(maps.shape[0], -1, -1), maps.flatten(2).transpose(1, 2)], 1)
        return self.blocks[: self.cut](tokens)

    def late(self, maps: Tensor) -> Tensor:
        return self.norm(self.blocks[self.cut :](maps))

    @property
    def cut(self) -> int:
        """How many blocks are early."""
        return len(self.blocks) * 2 // 3

    def placed(self, height: int, width: int) -> Tensor:
        """The positions of a grid of patches, (1, K, height, width)."""
        if (height, width) == (self.grid, self.grid):
            return self.positions
        return F.interpolate(self.positions, (height, width), mode="bicubic", align_corners=False, antialias=True)


class Block(nn.Module):
    """Tokens (B,N,K): x + attend(norm(x)), then x + mlp(norm(x)), the mlp of 4 K hidden values with GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.join(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def _halved(inside: int, out: int, active: bool) -> nn.Sequential:
    """A 3x3 convolution of half the side; all but the last are normalised and activated."""
    conv = nn.Conv2d(inside, out, 3, 2, 1, bias=not active)
    return nn.Sequential(conv, BatchNorm2d(out), nn.ReLU(inplace=True)) if active else nn.Sequential(conv)


def _waves(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column at wavelengths from 2 pi to 200 pi patches: (1, width, side, side)."""
    at, count = torch.arange(side, dtype=torch.float32), width // 4
    angles = torch.outer(100 ** -(torch.arange(count) / count), at)
    waves = torch.cat([angles.sin(), angles.cos()])
    rows, columns = waves[:, :, None].expand(-1, -1, side), waves[:, None].expand(-1, side, -1)
    return 0.3 * torch.cat([rows, columns])[None]
