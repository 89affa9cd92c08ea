"""WSDDN with OICR refinement: tags and proposals (a ragged column) to boxes; softmaxes stay within their image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from modicum.core.batch import Batch
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.settings import knob

from .conftest import Stand
from .parts import pooled, seen, segment_softmax, segment_sum, unpack


@dataclass(frozen=True)
class Wsddn(Learn):
    refine: int = knob(2, 0, 5, doc="refinement heads (OICR)")

    def build(self, info: Info, make: Make) -> Nets:
        net, c = make("net"), len(info.classes)
        size = 4 * net.head.in_features
        heads = {f"refine{k}": nn.Linear(size, c + 1) for k in range(self.refine)}
        return Nets({"net": net, "cls": nn.Linear(size, c), "det": nn.Linear(size, c), **heads})

    def program(self, info: Info) -> Program:
        return [Train({"l": Stream("tags", info.recipe.batch)}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part, net = batch["l"], nets["net"]
        x, tags = part["weak"], part.labels.tags
        assert tags is not None
        boxes, image = unpack(part.columns["proposals"])
        h = pooled(net.spatial(net.normalise(x)), seen(boxes, image, part.views["weak"]), image, x.shape[-1])
        scores = nets["cls"](h).softmax(1) * segment_softmax(nets["det"](h), image, len(x))
        whole = segment_sum(scores, image, len(x)).clamp(1e-6, 1 - 1e-6)
        known = (tags >= 0).float()
        values = F.binary_cross_entropy(whole, tags.clamp_min(0).float(), reduction="none")
        out = {"tags": mean(values, known, known.sum())}
        before = scores.detach()
        for k in range(self.refine):
            logits = nets[f"refine{k}"](h)
            target, weight = seeds(before, tags, boxes, image)
            values = weight * F.cross_entropy(logits, target, reduction="none")
            out[f"refine {k}"] = Term(values.sum(), float(len(values)))
            before = logits.detach().softmax(1)[:, :-1]
        return out


def seeds(scores: Tensor, tags: Tensor, boxes: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """-> target (M,), the class of a seed that overlaps by half, else background (C); weight (M,), the seed's score.

    Seeds are the best proposal of each present class of each image.
    """
    at, cls = (tags == 1).nonzero(as_tuple=True)
    mine = image == at[:, None]
    best = torch.where(mine, scores[:, cls].T, -1.0).argmax(1)
    overlap = torch.where(mine, box_iou(boxes[best], boxes), -1.0)
    near, which = overlap.max(0)
    target = torch.where(near >= 0.5, cls[which], scores.shape[1])
    return target, torch.where(near >= 0, scores[best, cls][which], 0.0)


def test_it_trains_and_resumes(scenes: Stand, proves: Callable[..., Any]) -> None:
    _, losses = proves(scenes, Wsddn(), steps=30)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_one_image_does_not_feel_another(scenes: Stand) -> None:
    values, image = torch.randn(9, 2), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    whole = segment_softmax(values, image, 3)
    for i in range(3):
        assert torch.allclose(whole[image == i], values[image == i].softmax(0))
    part = next(scenes.feed({}).sweep(scenes.data.rows("tags")[:5], 5))
    boxes, image = unpack(part.columns["proposals"])
    assert image.bincount().tolist() == [6, 7, 8, 6, 7] and not boxes.isnan().any()
