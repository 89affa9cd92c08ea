"""IMWA: in each of E episodes train M copies from one start, each on its own draws, average them, and start again.

    theta_m = T/E steps from theta(e-1),   theta(e) = mean_m theta_m,   theta(E) is delivered

With one episode it is vanilla model averaging: M copies trained to the end and averaged once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.method import Make, Presets, Wrap
from modicum.core.net import Net, Nets
from modicum.core.program import Change, Clock, Info, Phase, Program, Train, inside
from modicum.core.settings import knob
from modicum.nn.renew import forget, renew, renewal

CARD = Card(
    title="IMWA",
    role="wrap",
    idea="Copies that were apart for a short while average to a network that is flatter, and fairer to rare classes.",
    needs=("net:class",),
    makes=("net:class",),
    year=2024,
    cites=("arXiv:2404.16331",),
    changed=(
        "M, E and what becomes of the optimisers' momentum were not given in what we could read: here 2 copies, 15 "
        "episodes and the mean of the copies' momenta, each a setting.  The learning rate follows the whole training, "
        "not the episode.  Batch-norm statistics of the average are computed anew by a last pass."
    ),
    cost=2.0,
)


@dataclass(frozen=True)
class Imwa(Wrap):
    """Iterative model weight averaging."""

    models: int = knob(2, 1, 16, doc="M, copies trained in each episode")
    episodes: int = knob(15, 1, 10_000, doc="E; 1 is vanilla model averaging")
    momentum: str = knob("mean", doc="the copies' optimiser state after an episode", choices=("mean", "reset"))
    refresh: str = knob("all", doc="images of a last pass for batch-norm statistics", choices=("all", "class", "none"))
    presets: ClassVar[Presets] = {"paper": {}, "small": {"episodes": 2}}

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({f"copy{m}": self.inner.build(info, make) for m in range(self.models)})

    def program(self, info: Info) -> Program:
        phases = [p for phase in self.inner.program(info) for p in self.apart(phase)]
        return phases if self.refresh == "none" else [*phases, *renewal(self.refresh, info)]

    def apart(self, phase: Phase) -> Program:
        """A phase of the inner method, taken by every copy; training in episodes."""
        if not isinstance(phase, Train):
            return [inside(phase, "inner", f"copy{m}") for m in range(self.models)]
        out: Program = []
        for e in range(self.episodes):
            steps = phase.steps * (e + 1) // self.episodes - phase.steps * e // self.episodes
            if steps:
                short = replace(phase, steps=steps, carry=True, name=f"episode {e + 1}")
                lanes = [phase.lane * self.models + m for m in range(self.models)]
                out += [inside(short, "inner", f"copy{m}", lane=lane) for m, lane in enumerate(lanes)]
                out.append(Change("average", optimisers="mean" if self.momentum == "mean" else ""))
        return out

    @torch.no_grad()
    def average(self, nets: Nets) -> None:
        """Every copy becomes the mean of all: parameters and float buffers; whole numbers are the first copy's."""
        states = [nets[f"copy{m}"].state_dict() for m in range(self.models)]
        for key, first in states[0].items():
            if first.is_floating_point():
                first.copy_(torch.stack([s[key] for s in states]).mean(0))
            for s in states[1:]:
                s[key].copy_(first)

    def forget(self, nets: Nets) -> None:
        """Batch-norm statistics begin anew."""
        forget(self.deliver(nets))

    def renew(self, nets: Nets, batch: Batch) -> Tensor:
        """A batch's share of the new statistics."""
        return renew(self.deliver(nets), batch["all"]["weak"])

    def after_step(self, nets: Nets, clock: Clock) -> None:
        self.inner.after_step(nets[f"copy{clock.lane % self.models}"], clock)

    def deliver(self, nets: Nets) -> Net:
        return self.inner.deliver(nets["copy0"])
