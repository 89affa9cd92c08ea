"""Boxes that a program draws anew while it trains: the column that holds them, how a dense detector draws them, and how
far each is to be trusted.  What is learned from them stands in nn/drafting.py.

The column DRAFTS is (N,MOST,8), padded with NaN: x0, y0, x1, y1 in pixels of the stored image, class, score, how small
the detector's loss of it is, exp(-loss), and how far positions disagree about its sides, sigma (`judged`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.batch import Boxes, Labels, Part, View
from modicum.functional.assign import in_view, objects
from modicum.functional.boxes import areas, nms, unpacked
from modicum.functional.geometry import move_points
from modicum.functional.losses import focal
from modicum.functional.noisy import BINS, binned, cuts, tallied
from modicum.functional.teacher import joined, some
from modicum.nn.detect import Dense, found

DRAFTS, MOST = "drafts", 100
SPLITS = ("tasks", "instances", "images", "none")
APART, OTHER = 0.3, 0.5  # overlap of two boxes of a class at most, and of any two
FAR = 1e6  # stands for an infinite sigma


class Drafts(NamedTuple):
    """boxes: in pixels of the stored image.  sure: (M,), exp(-loss).  sigma: (M,)."""

    boxes: Boxes
    sure: Tensor
    sigma: Tensor


def read(part: Part) -> Drafts:
    """The drafts of a batch's images."""
    values, image = unpacked(part.columns[DRAFTS])
    boxes = Boxes(values[:, :4], values[:, 4].long(), torch.ones_like(image, dtype=torch.int8), image, values[:, 5])
    return Drafts(boxes, values[:, 6], values[:, 7])


def column(boxes: Boxes, images: int, sure: Tensor, sigma: Tensor) -> Tensor:
    """Boxes that were found in images, the first MOST of each, as rows of the column, (B,MOST,8)."""
    assert boxes.score is not None
    score = boxes.score
    values = torch.cat([boxes.xyxy, torch.stack([boxes.cls.to(score.dtype), score, sure, sigma], 1)], 1)
    order = boxes.image.argsort(stable=True)
    mine = boxes.image[order]
    place = torch.arange(len(mine), device=mine.device) - torch.searchsorted(mine, mine)
    out = values.new_full((images, MOST, 8), torch.nan)
    kept = place < MOST
    out[mine[kept], place[kept]] = values[order][kept]
    return out


def given(labels: Labels, tags: Tensor) -> Drafts:
    """The boxes that images came with, as sure and steady, but those of state 0, of no class or of an absent one."""
    assert labels.boxes is not None
    boxes = objects(labels.boxes)
    boxes = some(boxes, (boxes.cls >= 0) & (tags[boxes.image, boxes.cls.clamp_min(0)] != 0))
    return Drafts(boxes, torch.ones_like(boxes.xyxy[:, 0]), torch.zeros_like(boxes.xyxy[:, 0]))


def redrawn(said: Dense, view: View, tags: Tensor, old: Boxes, tau: float) -> Boxes:
    """What a detector finds of the classes that are in the images, in pixels of the stored image: of each class the
    best box and those of a score above tau; the old ones where it finds none.

    An object has one class: of two boxes that overlap by more than OTHER the surer one is taken.
    view: what it looked at.  tags: int8 (B,C).
    """
    there = said._replace(logits=torch.where(tags[:, None] == 1, said.logits, -torch.inf))
    boxes = found(there, (view.pixels.shape[-2], view.pixels.shape[-1]), tau=APART)
    assert boxes.score is not None
    alone = nms(boxes.xyxy, boxes.score, boxes.image, OTHER)
    score, boxes = boxes.score[alone], some(boxes, alone)
    group = boxes.image * tags.shape[1] + boxes.cls
    best = score.new_zeros(tags.numel()).scatter_reduce(0, group, score, "amax")[group]
    mine = (score >= best) | (score > tau)
    new, score = some(boxes, mine), score[mine]
    xyxy = move_points(new.xyxy.view(-1, 2), new.image.repeat_interleave(2), view.affine.to(new.xyxy.dtype)).view(-1, 4)
    seen = torch.zeros_like(tags, dtype=torch.bool)
    seen[new.image, new.cls] = True
    kept = ~seen[old.image, old.cls]
    left = some(old, kept)
    both = joined(replace(new, xyxy=xyxy), replace(left, xyxy=left.xyxy.to(xyxy.dtype)))
    return replace(both, score=torch.cat([score, score.new_zeros(len(left.cls))]))


def judged(said: Dense, boxes: Boxes, near: Tensor) -> tuple[Tensor, Tensor]:
    """How far boxes (M,) in the view are to be trusted by what a detector says: exp(-loss) of their class, and sigma.

    near: (M,P), 0 or more at the positions near a box's centre.  loss: the mean, over these, of the focal losses of all
    classes.  sigma: the deviation, over these, of each side that they give, their sum by twice the sum of width and
    height.  0 where there is no such position; FAR where there are fewer than two, or no area.
    """
    m, p = (near >= 0).nonzero(as_tuple=True)
    b = boxes.image[m]
    loss = focal(said.logits[b, p], F.one_hot(boxes.cls[m], said.logits.shape[2])).sum(1)

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(len(boxes.cls), *values.shape[1:]).index_add(0, m, values)

    count = total(torch.ones_like(loss))
    sides = said.xyxy[b, p]
    mean = total(sides) / count.clamp_min(1)[:, None]
    square = total((sides - mean[m]).square()) / (count - 1).clamp_min(1)[:, None]
    whole = 2 * (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).sum(1)
    sound = (count > 1) & (areas(boxes.xyxy) > 0)
    sigma = torch.where(sound, square.sqrt().sum(1) / torch.where(sound, whole, 1), FAR).clamp_max(FAR)
    return torch.where(count > 0, (-total(loss) / count.clamp_min(1)).exp(), 0), sigma


class Split(nn.Module):
    """Which drafts are trusted: how often each class has each `sure` is counted in a pass, and a share is believed.

    way: of SPLITS.  tasks: boxes whose class is trusted, and boxes whose sides are, by their sigma; instances: the
    first for both; images: all boxes of an image or none, by their mean; none: all boxes.
    """

    counts: Tensor

    def __init__(self, classes: int, way: str, share: float, steady: float) -> None:
        super().__init__()
        self.way, self.share, self.steady = way, share, steady
        self.register_buffer("counts", torch.zeros(classes, BINS))

    def worth(self, drafts: Drafts) -> tuple[Tensor, Tensor]:
        """What is counted, in [0,1], and in which row."""
        image = drafts.boxes.image
        if self.way != "images":
            return drafts.sure, drafts.boxes.cls
        number = int(image.max()) + 1 if len(image) else 0
        total = drafts.sure.new_zeros(number).index_add(0, image, drafts.sure)
        count = torch.zeros_like(total).index_add(0, image, torch.ones_like(drafts.sure))
        return (total / count.clamp_min(1))[image], torch.zeros_like(drafts.boxes.cls)

    def count(self, drafts: Drafts) -> None:
        self.counts += tallied(*self.worth(drafts), len(self.counts))

    def trusted(self, drafts: Drafts) -> tuple[Tensor, Tensor]:
        """Whose class, and whose sides, are believed: bool (M,) each."""
        if self.way == "none":
            every = torch.ones_like(drafts.sure, dtype=torch.bool)
            return every, every
        sure, row = self.worth(drafts)
        named = binned(sure) >= cuts(self.counts, self.share)[row]
        return named, drafts.sigma < self.steady if self.way == "tasks" else named


def shown(drafts: Drafts, believed: Tensor, view: View, least: float) -> Boxes:
    """The drafts as a view shows them; where one is not believed, nothing is known."""
    boxes = drafts.boxes
    state, cls = boxes.state * believed.to(boxes.state.dtype), torch.where(believed, boxes.cls, -1)
    return in_view(replace(boxes, state=state, cls=cls), view, least)


def settled(tags: Tensor, boxes: Boxes, believed: Tensor) -> Tensor:
    """Where it is known what an image holds of a class, bool (B,C): it is not there, or a box of it is believed."""
    out = tags == 0
    out[boxes.image[believed], boxes.cls[believed]] = True
    return out


def in_both(view: View, at: Tensor) -> Tensor:
    """Which positions (P,2) of a view of a view lie inside the first, (B,P)."""
    images, side = len(view.pixels), view.pixels.shape[-1]
    whose = torch.arange(images, device=at.device).repeat_interleave(len(at))
    place = move_points(at.repeat(images, 1), whose, view.affine.to(at.dtype)).view(images, len(at), 2)
    return ((place >= 0) & (place < side)).all(-1)


def candidates(said: Dense, tags: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `most` surest answers of each image about classes that may be there: boxes (B,T,4) without gradient, scores
    (B,T), classes (B,T)."""
    score = said.score
    rank = torch.where(tags[:, None] != 0, score.detach(), -1).flatten(1)
    at = rank.topk(min(most, rank.shape[1]))[1]
    classes = score.shape[2]
    where = (at // classes)[..., None].expand(-1, -1, 4)
    return said.xyxy.detach().gather(1, where), score.flatten(1).gather(1, at), at % classes
