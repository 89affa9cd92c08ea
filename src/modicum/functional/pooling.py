"""What lies in boxes, brought to one size: RoIAlign (He et al., 2017) as two matrix products.

    out[m,k,i,j] = sum_y sum_x  down[m,i,y] across[m,j,x] maps[image m, k, y, x]

Interpolation between pixels is a product of a weight along y and one along x, and so is the mean over a cell's samples.
The way back is two products as well: all cores work on both, on any device.

Letters: B images, K channels, h w pixels of the maps, M boxes, S cells a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SAMPLES = 2  # a cell's side: the mean of so many times as many points is taken
HELD = 2**19  # values of a product that are held at once: they stay in the cache


def pooled(maps: Tensor, xyxy: Tensor, image: Tensor, size: tuple[int, int], cells: int = 7) -> Tensor:
    """Boxes of maps, (M,K,S,S), in the type of the maps.  It has a gradient for the maps, none for the boxes.

    maps: float (B,K,h,w), of views of `size`, (height, width).  xyxy: finite (M,4), pixels of the view.  image: int64
    (M,), ascending, whose each box is.  A point outside of the maps by more than a pixel of theirs counts as 0, one
    that is less far outside as the rim; a box without area is one point.
    """
    h, w = maps.shape[-2:]
    wide = xyxy.detach().to(torch.promote_types(maps.dtype, torch.float32))
    across, down = (
        _weights(wide[:, k] * (n / whole), wide[:, k + 2] * (n / whole), n, cells).to(maps.dtype)
        for k, n, whole in ((0, w, size[1]), (1, h, size[0]))
    )
    out: Tensor = _Pool.apply(maps, down, across, image.bincount(minlength=len(maps)).tolist())
    return out


def _weights(low: Tensor, high: Tensor, n: int, cells: int) -> Tensor:
    """How much each of n pixels counts in each cell between two edges (M,), (M,S,n)."""
    points = (torch.arange(cells * SAMPLES, device=low.device, dtype=low.dtype) + 0.5) / (cells * SAMPLES)
    at = low[:, None] + (high - low)[:, None] * points - 0.5  # in pixels' centres
    there = (at >= -1) & (at <= n)
    near = (1 - (at.clamp(0, n - 1)[..., None] - torch.arange(n, device=at.device)).abs()).clamp_min(0)
    return (near * there[..., None]).unflatten(1, (cells, SAMPLES)).mean(2)


class _Pool(torch.autograd.Function):
    """The two products, image by image; for the way back it keeps the weights alone."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, down: Tensor, across: Tensor, counts: list[int]) -> Tensor:
        ctx.save_for_backward(down, across)
        ctx.counts, ctx.shape = counts, maps.shape
        k, cells = maps.shape[1], down.shape[1]
        out = maps.new_empty(len(down), k, cells, cells)
        with torch.autocast(maps.device.type, enabled=False):
            for b, m in _parts(counts, cells * k * maps.shape[2]):
                rows = (across[m].flatten(0, 1) @ maps[b].flatten(0, 1).T).unflatten(1, maps.shape[1:3])  # (mS, K, h)
                rows = rows.unflatten(0, (-1, cells)).permute(0, 3, 2, 1).flatten(2)  # (m, h, KS)
                out[m] = (down[m] @ rows).unflatten(2, (k, cells)).transpose(1, 2)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        down, across = ctx.saved_tensors
        maps = slope.new_zeros(ctx.shape)
        k, cells = slope.shape[1:3]
        with torch.autocast(slope.device.type, enabled=False):
            for b, m in _parts(ctx.counts, cells * k * maps.shape[2]):
                rows = (down[m].transpose(1, 2) @ slope[m].transpose(1, 2).flatten(2)).unflatten(2, (k, cells))
                rows = rows.permute(0, 3, 2, 1).flatten(0, 1).flatten(1)  # (mS, Kh)
                maps[b] += (rows.T @ across[m].flatten(0, 1)).view_as(maps[b])
        return maps, None, None, None


def _parts(counts: list[int], each: int) -> Iterator[tuple[int, slice]]:
    """Images and slices of their boxes, of so many values each, that fit into memory."""
    start = 0
    for b, count in enumerate(counts):
        for first in range(start, start + count, many := max(1, HELD // each)):
            yield b, slice(first, min(first + many, start + count))
        start += count
