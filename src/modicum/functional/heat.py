"""Shared maths of activation maps.  Letters: K maps of h x w positions, Z = h w."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def unit(maps: Tensor) -> Tensor:
    """Maps (...,h,w), each stretched to 0..1; a constant one becomes 0, and so does one with an infinity; NaN stays.

    Constant: what differs lies within rounding, 8 units in the last place of the largest value.
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = high - low
    flat = span <= 8 * torch.finfo(maps.dtype).eps * torch.maximum(low.abs(), high.abs())
    return torch.where(flat, 0, (maps - low) / torch.where(flat, 1, span))


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (A,B,h,w) at another size (H,W) in positions: bilinear, corners not aligned."""
    return maps if maps.shape[-2:] == size else interpolate(maps, size, mode="bilinear", align_corners=False)


def principal(maps: Tensor, center: bool = False) -> Tensor:
    """What the first principal direction of K maps shows at each position: (N,K,h,w) -> (N,h,w), sum at least 0.

    F (Z,K) = U S V^T; the answer is F v_1 = s_1 u_1, whose sign is free.  Found by eigenvectors of the smaller of
    F F^T and F^T F, of all N at once, in float64.  center: subtract each map's mean first; then all sums are 0, and the
    sign is the one that agrees with the maps' sum.  Not finite in, NaN out.
    """
    f = maps.flatten(2).double()
    f = f - f.mean(2, keepdim=True) if center else f
    few = f.shape[2] <= f.shape[1]
    gram = f.mT @ f if few else f @ f.mT
    good = gram.diagonal(dim1=1, dim2=2).sum(1).isfinite()
    values, vectors = torch.linalg.eigh(torch.where(good[:, None, None], gram, 0))
    if few:
        out = vectors[..., -1] * values[:, -1:].clamp_min(0).sqrt()
    else:
        out = (vectors[..., -1:].mT @ f)[:, 0]
    side = (out * f.sum(1) if center else out).sum(1, keepdim=True)
    out = torch.where(good[:, None], torch.where(side < 0, -out, out), torch.nan)
    return out.unflatten(1, maps.shape[2:]).to(maps.dtype)
