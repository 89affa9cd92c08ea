"""Tokens of patches: as maps, as labels, how alike two are, and crops of images against the whole.

B images, K values a token, C classes, N = h w patches, n crops.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.functional.losses import wide

UNSURE = -1


def gridded(tokens: Tensor) -> Tensor:
    """Tokens (B,p+N,K) -> maps (B,K,h,w): the patches of a square image, which come last; maps stay as they are."""
    if tokens.ndim == 4:
        return tokens
    side = math.isqrt(tokens.shape[1])
    return tokens[:, tokens.shape[1] - side**2 :].transpose(1, 2).unflatten(2, (side, side))


def evidence(maps: Tensor) -> Tensor:
    """The positive part of maps (B,C,h,w) over the greatest of each: in [0,1]; 0 where nothing is positive."""
    positive = wide(maps).relu()
    return positive / positive.amax((2, 3), keepdim=True).clamp_min(1e-5)


def surely(maps: Tensor, high: float, low: float) -> Tensor:
    """Maps (B,C,h,w) in [0,1] -> int64 (B,h,w): c + 1 where the greatest exceeds `high`, 0 where it is at most `low`,
    UNSURE between."""
    value, cls = maps.max(1)
    return torch.where(value > high, cls + 1, torch.where(value <= low, 0, UNSURE))


def likeness(maps: Tensor) -> Tensor:
    """|cosine| of every two patches: (B,K,h,w) -> (B,N,N) in [0,1]."""
    unit = F.normalize(wide(maps).flatten(2), dim=1)
    return (unit.mT @ unit).abs()


def pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (B,h,w) -> which two different patches have one label, and which have two: bool (B,N,N) each."""
    flat = labels.flatten(1)
    sure = flat != UNSURE
    known, same = sure[:, :, None] & sure[:, None], flat[:, :, None] == flat[:, None]
    other = ~torch.eye(flat.shape[1], dtype=torch.bool, device=flat.device)
    return known & same & other, known & ~same


def corners(luck: Tensor, most: int) -> Tensor:
    """Uniform draws (B,2n) in [0,1) -> where n crops of an image begin: int64 (B,n,2), row and column, 0 to `most`."""
    return (luck * (most + 1)).long().unflatten(1, (-1, 2))


def crops(images: Tensor, at: Tensor, side: int) -> Tensor:
    """Squares (B,n,c,s,s) of images (B,c,H,W) that begin at pixels int64 (B,n,2), rows and columns."""
    every = images.unfold(2, side, 1).unfold(3, side, 1)
    image = torch.arange(len(images), device=images.device)[:, None]
    return every[image, :, at[..., 0], at[..., 1]]


def told_apart(query: Tensor, whole: Tensor, inside: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """InfoNCE of each crop that shows the object against those of its image that do not: values and weights (B,n).

    -log( e^{a_i} / (e^{a_i} + sum_{j outside} e^{a_j}) ), a_i = cos(query_i, whole) / temperature.
    query: (B,n,D), of crops.  whole: (B,D).  inside: bool (B,n).  Others have weight 0.
    """
    a = F.cosine_similarity(wide(query), wide(whole)[:, None], 2) / temperature
    outside = a.masked_fill(inside, -torch.inf)[:, None].expand(-1, a.shape[1], -1)
    values = torch.cat([a[..., None], outside], 2).logsumexp(2) - a
    return torch.where(inside, values, 0), inside.to(a.dtype)
