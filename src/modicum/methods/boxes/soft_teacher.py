"""Soft Teacher: a teacher's doubt weighs what it calls background, and only boxes it is steady about teach sides.

    L_class = ( sum_yes focal(f(strong(u)), 1) + sum_no w focal(f(strong(u)), 0) ) / (N + B),   w = r n / sum r
    sides:  { b in teacher(weak(u)) : score(b) > low, sigma(b) < steady }

r: one less what the teacher says of the class at the same place; n: how many times an image's answer is to be "no".
sigma: the deviation of a box's sides over the teacher's positions that are to find it, by half of width and height.
The rest is as in nn/tutor.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Presets
from modicum.core.net import Nets
from modicum.core.settings import knob
from modicum.functional.losses import wide
from modicum.functional.teacher import scored, some, spread
from modicum.nn.detect import Dense, found
from modicum.nn.tutor import SHORT, Lesson, Tutor

CARD = Card(
    title="Soft Teacher",
    role="learn",
    idea="A slow teacher finds boxes: its belief weighs background, and only boxes it is steady about teach sides.",
    needs=("image", "boxes:some"),
    makes=("net:boxes",),
    year=2021,
    cites=("arXiv:2106.09018",),
    cost=10.0,
    changed="The detector is ours, of one look.  The paper moves a box about and asks its region network each time; "
    "here the positions near its centre, which would be taught to find it, each give a box, and the spread is theirs.  "
    "Each image's weights of background have the mean 1, not those of the batch.  Training begins on "
    "labelled images alone, and what the teacher's view does not show is left out; so is, in the `small` preset, what "
    "a box of doubtful score covers (`doubt`).  The average follows faster at first, and `paper` keeps its rate.",
)


@dataclass(frozen=True)
class SoftTeacher(Tutor):
    """Xu et al., 2021, over one dense detector."""

    tau: float = knob(0.9, 0, 1, doc="least score of a teacher's box that teaches classes")
    decay: float = knob(0.999, 0, 1, doc="d, how much of the teacher is kept at each step")
    mu: int = knob(4, 1, 8, doc="images without boxes for each one with boxes")
    sides: bool = knob(True, doc="teach sides by the teacher's boxes, too")
    soft: bool = knob(True, doc="weigh background by the teacher's belief in it")
    low: float = knob(0.5, 0, 1, doc="least score of a teacher's box that teaches sides")
    steady: float = knob(0.02, 0, 10, doc="largest spread of a box that teaches sides; 0 = those that teach classes do")

    presets: ClassVar[Presets] = {
        "paper": {"width": 256, "depth": 4},
        "small": {**SHORT, "mu": 1, "low": 0.4, "steady": 0.05},
    }

    def lesson(self, nets: Nets, said: Dense, size: tuple[int, int]) -> Lesson:
        if not self.steady:
            return super().lesson(nets, said, size)
        every = found(said, size, least=min(self.low, self.tau, self.doubt))
        mine = scored(every, min(self.low, self.tau))
        firm = spread(mine, said.xyxy, self.owner(said, mine, len(said.logits))) < self.steady
        return Lesson(scored(mine, self.tau), scored(some(mine, firm), self.low), self.doubted(every, self.tau))

    def trust(self, said: Dense) -> Tensor:
        return 1 - wide(said.logits).sigmoid() if self.soft else super().trust(said)
