"""A dense detector that teaches another: what it says of one view of an image, as another view of it needs it.

Letters: B images, P positions, C classes, M boxes.  Positions `at` (P,2) are points (x, y) in pixels of a square view;
`stride` (P,), ascending, is how far those of one level are apart.  Boxes are packed as in core/batch.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from modicum.core.batch import Boxes, View
from modicum.functional.boxes import areas
from modicum.functional.geometry import compose, invert, move_points


def through(first: View, second: View) -> View:
    """The second of two views of the same images as a view of the first: its affine leads into pixels of `first`."""
    size = torch.full_like(second.size, first.pixels.shape[-1])
    return View(second.pixels, compose(invert(first.affine), second.affine), size)


def joined(*boxes: Boxes) -> Boxes:
    """Boxes of the same images, one after the other; their scores are left out."""
    return Boxes(*(torch.cat([getattr(b, name) for b in boxes]) for name in ("xyxy", "cls", "state", "image")))


def side_by_side(boxes: Sequence[Boxes], images: int) -> Boxes:
    """Boxes of several views of the same `images` as those of one batch, view after view."""
    return joined(*(replace(b, image=b.image + i * images) for i, b in enumerate(boxes)))


def some(boxes: Boxes, which: Tensor) -> Boxes:
    """Those of a mask, bool (M,)."""
    score = None if boxes.score is None else boxes.score[which]
    return Boxes(boxes.xyxy[which], boxes.cls[which], boxes.state[which], boxes.image[which], score)


def scored(boxes: Boxes, above: float | Tensor, most: float | Tensor = torch.inf) -> Boxes:
    """Found boxes of a score greater than `above` and at most `most`: numbers for all, or of each, (M,)."""
    assert boxes.score is not None
    return some(boxes, (boxes.score > above) & (boxes.score <= most))


def heard(values: Tensor, at: Tensor, stride: Tensor, view: View) -> Tensor:
    """What was said (B,P,C) in the first view, as each position of a view of it hears it, (B,P,C): the value of the
    position of the same level in whose cell it lies, 0 where it lies outside.

    view: as from `through`; both views have the same positions.
    """
    images, positions, classes = values.shape
    side, whose = view.pixels.shape[-1], torch.arange(images, device=at.device).repeat_interleave(positions)
    place = move_points(at.repeat(images, 1), whose, view.affine.to(at.dtype)).view(images, positions, 2)
    across = (side / stride).round().long()[:, None]
    cell = (place / stride[:, None]).floor().long()
    x, y = torch.minimum(cell.clamp_min(0), across - 1).unbind(-1)
    there = torch.searchsorted(stride, stride) + y * across[:, 0] + x
    inside = ((place >= 0) & (place < side)).all(-1)
    return values.gather(1, there[..., None].expand(-1, -1, classes)) * inside[..., None]


def weighed(known: Tensor, target: Tensor, trust: Tensor) -> Tensor:
    """How much each answer counts, (B,P,C): a known "yes" 1, a known "no" as far as it is to be believed, on the mean
    of an image's 1; where nearly none is, less (the trusts of an image are divided by 1 at least).

    known: bool (B,P,C).  target: (B,P,C), above 0 is a "yes".  trust: (B,P,C), 0 or more; where it is 0 the "no" does
    not count at all.  After Xu et al., 2021.
    """
    no = known & (target == 0) & (trust > 0)
    share = trust * no
    scale = no.sum((1, 2), keepdim=True) / share.sum((1, 2), keepdim=True).clamp_min(1)
    return torch.where(no, share * scale, (known & (target > 0)).to(share.dtype))


def spread(boxes: Boxes, said: Tensor, owner: Tensor) -> Tensor:
    """How far positions disagree about boxes, (M,): the deviation of what they say of each side, mean over the four, by
    half the sum of width and height.  Infinite where fewer than two positions say something, or a box has no area.

    said: (B,P,4), the boxes that positions give.  owner: (B,P), which of the M boxes a position is to find.
    """
    number = torch.arange(len(boxes.xyxy), device=owner.device)
    asked = (owner[boxes.image] == number[:, None])[..., None]
    own, count = said[boxes.image], asked.sum(1)
    mean = (own * asked).sum(1) / count.clamp_min(1)
    square = ((own - mean[:, None]).square() * asked).sum(1) / (count - 1).clamp_min(1)
    half = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).sum(-1) / 2
    sound = (count[:, 0] > 1) & (areas(boxes.xyxy) > 0)
    return torch.where(sound, square.sqrt().mean(-1) / torch.where(sound, half, 1), torch.inf)
