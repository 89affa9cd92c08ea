"""Maps that follow the colours of the image: each pixel becomes a weighted mean of its neighbours, a few times over.

Letters: B images, C maps, c colours, P neighbours, H W pixels.  Neighbours of a pixel are the 8 around it at each
dilation d; beyond the rim the rim is repeated.  No loop over pixels; gradients flow into maps and images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.errors import DataError

AROUND = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
DILATIONS = (1, 2, 4, 8, 12, 24)


def neighbours(x: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """(B,c,H,W) -> (B,P,c,H,W): for each dilation the 8 pixels around, row by row; the rim is repeated outside."""
    return torch.stack(list(_shifted(x, dilations)), 1)


def _shifted(x: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """The neighbours one by one, (B,c,H,W) each."""
    far, (height, width) = max(dilations), x.shape[-2:]
    wide = F.pad(x, (far, far, far, far), mode="replicate")
    for d in dilations:
        for y, z in AROUND:
            yield wide[..., far + d * y : far + d * y + height, far + d * z : far + d * z + width]


def pamr(maps: Tensor, images: Tensor, rounds: int = 10, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """Pixel-adaptive mask refinement (Araslanov and Roth, 2020): maps (B,C,H,W) -> the same shape.

        m <- sum_n a_n m_n,    a = softmax_n( -mean_c |I - I_n| / (1e-8 + 0.1 sd) )

    images: float (B,c,H,W) of the same size.  sd: standard deviation of each colour over a pixel and all its
    neighbours.  Values stay between a map's least and largest.
    """
    near = neighbours(_same(maps, images), dilations)
    unlike = (near - images[:, None]).abs() / (1e-8 + 0.1 * _deviation(images, near))
    return _repeat(maps, (-unlike.mean(2)).softmax(1), rounds, dilations)


def par(
    maps: Tensor, images: Tensor, rounds: int = 10, dilations: Sequence[int] = DILATIONS, *,
    width: float = 0.3, place: float = 0.01,
) -> Tensor:  # fmt: skip
    """Pixel-adaptive refinement (Ru et al., 2022): as `pamr`, with squared distances and the neighbour's distance.

        a = (softmax_n(-mean_c (|I - I_n| / (width sd))^2) + place softmax_n(-(|p_n| / (width sd_p))^2)) / (1 + place)

    |p_n|: the distance in pixels; sd_p: its standard deviation over the neighbours.  The division by 1 + place, which
    the paper leaves out, keeps a constant map as it is.
    """
    near = neighbours(_same(maps, images), dilations)
    colour = ((near - images[:, None]) / (1e-8 + width * _deviation(images, near))).square().mean(2)
    away = torch.tensor([d * math.hypot(y, x) for d in dilations for y, x in AROUND], dtype=maps.dtype)
    place_logits = -(away / (1e-8 + width * away.std(correction=0))).square().to(maps.device)
    weights = (-colour).softmax(1) + place * place_logits.softmax(0)[:, None, None]
    return _repeat(maps, weights / (1 + place), rounds, dilations)


def _same(maps: Tensor, images: Tensor) -> Tensor:
    if maps.ndim != 4 or images.ndim != 4 or len(maps) != len(images) or maps.shape[2:] != images.shape[2:]:
        found = f"maps of shape {tuple(maps.shape)}, images of {tuple(images.shape)}"
        raise DataError(found, where="refine", fix="Bring maps and images to the same size first.")
    return images


def _deviation(images: Tensor, near: Tensor) -> Tensor:
    """Standard deviation of each colour over a pixel and its neighbours, (B,1,c,H,W)."""
    both = torch.cat([images[:, None], near], 1)
    variance = (both - both.mean(1, keepdim=True)).square().mean(1, keepdim=True)
    return torch.where(variance > 0, variance.clamp_min(1e-16).sqrt(), 0)


def _repeat(maps: Tensor, weights: Tensor, rounds: int, dilations: Sequence[int]) -> Tensor:
    """`rounds` times: each pixel becomes the mean of its neighbours by weights (B,P,H,W)."""
    for _ in range(rounds):
        maps = sum(
            (w[:, None] * near for w, near in zip(weights.unbind(1), _shifted(maps, dilations), strict=True)),
            torch.zeros_like(maps),
        )
    return maps
