"""The adjusters of LBBA: how a box ought to move, learned where true boxes are known, for classes of which none are.

    F_0:  min sum_r smoothL1( F(image, r), code(r -> true box) )       r: true boxes, their sides moved at random, and
                                                                       proposals that overlap one by `reach` or more
    t = 1..T:   E:  a detector learns from the tags of the same images alone, boosted by F_{t-1}   (nn/boosting.py)
                M:  F_t, as F_0, with regions that this detector takes for objects     code: functional/boxes.py

F_t is F_{t-1} and a head that is added.  The detector goes on from stage to stage.  Nothing of the images is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partialmethod
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core import draws
from modicum.core.batch import Batch
from modicum.core.card import Card
from modicum.core.loss import Loss
from modicum.core.method import Make, Presets, Recipes
from modicum.core.net import Net, Nets
from modicum.core.program import Clock, Collect, Info, Program, Stream, Train, Turn
from modicum.core.recipe import Optim, Recipe
from modicum.core.settings import knob
from modicum.functional.boxes import clip, unpacked
from modicum.functional.geometry import move_points, warp_boxes
from modicum.functional.moves import jittered, nearest
from modicum.nn.adjusting import NEAR, adjusting, known, taught
from modicum.nn.boosting import Boosting
from modicum.nn.drop import place
from modicum.nn.proposing import MIRRORED, PAPER, SHORT
from modicum.nn.regions import PROPOSALS, SEEN, in_view

CARD = Card(
    title="Bounding-box adjusters (LBBA)",
    role="learn",
    idea="True boxes teach how rough ones ought to move, and then how those of a detector from tags ought to.",
    needs=("image@other", "boxes@other"),
    makes=("net:boxes.adjust",),
    year=2021,
    cites=("arXiv:2108.01499",),
    cost=12.0,
    origin="settings of public code (DongSky/lbba_boosted_wsod) at second hand; none of it was read or copied",
    changed="Any network, from scratch, in place of a detector with a region proposal network: F_0 learns no classes.  "
    "It looks at one and a half times a box.  All stages share its trunk, which further ones leave as it is: each adds "
    "a head of two layers.  What they learn from is matched to true boxes of its class, from an overlap of 0.3 on.  "
    "The loop's equations, T and how long each part lasts are our reading of the paper's words.",
    xfail={"loss falls": "it learns to move boxes, and no classes"},
)
COPIES, JITTER = 4, 0.3  # rough ones of a true box; farthest that a side is moved, as a share of the box
CHOSEN = "chosen"  # the column of the detector's regions
MANY = 2**14  # regions that are read at once in a pass


@dataclass(frozen=True)
class LbbaAdjuster(Boosting):
    """Dong et al., 2021, with the run's network as backbone of the adjuster and of the detector."""

    stages: int = knob(1, 0, 3, doc="T, how often the adjuster learns from a detector's regions")
    reach: float = knob(0.5, 0, 1, doc="overlap (IoU) with a true box from which on a proposal is to become it")

    presets: ClassVar[Presets] = {"paper": PAPER, "small": {}}
    recipes: ClassVar[Recipes] = {
        "paper": Recipe(
            steps=600_000, batch=1, optim=Optim(lr=1e-3, nesterov=False, weight_decay=1e-4), schedule="constant",
            wraps=(), views=MIRRORED,
        ),
        "small": SHORT.but(steps=1000),
    }  # fmt: skip

    def build(self, info: Info, make: Make) -> Nets:
        nets = Nets({"net": self.reader(make, self.heads, fast=True)})
        nets["adjust"] = adjusting(make("adjust"), self.stages + 1, self.width, self.thin)
        return nets

    def program(self, info: Info) -> Program:
        batch, later = info.recipe.batch, 2 * self.stages
        shares = [later or 1, *[1] * later]  # half of the steps are F_0's
        ends = [round(info.recipe.steps * sum(shares[:k]) / sum(shares)) for k in range(later + 2)]
        drawn, tags = Stream("boxes", batch), Stream("tagged", batch)
        plain = Stream("tagged", max(1, min(64, MANY // self.most)), ("plain",))
        turns = [Turn("rough", ("adjust",))]
        for t in range(1, self.stages + 1):
            turns += [Turn(f"weak_{t}", ("net",)), Turn(f"again_{t}", (f"adjust.mover.stages.{t}",))]
        out: Program = [Collect("look", plain, PROPOSALS)]
        for k, (turn, (start, end)) in enumerate(zip(turns, pairwise(ends), strict=True)):
            if turn.loss.startswith("again"):
                out.append(Collect("choose", plain, CHOSEN, name="choose"))
            if end > start:  # a lane each: a rate that falls from the start of each
                stream = tags if turn.loss.startswith("weak") else drawn
                out.append(Train({"l": stream}, end - start, (turn,), turn.loss, lane=k))
        return out

    def rough(self, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        """F_0's."""
        part, true, x = batch["l"], known(batch["l"]), batch["l"]["weak"]
        every = torch.arange(len(true.cls), device=true.cls.device).repeat_interleave(COPIES)
        seed = draws.key(clock.seed, clock.phase, clock.step, clock.lane, "jitter")
        luck = draws.uniform(seed, part.rows[true.image] * 2**20 + place(true.image), 0, 4 * COPIES)
        near = clip(jittered(true.xyxy[every], luck.reshape(-1, 4), JITTER), (x.shape[-2], x.shape[-1]))
        some, image = in_view(part, "weak")
        at, overlap = nearest(some, image, None, true)
        good = overlap >= self.reach
        image = torch.cat([true.image[every], image[good]])
        goal = true.xyxy[torch.cat([every, at[good]])]
        return {"moved": taught(nets["adjust"], part, torch.cat([near, some[good]]), image, goal, 0)}

    def weak(self, t: int, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        """The detector's, from tags alone."""
        return self.boosted(nets, batch["l"], clock, t - 1)

    def choose(self, nets: Nets, batch: Batch) -> Tensor:
        """Regions that the detector takes for objects, and of which class, (B,most,5); pixels of the stored image."""
        part = batch["all"]
        found = self.read(nets, part, view="plain")
        told = self.pseudo(found)
        mine = (told.target < found.tags.shape[1]) & (told.weight > 0)
        image = found.image[mine]
        out = found.xyxy.new_full((len(part.rows), self.most, 5), torch.nan)
        corners = found.xyxy[mine].reshape(-1, 2)
        moved = move_points(corners, image.repeat_interleave(2), part.views["plain"].affine.to(corners.dtype))
        out[image, place(image)] = torch.cat([moved.reshape(-1, 4), told.target[mine, None].to(corners.dtype)], 1)
        return out

    def again(self, t: int, nets: Nets, batch: Batch, clock: Clock) -> Loss:
        """F_t's, from the regions that the detector chose."""
        part, true, view = batch["l"], known(batch["l"]), batch["l"].views["weak"]
        some, image = unpacked(part.columns[CHOSEN])
        size = (view.pixels.shape[-2], view.pixels.shape[-1])
        xyxy, kept = warp_boxes(some[:, :4], image, view.affine.to(some.dtype), size)
        at, overlap = nearest(xyxy, image, some[:, 4].long(), true)
        good = (kept >= SEEN) & (overlap >= NEAR)
        return {"moved": taught(nets["adjust"], part, xyxy[good], image[good], true.xyxy[at[good]], t)}

    weak_1, weak_2, weak_3 = partialmethod(weak, 1), partialmethod(weak, 2), partialmethod(weak, 3)
    again_1, again_2, again_3 = partialmethod(again, 1), partialmethod(again, 2), partialmethod(again, 3)

    def deliver(self, nets: Nets) -> Net:
        return nets["adjust"]  # type: ignore[no-any-return]
