"""Boxes that may be wrong: losses that keep them from covering parts alone, and how far each is to be trusted.

Letters: B images, T candidates of an image, M boxes, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from modicum.functional.boxes import areas, shared

INSIDE, NEAR, MARGIN = 0.85, 0.3, 0.1  # of `contained`
BINS = 1000  # of `cuts`


# -- parts and wholes --------------------------------------------------------------------------------------------------


def contained(xyxy: Tensor, score: Tensor, cls: Tensor) -> tuple[Tensor, Tensor]:
    """What it costs that a part outranks the whole -> (sum over pairs, how many pairs there are).

    A pair: two candidates p, q of one image and class, more than INSIDE of p lies in q, and q is not hopeless: its
    score is more than NEAR of p's.  It costs max(0, s_p - s_q + MARGIN).  xyxy: (B,T,4), without gradient; score:
    (B,T); cls: int64 (B,T).
    """
    part, whole = xyxy[:, :, None], xyxy[:, None]
    covered = shared(part, whole) > INSIDE * areas(part)
    alike = (cls[:, :, None] == cls[:, None]) & ~torch.eye(xyxy.shape[1], dtype=torch.bool, device=xyxy.device)
    pairs = covered & alike & (areas(part) > 0) & (score[:, None] > NEAR * score[:, :, None]).detach()
    cost = (score[:, :, None] - score[:, None] + MARGIN).clamp_min(0)
    return (cost * pairs).sum(), pairs.sum()


def shrunk(found: Tensor, given: Tensor) -> Tensor:
    """By how much boxes (M,4) are smaller than those they are to find (M,4): the logarithm of the ratio of areas, 0
    where they are as large or larger.  An area counts as a thousandth of a square pixel at least."""
    return (areas(given).clamp_min(1e-3).log() - areas(found).clamp_min(1e-3).log()).clamp_min(0)


# -- a share of each class ---------------------------------------------------------------------------------------------


def tallied(sure: Tensor, cls: Tensor, classes: int) -> Tensor:
    """How often each class has each value: counts (C,BINS) of values (M,) in [0,1]."""
    counts = torch.zeros(classes * BINS, device=sure.device)
    return counts.index_add(0, cls * BINS + binned(sure), torch.ones_like(counts[:1]).expand(len(cls))).view(-1, BINS)


def binned(sure: Tensor) -> Tensor:
    """Which of BINS a value in [0,1] belongs to, int64."""
    return (sure * BINS).long().clamp(0, BINS - 1)


def cuts(counts: Tensor, share: float) -> Tensor:
    """The bin of each class from which on the largest values lie that are `share` of its own or just more, int64 (C,);
    BINS, so that none does, for a share of 0."""
    above = counts.flip(1).cumsum(1).flip(1)  # how many lie in this bin or above
    enough = above >= share * counts.sum(1, keepdim=True)
    last = BINS - 1 - enough.flip(1).to(torch.int8).argmax(1)
    return torch.where(counts.sum(1) > 0, last, 0) if share else torch.full_like(last, BINS)
