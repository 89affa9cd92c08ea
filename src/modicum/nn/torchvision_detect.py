"""torchvision's detectors over any network that shows its maps of several sizes: Faster R-CNN and FCOS.

What runs is torchvision's model, with its anchors at the strides of the network's levels.  It is handed maps, not
images, so it neither resizes nor centres; no weights are fetched.  Letters: B images, C classes, M boxes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.poolers import LevelMapper

from modicum.core.batch import Boxes
from modicum.core.errors import ModelError
from modicum.core.net import Net, Out
from modicum.functional.losses import wide
from modicum.nn.detect import FINEST, USED
from modicum.nn.edit import Levelled, black, noted, of

KINDS = ("faster-rcnn", "fcos")
ANCHOR = 8  # strides a side, of Faster R-CNN's
LEAST = 0.05  # score of a box that is told
RARE = 1e-3  # probability that is said of a class without a box


class Share(NamedTuple):
    """A term of torchvision's loss: its mean, and over how many values it is one."""

    mean: Tensor
    over: float


class Visioned(Levelled):
    """A network whose answer is `Out.boxes`, from torchvision's detector `vision`; `logits` tell of the surest box.

    Boxes are given in evaluation mode alone.  ModelError where it is exported, since how many there are is not known.
    """

    vision: Any

    def losses(self, x: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Share]:
        """torchvision's losses by name.

        x: (B,c,H,W) in [0,1].  targets: of each image, "boxes" float (M,4), pixels of x, of positive width and height,
        and "labels" int64 (M,), from 0.  What is in no box is background.
        """
        first = self.first
        told = [{"boxes": t["boxes"], "labels": t["labels"] + first} for t in targets]
        found = self._asked(x, self.seen(x)[1], True, told)
        return {name: Share(value, self._count(name)) for name, value in found.items()}

    def forward(self, x: Tensor) -> Out:
        if torch.compiler.is_compiling():
            found = "torchvision's detectors cannot be exported"
            raise ModelError(found, where="export", fix="Take `--method detector`, or predict with the run itself.")
        maps, levels = self.seen(x)
        boxes = packed(self._asked(x, levels, False), self.first)
        classes = self.spec["args"]["classes"]
        surest = wide(x).new_full((len(x) * classes,), RARE)
        assert boxes.score is not None
        surest = surest.scatter_reduce(0, boxes.image * classes + boxes.cls, boxes.score.to(surest.dtype), "amax")
        logits = surest.clamp(RARE, 1 - RARE).logit().view(len(x), classes)
        shown = maps if maps.ndim == 4 else None
        return Out(logits, self.pool(maps), shown, boxes=None if self.training else boxes)

    @property
    def first(self) -> int:
        """torchvision's number of our class 0: Faster R-CNN's 0 is background."""
        return int(isinstance(self.vision, FasterRCNN))

    def _asked(self, x: Tensor, levels: list[Tensor], training: bool, targets: Any = None) -> Any:
        """torchvision's answer, in its training or evaluation mode, in float32.

        In training it draws positions and regions; torch's generator is afterwards as it was.
        """
        pyramid, was = self.vision.backbone, self.vision.training
        pyramid.levels = [wide(m) for m in levels[-len(pyramid.fpn.inner_blocks) :]]
        try:
            self.vision.train(training)
            cards = [x.device] if x.device.type == "cuda" else []
            with torch.autocast(x.device.type, enabled=False), torch.random.fork_rng(cards):
                return self.vision(x, targets)
        finally:
            self.vision.train(was)

    def _count(self, name: str) -> float:
        if isinstance(self.vision, FCOS):
            return float(max(1, self.vision.head.count))  # type: ignore[operator]
        part: Any = self.vision.rpn if name in ("loss_objectness", "loss_rpn_box_reg") else self.vision.roi_heads
        return float(part.fg_bg_sampler.count)


def packed(found: list[dict[str, Tensor]], first: int) -> Boxes:
    """torchvision's answer as Boxes; first: its number of our class 0."""
    image = [torch.full_like(f["labels"], i) for i, f in enumerate(found)]
    xyxy, labels, score = (torch.cat([f[k] for f in found]) for k in ("boxes", "labels", "scores"))
    return Boxes(xyxy, labels - first, torch.ones_like(labels, dtype=torch.int8), torch.cat(image), score)


def visioned(net: Net, kind: str, width: int, cells: int, regions: int = 512) -> Net:
    """The network with torchvision's detector in place of its classifier; noted in its `spec`.

    Used are the network's levels that a dense head would use (nn/detect.py).  kind: of KINDS.  width: channels of the
    pyramid, 64 to 256 in steps of 32; a region's head has four times as many.  cells: a side, 2 to 14, into which
    Faster R-CNN pools a region.  regions: of an image, at most, that its head learns from; training alone asks, so no
    `spec` tells.  Weights come from torch's global generator.  ModelError where the network shows no maps, or has a
    dense head already.
    """
    if kind not in KINDS or not (64 <= width <= 256 and width % 32 == 0 and 2 <= cells <= 14):
        fix = f"Give {' or '.join(KINDS)}, a width of 64, 96, 128, ..., 256, and 2 to 14 cells."
        raise ModelError(f"{kind!r:.40} of width {width} and {cells} cells", where="network", fix=fix)
    _, seen = black(net, net.levels)
    side, classes = net.spec["args"]["side"], net.spec["args"]["classes"]
    of(net, Visioned)
    used = [m for m in seen if side / m.shape[-1] >= FINEST][-USED:] or seen[-1:]
    channels, sides = [m.shape[1] for m in used], [m.shape[-1] for m in used]
    if kind == "fcos":
        model = _fcos(channels, sides, side, classes, width)
    else:
        model = _faster_rcnn(channels, sides, side, classes, width, cells, regions)
    model.transform = _AsIs()
    net.vision, net.head = model.to(net.mean.device), nn.Identity()
    return noted(net, {"edit": "torchvision", "kind": kind, "width": width, "cells": cells})


def _faster_rcnn(
    channels: list[int], sides: list[int], side: int, classes: int, width: int, cells: int, regions: int
) -> Any:
    names = [str(i) for i in range(len(channels))]
    sizes = tuple((ANCHOR * side / n,) for n in _halved(sides, 1))
    model = FasterRCNN(
        _Pyramid(FeaturePyramidNetwork(channels, width, LastLevelMaxPool()), width),
        rpn_anchor_generator=_Anchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_roi_pool=_Pool(names, output_size=cells, sampling_ratio=2),
        box_head=TwoMLPHead(width * cells**2, 4 * width),
        box_predictor=FastRCNNPredictor(4 * width, classes + 1), box_score_thresh=LEAST,
        box_batch_size_per_image=regions,
    )  # fmt: skip
    model.rpn.__class__ = _Proposer
    for part in (model.rpn, model.roi_heads):
        part.fg_bg_sampler = _Counted(part.fg_bg_sampler)
    return model


def _fcos(channels: list[int], sides: list[int], side: int, classes: int, width: int) -> Any:
    sizes = tuple((side / n,) for n in _halved(sides, 2))
    fpn = FeaturePyramidNetwork(channels, width, LastLevelP6P7(width, width))
    anchors = _Anchors(sizes, ((1.0,),) * len(sizes))
    head = _Head(width, 1, classes)
    return FCOS(_Pyramid(fpn, width), classes, anchor_generator=anchors, head=head, score_thresh=LEAST)


def _halved(sides: list[int], more: int) -> list[int]:
    """Sides of maps, and of further ones, each half as large."""
    for _ in range(more):
        sides = [*sides, math.ceil(sides[-1] / 2)]
    return sides


class _Pyramid(nn.Module):
    """What torchvision calls a backbone.  levels: set before each call, which takes them."""

    def __init__(self, fpn: FeaturePyramidNetwork, width: int) -> None:
        super().__init__()
        self.fpn, self.out_channels, self.levels = fpn, width, list[Tensor]()

    def forward(self, x: Tensor) -> Any:
        levels, self.levels = self.levels, []
        return self.fpn({str(i): m for i, m in enumerate(levels)})


class _AsIs(nn.Module):
    """In place of torchvision's transform: images are of one size, and in the pixels in which boxes are told."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images)), targets

    def postprocess(self, found: Any, *_: Any) -> Any:
        return found


class _Anchors(AnchorGenerator):
    """Made anew for each call: a network that was built without memory holds none."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        made = zip(self.sizes, self.aspect_ratios, strict=True)
        self.cell_anchors = [self.generate_anchors(s, a, dtype, device) for s, a in made]


class _Pool(MultiScaleRoIAlign):
    """With the scales of the maps at hand: torchvision rounds them to powers of two and keeps the first it saw."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        steps = [image_shapes[0][1] / x[name].shape[-1] for name in self.featmap_names]
        low, high = round(math.log2(steps[0])), round(math.log2(steps[-1]))
        self.scales = [1 / step for step in steps]  # type: ignore[assignment]
        self.map_levels = LevelMapper(low, min(high, low + len(steps) - 1))  # type: ignore[assignment]
        return super().forward(x, boxes, image_shapes)


class _Proposer(RegionProposalNetwork):
    """In the type of its maps: torchvision's targets are of 32 bits, also where the maps have 64."""

    def assign_targets_to_anchors(self, anchors: list[Tensor], targets: Any) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        return [said.to(anchors[0].dtype) for said in labels], boxes


class _Counted:
    """A sampler that remembers how many it chose: what the losses are means of."""

    def __init__(self, sampler: Any) -> None:
        self.sampler, self.count = sampler, 0

    def __call__(self, labels: list[Tensor]) -> Any:
        chosen = self.sampler(labels)
        self.count = int(torch.cat([part for parts in chosen for part in parts]).sum())
        return chosen


class _Head(FCOSHead):
    """FCOS's, which remembers how many positions own a box."""

    count = 0

    def compute_loss(self, targets: Any, head_outputs: Any, anchors: Any, matched_idxs: list[Tensor]) -> Any:
        self.count = int((torch.cat(matched_idxs) >= 0).sum())
        return super().compute_loss(targets, head_outputs, anchors, matched_idxs)
