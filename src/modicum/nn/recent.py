"""Scores of boxes that a teacher found lately, and the line between those that are likely right and the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modicum.core.batch import Boxes
from modicum.functional.mixture import lines
from modicum.nn import ranks

MOST = 100  # boxes of an image, as `nn.detect.found` gives


class Recent(nn.Module):
    """The last `many` scores of each class, (C,many), oldest first; 0 where there were fewer.

    Of each image as many boxes count as their scores sum to, and one more: those that are likely right, and the best
    of the others.  With several processes all hold the scores of all images.
    """

    values: Tensor

    def __init__(self, classes: int, many: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.zeros(classes, many))

    @torch.no_grad()
    def forward(self, boxes: Boxes, images: int, given: float, strict: bool) -> Tensor:
        """Boxes of a batch, each image's by falling score -> each class's line, (C,), by functional/mixture.py."""
        assert boxes.score is not None
        place = torch.arange(len(boxes.cls), device=boxes.cls.device) - torch.searchsorted(boxes.image, boxes.image)
        score = boxes.score.new_zeros(images, MOST, dtype=torch.float64)
        cls = torch.zeros(images, MOST, dtype=torch.int64, device=place.device)
        score[boxes.image, place], cls[boxes.image, place] = boxes.score.double(), boxes.cls
        score, cls = ranks.everyone(score), ranks.everyone(cls)
        rank = torch.arange(MOST, device=place.device)
        counts = (rank <= score.sum(1, keepdim=True).round()) & (score > 0)
        self.add(score[counts], cls[counts])
        return lines(self.values, given, strict)

    def add(self, score: Tensor, cls: Tensor) -> None:
        """Scores (M,) of classes (M,), the newest last."""
        classes, many = self.values.shape
        old = torch.arange(classes, device=cls.device).repeat_interleave(many)
        own, order = torch.cat([old, cls]).sort(stable=True)
        ordered = torch.cat([self.values.flatten(), score.to(self.values)])[order]
        back = torch.searchsorted(own, own, right=True) - torch.arange(len(own), device=own.device)
        last = back <= many
        self.values = self.values.clone()
        self.values[own[last], many - back[last]] = ordered[last]
