"""Parts of the sketches: padded columns to packed rows, a softmax within each image, features of regions, small nets.

B images, R slots, M regions, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from modicum.core.batch import Boxes, View
from modicum.core.net import Net, Out
from modicum.functional import geometry


def unpack(padded: Tensor) -> tuple[Tensor, Tensor]:
    """A ragged column (B,R,4), padded with NaN -> boxes (M,4), image (M,)."""
    here = ~padded.isnan().any(-1)
    return padded[here], here.nonzero()[:, 0]


def segment_softmax(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Softmax of (M,C) over the rows of each image: columns sum to 1 within an image."""
    where = image[:, None].expand_as(values)
    top = values.new_full((images, values.shape[1]), -torch.inf).scatter_reduce(0, where, values, "amax")
    raised = (values - top.detach()[image]).exp()
    return raised / segment_sum(raised, image, images)[image]


def segment_sum(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Sum of (M,C) over the rows of each image, (B,C)."""
    return values.new_zeros(images, values.shape[1]).index_add(0, image, values)


def seen(xyxy: Tensor, image: Tensor, view: View) -> Tensor:
    """Boxes in image coordinates as the view sees them."""
    return geometry.warp_boxes(xyxy, image, view.affine, (view.pixels.shape[2], view.pixels.shape[3]))[0]


def pooled(maps: Tensor, xyxy: Tensor, image: Tensor, side: int) -> Tensor:
    """Features (M, 4K) of boxes in view coordinates from maps (B,K,h,w) of views of `side` pixels."""
    rois = torch.cat([image[:, None].to(xyxy.dtype), xyxy], 1)
    return roi_align(maps, rois, (2, 2), maps.shape[-1] / side, sampling_ratio=2, aligned=True).flatten(1)


class Detector(Net):
    """A class and a box in each cell: scores (B,C+1,h,w), background last; boxes (B,4,h,w) in view coordinates."""

    def __init__(self, net: Net, classes: int) -> None:
        super().__init__(len(net.mean))
        self.net, self.cells = net, nn.Conv2d(net.head.in_features, classes + 5, 1)

    def dense(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.cells(self.net.spatial(self.net.normalise(x)))
        stride = x.shape[-1] / out.shape[-1]
        at = (torch.arange(out.shape[-1]) + 0.5) * stride
        far = F.softplus(out[:, -4:]) * stride
        centre = torch.stack([at.expand(len(at), -1), at[:, None].expand(-1, len(at))])
        return out[:, :-4], torch.cat([centre - far[:, :2], centre + far[:, 2:]], 1)

    def forward(self, x: Tensor) -> Out:
        scores, boxes = self.dense(x)
        return Out(scores[:, :-1].amax((2, 3)), scores.mean((2, 3)), scores, found(scores, boxes, 0.5))


def found(scores: Tensor, boxes: Tensor, least: float) -> Boxes:
    """Cells that are sure of an object."""
    sure, cls = scores.softmax(1)[:, :-1].max(1)
    image, i, j = (sure >= least).nonzero(as_tuple=True)
    return Boxes(boxes[image, :, i, j], cls[image, i, j], torch.ones_like(image, dtype=torch.int8), image)


class Adjuster(Net):
    """Moves boxes: (images, boxes (M,4), image (M,)) -> shifts (M,4), as shares of the box's size."""

    def __init__(self, net: Net) -> None:
        super().__init__(len(net.mean))
        self.net, self.shift = net, nn.Linear(4 * net.head.in_features, 4)

    def adjust(self, x: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
        return self.shift(pooled(self.net.spatial(self.net.normalise(x)), boxes, image, x.shape[-1]))


class Means(nn.Module):
    """sum: (C,D) of features of each class; count: (C,)."""

    def __init__(self, classes: int, d: int) -> None:
        super().__init__()
        self.register_buffer("sum", torch.zeros(classes, d))
        self.register_buffer("count", torch.zeros(classes))

    def add(self, cls: Tensor, h: Tensor) -> None:
        self.sum += F.one_hot(cls, len(self.sum)).float().T @ h
        self.count += cls.bincount(minlength=len(self.count))
