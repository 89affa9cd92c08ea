"""What a method is made of that trains a dense detector on boxes that may be wrong, and draws them anew (nn/drafts.py).

The equations stand in methods/wsod/w2n.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from modicum.core.batch import Batch, Boxes, Part
from modicum.core.errors import NeedsError
from modicum.core.loss import Loss, Term, mean
from modicum.core.method import Make
from modicum.core.net import Net, Nets, guessing
from modicum.core.program import Clock, Info
from modicum.core.settings import knob
from modicum.functional.assign import by_centre, in_view, objects
from modicum.functional.noisy import contained, shrunk
from modicum.functional.teacher import joined, some, through
from modicum.nn.detect import Dense, found
from modicum.nn.drafts import (
    DRAFTS,
    SPLITS,
    Drafts,
    Split,
    candidates,
    column,
    given,
    in_both,
    judged,
    read,
    redrawn,
    settled,
    shown,
)
from modicum.nn.ema import EMA
from modicum.nn.finder import Finder

CANDIDATES = 50  # answers of an image among which parts are looked for
PUSH = 0.1  # weight of what keeps boxes from covering parts
LOW, DOUBT = 0.5, 0.1  # least score of a teacher's box that teaches sides; of one of which nothing is known


@dataclass(frozen=True)
class Drafting(Finder):
    """Not a method: the frame of one."""

    rounds: int = knob(2, 1, 3, doc="how often boxes are drawn anew and told apart")
    first: float = knob(0.5, 0, 1, doc="share of the steps before boxes are drawn anew; other stages share the rest")
    adapt: str = knob("growth", doc="what keeps boxes from covering parts", choices=("growth", "containment", "none"))
    split: str = knob(
        "tasks", doc="what is trusted or not: a box for each task, a box, an image; or all are trusted", choices=SPLITS
    )
    share: float = knob(0.5, 0, 1, doc="share of a class's boxes whose class is trusted")
    steady: float = knob(0.02, 0, 10, doc="largest sigma of a box whose sides are trusted")
    tau: float = knob(0.7, 0, 1, doc="least score of a teacher's box that teaches classes")
    weight: float = knob(2.0, 0, 100, doc="weight of what the teacher's boxes teach; 0 = no teacher")
    decay: float = knob(0.9996, 0, 1, doc="how much of the teacher is kept at each step")

    def build(self, info: Info, make: Make) -> Nets:
        nets = super().build(info, make)
        nets["ema"] = EMA(nets["net"])
        nets["split"] = Split(len(info.classes), self.split, self.share, self.steady)
        return nets

    # -- drafts ------------------------------------------------------------------------------------------------------

    def drafts(self, part: Part, tags: Tensor) -> Drafts:
        """The drafts of a batch's images: at first those that they came with."""
        if DRAFTS in part.columns:
            return read(part)
        if part.labels.boxes is None:
            raise NeedsError("no image has boxes", where="drafts", fix="Let a network find some, or draw them.")
        if part.labels.tags is None and not (part.labels.cls >= 0).any():
            raise NeedsError("no image has tags", where="drafts", fix="Say which classes are in the images.")
        return given(part.labels, tags)

    def draw(self, nets: Nets, batch: Batch) -> Tensor:
        """What the teacher finds, as drafts, and how far it is to be trusted."""
        part = batch["all"]
        view, net = part.views["plain"], nets["ema"].net
        nets["split"].counts.zero_()  # they are of the drafts before
        said = net.dense(view.pixels)
        tags = part.labels.tagged(said.logits.shape[2])
        boxes = redrawn(said, view, tags, self.drafts(part, tags).boxes, self.tau)
        seen = in_view(boxes, view, 0.0)
        mine = seen.state == 1
        assert boxes.score is not None
        boxes, seen = replace(some(boxes, mine), score=boxes.score[mine]), some(seen, mine)
        return column(boxes, len(said.logits), *judged(said, seen, self.near_centre(said, seen)))

    def near_centre(self, said: Dense, boxes: Boxes) -> Tensor:
        """Which positions are near each box's centre, whatever else is there: (M,P), -1 = not."""
        many, xyxy = len(boxes.cls), boxes.xyxy.to(said.at.dtype)
        alone = torch.arange(many, device=xyxy.device)
        return by_centre(said.at, said.stride, xyxy, alone, many, self.radius, self.scale)

    def tally(self, nets: Nets, batch: Batch) -> Tensor:
        """Counts how sure drafts are."""
        nets["split"].count(read(batch["all"]))
        return torch.zeros(len(batch["all"].rows), 1)

    # -- losses ------------------------------------------------------------------------------------------------------

    def loss(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        return self.adapted(nets["net"], batch["d"]) if "d" in batch else self.learned(nets, batch, clock)

    def adapted(self, net: Net, part: Part) -> Loss:
        """All drafts are believed, and something keeps boxes from covering parts."""
        said: Dense = net.dense(part["weak"])  # type: ignore[operator]
        tags = part.labels.tagged(said.logits.shape[2])
        drafts = self.drafts(part, tags)
        every = torch.ones_like(drafts.sure, dtype=torch.bool)
        boxes = shown(drafts, every, part.views["weak"], self.least)
        out = self.against(said, boxes, settled(tags, drafts.boxes, every))
        if self.adapt == "growth":
            known = objects(boxes)
            owner = self.owner(said, known, len(tags))
            b, p = (owner >= 0).nonzero(as_tuple=True)
            out["growth"] = mean(shrunk(said.xyxy[b, p], known.xyxy[owner[b, p]]), weight=PUSH)
        elif self.adapt == "containment":
            total, pairs = contained(*candidates(said, tags, CANDIDATES))
            out["containment"] = Term(total, pairs, PUSH)
        return out

    def learned(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        """Classes of drafts whose class is trusted, sides of those whose sides are, and what the teacher finds."""
        part, other = batch["l"], batch.get("u")
        said: Dense = nets["net"].dense(torch.cat([part["weak"]] + ([other["strong"]] if other else [])))
        many, drafts, tags = len(part.rows), read(part), part.labels.tagged(said.logits.shape[2])
        named, framed = nets["split"].trusted(drafts)
        mine, view = of(said, slice(many)), part.views["weak"]
        out = self.against(mine, shown(drafts, named, view, self.least), settled(tags, drafts.boxes, named))
        sides = self.against(mine, shown(drafts, framed, view, self.least), None)
        out |= {name: sides[name] for name in ("sides", "middle")}
        out |= {n: Term(v.sum().to(said.far), float(len(v)), 0.0) for n, v in (("named", named), ("framed", framed))}
        late = clock.done >= 1 - (1 - self.first) / (4 * self.rounds - 2)  # half of the last stage
        return out | self.told(nets["ema"].net, other, of(said, slice(many, None)), late) if other else out

    def told(self, teacher: Net, part: Part, said: Dense, late: bool) -> Loss:
        """What the teacher's boxes in the weak view say of the strong one; late: also of sides."""
        weak, tags = part.views["weak"], part.labels.tagged(said.logits.shape[2])
        with guessing(teacher):
            ours: Dense = teacher.dense(weak.pixels)  # type: ignore[operator]
        boxes = found(ours, (weak.pixels.shape[-2], weak.pixels.shape[-1]), least=min(self.tau, DOUBT))
        assert boxes.score is not None
        there = tags[boxes.image, boxes.cls] != 0
        sure, maybe = there & (boxes.score > self.tau), there & (boxes.score <= self.tau)
        view = through(weak, part.views["strong"])
        doubted = some(boxes, maybe)
        doubted = replace(doubted, state=torch.zeros_like(doubted.state))
        trust = in_both(view, ours.at)[..., None].to(said.far.dtype).expand_as(said.logits)
        seen = in_view(joined(some(boxes, sure), doubted), view, self.least)
        taught = self.against(said, seen, settled(tags, boxes, sure), trust)
        out = {"told class": taught["class"]._replace(weight=self.weight)}
        if late:
            steady = judged(ours, boxes, self.near_centre(ours, boxes))[1] < self.steady
            firm = some(boxes, there & (boxes.score > LOW) & steady)
            taught = self.against(said, in_view(firm, view, self.least), None)
            out |= {f"told {n}": taught[n]._replace(weight=self.weight) for n in ("sides", "middle")}
        return out

    def after_step(self, nets: Nets, clock: Clock) -> None:
        nets["ema"].update(nets["net"], self.decay, clock.total)

    def deliver(self, nets: Nets) -> Net:
        return nets["ema"].net  # type: ignore[no-any-return]


def of(said: Dense, rows: slice) -> Dense:
    """What is said of some images."""
    return said._replace(logits=said.logits[rows], middle=said.middle[rows], far=said.far[rows])
