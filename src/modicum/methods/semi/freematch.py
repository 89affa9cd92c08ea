"""FreeMatch: thresholds from the student's own confidence, and a pull towards even use of the classes.

    believe if max q >= t * p_c / max p                               (nn/trust/adaptive.py)
    L += w_f * sum_c N(p / h)_c log N(pbar / hbar)_c                  N: divide by the sum

p, h: moving mean and moving histogram of the guesses; pbar, hbar: mean and histogram of the believed strong views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from modicum.core.batch import Part
from modicum.core.card import Card
from modicum.core.errors import SettingsError
from modicum.core.loss import Loss, Term
from modicum.core.method import Make, Presets
from modicum.core.net import Nets
from modicum.core.program import Clock, Info
from modicum.core.settings import knob
from modicum.nn.match import Match
from modicum.nn.ranks import SumOverRanks, everyone, world_size
from modicum.nn.trust import Pseudo

CARD = Card(
    title="FreeMatch",
    role="learn",
    idea="The threshold starts low and follows the student's confidence, class by class: none has to be chosen.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1, "step": 500},
    year=2023,
    cites=("arXiv:2205.07246",),
    suits=("few",),
    cost=6.3,
    off={"weight": 0.0, "fairness": 0.0},
    changed="Views and the forward without gradient are FixMatch's here.  The small preset does not align guesses.",
)


class Histogram(nn.Module):
    """A moving histogram of the guessed classes, (C,), from 1/C.  decay: 0 to 1."""

    share: Tensor

    def __init__(self, classes: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("share", torch.full((classes,), 1 / classes))

    def follow(self, target: Tensor) -> None:
        """target: int64 (U,) of all processes."""
        now = torch.bincount(target, minlength=len(self.share)) / max(1, len(target))
        self.share.lerp_(now.to(self.share.dtype), 1 - self.decay)


@dataclass(frozen=True)
class FreeMatch(Match):
    """Wang et al., 2023: self-adaptive thresholding and fairness."""

    trust: str = knob("adaptive:decay=0.999", doc="trust rule and its knobs (nn/trust); fairness needs `adaptive`")
    fairness: float = knob(0.001, 0, 10, doc="w_f, weight of the fairness term")
    presets: ClassVar[Presets] = {"paper": {}, "small": {"mu": 4}}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fairness and not self.trust.startswith("adaptive"):
            found = f"fairness={self.fairness:g} needs the averages of the rule `adaptive`, not {self.trust!r}"
            raise SettingsError(found, where="freematch.trust", fix="Set fairness=0, or trust=adaptive.")

    def build(self, info: Info, make: Make) -> Nets:
        nets = super().build(info, make)
        nets["histogram"] = Histogram(len(info.classes), getattr(nets["trust"], "decay", 0.999))
        return nets

    def guess(self, nets: Nets, unlabelled: Part, clock: Clock) -> Pseudo:
        found = super().guess(nets, unlabelled, clock)
        nets["histogram"].follow(everyone(found.target))
        return found

    def extra(self, nets: Nets, seen: Tensor, target: Tensor, believed: Tensor) -> Loss:
        if not self.fairness:
            return {}
        probs, kept = seen.softmax(1), believed > 0
        use = one_hot(probs.argmax(1), probs.shape[1]).to(probs.dtype)
        sums = torch.cat([(probs * kept[:, None]).sum(0), (use * kept[:, None]).sum(0)])
        mean, times = (SumOverRanks.apply(sums) if world_size() > 1 else sums).chunk(2)
        there = times > 0  # a class that no believed view is guessed as has no share to compare
        ours = torch.where(there, mean / times.clamp_min(1e-12), 0)
        theirs = nets["trust"].share / nets["histogram"].share.clamp_min(1e-12)
        theirs = (theirs / theirs.sum()).to(probs.dtype)
        value = (theirs * (ours / ours.sum().clamp_min(1e-12) + 1e-12).log()).sum()
        return {"fairness": Term(torch.where(there.any(), value, 0 * mean.sum()), 1.0, weight=self.fairness)}
