"""Maps of several layers as one, and maps of several views of an image as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from modicum.core.errors import SettingsError, did_you_mean
from modicum.functional.heat import resized, unit

FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean(0),
    "product": lambda maps: unit(maps.prod(0)),
    "max": lambda maps: maps.amax(0),
}
OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "raw": lambda maps: maps,
    "positive": lambda maps: maps.relu(),
    "unit": lambda maps: unit(maps.relu()),
}


class View(NamedTuple):
    """One look at a batch: scaled by a factor, then mirrored left to right or not."""

    scale: float
    mirrored: bool

    def of(self, x: Tensor) -> Tensor:
        """Images (B,c,H,W) as this view has them."""
        if self.scale != 1:
            size = [max(1, round(s * self.scale)) for s in x.shape[2:]]
            x = interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        return x.flip(3) if self.mirrored else x

    def undone(self, maps: Tensor) -> Tensor:
        """Maps (B,T,h,w) of the view, as of the plain image."""
        return maps.flip(3) if self.mirrored else maps


def views(words: Sequence[str | float]) -> list[View]:
    """The plain view first; then all of: each scale, and with the word `flip` each mirrored."""
    for word in words:
        if word != "flip" and (isinstance(word, str | bool) or not 0 < word < 100):
            raise SettingsError(f"{word!r} is no view", where="explain", fix="Give `flip`, and scales such as 1.5.")
    scales = [1.0, *(float(w) for w in words if not isinstance(w, str))]
    return [View(s, m) for m in ((False, True) if "flip" in words else (False,)) for s in dict.fromkeys(scales)]


def averaged(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B,T,h,w) of several views, the first plain: their mean, of the first's size."""
    size = (maps[0].shape[2], maps[0].shape[3])
    return torch.stack([resized(m, size) for m in maps]).mean(0)


def fused(maps: Sequence[Tensor], way: str, size: tuple[int, int]) -> Tensor:
    """Maps (B,T,h,w) of several layers as one (B,T,H,W): each to 0..1 and to `size` (H,W), then their mean, product
    (RefineCAM, again to 0..1) or greatest."""
    return FUSIONS[way](torch.stack([resized(unit(m), size) for m in maps]))


def known(word: str, words: dict[str, Callable[[Tensor], Tensor]], what: str) -> None:
    """SettingsError for a word that is none of `words`."""
    if word not in words:
        raise SettingsError(f"there is no {what} {word!r}", where="explain", fix=did_you_mean(word, words))
