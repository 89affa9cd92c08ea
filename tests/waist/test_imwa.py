"""IMWA (arXiv:2404.16331), a wrapper: in each episode train M copies from one start, average them, start again.

Each copy is a lane: its own data order, its own optimiser, one schedule over all its episodes.  Momenta carry over as
their mean.  Batch-norm statistics of the average are refreshed by a pass in train mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from modicum.core.batch import Batch
from modicum.core.method import Make, Wrap
from modicum.core.net import Net, Nets
from modicum.core.program import Change, Clock, Collect, Info, Program, Stream, Train, inside
from modicum.core.settings import knob
from modicum.engine.choose import compose

from .conftest import RECIPE, Stand


@dataclass(frozen=True)
class Imwa(Wrap):
    models: int = knob(2, 1, 64, doc="M, copies trained in each episode")
    episodes: int = knob(3, 1, 10_000, doc="E")

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({f"copy{m}": self.inner.build(info, make) for m in range(self.models)})

    def program(self, info: Info) -> Program:
        out: Program = []
        for phase in self.inner.program(info):
            if not isinstance(phase, Train):
                out += [inside(phase, "inner", f"copy{m}") for m in range(self.models)]
                continue
            for e in range(self.episodes):
                steps = phase.steps * (e + 1) // self.episodes - phase.steps * e // self.episodes
                short = replace(phase, steps=steps, carry=True, name=f"episode {e + 1}")
                out += [inside(short, "inner", f"copy{m}", lane=m) for m in range(self.models)]
                out.append(Change("average", optimisers="mean"))
        return [*out, Collect("refresh", Stream("all", 16, ("weak",)), mode="train", name="batch norm")]

    @torch.no_grad()
    def average(self, nets: Nets) -> None:
        states = [nets[f"copy{m}"].state_dict() for m in range(self.models)]
        for key, first in states[0].items():
            if first.is_floating_point():
                first.copy_(torch.stack([s[key] for s in states]).mean(0))
            for s in states[1:]:
                s[key].copy_(first)

    def refresh(self, nets: Nets, batch: Batch) -> Tensor:
        return self.deliver(nets)(batch["all"]["weak"]).logits

    def after_step(self, nets: Nets, clock: Clock) -> None:
        self.inner.after_step(nets[f"copy{clock.lane}"], clock)

    def deliver(self, nets: Nets) -> Net:
        return self.inner.deliver(nets["copy0"])


def test_it_wraps_any_method_trains_and_resumes(shapes: Stand, proves: Callable[..., Any]) -> None:
    fixmatch = compose("fixmatch", {"mu": 2, "trust": "fixed:tau=0.5"}, RECIPE.but(wraps=("ema:decay=0.8",)))
    loop, losses = proves(shapes, Imwa(inner=fixmatch), steps=18)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert shapes.accuracy(loop.method.deliver(loop.nets)) > 0.6


def test_lanes_differ_in_an_episode_and_agree_after_it(shapes: Stand) -> None:
    plain = compose("supervised", {}, RECIPE)
    before, _ = shapes.run(Imwa(inner=plain), kill=12, steps=18)
    after, _ = shapes.run(Imwa(inner=plain), kill=13, steps=18)
    first, second = (before.nets[f"copy{m}"]["net"].head.weight for m in (0, 1))
    assert not torch.equal(first, second)
    momenta = [o.state_dict()["state"][0]["momentum_buffer"] for (o,) in after.optimisers.values()]
    assert not torch.equal(*momenta), "lane 0 has gone on, lane 1 holds the mean"
    ends = [loop.clock(p, i, 0).done for loop in (after,) for i, p in enumerate(loop.program) if isinstance(p, Train)]
    assert ends == [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3]
