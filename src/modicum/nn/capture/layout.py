"""How a layer's output is read as maps (B,K,h,w), and how maps are written back in its place.

Three kinds are told apart by shape: channels first (B,K,h,w), channels last (B,h,w,K), which Swin and others use, and
tokens (B,N,K) with N = p + h w: p tokens of no place come first (class, distillation, registers).  h and w of tokens
are those of the patches: the size of the image over the step of the first convolution whose step is its width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

MOST_PREFIX = 64  # more tokens without a place than this are no class tokens and registers


class Layout(NamedTuple):
    """to: the layer's output -> maps (B,K,h,w).  back: maps (n,K,h,w) and the layer's output of one image -> its output
    with those maps in it (n,...); None where nobody can say.  prefix: tokens before the patches; -1 for no tokens."""

    to: Callable[[Tensor], Tensor]
    back: Callable[[Tensor, Tensor], Tensor] | None = None
    prefix: int = -1


FIRST = Layout(lambda out: out, lambda maps, own: maps)
LAST = Layout(lambda out: out.permute(0, 3, 1, 2), lambda maps, own: maps.permute(0, 2, 3, 1))


def layout(out: Tensor, size: tuple[int, int], patches: tuple[int, int] | None) -> Layout | None:
    """How to read a layer's output, for images of `size` (H,W); None where it holds no maps.

    patches: (height, width) of a patch, None where the network has no such convolution.
    Channels are taken to come last only where that alone fits the image's shape.
    """
    if out.ndim == 4:
        a, b, c = out.shape[1:]
        return LAST if _fits((a, b), size) and not _fits((b, c), size) else FIRST
    if out.ndim != 3:
        return None
    found = grid(out.shape[1], size, patches) or grid(out.shape[1], size, None)  # later stages have fewer tokens
    return None if found is None else tokens(*found)


def tokens(prefix: int, shape: tuple[int, int]) -> Layout:
    """Tokens (B,N,K), the first `prefix` of which have no place, the others in rows of a grid `shape` (h,w)."""

    def to(out: Tensor) -> Tensor:
        return out[:, prefix:].transpose(1, 2).unflatten(2, shape)

    def back(maps: Tensor, own: Tensor) -> Tensor:
        return torch.cat([own[:, :prefix].expand(len(maps), -1, -1), maps.flatten(2).transpose(1, 2)], 1)

    return Layout(to, back, prefix)


def grid(n: int, size: tuple[int, int], patches: tuple[int, int] | None) -> tuple[int, tuple[int, int]] | None:
    """(tokens before the patches, (h,w)) of n tokens of an image of `size`; None where they form no grid.

    Where patches are not known (None), the grid is one of the image's shape, after 0, 1, 2, 4 or 5 tokens.
    """
    if patches is not None:
        for rounded in (math.floor, math.ceil):
            h, w = rounded(size[0] / patches[0]), rounded(size[1] / patches[1])
            if h * w > 1 and 0 <= n - h * w <= MOST_PREFIX:
                return n - h * w, (h, w)
        return None
    for prefix in (0, 1, 2, 4, 5):
        h = math.isqrt(max(0, n - prefix) * size[0] // size[1])
        w = (n - prefix) // h if h else 0
        if h * w == n - prefix and h * size[1] == w * size[0] and h * w > 1:
            return prefix, (h, w)
    return None


def patches(model: nn.Module) -> tuple[int, int] | None:
    """(height, width) of a patch in pixels: of the first convolution whose step is its width; None without one."""
    for m in model.modules():
        if isinstance(m, nn.Conv2d) and m.kernel_size == m.stride and min(m.stride) > 1:
            return m.stride[0], m.stride[1]
    return None


def _fits(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether (h,w) is the image's size over one whole step, rounded either way."""
    (h, w), (height, width) = shape, size
    steps = {height // h, -(-height // h)} - {0} if h else set()
    return any(h in (height // s, -(-height // s)) and w in (width // s, -(-width // s)) for s in steps)
