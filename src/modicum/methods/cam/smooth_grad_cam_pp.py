"""Smooth Grad-CAM++: the weights of Grad-CAM++ from the gradients of several noisy copies of the image.

    w_k = sum_ij alpha_kij r(D1),   alpha = D2 / (2 D2 + S_k D3),   M = sum_k w_k A_k

D1, D2, D3: means over the copies of g, g^2 and g^3, g = dS / dA;  A, S_k: the maps of the clean image, and their sums;
r: positive part.  Without noise this is Grad-CAM++.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen
from modicum.core.settings import knob

CARD = Card(
    title="Smooth Grad-CAM++",
    role="explain",
    idea="Averaging over noisy copies removes from Grad-CAM++ what depends on single pixels.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2019,
    cites=("arXiv:1908.01224",),
    changed=(
        "Known implementations differ in which maps are weighted: here those of the clean image.  Alpha is kept "
        "to 1 at most: means of cubes may be negative where means are not.  The sign is kept."
    ),
    cost=5.0,
)


@dataclass(frozen=True)
class SmoothGradCamPp(Explain):
    """Omeiza et al., 2019."""

    copies: int = knob(4, 1, 1000, doc="noisy copies of each image")
    noise: float = knob(0.15, 0, 10, doc="deviation of the noise, relative to the range of each image's values")
    seed: int = knob(0, 0, doc="of the noise")

    def weigh(self, seen: Seen) -> Tensor:
        x = seen.images
        luck = torch.Generator().manual_seed(self.seed)
        size = self.noise * (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True))
        sums: list[Tensor | float] = [0.0, 0.0, 0.0]
        for _ in range(self.copies):
            drawn = torch.randn(x.shape[1:], generator=luck).to(x)  # the same for all images: each as if alone
            grads = seen.again(x + size * drawn).gradient("smooth-grad-cam-pp")
            sums = [s + grads**p / self.copies for p, s in enumerate(sums, 1)]
        one, two, three = (torch.as_tensor(s) for s in sums)
        below = 2 * two + seen.acts.sum((2, 3))[:, None, :, None, None] * three
        if bool((seen.acts.sum((2, 3)) < 0).any()):
            seen.notes.append("smooth-grad-cam-pp: maps add up to less than 0: its weights are not to be trusted here")
        alpha = two / torch.maximum(below, two).clamp_min(torch.finfo(below.dtype).tiny)
        return torch.einsum("btk,bkhw->bthw", (alpha * one.relu()).sum((-2, -1)), seen.acts)
