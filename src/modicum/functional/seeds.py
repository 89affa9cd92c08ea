"""Boxes from tags: which proposals stand for the classes of an image, and what the others are then called.

Letters: B images, M proposals, C classes, S seeds.  Proposals are packed, xyxy float (M,4), and `image`, int64 (M,),
ascending, says whose each is; nothing is ever compared between images.  tags: int8 (B,C), 1 present, 0 absent,
negative unknown.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.loss import Term, mean
from modicum.functional.boxes import encode, iou, nms
from modicum.functional.losses import cross_entropy, wide

SURE = 1e-6  # how far an image's score stays from 0 and 1


def softmax_within(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Softmax of (M,C) over the proposals of each image: columns add up to 1 within it."""
    where = image[:, None].expand_as(values)
    top = values.new_full((images, values.shape[1]), -torch.inf).scatter_reduce(0, where, values.detach(), "amax")
    raised = (values - top[image]).exp()
    return raised / summed_within(raised, image, images)[image]


def unmasked(logits: Tensor, image: Tensor, tags: Tensor) -> Tensor:
    """Logits (M,C), or (M,C+1) with background last, in which a class that an image is known not to show is -inf: the
    others share its probability (LBBA's mask; Dong et al., 2021).

    Without background, an image known to show no class stays as it is.
    """
    absent = tags == 0
    if logits.shape[1] > tags.shape[1]:
        absent = torch.cat([absent, torch.zeros_like(absent[:, :1])], 1)
    return logits.masked_fill((absent & ~absent.all(1, keepdim=True))[image], -torch.inf)


def summed_within(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Sum of (M,C) over the proposals of each image, (B,C)."""
    return values.new_zeros(images, values.shape[1]).index_add(0, image, values)


def scored(what: Tensor, where: Tensor, image: Tensor, images: int) -> Tensor:
    """WSDDN's score of each proposal (Bilen and Vedaldi, 2016), (M,C): how likely its class is, times its share of all
    proposals of the image.  what, where: logits (M,C)."""
    return wide(what).softmax(1) * softmax_within(wide(where), image, images)


def tagged(scores: Tensor, image: Tensor, tags: Tensor) -> Term:
    """The sum over classes of the binary cross-entropy of an image's scores, added up, with its tags.

    Unknown tags have no part in it: the mean over known ones, times C.
    """
    whole = summed_within(scores, image, len(tags)).clamp(SURE, 1 - SURE)
    known = (tags >= 0).to(whole.dtype)
    values = F.binary_cross_entropy(whole, tags.clamp_min(0).to(whole.dtype), reduction="none")
    return mean(values, known, known.sum(), weight=float(tags.shape[1]))


# -- seeds -----------------------------------------------------------------------------------------------------------


class Seeds(NamedTuple):
    """proposal: int64 (S,), which of the M.  cls: int64 (S,).  score: (S,).  By image, then class."""

    proposal: Tensor
    cls: Tensor
    score: Tensor


def top(scores: Tensor, image: Tensor, tags: Tensor) -> Seeds:
    """OICR's (Tang et al., 2017): of each present class the proposal of the highest score, the first among equals."""
    values, cls = _present(scores, image, tags)
    best = values.argmax(1)
    return Seeds(best, cls, values.gather(1, best[:, None])[:, 0])


def several(scores: Tensor, xyxy: Tensor, image: Tensor, tags: Tensor, share: float, tau: float) -> Seeds:
    """MIST's (Ren et al., 2020): of each present class the best `share` of an image's proposals, one at least, and of
    these, from the best on, each that overlaps none accepted before by more than tau."""
    values, cls = _present(scores, image, tags)
    count = (values > -torch.inf).sum(1, keepdim=True)
    return _apart(values, cls, xyxy, (share * count).ceil().clamp_min(1), tau)


def best(scores: Tensor, xyxy: Tensor, image: Tensor, tags: Tensor, most: int, tau: float) -> Seeds:
    """LBBA's (Dong et al., 2021): as `several`, of each present class the `most` best of an image's proposals."""
    values, cls = _present(scores, image, tags)
    return _apart(values, cls, xyxy, (values > -torch.inf).sum(1, keepdim=True).clamp_max(most), tau)


def _apart(values: Tensor, cls: Tensor, xyxy: Tensor, count: Tensor, tau: float) -> Seeds:
    """Of each class in an image, (P,), the best proposals by values (P,M), `count` (P,1) of them, that are apart."""
    order = values.argsort(dim=1, descending=True, stable=True)
    among = torch.arange(values.shape[1], device=values.device) < count
    pair, rank = among.nonzero(as_tuple=True)
    proposal = order[pair, rank]
    score = values[pair, proposal]
    kept = nms(xyxy[proposal], score, pair, tau)
    kept = kept[pair[kept].argsort(stable=True)]
    return Seeds(proposal[kept], cls[pair[kept]], score[kept])


def _present(scores: Tensor, image: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """For each class that is in an image: the scores (P,M), -inf in other images, and the class (P,)."""
    at, cls = (tags == 1).nonzero(as_tuple=True)
    return torch.where(image == at[:, None], scores.detach()[:, cls].T, -torch.inf), cls


# -- what seeds say of proposals ---------------------------------------------------------------------------------------


class Named(NamedTuple):
    """target: int64 (M,), a class, C background.  weight: (M,), 0 where nothing is known.  seed: int64 (M,), which of
    the S is nearest; where there is none 0, and the weight 0."""

    target: Tensor
    weight: Tensor
    seed: Tensor


def named(seeds: Seeds, xyxy: Tensor, image: Tensor, tags: Tensor, tau: float = 0.5, least: float = 0.0) -> Named:
    """Each proposal by the seed of its image that it overlaps most, the first among equals: its class from tau on, else
    background.  Weight: the seed's score.

    Nothing is known of a proposal that overlaps by less than `least`, nor of background where a tag is unknown.
    """
    classes = tags.shape[1]
    if not len(seeds.cls):
        none = torch.zeros_like(image)
        return Named(none + classes, xyxy.new_zeros(len(xyxy)), none)
    overlap = iou(xyxy[seeds.proposal][:, None], xyxy)
    overlap = torch.where(image[seeds.proposal][:, None] == image, overlap, -1)
    seed = overlap.argmax(0)
    near = overlap.gather(0, seed[None])[0]
    target = torch.where(near >= tau, seeds.cls[seed], classes)
    known = (near >= max(0, least)) & ((target < classes) | (tags >= 0).all(1)[image])
    return Named(target, torch.where(known, seeds.score[seed], 0), seed)


def refined(logits: Tensor, told: Named, weight: float = 1.0) -> Term:
    """Weighted cross-entropy of logits (M,C+1), background last, a mean over all proposals."""
    values, _ = cross_entropy(logits, told.target)
    return mean(values, told.weight.to(values.dtype), weight=weight)


def moved(offsets: Tensor, told: Named, xyxy: Tensor, seeds: Seeds, weight: float = 1.0) -> Term:
    """Weighted smooth L1 of offsets (M,C,4) of a proposal's class, to its seed's box; a mean over all proposals."""
    mine = ((told.target < offsets.shape[1]) & (told.weight > 0)).nonzero()[:, 0]
    goal = encode(xyxy[seeds.proposal[told.seed[mine]]], xyxy[mine])
    found = wide(offsets[mine, told.target[mine]])
    values = F.smooth_l1_loss(found, goal.to(found.dtype), reduction="none").sum(1)
    return mean(values, told.weight[mine].to(values.dtype), float(len(xyxy)), weight)


def bootstrapped(logits: Tensor, told: Named, belief: float, weight: float = 1.0) -> Term:
    """As `refined`, with a target of `belief` times what is told and the rest what the logits say most (hard bootstrap;
    Reed et al., 2014)."""
    given, _ = cross_entropy(logits, told.target)
    own, _ = cross_entropy(logits, logits.detach().argmax(1))
    return mean(belief * given + (1 - belief) * own, told.weight.to(given.dtype), weight=weight)
