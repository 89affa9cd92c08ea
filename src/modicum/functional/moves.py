"""Boxes that move: rough ones around a true one, the true one that a rough one belongs to, and moves that are believed.

Boxes are packed, xyxy float (M,4), pixels of a view, and `image`, int64 (M,), ascending, says whose each is.  Offsets
are those of functional/boxes.py.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.batch import Boxes
from modicum.core.loss import Term, mean
from modicum.functional.boxes import decode, iou
from modicum.functional.losses import wide


def jittered(xyxy: Tensor, luck: Tensor, far: float) -> Tensor:
    """Boxes each of whose sides is moved along its axis by up to `far` (below a half) of the box's length there.

    luck: (M,4) in [0,1).
    """
    return xyxy + far * (2 * luck - 1) * (xyxy[:, 2:] - xyxy[:, :2]).repeat(1, 2)


def nearest(xyxy: Tensor, image: Tensor, cls: Tensor | None, true: Boxes) -> tuple[Tensor, Tensor]:
    """For each box (M,4) which true one of its image it overlaps most, int64 (M,), the first among equals, and by how
    much (IoU), (M,); where there is none 0 and -1.

    cls: int64 (M,), where only true ones of the same class count.
    """
    if not len(true.cls):
        return torch.zeros_like(image), xyxy.new_full((len(xyxy),), -1)
    mine = image[:, None] == true.image
    if cls is not None:
        mine &= cls[:, None] == true.cls
    overlap, at = torch.where(mine, iou(xyxy[:, None], true.xyxy.to(xyxy.dtype)), -1).max(1)
    return at, overlap


def believed(offsets: Tensor, xyxy: Tensor, far: float, near: float) -> tuple[Tensor, Tensor]:
    """Offsets (M,4), none beyond `far`, and which lead to a box that still overlaps (M,4) by `near`, bool (M,)."""
    held = wide(offsets).clamp(-far, far).to(xyxy.dtype)
    return held, iou(decode(held, xyxy), xyxy) >= near


def drawn_to(offsets: Tensor, goal: Tensor, weight: Tensor | None = None, count: float | None = None) -> Term:
    """Smooth L1 of offsets (M,4) to other ones (M,4), a sum over sides: the mean over boxes, or by their weight (M,).

    count: what the sum over boxes is divided by, in place of their number.
    """
    found = wide(offsets)
    values = F.smooth_l1_loss(found, goal.to(found.dtype), reduction="none").sum(1)
    return mean(values, None if weight is None else weight.to(values.dtype), count)
