"""LBBA (arXiv:2108.01499) as two methods: an adjuster learns from boxes of other classes; then it alone helps to learn
from tags.  The other images are never seen again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.batch import Batch
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train

from .conftest import Stand, same
from .parts import Adjuster, pooled, seen, segment_softmax, segment_sum, unpack


def size_of(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp_min(1).repeat(1, 2)


@dataclass(frozen=True)
class Adjust(Learn):
    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": Adjuster(make("net"))})

    def program(self, info: Info) -> Program:
        return [Train({"other": Stream("@other & boxes", info.recipe.batch)}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        view, boxes = batch["other"].views["weak"], batch["other"].labels.boxes
        assert boxes is not None
        true = seen(boxes.xyxy, boxes.image, view)
        rough = true + 0.3 * size_of(true) * (torch.rand_like(true) - 0.5)
        wanted = (true - rough) / size_of(rough)
        told = nets["net"].adjust(view.pixels, rough, boxes.image)
        return {"shift": mean(F.smooth_l1_loss(told, wanted, beta=0.1, reduction="none"))}


@dataclass(frozen=True)
class Boost(Learn):
    def build(self, info: Info, make: Make) -> Nets:
        net, c = make("net"), len(info.classes)
        size = 4 * net.head.in_features
        heads = {"cls": nn.Linear(size, c), "det": nn.Linear(size, c), "shift": nn.Linear(size, 4)}
        return Nets({"net": net, "adjust": make("adjust", frozen=True), **heads})

    def program(self, info: Info) -> Program:
        return [Train({"l": Stream("~@other & tags", info.recipe.batch)}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        x, part, net = batch["l"]["weak"], batch["l"], nets["net"]
        boxes, image = unpack(part.columns["proposals"])
        boxes, tags = seen(boxes, image, part.views["weak"]), part.labels.tags
        h = pooled(net.spatial(net.normalise(x)), boxes, image, x.shape[-1])
        scores = nets["cls"](h).softmax(1) * segment_softmax(nets["det"](h), image, len(x))
        with torch.no_grad():
            told = nets["adjust"].adjust(x, boxes, image)
        believed = scores.detach().amax(1, keepdim=True).expand(-1, 4)
        values = F.smooth_l1_loss(nets["shift"](h), told, beta=0.1, reduction="none")
        whole = segment_sum(scores, image, len(x)).clamp(1e-6, 1 - 1e-6)
        return {
            "tags": mean(F.binary_cross_entropy(whole, tags.float(), reduction="none")),
            "shift": Term((believed * values).sum(), believed.sum()),
        }


def test_both_train_and_resume_and_the_second_needs_no_other_image(scenes: Stand, proves: Callable[..., Any]) -> None:
    first, losses = proves(scenes, Adjust())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    other = scenes.data.field("domain") == "other"
    target = replace(scenes, pool=~other, given={"adjust": first.method.deliver(first.nets)}, moments=None)
    real, losses = target.run(Boost())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    images = np.stack([scenes.pixels.image(i) for i in range(32)])
    images[other] = np.random.default_rng(9).integers(0, 256, images[other].shape)
    assert same(real.nets, target.but(images=images).run(Boost())[0].nets)


def test_the_booster_resumes(scenes: Stand, proves: Callable[..., Any]) -> None:
    proves(replace(scenes, given={"adjust": Adjuster(scenes.make("net"))}), Boost())
