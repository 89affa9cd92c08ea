"""PPL: the last stage sees patches, one at a time, so that evidence must be found in many places.

    A = join(late(cut_g(E)))         E: maps before the last stage;  cut_g: g x g patches;  f = head(pool(A))
    L = CE(f(x), y),                 g rising over training, or A the mean over several g

The patches of an image go through the stage as images do: none sees its neighbours.  g = 1 is plain training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss
from modicum.core.method import Learn, Make, Recipes
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.patches import patchwise
from modicum.functional.told import asked
from modicum.nn.stages import patched
from modicum.nn.told import training

CARD = Card(
    title="Progressive Patch Learning (PPL)",
    role="learn",
    idea="A classifier that sees one patch at a time has to find evidence all over the object.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1},
    year=2022,
    cites=("arXiv:2209.07828",),
    cost=1.1,
    off={"finest": 1},
    changed=(
        "Written from the abstract: stages and recipe are ours.  Granularity doubles in equal shares of one training "
        "with one learning-rate schedule.  The cut stands before the last stage, and stays in the network that ships.  "
        "`labels=tags` is for images of several classes, as in the paper: then the network tells tags, and is "
        "a step before another (`--via ppl:labels=tags`).  The paper's gain was not seen: with our small networks its "
        "maps are worse than CAM's, on digits and on cells."
    ),
)


@dataclass(frozen=True)
class Ppl(Learn):
    """Li et al., 2022."""

    finest: int = knob(4, 1, 16, doc="patches a side at the finest")
    way: str = knob(
        "progressive", doc="granularity: rising to the finest, the mean of all at once, or the finest alone",
        choices=("progressive", "explicit", "fixed"),
    )  # fmt: skip
    labels: str = knob("class", doc="what images are labelled with: one class, or tags", choices=("class", "tags"))

    recipes: ClassVar[Recipes] = {
        "paper": Recipe(steps=20_000, batch=16, optim=Optim(lr=0.01), wraps=()),
        "small": Recipe(wraps=()),
    }

    @property
    def grids(self) -> tuple[int, ...]:
        """1, 2, 4, ... and the finest; the finest alone where it is fixed."""
        rising = (*(2**i for i in range(5) if 2**i < self.finest), self.finest)
        return rising[-1:] if self.way == "fixed" else rising

    def stage(self, done: float) -> tuple[int, ...]:
        """The grids in use when a share `done` of training is over."""
        if self.way != "progressive":
            return self.grids
        at = min(int(done * len(self.grids)), len(self.grids) - 1)
        return self.grids[at : at + 1]

    def build(self, info: Info, make: Make) -> Nets:
        net = make("net")
        return Nets({"net": net if self.finest == 1 else patched(net, self.stage(1.0))})

    def program(self, info: Info) -> Program:
        return training(self.labels, info)

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        net, labelled = nets["net"], batch["l"]
        x, grids = labelled["weak"], self.stage(clock.done)
        if grids == self.stage(1.0):
            logits = net(x).logits
        else:
            late = patchwise(net.whole, net.early(net.normalise(x)), grids)
            logits = net.head(net.pool(late))
        return {"labelled": asked(logits, labelled.labels, self.labels)}
