"""Mean-teacher detection: boxes that a slow teacher finds on a weak view are moved to the strong view as targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from modicum.core.batch import Batch, Boxes, Part, View
from modicum.core.loss import Loss, Term
from modicum.core.method import Learn, Make
from modicum.core.net import Net, Nets, guessing
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import Optim
from modicum.core.settings import knob
from modicum.functional import geometry
from modicum.nn.ema import EMA

from .conftest import Stand
from .parts import Detector, found, seen


def distance(net: Detector, view: View, boxes: Boxes, looked: Tensor | None) -> tuple[Term, Term]:
    """Terms of classes and of edges for boxes in image coordinates; unsure cells count where images were looked at."""
    scores, guessed = net.dense(view.pixels)
    xyxy, side = seen(boxes.xyxy, boxes.image, view), view.pixels.shape[-1]
    at = (torch.arange(scores.shape[-1]) + 0.5) * side / scores.shape[-1]
    across, down = ((xyxy[:, [k]] <= at) & (at < xyxy[:, [k + 2]]) for k in (0, 1))
    m, i, j = (down[:, :, None] & across[:, None, :]).nonzero(as_tuple=True)
    target = scores.new_full(guessed[:, 0].shape, -100).long()
    if looked is not None:
        target[looked.all(1)] = scores.shape[1] - 1
    target[boxes.image[m], i, j] = torch.where(boxes.state[m] == 1, boxes.cls[m], -100)
    cls = F.cross_entropy(scores, target, reduction="sum", ignore_index=-100)
    edges = (guessed[boxes.image[m], :, i, j] - xyxy[m]).abs().sum() / side
    return Term(cls, (target >= 0).sum()), Term(edges, float(4 * len(m)), weight=1.0 if len(m) else 0.0)


@dataclass(frozen=True)
class MeanTeacherDetection(Learn):
    weight: float = knob(0.5, 0, 10, doc="weight of the teacher's boxes")

    def build(self, info: Info, make: Make) -> Nets:
        net = Detector(make("net"), len(info.classes))
        return Nets({"net": net, "ema": EMA(net)})

    def program(self, info: Info) -> Program:
        size = info.recipe.batch
        streams = {"l": Stream("boxes & @other", size), "u": Stream("~@other", size, ("weak", "strong"))}
        return [Train(streams, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part: Part = batch["u"]
        labels = batch["l"].labels
        known = distance(nets["net"], batch["l"].views["weak"], labels.boxes, labels.looked)
        with guessing(nets["ema"]):
            told = found(*nets["ema"].net.dense(part["weak"]), 0.5)
            corners, whose = told.xyxy.reshape(-1, 2), told.image.repeat_interleave(2)
            moved = geometry.move_points(corners, whose, part.views["weak"].affine)
        image = Boxes(moved.reshape(-1, 4), told.cls, told.state, told.image)
        guessed = distance(nets["net"], part.views["strong"], image, None)
        names = ("class", "edges", "guessed class", "guessed edges")
        terms = (*known, *(t._replace(weight=self.weight * t.weight * clock.done) for t in guessed))
        return dict(zip(names, terms, strict=True))

    def after_step(self, nets: Nets, clock: Clock) -> None:
        nets["ema"].update(nets["net"], 0.8, clock.total)

    def deliver(self, nets: Nets) -> Net:
        return nets["ema"].net


def test_it_trains_and_resumes(scenes: Stand, proves: Callable[..., Any]) -> None:
    loop, losses = proves(scenes, MeanTeacherDetection(), steps=30, optim=Optim(lr=0.1))
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5]) and all(map(math.isfinite, losses))
    part = next(loop.feed.sweep(scenes.data.rows("~@other"), 16))
    out = loop.method.deliver(loop.nets)(part["plain"])
    assert isinstance(out.boxes, Boxes) and len(out.boxes.image)
