"""What methods share that learn boxes from tags: proposals are collected first, then regions of images are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from modicum.core.batch import Batch, Part
from modicum.core.loss import Loss
from modicum.core.method import Learn, Make, Presets
from modicum.core.net import Net, Nets
from modicum.core.program import Clock, Collect, Info, Program, Stream, Train
from modicum.core.recipe import CROP, Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.geometry import move_points
from modicum.functional.losses import wide
from modicum.functional.seeds import Named, Seeds, named, refined, scored, tagged
from modicum.nn.regions import PROPOSALS, WAYS, Said, in_view, regional

MIRRORED = {**Recipe().views, "weak": CROP.but(shift=0.0)}  # the papers' only change of an image but its size
SHORT = Recipe(
    steps=250, batch=8, optim=Optim("adamw", 1e-3, weight_decay=0.01), warmup=0.1, wraps=(),
    views={**Recipe().views, "weak": CROP.but(zoom=0.2, brightness=0.1, contrast=0.1)},
)  # fmt: skip
PAPER = {"most": 2000, "width": 512, "thin": 128}


class Looked(NamedTuple):
    """What is known of a batch's regions.  xyxy: (M,4), pixels of the view.  image: int64 (M,), ascending.  said: what
    the network says.  scores: WSDDN's, (M,C).  tags: int8 (B,C)."""

    xyxy: Tensor
    image: Tensor
    said: Said
    scores: Tensor
    tags: Tensor


@dataclass(frozen=True)
class Proposing(Learn):
    """Not a method: the frame of one, with the loss of tags (Bilen and Vedaldi, 2016)."""

    most: int = knob(200, 1, 2000, doc="proposals of an image")
    find: str = knob(WAYS[0], doc="where proposals come from", choices=WAYS)
    width: int = knob(128, 8, 512, doc="width of the two layers that read a region")
    thin: int = knob(32, 1, 128, doc="channels of a region's maps")

    presets: ClassVar[Presets] = {"paper": PAPER, "small": {}}

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": self.reader(make)})

    def reader(self, make: Make, heads: int = 0, sides: bool = False, fast: bool = False) -> Net:
        """The run's network with a reader of regions."""
        return regional(make("net"), heads, sides, self.width, self.thin, self.most, self.find, fast)

    def program(self, info: Info) -> Program:
        look = Collect("look", Stream("tagged", 16, ("plain",)), PROPOSALS)
        return [look, Train({"l": Stream("tagged", info.recipe.batch, ("weak",))}, info.recipe.steps)]

    def look(self, nets: Nets, batch: Batch) -> Tensor:
        """Proposals of images, (B,most,4): pixels of the stored image, padded with NaN."""
        view = batch["all"].views["plain"]
        boxes = nets["net"].proposed(view.pixels)
        own = torch.arange(len(boxes), device=boxes.device).repeat_interleave(2 * boxes.shape[1])
        return move_points(boxes.reshape(-1, 2), own, view.affine.to(boxes.dtype)).reshape(boxes.shape)

    def read(
        self, nets: Nets, part: Part, between: Callable[[Tensor, Tensor], Tensor] | None = None, view: str = "weak"
    ) -> Looked:
        """What the network says of the regions of a part; between: what is done to the cells of a region."""
        xyxy, image = in_view(part, view)
        said = nets["net"].regions(part[view], xyxy, image, between)
        scores = scored(said.what, said.where, image, len(part.rows))
        return Looked(xyxy, image, said, scores, part.labels.tagged(scores.shape[1]))

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        found = self.read(nets, batch["l"])
        return {"tags": tagged(found.scores, found.image, found.tags)}


@dataclass(frozen=True)
class Refining(Proposing):
    """Not a method: the frame of one that adds classifiers of single regions, each the teacher of the next."""

    heads: int = knob(3, 1, 5, doc="classifiers of single regions, each the teacher of the next")
    tau: float = knob(0.5, 0, 1, doc="overlap (IoU) with a seed from which on a region is of its class")
    least: float = knob(0.0, 0, 1, doc="overlap below which nothing is asked of a region")
    first: float = knob(1.0, 0, 100, doc="weight of the first refinement; the others have 1")
    after: float = knob(0.0, 0, 1, doc="share of training before regions are refined")

    def build(self, info: Info, make: Make) -> Nets:
        return Nets({"net": self.reader(make, self.heads)})

    def seeds(self, scores: Tensor, found: Looked) -> Seeds:
        """The regions that stand for the classes of an image, by scores (M,C)."""
        raise NotImplementedError

    def refining(self, found: Looked, clock: Clock) -> Loss:
        """The loss of tags, and of each refinement."""
        loss, scores = {"tags": tagged(found.scores, found.image, found.tags)}, self.chosen_by(None, found)
        for k, logits in enumerate(found.said.refined):
            seeds = self.seeds(scores, found)
            told = named(seeds, found.xyxy, found.image, found.tags, self.tau, self.least)
            weight = (self.first if k == 0 else 1.0) * (clock.done >= self.after)
            loss[f"refined {k + 1}"] = refined(logits, told, weight)
            loss |= self.more(k, found, told, seeds, weight)
            scores = self.chosen_by(logits, found)
        return loss

    def chosen_by(self, logits: Tensor | None, found: Looked) -> Tensor:
        """Scores (M,C) by which seeds are chosen: of a refinement's logits (M,C+1), or WSDDN's."""
        return found.scores if logits is None else wide(logits.detach()).softmax(1)[:, :-1]

    def more(self, k: int, found: Looked, told: Named, seeds: Seeds, weight: float) -> Loss:
        """What else the k-th refinement is to learn."""
        return {}

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        return self.refining(self.read(nets, batch["l"]), clock)
