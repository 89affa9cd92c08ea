"""W2N: boxes that a weak detector drew teach an ordinary one, which draws them anew; then only some are believed.

    adapt:  L(x, y) + 0.1 R;  y <- what the slow copy finds of the classes that are there
    learn:  L_class(x, { b : loss(b) small }) + L_sides(x, { b : sigma(b) < steady })
            + weight L_class(strong(u), { b in teacher(weak(u)) : s_b > tau })
            [ + weight L_sides(strong(u), { b in teacher(weak(u)) : s_b > 0.5, sigma(b) < steady }), at last ]

and again, `rounds` times.  R is "growth", mean max(0, log |g| / |p|) over boxes p that are to find g, or "containment",
mean max(0, s_p - s_q + 0.1) over boxes p that lie in q.  L: the detector's (nn/finder.py); u: all images; sigma: how
far the positions near a box's centre disagree about its sides.  Nothing is background for certain that a box covers
which is not believed, or for a class that is there and of which none is.  The slow copy is the teacher and is
delivered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modicum.core.card import Card
from modicum.core.method import Presets, Recipes
from modicum.core.program import Collect, Info, Program, Stream, Train
from modicum.core.recipe import PLAIN, Augment, Optim, Recipe
from modicum.nn.drafting import Drafting
from modicum.nn.drafts import DRAFTS

CARD = Card(
    title="From weak to noisy supervision (W2N)",
    role="learn",
    idea="A detector learns from a weak one's boxes, draws them anew, and then from those alone that it trusts.",
    needs=("image", "tags:some", "boxes:some~"),
    makes=("net:boxes",),
    year=2022,
    cites=("arXiv:2207.12104",),
    cost=11.0,
    changed="A dense detector of ours in place of Faster R-CNN: no region network, its own focal loss.  The formula "
    "that fights parts, the number of rounds and the cut-off of small losses were not found: `growth` and "
    "`containment` are readings of the abstract, `share` is of each class.  Drawn anew are the best box of each "
    "class that a tag says is there and all of a score above `tau`; of two that overlap by half the surer one; "
    "the old box where none is found.  The paper moves a box about and asks again; here the positions near its "
    "centre, which would be taught to find it, each give a box, and sigma is their spread.  One batch serves both "
    "lists of trusted boxes.  What a box covers that is not trusted is not background; a teacher's box of a class "
    "that a tag says is not there is dropped, which the public code works out and does not use.  The teacher is "
    "an average from the start, of which weak views shift and zoom.  A person's boxes are taken for drafts like "
    "others.",
)
MOVED = Augment(shift=0.1, zoom=0.15)
V = {"weak": MOVED, "strong": MOVED.but(brightness=0.3, contrast=0.4, saturation=0.4, cutout=0.3), "plain": PLAIN}


@dataclass(frozen=True)
class W2n(Drafting):
    """Huang et al., 2022, over one dense detector."""

    presets: ClassVar[Presets] = {
        "paper": {"width": 256, "depth": 4},
        "small": {"rounds": 1, "first": 0.7, "share": 0.8, "tau": 0.5, "steady": 0.05, "weight": 1.0, "decay": 0.99},
    }
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=30_000, batch=8, optim=Optim(lr=0.01, nesterov=False, weight_decay=1e-4), schedule="constant",
            wraps=(), views=V,
        ),
        "small": Recipe(
            steps=500, batch=8, optim=Optim("adamw", 3e-3, weight_decay=0.01), warmup=0.1, wraps=(), views=V,
        ),
    }  # fmt: skip

    def program(self, info: Info) -> Program:
        size, steps = info.recipe.batch, info.recipe.steps
        known, begin = (Stream(rows, size, ("weak",)) for rows in ("tagged", "boxes"))
        more = {"u": Stream("tagged", size, ("weak", "strong"))} if self.weight else {}
        draw = Collect("draw", Stream("tagged", 64, ("plain",)), DRAFTS, name="draw")
        tally = Collect("tally", Stream(DRAFTS, 64, ()), name="tally")
        begun, out = round(steps * self.first), Program()
        marks = [begun + round(k * (steps - begun) / (2 * self.rounds - 1)) for k in range(2 * self.rounds)]
        for i, (start, middle, end) in enumerate(zip([0, *marks[1::2]], marks[::2], marks[1::2], strict=False)):
            if middle > start:
                adapt = Train({"d": known if i else begin}, middle - start, name="adapt", carry=True)
                out += [draw, adapt] if i else [adapt]
            if end > middle:
                out += [draw, tally, Train({"l": known, **more}, end - middle, name="learn", carry=True)]
        return out
