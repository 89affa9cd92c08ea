"""BiS, bi-sampling: from random to class-balanced labelled images, and ever fewer guesses of common classes.

    a = 1 - t^2, t the share of training that is over
    an image of the random sampler is used with probability a, one of the class-balanced sampler with 1 - a
    a believed guess of class c is kept with probability a + (1 - a) r_c,   r_c = (u of the mirrored rank / max u)^eps

u: shares of the classes among visible labels; the mirrored rank of the commonest class is the rarest one's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core import draws
from modicum.core.batch import Batch, Part
from modicum.core.card import Card
from modicum.core.method import Make
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.settings import knob
from modicum.nn.match import Match
from modicum.nn.trust import Pseudo

CARD = Card(
    title="BiS",
    role="learn",
    idea="Features like random samples and classifiers balanced ones: sampling moves from the first to the second.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1, "step": 500},
    year=2021,
    cites=("arXiv:2106.00209",),
    suits=(),
    cost=6.3,
    off={"weight": 0.0, "balance": False},
    changed=(
        "On FixMatch as it stands here, with one strong view instead of two and this library's optimiser; eps is 1, "
        "since the authors' script reads an option that it does not declare.  Classes are ranked by visible labels."
    ),
)


@dataclass(frozen=True)
class BiS(Match):
    """He et al., 2021."""

    eps: float = knob(1.0, 0, 10, doc="how sharply guesses of common classes are dropped")
    balance: bool = knob(True, doc="whether labelled images and guesses are re-sampled at all")

    def build(self, info: Info, make: Make) -> Nets:
        nets = super().build(info, make)
        share = torch.tensor(info.prior).clamp_min(1e-6)
        ranks = share.argsort(stable=True)
        mirrored = torch.empty_like(share)
        mirrored[ranks] = share[ranks.flip(0)]
        nets["keep"] = torch.nn.Module()
        nets["keep"].register_buffer("share", (mirrored / share.max()) ** self.eps)
        return nets

    def program(self, info: Info) -> Program:
        (phase,) = super().program(info)
        if not self.balance:
            return [phase]
        assert isinstance(phase, Train)
        balanced = Stream("class", info.recipe.batch, ("weak",), "balanced")
        return [Train({**phase.streams, "balanced": balanced}, phase.steps)]

    def labelled(self, batch: Batch, clock: Clock) -> tuple[Tensor, Tensor]:
        x, y = super().labelled(batch, clock)
        if not self.balance:
            return x, y
        other, random = batch["balanced"], 1 - clock.done**2
        first = self.lot(batch["l"], clock, "labelled") < random
        second = self.lot(other, clock, "labelled") >= random
        return torch.cat([x[first], other["weak"][second]]), torch.cat([y[first], other.labels.cls[second]])

    def guess(self, nets: Nets, unlabelled: Part, clock: Clock) -> Pseudo:
        target, believed = super().guess(nets, unlabelled, clock)
        if not self.balance:
            return Pseudo(target, believed)
        random = 1 - clock.done**2
        keep = random + (1 - random) * nets["keep"].share[target]
        return Pseudo(target, believed * (self.lot(unlabelled, clock, "guessed") < keep).to(believed.dtype))

    @staticmethod
    def lot(part: Part, clock: Clock, what: str) -> Tensor:
        """A uniform draw for each image of this step, float (B,): a function of the seed, the step and its row."""
        seed = draws.key(clock.seed, clock.phase, clock.step, clock.lane, what)
        return draws.uniform(seed, part.rows, 0, 1)[:, 0]
