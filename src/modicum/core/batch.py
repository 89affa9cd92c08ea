"""What a loss is handed: for each stream of the phase, views of its images and their packed labels.

Letters: B images, C classes, V votes, M boxes, H W pixels.  Labels are in coordinates of the whole image as it is
stored, also where the cache holds a smaller one; a view's `affine` says where a view's pixel lies in it, and
`functional.geometry` alone moves labels between views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modicum.core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class View:
    """pixels: float (B,c,H,W) in [0,1].  affine: float (B,2,3), view pixel coordinates -> image pixel coordinates.
    size: int (B,2), height and width of the whole image."""

    pixels: Tensor
    affine: Tensor
    size: Tensor


@dataclass(frozen=True, slots=True)
class Boxes:
    """xyxy: float (M,4), pixel edges, half open.  cls: int64 (M,).  state: int8 (M,), 1 object, 0 ignore (an annotation
    whose `value` is 0).  image: int64 (M,), which image of the batch, ascending.  A class is background only where
    `Labels.looked` says so.  score: float (M,) in [0,1], of boxes that a network found, each image's best first."""

    xyxy: Tensor
    cls: Tensor
    state: Tensor
    image: Tensor
    score: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Votes:
    """image, annotator, cls: int64 (V,)."""

    image: Tensor
    annotator: Tensor
    cls: Tensor


@dataclass(frozen=True, slots=True)
class Labels:
    """Packed labels of B images; what a kind does not say is None, what one image does not say is -1 or NaN.

    cls: int64 (B,), -1 unknown.  probs: float (B,C), rows of NaN unknown.  tags: int8 (B,C), 1 present, 0 absent, -1
    unknown.  looked: bool (B,C), True where boxes of the class are complete.  drawn: what `masks` asks.
    """

    cls: Tensor
    probs: Tensor | None = None
    tags: Tensor | None = None
    votes: Votes | None = None
    boxes: Boxes | None = None
    looked: Tensor | None = None
    drawn: Callable[[float], Tensor] | None = None

    def masks(self, sure: float = 0.0) -> Tensor | None:
        """Class maps, uint8 (B,S,S), each over the whole image: 0 background, c + 1 class c, 255 unknown.

        Drawn when asked for: who never asks pays nothing.  S: the side of the views; `geometry.warp_maps` with the
        view's `size` moves them.  sure: least confidence of a mask that is believed; the others' pixels are unknown.
        None where the set has no masks.
        """
        return None if self.drawn is None else self.drawn(sure)

    def soft(self, classes: int) -> Tensor:
        """Targets as probabilities (B,C): given ones where there are any, one-hot classes elsewhere, NaN unknown."""
        hard = torch.nn.functional.one_hot(self.cls.clamp_min(0), classes).float()
        hard = torch.where(self.cls[:, None] >= 0, hard, torch.full_like(hard, torch.nan))
        return hard if self.probs is None else torch.where(self.probs.isnan(), hard, self.probs)

    def tagged(self, classes: int) -> Tensor:
        """Tags (B,C), int8: given ones where there are any; elsewhere an image's class is present, others absent."""
        one = torch.nn.functional.one_hot(self.cls.clamp_min(0), classes).to(torch.int8)
        one = torch.where(self.cls[:, None] >= 0, one, torch.full_like(one, -1))
        return one if self.tags is None else torch.where(self.tags < 0, one, self.tags)


@dataclass(frozen=True, slots=True)
class Part:
    """One stream's share of a batch.  rows: int64 (B,), rows of the Dataset.

    columns: the Dataset's and the collected ones, (B,...), gathered when asked for.  What is ragged (proposals,
    (B,R,4)) is padded with NaN.
    """

    rows: Tensor
    views: Mapping[str, View]
    labels: Labels
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, view: str) -> Tensor:
        """The pixels of a view, (B,c,H,W).  SettingsError if the stream has no such view."""
        if view not in self.views:
            found = f"the stream has no view {view!r}; it has {', '.join(self.views)}"
            raise SettingsError(found, where="batch", fix="Name it in the Stream's `views`.")
        return self.views[view].pixels


Batch = Mapping[str, Part]
