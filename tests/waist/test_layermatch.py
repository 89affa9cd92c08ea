"""LayerMatch (arXiv:2406.14207): guesses teach the body and not the head, through a slow head.

    L = CE(y, W g(x)) + mean_U w(q) CE(argmax q, sg(We) g(strong(u))),    We <- a We + (1 - a) W
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from modicum.core.batch import Batch
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.settings import knob
from modicum.nn.trust import make_trust

from .conftest import Stand


def detached(module: nn.Module, x: Tensor) -> Tensor:
    """A forward whose gradient reaches the input and no parameter; works for a head of any kind."""
    return torch.func.functional_call(module, {k: p.detach() for k, p in module.named_parameters()}, (x,))


@dataclass(frozen=True)
class LayerMatch(Learn):
    weight: float = knob(1.0, 0, 100, doc="weight of the unlabelled term")
    average: float = knob(0.9, 0, 1, doc="a; 0 = the head itself")
    trust: str = knob("fixed:tau=0.5", doc="trust rule")

    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        slow = copy.deepcopy(net.head).requires_grad_(False)
        return Nets({"net": net, "slow": slow, "trust": make_trust(self.trust, info)})

    def program(self, info: Info) -> Program:
        size = info.recipe.batch
        streams = {"l": Stream("class", size), "u": Stream("all", 2 * size, ("weak", "strong"))}
        return [Train(streams, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        labelled, unlabelled, net = batch["l"], batch["u"], nets["net"]
        n, u = len(labelled.rows), len(unlabelled.rows)
        h = net.body(torch.cat([labelled["weak"], unlabelled["weak"], unlabelled["strong"]]))
        with torch.no_grad():
            target, believed = nets["trust"](net.head(h[n : n + u]).softmax(1), unlabelled.rows)
        guessed = detached(nets["slow"], h[n + u :])
        return {
            "labelled": mean(cross_entropy(net.head(h[:n]), labelled.labels.cls, reduction="none")),
            "unlabelled": mean(cross_entropy(guessed, target, reduction="none"), believed, weight=self.weight),
        }

    @torch.no_grad()
    def after_step(self, nets: Nets, clock: Clock) -> None:
        for slow, fast in zip(nets["slow"].parameters(), nets["net"].head.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.average)


def test_it_trains_and_resumes(shapes: Stand, proves: Callable[..., Any]) -> None:
    loop, losses = proves(shapes, LayerMatch())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert shapes.accuracy(loop.method.deliver(loop.nets)) > 0.6


def test_guesses_move_the_body_and_not_the_head(shapes: Stand) -> None:
    loop = shapes.loop(LayerMatch(trust="fixed:tau=0"), shapes.recipe)
    phase = loop.program[0]
    batch = {n: loop.feed.draw(s, n, 0) for n, s in phase.streams.items()}  # type: ignore[union-attr]
    net = loop.nets["net"]
    loop.method.loss(loop.nets, batch, loop.clock(phase, 0, 0))["unlabelled"].total.backward()  # type: ignore[arg-type]
    assert all(p.grad is None for p in net.head.parameters())
    assert all(p.grad.abs().sum() > 0 for p in net.stages.parameters())
