"""Maps to boxes and masks: scale, bring to the image's size, cut, and see what hangs together.

Letters: B images, T maps an image (one a class), M boxes, H W pixels of the size asked for.  Boxes are float xyxy,
pixel edges, half open: the box of the single pixel (row 2, column 5) is (5, 2, 6, 3).  A pixel is inside where the
scaled map is strictly above the cut.  Pixels that touch by a side or a corner hang together (8-connected).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from modicum.core.errors import SettingsError
from modicum.functional import geometry
from modicum.functional.heat import unit

_CORNERS = np.ones((3, 3), bool)


class Regions(NamedTuple):
    """xyxy: float32 (M,4).  image, target: int64 (M,), indices of B and T; by image, then target, then in the
    order in which its rows are read.  confidence: float32 (M,), mean of the scaled map over the box, in [0, 1]."""

    xyxy: np.ndarray
    image: np.ndarray
    target: np.ndarray
    confidence: np.ndarray


class Masks(NamedTuple):
    """labels: int64 (B,H,W), 0 background, t + 1 for the map t.  confidence: float32 (B,T), mean of the scaled map
    over the pixels that got it, 0 where none did."""

    labels: Tensor
    confidence: Tensor


def at_size(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B,T,h,w) that cover the whole image, brought to (height, width) bilinearly and each scaled to [0, 1].

    First brought to size, then scaled and cut: a cut through a smooth map follows the object, one through a coarse map
    its cells.  A map that is constant, or not finite, becomes 0.
    """
    if maps.ndim != 4 or min(*maps.shape[-2:], *size) < 1:
        found = f"maps of shape {tuple(maps.shape)} for the size {size}"
        raise SettingsError(found, where="regions", fix="Give (B,T,h,w), and sizes of at least 1.")
    if tuple(maps.shape[-2:]) != tuple(size):
        maps = geometry.warp_maps(maps, geometry.identity(len(maps), maps), size, size)
    return unit(maps).nan_to_num(0)


def boxes(maps: Tensor, size: tuple[int, int], tau: float = 0.2, *, every: bool = True, least: int = 1) -> Regions:
    """The boxes of each map's regions above tau times its largest value, in a frame of `size` (height, width).

    maps: float (B,T,h,w).  tau: in [0, 1).  every: all regions; else the one of most pixels, the first among equals.
    least: regions of fewer pixels are left out.  A map that is constant, or not finite, has no box.
    """
    from scipy.ndimage import find_objects, label  # type: ignore[import-untyped]

    if not 0 <= tau < 1:
        raise SettingsError(f"tau {tau}", where="regions", fix="Give a share of the map's height, 0 to below 1.")
    heat = at_size(maps.detach().float(), size).cpu().numpy()
    found: list[tuple[float, ...]] = []
    for i, t in np.ndindex(*heat.shape[:2]):
        numbers, _ = label(heat[i, t] > tau, _CORNERS)
        counts = np.bincount(numbers.ravel())[1:]
        slices = find_objects(numbers)
        chosen = np.flatnonzero(counts >= least)
        for k in chosen if every or not len(chosen) else chosen[[counts[chosen].argmax()]]:
            y, x = slices[k]
            sure = float(heat[i, t, y, x].mean(dtype=np.float64))
            found.append((x.start, y.start, x.stop, y.stop, i, t, sure))
    table = np.array(found, np.float64).reshape(-1, 7)
    where = table[:, 4:6].astype(np.int64)
    return Regions(table[:, :4].astype(np.float32), where[:, 0], where[:, 1], table[:, 6].astype(np.float32))


def masks(
    maps: Tensor, present: Tensor, size: tuple[int, int], *, tau: float = 0.25, alpha: float | None = None
) -> Masks:
    """The class of each pixel: the highest scaled map among the present classes, or background where that is higher.

    maps: float (B,T,h,w).  present: bool (B,T).  Background is tau everywhere, or, where alpha is given,
    (1 - max_t m_t)^alpha (Ahn and Kwak, 2018: the larger alpha, the less background).  Background wins a tie, then the
    first class.
    """
    if not (0 <= tau < 1 and (alpha is None or alpha > 0)):
        found = f"tau {tau}, alpha {alpha}"
        raise SettingsError(found, where="regions", fix="Give tau from 0 to below 1, or alpha above 0.")
    heat = at_size(maps, size)
    ground = torch.full_like(heat[:, :1], tau) if alpha is None else background(heat, present, alpha)
    return labelled(heat, present, ground)


def background(heat: Tensor, present: Tensor, alpha: float) -> Tensor:
    """(1 - max_t m_t)^alpha over the present classes, (B,1,H,W); 1 where no class is present."""
    return (1 - torch.where(present[..., None, None], heat, 0).amax(1, keepdim=True)) ** alpha


def labelled(heat: Tensor, present: Tensor, ground: Tensor) -> Masks:
    """arg-max over background (B,1,H,W) and the scaled maps (B,T,H,W) of present classes (B,T): see `masks`."""
    shown = torch.where(present[..., None, None], heat, -1)
    labels = torch.cat([ground, shown], 1).argmax(1)
    mine = labels[:, None] == torch.arange(1, heat.shape[1] + 1, device=heat.device)[:, None, None]
    count = mine.sum((2, 3))
    return Masks(labels, ((heat * mine).sum((2, 3)) / count.clamp_min(1)).float())
