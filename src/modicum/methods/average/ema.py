"""EMA of the weights: the delivered network is a moving average of the trained one.

    average <- d * average + (1 - d) * weights,   d = min(decay, (1 + t) / (10 + t))

Changed: the decay ramps up over the first steps, so that short schedules are not dominated by the initial weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.card import Card
from modicum.core.method import Make, Presets, Wrap
from modicum.core.net import Net, Nets
from modicum.core.program import Change, Clock, Info, Program
from modicum.core.settings import knob
from modicum.nn.ema import EMA

CARD = Card(
    title="Exponential moving average of weights",
    role="wrap",
    idea="The average of the weights seen late in training is a better network than the last one.",
    needs=("net:class",),
    makes=("net:class",),
    year=1992,
    cites=("doi:10.1137/0330046", "arXiv:1703.01780"),
    changed="The decay ramps up over the first steps; batch-norm statistics are copied, not averaged.",
    cost=1.02,
)


@dataclass(frozen=True)
class Ema(Wrap):
    """Delivers the average."""

    decay: float = knob(0.999, 0, 1, doc="how much of the average is kept at each step")
    presets: ClassVar[Presets] = {"paper": {}, "small": {"decay": 0.995}}

    def build(self, info: Info, make: Make) -> Nets:
        nets = super().build(info, make)
        nets["ema"] = EMA(self.inner.deliver(nets["inner"]))
        return nets

    def program(self, info: Info) -> Program:
        """Every Change of the inner nets is followed by one of ours."""
        out: Program = []
        for phase in super().program(info):
            out += [phase, Change("follow", optimisers="keep")] if isinstance(phase, Change) else [phase]
        return out

    def follow(self, nets: Nets) -> None:
        """Where the shapes are others now, the average begins anew."""
        net = self.inner.deliver(nets["inner"])
        now, then = ({k: v.shape for k, v in n.state_dict().items()} for n in (net, nets["ema"].net))
        if now != then:
            nets["ema"] = EMA(net)

    def after_step(self, nets: Nets, clock: Clock) -> None:
        super().after_step(nets, clock)
        nets["ema"].update(self.inner.deliver(nets["inner"]), self.decay, int(clock.total))

    def deliver(self, nets: Nets) -> Net:
        return nets["ema"].net
