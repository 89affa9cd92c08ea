"""Maps in equal patches, and back.  B images, K maps, g x g patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from modicum.core.errors import ModelError


def cut(maps: Tensor, g: int) -> Tensor:
    """(B,K,h,w) -> (B*g*g, K, h/g, w/g), by image, then row, then column.  ModelError where g does not divide."""
    h, w = maps.shape[2:]
    if h % g or w % g:
        fix = "Take images of another --side, or coarser patches."
        raise ModelError(f"maps of {h} x {w} cannot be cut into {g} x {g} equal patches", where="patches", fix=fix)
    return maps.unflatten(3, (g, w // g)).unflatten(2, (g, h // g)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def joined(parts: Tensor, g: int) -> Tensor:
    """The other way: (B*g*g, K, h, w) -> (B, K, g*h, g*w)."""
    return parts.unflatten(0, (-1, g, g)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def patchwise(stage: Callable[[Tensor], Tensor], maps: Tensor, grids: Sequence[int]) -> Tensor:
    """A stage, (B,K,h,w) -> (B,K',h',w'), that sees one patch at a time; the mean over several grids.

    A grid of 1 is the stage itself, to the bit.  ModelError where grids give maps of different sizes.
    """
    found = [stage(maps) if g == 1 else joined(stage(cut(maps, g)), g) for g in grids]
    if any(f.shape != found[0].shape for f in found):
        sizes = ", ".join(f"{f.shape[2]} x {f.shape[3]} from {g} x {g}" for f, g in zip(found, grids, strict=True))
        fix = "Take a --side that can be halved more often, or coarser patches."
        raise ModelError(f"the last maps differ in size: {sizes} patches", where="patches", fix=fix)
    return found[0] if len(found) == 1 else torch.stack(found).mean(0)
