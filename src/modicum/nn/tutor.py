"""What methods share in which a slow copy of a dense detector finds boxes that teach it, on images without boxes.

    first:  L(x, y) on labelled images alone              teacher <- d teacher + (1-d) student, from the start on
    then:   L(x, y) + weight L_class(strong(u), boxes of teacher(weak(u)))  [ + weight L_sides(...) ]

L: that of nn/finder.py, on a weak and a strong view of labelled images; u: images without boxes, whose found boxes are
moved from the weak view into the strong one.  What the weak view does not show is no background; nor is what a box of
doubtful score covers, or a class that a tag says is there and of which no box is found.  A box of a class that a tag
says is not there is dropped.  The teacher is delivered.  A method of this kin is a subclass that changes at most
`build`, `lesson` and `trust`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from modicum.core.batch import Batch, Boxes, Part
from modicum.core.errors import NeedsError
from modicum.core.loss import Loss, Term
from modicum.core.method import Make, Presets, Recipes
from modicum.core.net import Net, Nets, guessing
from modicum.core.program import Clock, Info, Program, Stream, Train
from modicum.core.recipe import PLAIN, Augment, Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.assign import in_view
from modicum.functional.teacher import heard, joined, scored, side_by_side, some, through
from modicum.nn.detect import Dense, found
from modicum.nn.ema import EMA
from modicum.nn.finder import Finder

MOVED = Augment(shift=0.1, zoom=0.15)
STRONG = MOVED.but(brightness=0.3, contrast=0.4, saturation=0.4, cutout=0.3)
PAPER = Recipe(
    steps=180_000, batch=32, optim=Optim(lr=0.01, nesterov=False, weight_decay=1e-4), schedule="constant", wraps=(),
    views={"weak": MOVED, "strong": STRONG, "plain": PLAIN},
)  # fmt: skip
SMALL = PAPER.but(steps=500, batch=8, optim=Optim("adamw", 3e-3, weight_decay=0.01), schedule="cosine", warmup=0.1)

SHORT = {"tau": 0.5, "doubt": 0.1, "weight": 1.0, "burn": 0.5, "decay": 0.99}


class Lesson(NamedTuple):
    """The teacher's boxes: those that teach classes, those that teach sides, and those that are neither object nor
    background, of state 0."""

    sure: Boxes
    firm: Boxes
    maybe: Boxes


@dataclass(frozen=True)
class Tutor(Finder):
    """Not a method: the frame of one."""

    tau: float = knob(0.7, 0, 1, doc="least score of a teacher's box that teaches classes")
    doubt: float = knob(1.0, 0, 1, doc="score from which on what a box covers that teaches nothing is no background")
    weight: float = knob(4.0, 0, 100, doc="weight of what the teacher's boxes teach; 0 = labelled images alone")
    burn: float = knob(0.1, 0, 1, doc="share of the steps before the teacher teaches")
    decay: float = knob(0.9996, 0, 1, doc="d, how much of the teacher is kept at each step")
    mu: int = knob(1, 1, 8, doc="images without boxes for each one with boxes")
    sides: bool = knob(False, doc="teach sides by the teacher's boxes, too")

    presets: ClassVar[Presets] = {
        "paper": {"width": 256, "depth": 4},
        "small": SHORT,
    }
    recipes: ClassVar[Recipes] = {"paper": PAPER, "small": SMALL}

    def build(self, info: Info, make: Make) -> Nets:
        nets = super().build(info, make)
        nets["ema"] = EMA(nets["net"])
        return nets

    def program(self, info: Info) -> Program:
        steps, views = info.recipe.steps, ("weak", "strong")
        first = round(self.burn * steps) if self.weight else steps
        known, other = Stream("boxes", info.recipe.batch, views), Stream("~boxes", info.recipe.batch * self.mu, views)
        phases = Train({"l": known}, first, name="burn-in"), Train({"l": known, "u": other}, steps - first, carry=True)
        return [phase for phase in phases if phase.steps]

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        part, other = batch["l"], batch.get("u")
        labels, many = part.labels, 2 * len(part.rows)
        if labels.boxes is None:
            raise NeedsError("no image has boxes", where="teacher", fix="Give boxes of some images.")
        looks = [part["weak"], part["strong"]] + ([other["strong"]] if other else [])
        said: Dense = nets["net"].dense(torch.cat(looks))
        shown = [in_view(labels.boxes, part.views[v], self.least) for v in ("weak", "strong")]
        looked = None if labels.looked is None else labels.looked.repeat(2, 1)
        out = self.against(_of(said, slice(many)), side_by_side(shown, len(part.rows)), looked)
        return out | self.told(nets, other, _of(said, slice(many, None))) if other else out

    def told(self, nets: Nets, part: Part, said: Dense) -> Loss:
        """What the teacher's boxes say of the student's answers on the strong view."""
        weak, (images, _, classes) = part.views["weak"], said.logits.shape
        with guessing(nets["ema"].net):
            ours: Dense = nets["ema"].net.dense(weak.pixels)
        view, tags = through(weak, part.views["strong"]), part.labels.tags
        tags = said.at.new_full((images, classes), -1) if tags is None else tags
        sure, firm, maybe = self.lesson(nets, ours, (weak.pixels.shape[-2], weak.pixels.shape[-1]))
        alike = firm is sure
        sure, firm = (some(b, tags[b.image, b.cls] != 0) for b in (sure, firm))
        found_any = torch.zeros_like(tags, dtype=torch.bool)
        found_any[sure.image, sure.cls] = True
        trust = heard(self.trust(ours), ours.at, ours.stride, view)
        taught = self.against(said, in_view(joined(sure, maybe), view, self.least), found_any | (tags != 1), trust)
        out = {"told class": taught["class"]._replace(weight=self.weight)}
        if self.sides:
            taught = taught if alike else self.against(said, in_view(firm, view, self.least), None)
            out |= {f"told {n}": taught[n]._replace(weight=self.weight) for n in ("sides", "middle")}
        counts = {"boxes for classes": sure, "boxes for sides": firm}
        return out | {n: Term(said.far.new_tensor(float(len(b.cls))), float(images), 0.0) for n, b in counts.items()}

    def lesson(self, nets: Nets, said: Dense, size: tuple[int, int]) -> Lesson:
        """The teacher's boxes in its own view, of `size`."""
        every = found(said, size, least=min(self.tau, self.doubt))
        sure = scored(every, self.tau)
        return Lesson(sure, sure, self.doubted(every, self.tau))

    def doubted(self, boxes: Boxes, most: float | Tensor) -> Boxes:
        """Those of a score above `doubt` and up to `most`, of state 0."""
        boxes = scored(boxes, self.doubt, most)
        return replace(boxes, state=torch.zeros_like(boxes.state))

    def trust(self, said: Dense) -> Tensor:
        """How far the teacher is to be believed that a class is not at a position, (B,P,C), 0 to 1."""
        return torch.ones_like(said.logits)

    def after_step(self, nets: Nets, clock: Clock) -> None:
        nets["ema"].update(nets["net"], self.decay, clock.total)

    def deliver(self, nets: Nets) -> Net:
        return nets["ema"].net  # type: ignore[no-any-return]


def _of(said: Dense, rows: slice) -> Dense:
    """What is said of some images."""
    return said._replace(logits=said.logits[rows], middle=said.middle[rows], far=said.far[rows])
