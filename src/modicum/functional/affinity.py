"""Random walks: the values of a map wander to pixels that belong to the same thing, and stop at edges.

Letters: B images, C maps, P neighbours within a radius, H W pixels.  An affinity is a number in [0, 1] between two
pixels, the same in both directions; it is held by offset, (B,P,H,W), 0 where the neighbour lies outside the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.errors import DataError, SettingsError

Span = tuple[slice, slice]


class Affinity(NamedTuple):
    """values: float (B,P,H,W), between a pixel and the one at each offset.  offsets: P pairs (down, right)."""

    values: Tensor
    offsets: tuple[tuple[int, int], ...]


def half(radius: float) -> tuple[tuple[int, int], ...]:
    """Offsets (down, right) at most `radius` away, one of each opposite pair and without (0, 0)."""
    if radius < 1:
        raise SettingsError(f"radius {radius}", where="affinity", fix="Give at least 1 pixel.")
    r = int(radius)
    square = ((y, x) for y in range(r + 1) for x in range(-r, r + 1) if (y, x) > (0, 0))
    return tuple(o for o in square if o[0] ** 2 + o[1] ** 2 <= radius**2)


def pairs(offset: tuple[int, int], height: int, width: int) -> tuple[Span, Span]:
    """All pixels whose neighbour at an offset lies inside, and those neighbours, as slices of (H,W)."""
    down, right = offset
    ys, yt = slice(max(0, -down), height - max(0, down)), slice(max(0, down), height - max(0, -down))
    xs, xt = slice(max(0, -right), width - max(0, right)), slice(max(0, right), width - max(0, -right))
    return (ys, xs), (yt, xt)


def from_edges(edges: Tensor, radius: float = 5) -> Affinity:
    """1 - the highest edge on the straight line between two pixels, ends included (Ahn et al., 2019).

    edges: float (B,H,W) in [0, 1], how likely a pixel is a boundary.
    """
    height, width = edges.shape[-2:]

    def along(offset: tuple[int, int]) -> Tensor:
        steps = max(map(abs, offset))
        line = {(round(offset[0] * t / steps), round(offset[1] * t / steps)) for t in range(steps + 1)}
        (y, x), _ = pairs(offset, height, width)
        crossed = [edges[:, y.start + a : y.stop + a, x.start + b : x.stop + b] for a, b in sorted(line)]
        return 1 - torch.stack(crossed).amax(0)

    return _both_ways(edges, radius, along)


def from_colours(images: Tensor, radius: float = 5, width: float = 0.02) -> Affinity:
    """exp(-mean_c (I - I_n)^2 / (2 width^2)) of two pixels' colours.  images: float (B,c,H,W) in [0, 1].

    width: the wider, the sooner a long walk washes a map out.
    """
    size = (images.shape[-2], images.shape[-1])

    def alike(offset: tuple[int, int]) -> Tensor:
        (y, x), (v, u) = pairs(offset, *size)
        return torch.exp(-(images[..., y, x] - images[..., v, u]).square().mean(1) / (2 * width**2))

    return _both_ways(images[:, 0], radius, alike)


def _both_ways(like: Tensor, radius: float, between: Callable[[tuple[int, int]], Tensor]) -> Affinity:
    """`between(offset)` for one of each opposite pair, written at both of its ends."""
    height, width = like.shape[-2:]
    offsets = [o for o in half(radius) if o[0] < height and abs(o[1]) < width]
    ends: list[Tensor] = []
    for offset in offsets:
        (y, x), (v, u) = pairs(offset, height, width)
        value = between(offset)
        for rows, columns in ((y, x), (v, u)):
            rim = (columns.start, width - columns.stop, rows.start, height - rows.stop)
            ends.append(F.pad(value, rim))
    both = tuple(o for y, x in offsets for o in ((y, x), (-y, -x)))
    return Affinity(torch.stack(ends, 1) if ends else like.new_zeros(len(like), 0, height, width), both)


def walk(maps: Tensor, affinity: Affinity, beta: float = 10, steps: int = 256) -> Tensor:
    """maps (B,C,H,W) after `steps` steps of a random walk: m T^steps, T = A^beta over the sum of its column.

    A: the affinities, 1 of a pixel with itself.  A step visits the P neighbours of each pixel, so 2^8 steps cost
    256 P H W and less memory than T; T squared eight times, as in the paper, costs 8 (H W)^3.  Values stay between a
    map's least and largest.  Ahn et al. (2019) multiply the maps by 1 - edges first.
    """
    if maps.shape[2:] != affinity.values.shape[2:] or len(maps) != len(affinity.values):
        found = f"maps of shape {tuple(maps.shape)}, affinities of {tuple(affinity.values.shape)}"
        raise DataError(found, where="affinity", fix="Bring maps and affinities to the same size first.")
    power = affinity.values**beta
    total = 1 + power.sum(1, keepdim=True)
    weights, stay = (power / total)[:, :, None].unbind(1), 1 / total
    spans = [pairs(o, *maps.shape[2:]) for o in affinity.offsets]
    for _ in range(steps):
        out = maps * stay
        for weight, (here, there) in zip(weights, spans, strict=True):
            out[..., *here] += weight[..., *here] * maps[..., *there]
        maps = out
    return maps


def dense(affinity: Affinity) -> Tensor:
    """The same affinities as matrices (B,HW,HW), 1 on the diagonal: for small images."""
    n, _, height, width = affinity.values.shape
    place = torch.arange(height * width, device=affinity.values.device).view(height, width)
    out = torch.eye(height * width).to(affinity.values).repeat(n, 1, 1)
    for p, offset in enumerate(affinity.offsets):
        here, there = pairs(offset, height, width)
        out[:, place[here].flatten(), place[there].flatten()] = affinity.values[:, p, *here].flatten(1)
    return out
