"""What methods of labelled images alone share: an objective of the logits, and how images are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.batch import Batch
from modicum.core.loss import Loss
from modicum.core.method import Learn, Make
from modicum.core.net import Nets
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.settings import knob
from modicum.nn.objective import make_objective, read_objective


@dataclass(frozen=True)
class Supervise(Learn):
    """Not a method: the frame of one.  L = mean_B O(f(weak(x)), y), O an objective (nn/objective)."""

    objective: str = knob("cross-entropy", doc="what labelled images ask, and its knobs (nn/objective)")
    sampler: str = knob("shuffle", doc="how labelled images are drawn", choices=("shuffle", "balanced"))

    def __post_init__(self) -> None:
        super().__post_init__()
        read_objective(self.objective)  # a wrong name or knob is refused before any work

    def build(self, info: Info, make: Make) -> Nets:
        objective = make_objective(self.objective, info)
        return Nets({"net": objective.dress(make("net")), "objective": objective})

    def program(self, info: Info) -> Program:
        return [Train({"l": Stream("class", info.recipe.batch, ("weak",), self.sampler)}, info.recipe.steps)]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        labelled = batch["l"]
        logits = nets["net"](labelled["weak"]).logits
        return {"labelled": nets["objective"].term(logits, labelled.labels.cls, clock.done)}
