"""Boxes: how far they overlap, offsets from one to another, and which of many stay.

Boxes are float xyxy, pixel edges, half open: a box without area has x1 <= x0 or y1 <= y0, and overlaps nothing.
What compares boxes broadcasts: `iou(a, b)` of (M,4) and (M,4) is pair by pair, `iou(a[:, None], b)` of (P,4) and (Q,4)
the table (P,Q).  All but `nms` have gradients that are finite wherever the boxes are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

VARIANCES = (0.1, 0.1, 0.2, 0.2)
LARGEST = math.log(1000 / 16)


def areas(xyxy: Tensor) -> Tensor:
    """Square pixels of boxes (...,4), (...); 0 where a side is not positive."""
    return (xyxy[..., 2:] - xyxy[..., :2]).clamp_min(0).prod(-1)


def shared(a: Tensor, b: Tensor) -> Tensor:
    """Square pixels that lie in both of two boxes."""
    return (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0).prod(-1)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, 0 to 1; 0 where both boxes are without area."""
    both = shared(a, b)
    return _share(both, areas(a) + areas(b) - both)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU, -1 to 1 (Rezatofighi et al., 2019): IoU less the share of the common frame that is in neither.

    It has a slope where boxes are apart.
    """
    both = shared(a, b)
    union = areas(a) + areas(b) - both
    frame = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp_min(0).prod(-1)
    return _share(both, union) - _share(frame - union, frame)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where whole is 0, also in the gradient."""
    there = whole > 0
    return torch.where(there, part, 0) / torch.where(there, whole, 1)


def clip(xyxy: Tensor, size: tuple[int, int] | Tensor) -> Tensor:
    """Boxes (...,4) cut to images; one that lies outside loses its area.  size: height and width, or of each,
    (...,2)."""
    limit = torch.as_tensor(size, dtype=xyxy.dtype, device=xyxy.device).flip(-1)
    return torch.minimum(xyxy.clamp_min(0), torch.cat([limit, limit], -1))


def encode(xyxy: Tensor, anchors: Tensor, variances: tuple[float, float, float, float] = VARIANCES) -> Tensor:
    """Offsets (...,4) that lead from anchors to boxes: shift of the centre in sides of the anchor, logarithm of the
    sides' ratio (Girshick et al., 2014), each divided by its variance, so that all are near 1 in size.

    A side counts as a thousandth of a pixel at least.
    """
    centre, side = _centred(xyxy)
    start, unit = _centred(anchors)
    return torch.cat([(centre - start) / unit, (side / unit).log()], -1) / xyxy.new_tensor(variances)


def decode(offsets: Tensor, anchors: Tensor, variances: tuple[float, float, float, float] = VARIANCES) -> Tensor:
    """Boxes (...,4) that offsets lead to: the way back of `encode`.  No side becomes more than 62.5 times the
    anchor's."""
    moved = offsets * offsets.new_tensor(variances)
    start, unit = _centred(anchors)
    centre = start + moved[..., :2] * unit
    half = unit * moved[..., 2:].clamp_max(LARGEST).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def _centred(xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sides, (...,2) each."""
    return (xyxy[..., :2] + xyxy[..., 2:]) / 2, (xyxy[..., 2:] - xyxy[..., :2]).clamp_min(1e-3)


def nms(xyxy: Tensor, scores: Tensor, group: Tensor, tau: float = 0.5) -> Tensor:
    """Places of the boxes that stay, int64 (K,), by falling score: of two in one group whose IoU is above tau, the
    better one stays (greedily, from the best on; the first among equals).

    xyxy: finite (M,4).  scores: (M,).  group: int64 (M,), e.g. image * classes + class.  Groups are gone through one by
    one: all at once would take time by the square of all boxes.
    """
    from torchvision.ops import nms as greedy

    if not len(xyxy):
        return torch.empty(0, dtype=torch.int64, device=xyxy.device)
    boxes, worth = xyxy.detach().double(), scores.detach().double()
    counts: list[int] = torch.unique(group, return_counts=True)[1].tolist()
    mine = group.argsort(stable=True).split(counts)
    kept = torch.cat([own[greedy(boxes[own], worth[own], tau)] for own in mine]).sort()[0]
    return kept[worth[kept].argsort(descending=True, stable=True)]


def unpacked(column: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of a ragged column (B,R,4), padded with NaN -> the boxes (M,4), and whose each is, int64 (M,),
    ascending."""
    there = ~column.isnan().any(-1)
    return column[there], there.nonzero()[:, 0]
