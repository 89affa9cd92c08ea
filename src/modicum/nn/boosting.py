"""What the two methods of LBBA share (Dong et al., 2021): a detector that learns from tags, boosted by an adjuster.

    L = L_MIST'  +  (1/R) sum_r w_r [ b CE(f_r, y_r) + (1-b) CE(f_r, argmax f_r) ]
                 +  (1/R) sum_{r: object} w_r smoothL1( o_r, sg F(image, r) )

L_MIST': tags and K refinements, seeds as in MIST, no boxes moved.  f, o: class and offsets of a last, fast head.  y, w:
as in OICR, by seeds of the mean of the refinements: of each present class the best 50 regions, without those that
overlap a better one by more than 0.1.  F: the adjuster; where its move is not believed (nn/adjusting.py) it counts 0.
Where `masked`, classes that an image is known not to show take no share of the probabilities by which seeds are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modicum.core.batch import Part
from modicum.core.loss import Loss, Term
from modicum.core.net import Nets
from modicum.core.program import Clock
from modicum.core.settings import knob
from modicum.functional.losses import wide
from modicum.functional.moves import drawn_to
from modicum.functional.seeds import Named, Seeds, best, bootstrapped, named, scored, several, unmasked
from modicum.nn.proposing import Looked, Refining

KEPT, APART = 50, 0.1
SHARE, NEAR = 0.15, 0.2  # MIST's: of an image's regions; overlap with a better seed
BELIEF = 0.8  # b


@dataclass(frozen=True)
class Boosting(Refining):
    """Not a method: the frame of two."""

    masked: bool = knob(True, doc="absent classes take no share of the scores that choose seeds")

    def seeds(self, scores: Tensor, found: Looked) -> Seeds:
        return several(scores, found.xyxy, found.image, found.tags, SHARE, NEAR)

    def chosen_by(self, logits: Tensor | None, found: Looked) -> Tensor:
        if not self.masked:
            return super().chosen_by(logits, found)
        if logits is None:
            what = unmasked(found.said.what.detach(), found.image, found.tags)
            return scored(what, found.said.where.detach(), found.image, len(found.tags))
        return wide(unmasked(logits.detach(), found.image, found.tags)).softmax(1)[:, :-1]

    def pseudo(self, found: Looked) -> Named:
        """What each region is, by the mean of the refinements."""
        scores = torch.stack([self.chosen_by(r, found) for r in found.said.refined]).mean(0)
        seeds = best(scores, found.xyxy, found.image, found.tags, KEPT, APART)
        return named(seeds, found.xyxy, found.image, found.tags, self.tau)

    def boosted(self, nets: Nets, part: Part, clock: Clock, stage: int) -> Loss:
        """The loss on a batch; stage: of the adjuster, below 0 for none."""
        found = self.read(nets, part)
        loss, told = self.refining(found, clock), self.pseudo(found)
        assert found.said.fast is not None
        logits, offsets = found.said.fast
        weight = float(clock.done >= self.after)
        loss["fast class"] = bootstrapped(logits, told, BELIEF, weight)
        if stage < 0:
            return loss
        mine = ((told.target < found.tags.shape[1]) & (told.weight > 0)).nonzero()[:, 0]
        adjust: Any = nets["adjust"]
        goal, good = adjust.moves(part["weak"], found.xyxy[mine], found.image[mine], stage)
        box = drawn_to(offsets[mine], goal, told.weight[mine] * good, float(len(told.weight)))
        count = good.new_tensor(len(good), dtype=torch.float32)
        return loss | {"fast moved": box._replace(weight=weight), "believed": Term(good.sum().float(), count, 0.0)}
