"""Score-CAM: maps weighted by what the network says of the image seen through each of them.

    m_k = unit(up(A_k)),   w_k = f(x * m_k),   M = sum_k w_k A_k            A: maps (K,h,w);  f: probability or score

unit: stretched to 0..1.  One forward pass for each map, so cost grows with K: `top` looks through the maps that vary
most, and gives the others the mean score of those.  The score of an empty image, which the paper subtracts, is the same
for every map.  No gradient.  Sign kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen
from modicum.core.settings import knob
from modicum.functional.heat import resized, unit

CARD = Card(
    title="Score-CAM",
    role="explain",
    idea="A map matters as much as the network still sees the class through it.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2020,
    cites=("arXiv:1910.01279",),
    changed=(
        "Weights are the scores themselves unless softmax is asked for, as in the authors' code: over hundreds of maps "
        "a softmax is nearly uniform.  Maps that are constant weigh nothing.  The sign is kept."
    ),
    cost=100.0,
)
CHUNK = 16  # masked images in a pass


@dataclass(frozen=True)
class ScoreCam(Explain):
    """Wang et al., 2020.  Where a target is not one class, its score stands for the probability."""

    gradient: ClassVar[bool] = False

    top: int = knob(0, 0, doc="maps looked through, those that vary most; 0: all")
    score: str = knob("prob", choices=("prob", "logit"), doc="what the network says: a probability, or a score")
    half: bool = knob(False, doc="masked images in bfloat16: faster where the processor has it, maps nearly the same")
    weights: str = knob("raw", choices=("raw", "softmax"), doc="the scores, or their softmax over the maps")

    def weigh(self, seen: Seen) -> Tensor:
        weights = torch.stack([self._weights(seen, i) for i in range(len(seen.acts))])
        return torch.einsum("btk,bkhw->bthw", weights, seen.acts)

    def _weights(self, seen: Seen, i: int) -> Tensor:
        """Of the maps of one image, (T,K)."""
        acts, image = seen.acts[i], seen.images[i]
        spread = acts.flatten(1).std(1)
        varied = spread.argsort(descending=True, stable=True)[: int((spread > 0).sum())]
        said = []
        for some in varied[: self.top or None].split(CHUNK) if len(varied) else ():
            masks = unit(resized(acts[None, some], (image.shape[1], image.shape[2])))[0, :, None].to(image.dtype)
            with torch.autocast(image.device.type, torch.bfloat16, enabled=self.half):
                answer = seen.look(i, image * masks)
            known = self.score == "prob" and not bool(answer.probs.isnan().any())
            said.append(answer.probs if known else answer.scores)
        out = acts.new_zeros(seen.count, len(acts))
        if said:
            scores = torch.cat(said).to(acts.dtype).T
            others = scores.mean(1, keepdim=True).expand(-1, len(varied) - scores.shape[1])
            scores = torch.cat([scores, others], 1)
            out[:, varied] = scores.softmax(1) if self.weights == "softmax" else scores
        return out
