"""From boxes to what a dense detector is to say at each of its positions.

Letters: B images, P positions, M boxes, C classes.  Positions `at` (P,2) are points (x, y) in pixels of the view;
`stride` (P,) is how far those of one level are apart, and positions of one stride are one level.  Boxes are packed as
in core/batch.py; `image` (M,) says whose.  An assigner gives `owner`, int64 (B,P): which of the M boxes a position is
to find, -1 none.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.batch import Boxes, View
from modicum.functional.boxes import areas, giou, iou
from modicum.functional.geometry import warp_boxes
from modicum.functional.losses import focal


def in_view(boxes: Boxes, view: View, least: float) -> Boxes:
    """The boxes as a view shows them.  What is not to be found has the state 0: what had it before, what names no
    class, what lost its area, and what lies in the view by a share of less than `least`."""
    size = (view.pixels.shape[-2], view.pixels.shape[-1])
    xyxy, kept = warp_boxes(boxes.xyxy, boxes.image, view.affine.to(boxes.xyxy.dtype), size)
    sound = (boxes.state == 1) & (boxes.cls >= 0) & (kept >= least) & (areas(xyxy) > 0)
    return replace(boxes, xyxy=xyxy, state=sound.to(boxes.state.dtype))


def objects(boxes: Boxes) -> Boxes:
    """Those of state 1."""
    mine = boxes.state == 1
    return Boxes(boxes.xyxy[mine], boxes.cls[mine], boxes.state[mine], boxes.image[mine])


def distances(at: Tensor, xyxy: Tensor) -> Tensor:
    """From points (...,2) to the left, upper, right and lower side of boxes (...,4): (...,4), negative outside."""
    return torch.cat([at - xyxy[..., :2], xyxy[..., 2:] - at], -1)


def centreness(far: Tensor) -> Tensor:
    """How near the middle of a box, by the distances (...,4) to its sides: 1 in the middle, 0 on a side (Tian et al.,
    2019).  The square root of the product, over both axes, of the lesser distance by the greater one."""
    near, wide = torch.minimum(far[..., :2], far[..., 2:]), torch.maximum(far[..., :2], far[..., 2:])
    return (near.clamp_min(0) / wide.clamp_min(torch.finfo(far.dtype).tiny)).prod(-1).sqrt()


# -- who finds what --------------------------------------------------------------------------------------------------


def by_centre(
    at: Tensor, stride: Tensor, xyxy: Tensor, image: Tensor, images: int, radius: float = 1.5, scale: float = 8.0
) -> Tensor:
    """FCOS (Tian et al., 2019): the positions inside a box that are less than `radius` strides from its centre, along
    both axes, on the level to whose size it belongs; of several boxes the smallest is the owner's.

    A level of stride s is for boxes whose farthest side is more than scale s / 2 away and at most scale s; there is no
    lower end on the finest level and no upper one on the coarsest.
    """
    far = distances(at, xyxy[:, None])
    centre = (xyxy[:, None, :2] + xyxy[:, None, 2:]) / 2
    near = (at - centre).abs().amax(-1) < radius * stride
    longest = far.amax(-1)
    low = torch.where(stride > stride.min(), stride * scale / 2, 0)
    high = torch.where(stride < stride.max(), stride * scale, torch.inf)
    mine = (far.amin(-1) > 0) & near & (longest > low) & (longest <= high)
    return _best(mine, -areas(xyxy)[:, None].expand_as(mine), image, images)


def atss(
    at: Tensor, stride: Tensor, xyxy: Tensor, image: Tensor, images: int, k: int = 9, scale: float = 8.0
) -> Tensor:
    """ATSS (Zhang et al., 2020): of the k positions of each level that are nearest to a box's centre, those inside the
    box whose anchor overlaps it by the mean and one deviation of all of them, or more; of several boxes the one that
    overlaps most is the owner's.

    A position's anchor is a square of `scale` strides around it.
    """
    half = scale * stride[:, None] / 2
    overlap = iou(xyxy[:, None], torch.cat([at - half, at + half], 1))
    away = (at - (xyxy[:, None, :2] + xyxy[:, None, 2:]) / 2).square().sum(-1)
    near = torch.zeros_like(overlap, dtype=torch.bool)
    for level in stride.unique():
        here = (stride == level).nonzero()[:, 0]
        first = away[:, here].argsort(dim=1, stable=True)[:, :k]
        near.scatter_(1, here[first], True)
    count = near.sum(1, keepdim=True)
    mean = (overlap * near).sum(1, keepdim=True) / count.clamp_min(1)
    spread = ((overlap - mean).square() * near).sum(1, keepdim=True) / (count - 1).clamp_min(1)
    mine = near & (overlap >= mean + spread.sqrt()) & (distances(at, xyxy[:, None]).amin(-1) > 0)
    return _best(mine, overlap, image, images)


def by_iou(
    at: Tensor, stride: Tensor, xyxy: Tensor, image: Tensor, images: int, scale: float = 8.0, least: float = 0.5
) -> Tensor:
    """One threshold for all, after RetinaNet (Lin et al., 2017), without its band of doubt: the positions inside a box
    whose anchor, as in `atss`, overlaps it by `least` or more, and the one that overlaps most, whatever by; of several
    boxes the one that overlaps most is the owner's.
    """
    half = scale * stride[:, None] / 2
    overlap = iou(xyxy[:, None], torch.cat([at - half, at + half], 1))
    inside = distances(at, xyxy[:, None]).amin(-1) > 0
    most = torch.where(inside, overlap, -1).amax(1, keepdim=True)
    return _best(inside & ((overlap >= least) | (overlap == most)), overlap, image, images)


@torch.no_grad()
def by_cost(
    at: Tensor, stride: Tensor, boxes: Boxes, logits: Tensor, said: Tensor,
    weight: float = 2.0, top: int = 13, centre: float = 0.001,
) -> Tensor:  # fmt: skip
    """By what the network says now (Wang et al., 2023, after Ge et al., 2021): the positions inside a box where finding
    it costs least, as many as the `top` largest overlaps of the boxes said there sum to, at least one; of several boxes
    the one of least cost is the owner's.

    logits: (B,P,C).  said: the boxes that positions give, (B,P,4).
    cost = focal(logits, the box's class) + weight (1 - GIoU) + centre 10^(strides from the box's centre)
    """
    whose, xyxy = boxes.image, boxes.xyxy.to(at.dtype)
    inside = distances(at, xyxy[:, None]).amin(-1) > 0
    no = focal(logits, torch.zeros_like(logits))
    yes = (focal(logits, torch.ones_like(logits)) - no).transpose(1, 2)
    middle = (xyxy[:, None, :2] + xyxy[:, None, 2:]) / 2
    away = ((at - middle).square().sum(-1).sqrt() / stride).clamp_max(30)
    own = said[whose]
    cost = no.sum(-1)[whose] + yes[whose, boxes.cls] + weight * (1 - giou(own, xyxy[:, None])) + centre * 10**away
    cost = torch.where(inside, cost, torch.inf)
    overlap = torch.where(inside, iou(own, xyxy[:, None]), 0)
    many = overlap.topk(min(top, overlap.shape[1])).values.sum(1).long().clamp_min(1)
    place = cost.argsort(dim=1, stable=True).argsort(dim=1)
    return _best(inside & (place < many[:, None]), -cost, whose, len(logits))


def _best(mine: Tensor, worth: Tensor, image: Tensor, images: int) -> Tensor:
    """Of the boxes that a position may be for, bool (M,P), the one of most worth (M,P), the first among equals."""
    count, positions = mine.shape
    where = image[:, None].expand(count, positions)
    most = worth.new_full((images, positions), -torch.inf)
    most = most.scatter_reduce(0, where, torch.where(mine, worth, -torch.inf), "amax")
    top = mine & (worth == most[image])
    number = torch.arange(count, device=image.device)[:, None].expand(count, positions)
    first = torch.full((images, positions), count, device=image.device)
    first = first.scatter_reduce(0, where, torch.where(top, number, count), "amin")
    return torch.where(first < count, first, -1)


# -- what they are to say ----------------------------------------------------------------------------------------------


def class_targets(
    owner: Tensor, found: Boxes, spared: Boxes, looked: Tensor | None, at: Tensor, classes: int
) -> tuple[Tensor, Tensor]:
    """-> target, float (B,P,C), 1 at a position with an owner for its class, and known, bool (B,P,C).

    found: the boxes that `owner` counts.  At a position with an owner every class is known.  At others a class is
    known, to be absent, where its boxes are complete (`looked`, bool (B,C)) and no box of state 0 of that class, or of
    none, lies in `spared` over the position.
    """
    images, positions = owner.shape
    owned = owner >= 0
    target = torch.zeros(images, positions, classes, device=owner.device, dtype=at.dtype)
    b, p = owned.nonzero(as_tuple=True)
    target[b, p, found.cls[owner[b, p]]] = 1
    known = torch.zeros_like(target, dtype=torch.bool)
    if looked is not None:
        known |= looked[:, None]
    left = spared.state == 0
    cls, image, xyxy = spared.cls[left], spared.image[left], spared.xyxy[left]
    i, p = (distances(at, xyxy[:, None]).amin(-1) > 0).nonzero(as_tuple=True)
    over = (cls[i, None] < 0) | (F.one_hot(cls[i].clamp_min(0), classes) > 0)
    hidden = torch.zeros_like(known, dtype=torch.int64).index_put((image[i], p), over.long(), accumulate=True) > 0
    return target, (known & ~hidden) | owned[:, :, None]
