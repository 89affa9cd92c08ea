"""Supervised learning: cross-entropy on the images that have a label.

    L = mean_B CE((1 - s) y + s / C, f(x))          s: label smoothing; y: one-hot, or the given probabilities

It is also the labels-only twin that every other method is measured against.
"""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.settings import knob
from modicum.functional.losses import cross_entropy

CARD = Card(
    title="Supervised learning",
    role="learn",
    idea="The person is the only teacher: cross-entropy on labelled images, hard or soft.",
    needs=("image", ("class:some", "probs:some", "probs:some~")),
    makes=("net:class",),
    least={"class": 1},
    year=1989,
    cites=("arXiv:1512.00567",),
    suits=("full", "soft", "crowd"),
    cost=1.0,
    off={},
)


@dataclass(frozen=True)
class Supervised(Learn):
    """Cross-entropy with label smoothing (Szegedy et al., 2016)."""

    smoothing: float = knob(0.0, 0, 1, doc="share of each target spread over all classes")
    sampler: str = knob("shuffle", doc="how labelled images are drawn", choices=("shuffle", "balanced"))

    def program(self, info: Info) -> Program:
        labelled = Stream("labelled", info.recipe.batch, ("weak",), self.sampler)
        return [Train({"l": labelled}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        logits = nets["net"](batch["l"]["weak"]).logits
        labels = batch["l"].labels
        target = labels.cls if labels.probs is None else labels.soft(logits.shape[1])
        values, known = cross_entropy(logits, target, self.smoothing)
        return {"labelled": mean(values, known, known.sum())}
