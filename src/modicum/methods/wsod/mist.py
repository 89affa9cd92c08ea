"""MIST: several regions of a class teach, not the best alone, and regions learn to move to their teacher.

    L = sum_c BCE(S_c, t_c) + sum_k a_k (1/R) sum_r w^k_r ( -log p^k_{r, y^k_r} + smoothL1(o^k_{r, y^k_r} - o*_r) )
    seeds of a present class: the best `share` of regions by the scores before, from the best on, without those that
    overlap one taken by more than `near`;   y, w: as in OICR, by the nearest seed;   o*: from a region to its seed

The second part of the sum is of objects alone.  Cells of a region are hidden in training where that hurts most
(nn/drop.py).  The scores of boxes are the mean of p^k, moved by the mean of o^k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from modicum.core import draws
from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss
from modicum.core.method import Make, Presets, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.seeds import Named, Seeds, moved, several
from modicum.nn.drop import ConcreteDrop, place
from modicum.nn.proposing import MIRRORED, PAPER, SHORT, Looked, Refining
from modicum.nn.regions import CELLS

CARD = Card(
    title="Multiple instance self-training (MIST)",
    role="learn",
    idea="All regions that stand out for a class, and are apart, teach their neighbours class and place.",
    needs=("image", "tags:some"),
    makes=("net:boxes.chosen",),
    year=2020,
    cites=("arXiv:2004.04725",),
    cost=8.0,
    changed="Any network, from scratch; proposals by our own selective search, and the whole image; one scale; layers "
    "of 512 in place of 4,096.  Means are over the regions of a batch, and `paper` keeps its rate to the end.  Which "
    "cells are hidden is drawn as the paper says in words: the bound on their share, the layers that choose them and "
    "the temperature are ours.  No training by blocks to save memory.  `after` is ours.",
)


@dataclass(frozen=True)
class Mist(Refining):
    """Ren et al., 2020, with the run's network as backbone."""

    share: float = knob(0.15, 0, 1, doc="share of an image's regions among which seeds of a class are sought")
    near: float = knob(0.2, 0, 1, doc="overlap (IoU) with a better seed above which a region is no seed")
    first: float = knob(3.0, 0, 100, doc="weight of the first of them; the others have 1")
    drop: float = knob(0.3, 0, 0.9, doc="highest chance that a cell of a region is hidden; 0: none is")

    presets: ClassVar[Presets] = {"paper": PAPER, "small": {}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=30_000, batch=8, optim=Optim(lr=0.01, nesterov=False), schedule="constant", wraps=(), views=MIRRORED
        ),
        "small": SHORT,
    }

    def build(self, info: Info, make: Make) -> Nets:
        nets = {"net": self.reader(make, self.heads, sides=True)}
        return Nets(nets | ({"drop": ConcreteDrop(self.thin, self.drop)} if self.drop else {}))

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part = batch["l"]

        def hidden(cells: Tensor, image: Tensor) -> Tensor:
            seed = draws.key(clock.seed, clock.phase, clock.step, clock.lane, "drop")
            luck = draws.uniform(seed, part.rows[image] * 2**20 + place(image), 0, CELLS**2)
            return nets["drop"](cells, luck.unflatten(1, (CELLS, CELLS)))  # type: ignore[no-any-return]

        return self.refining(self.read(nets, part, hidden if self.drop else None), clock)

    def seeds(self, scores: Tensor, found: Looked) -> Seeds:
        return several(scores, found.xyxy, found.image, found.tags, self.share, self.near)

    def more(self, k: int, found: Looked, told: Named, seeds: Seeds, weight: float) -> Loss:
        return {f"moved {k + 1}": moved(found.said.offsets[k], told, found.xyxy, seeds, weight)}
