"""Tags to masks: train a tagger, collect its activation maps as a column, train a segmenter on them in moved views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modicum.core.batch import Batch
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Net, Nets, Out
from modicum.core.program import Clock, Collect, Info, Program, Stream, Train, Turn
from modicum.core.recipe import Optim
from modicum.core.settings import knob
from modicum.functional import geometry

from .conftest import Stand


class Segmenter(Net):
    """masks: logits (B,C+1,H,W), background first, at the side of the view."""

    def __init__(self, net: Net, classes: int) -> None:
        super().__init__(len(net.mean))
        self.net, self.cells = net, nn.Conv2d(net.head.in_features, classes + 1, 1)

    def forward(self, x: Tensor) -> Out:
        maps = self.net.spatial(self.net.normalise(x))
        masks = F.interpolate(self.cells(maps), x.shape[2:], mode="bilinear")
        return Out(masks[:, 1:].amax((2, 3)), self.net.pool(maps), maps, masks=masks)


@dataclass(frozen=True)
class CamSegment(Learn):
    sure: float = knob(0.6, 0, 1, doc="share of a map's height that makes a place the class; half of it: background")

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"tagger": make("net"), "net": Segmenter(make("segmenter"), len(info.classes))})

    def program(self, info: Info) -> Program:
        half, tagged = info.recipe.steps // 2, Stream("tags", info.recipe.batch)
        return [
            Train({"l": tagged}, half, (Turn("tag", ("tagger",)),), name="tagger"),
            Collect("seeds", Stream("tags", 16, ("plain",)), into="seeds"),
            Train({"l": Stream("seeds", tagged.size, ("strong",))}, half, (Turn("segment", ("net",)),), lane=1),
        ]

    def tag(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        logits, tags = nets["tagger"](batch["l"]["weak"]).logits, batch["l"].labels.tags.float()
        return {"tags": mean(F.binary_cross_entropy_with_logits(logits, tags, reduction="none"))}

    def seeds(self, nets: Nets, batch: Batch) -> Tensor:
        """Class maps of present classes (B,C,h,w), scaled to a height of 1: CAM in closed form."""
        out, head = nets["tagger"](batch["all"]["plain"]), nets["tagger"].head
        maps = torch.einsum("bkhw,ck->bchw", out.maps, head.weight).relu()
        maps = maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-6)
        return maps * (batch["all"].labels.tags == 1)[:, :, None, None]

    def segment(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        view, side = batch["l"].views["strong"], batch["l"]["strong"].shape[-1]
        maps = geometry.warp_maps(batch["l"].columns["seeds"], view.affine, (side, side), (side, side))
        height, cls = maps.max(1)
        target = torch.where(height >= self.sure, cls + 1, torch.where(height < self.sure / 2, 0, 255))
        values = F.cross_entropy(nets["net"](view.pixels).masks, target, ignore_index=255, reduction="sum")
        return {"pixels": Term(values, (target != 255).sum())}


def test_it_trains_and_resumes(scenes: Stand, proves: Callable[..., Any]) -> None:
    loop, losses = proves(scenes, CamSegment(), steps=32, optim=Optim(lr=0.2))
    first, second = losses[:16], losses[16:]
    assert sum(first[-5:]) < 0.85 * sum(first[:5]) and sum(second[-5:]) < 0.7 * sum(second[:5])
    assert loop.feed.columns["seeds"].shape == (32, 2, 6, 6)
    part = next(loop.feed.sweep(scenes.data.rows(), 32))
    found = loop.method.deliver(loop.nets)(part["plain"]).masks.argmax(1) > 0
    truth = (part["plain"][:, :2] > 0.7).any(1)
    overlap = (found & truth).sum() / (found | truth).sum()
    assert overlap > 1.3 * truth.float().mean(), "better than calling everything foreground"
