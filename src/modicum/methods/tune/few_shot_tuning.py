"""Few-shot tuning: a trained network learns from a few labels of another domain, its classifier first, then all of it.

    a share `probe` of the steps:  W, b down CE(y, W f + b), the body as it is      (linear probing)
    the rest, at a small rate:     all of them down the same loss                   (LP-FT)

A new classifier on a good body would send large gradients into it; fitted first, it sends small ones.  Batch-norm
statistics stay the source's (`bn=frozen`): those of a few images are none.  The number of steps is fixed beforehand:
nothing is chosen on labels of the target.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.batch import Batch, Labels
from modicum.core.card import Card
from modicum.core.loss import Loss, mean
from modicum.core.method import Learn, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train, Turn
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.losses import cross_entropy
from modicum.nn.norm import settled

CARD = Card(
    title="Few-shot fine-tuning (LP-FT)",
    role="learn",
    idea="A few labels of the new domain are a safer teacher than a trained network's own guesses about it.",
    needs=("image", "class:some", "net:features"),
    makes=("net:class",),
    least={"class": 1},
    year=2023,
    cites=("arXiv:2304.00792", "arXiv:2202.10054"),
    suits=(),
    cost=1.0,
    xfail={"loss falls": "40 small steps hardly move the suite's random network: it tunes what has learned something"},
    changed=(
        "Written from the abstract and from the description of LP-FT: learning rates and numbers of steps are ours.  "
        "Give the source's network by `weights`; a classifier of the same classes is kept, any other begins anew."
    ),
)
ADAM = Optim(name="adamw", lr=1e-4, weight_decay=0.0)  # its steps do not depend on how long features are
RECIPE = Recipe(steps=100, optim=ADAM, groups={"head": ADAM.but(lr=0.01)}, wraps=())


@dataclass(frozen=True)
class FewShotTuning(Learn):
    """Lee et al., 2023; the schedule of Kumar et al., 2022."""

    probe: float = knob(0.5, 0, 1, doc="share of the steps in which the classifier alone learns")
    bn: str = knob("frozen", doc="batch-norm statistics: the source's, or the few's", choices=("frozen", "adapt"))
    sampler: str = knob("shuffle", doc="how labelled images are drawn", choices=("shuffle", "balanced"))
    recipes: ClassVar[Recipes] = {"paper": RECIPE.but(steps=1000), "small": RECIPE}

    def program(self, info: Info) -> Program:
        streams = {"l": Stream("class", info.recipe.batch, ("weak",), self.sampler)}
        first = round(self.probe * info.recipe.steps)
        phases = [
            Train(streams, first, (Turn("head", ("net.head",), "head"),), name="probe"),
            Train(streams, info.recipe.steps - first, (Turn("loss", ("net",)),), name="tune", lane=1),
        ]
        return [p for p in phases if p.steps]

    def head(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        """The classifier's loss: no gradient goes through the body."""
        net, labelled = nets["net"], batch["l"]
        with torch.no_grad(), self.still(nets):
            features = net.body(labelled["weak"])
        return self.term(net.head(features), labelled.labels)

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        with self.still(nets):
            logits = nets["net"](batch["l"]["weak"]).logits
        return self.term(logits, batch["l"].labels)

    def still(self, nets: Nets) -> AbstractContextManager[None]:
        """What keeps batch-norm statistics as they are, or nothing."""
        return settled(nets["net"]) if self.bn == "frozen" else nullcontext()

    def term(self, logits: Tensor, labels: Labels) -> Loss:
        values, known = cross_entropy(logits, labels.cls)
        return {"labelled": mean(values, known, known.sum())}
