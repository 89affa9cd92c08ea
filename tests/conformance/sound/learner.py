"""A sound learner: cross-entropy on labels, low entropy elsewhere, weighed by a running mean that is a buffer.

L = CE(y, f(x)) + w * mean_U m H(f(u))          m: running mean of the confidence on u
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.settings import knob
from modicum.nn.ema import EMA
from modicum.nn.ranks import world_mean

CARD = Card(
    title="Sound learner",
    role="learn",
    idea="Low entropy where there is no label.",
    needs=("image", "class:some"),
    makes=("net:class",),
    off={"weight": 0.0},
)


class Mean(nn.Module):
    """The running mean."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.value.lerp_(world_mean(x.detach().to(self.value.dtype)), 0.1)
        return self.value


@dataclass(frozen=True)
class Learner(Learn):
    """Entropy minimisation."""

    weight: float = knob(0.5, 0, 10, doc="weight of the entropy")
    ramp: float = knob(0.1, 0, 1, doc="share of training over which it rises")

    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        return Nets({"net": net, "mean": Mean(), "ema": EMA(net)})

    def program(self, info: Info) -> Program:
        streams = {"l": Stream("class", info.recipe.batch, ("weak",))}
        if self.weight:
            streams["u"] = Stream("all", info.recipe.batch, ("weak",))
        return [Train(streams, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        labelled, net = batch["l"], nets["net"]
        known = cross_entropy(net(labelled["weak"]).logits.float(), labelled.labels.cls, reduction="none")
        out = {"labelled": mean(known)}
        if "u" in batch:
            unlabelled = batch["u"]
            x = unlabelled["weak"]
            logits = net(x).logits.float()
            log = logits.log_softmax(1)
            entropy = -(log.exp() * log).sum(1)
            rise = min(1.0, clock.done / self.ramp) if self.ramp else 1.0
            out["entropy"] = mean(entropy * nets["mean"](log.exp().amax(1)), weight=self.weight * rise)
        return out

    def after_step(self, nets: Nets, clock: Clock) -> None:
        nets["ema"].update(nets["net"], 0.9, int(clock.total))
