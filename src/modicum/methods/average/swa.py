"""SWA: the mean of the weights met late in training, at a learning rate that keeps moving.

    from a share `start` of training on, every `every` steps:  n <- n + 1,  average <- average + (weights - average) / n
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.method import Make, Presets, Wrap
from modicum.core.net import Net, Nets
from modicum.core.program import Clock, Info, Program
from modicum.core.settings import knob
from modicum.nn.ema import EMA
from modicum.nn.renew import forget, renew, renewal

CARD = Card(
    title="SWA",
    role="wrap",
    idea="Weights met at different times lie around a flat optimum: their mean is nearer to its middle.",
    needs=("net:class",),
    makes=("net:class",),
    year=2018,
    cites=("arXiv:1803.05407",),
    changed=(
        "The learning rate is the recipe's: give `--recipe schedule=constant` for the paper's constant rate late in "
        "training.  Batch-norm statistics of the average are computed anew by a last pass, as in the paper."
    ),
    cost=1.05,
)


@dataclass(frozen=True)
class Swa(Wrap):
    """Stochastic weight averaging (Izmailov et al., 2018)."""

    start: float = knob(0.75, 0, 1, doc="share of training after which weights are averaged")
    every: int = knob(10, 1, 100_000, doc="steps between two weights that count (the paper: an epoch)")
    refresh: str = knob("all", doc="images of the last pass for batch-norm statistics", choices=("all", "class"))
    presets: ClassVar[Presets] = {"paper": {}, "small": {}}

    def build(self, info: Info, make: Make) -> Nets:
        nets = super().build(info, make)
        nets["mean"] = EMA(self.inner.deliver(nets["inner"]))
        nets["mean"].register_buffer("count", torch.zeros((), dtype=torch.int64))
        return nets

    def program(self, info: Info) -> Program:
        return [*super().program(info), *renewal(self.refresh, info)]

    def after_step(self, nets: Nets, clock: Clock) -> None:
        super().after_step(nets, clock)
        mean, counts = nets["mean"], clock.done >= self.start and clock.total % self.every == 0
        mean.count += int(counts)
        if counts or not mean.count:  # before the first that counts, the mean is the network itself
            mean.update(self.inner.deliver(nets["inner"]), 1 - 1 / max(1, int(mean.count)), 10**9)

    def forget(self, nets: Nets) -> None:
        """Batch-norm statistics begin anew."""
        forget(self.deliver(nets))

    def renew(self, nets: Nets, batch: Batch) -> Tensor:
        """A batch's share of the new statistics."""
        return renew(self.deliver(nets), batch["all"]["weak"])

    def deliver(self, nets: Nets) -> Net:
        return nets["mean"].net
