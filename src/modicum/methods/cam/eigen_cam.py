"""Eigen-CAM: what most of the maps have in common, whatever the class.

    F = U S V^T,   M = F v_1            F: maps as (h w, K);  v_1: first principal direction

No gradient and no class: every target has the same map.  The sign, which is free, is such that M adds up to 0 or more;
centred, it agrees with the sum of the maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from modicum.core.card import Card
from modicum.core.method import Explain, Seen
from modicum.core.settings import knob
from modicum.functional.heat import principal

CARD = Card(
    title="Eigen-CAM",
    role="explain",
    idea="The first principal direction of the maps shows what stands out, whatever the class.",
    needs=("image", ("net:class", "net:tags")),
    makes=("maps",),
    year=2020,
    cites=("arXiv:2008.00299",),
    changed="Maps are not centred unless asked: the paper does not, one known implementation does.",
    xfail={"map of the object": "it knows no class: where two objects are, every target has the same map"},
    cost=0.5,
)


@dataclass(frozen=True)
class EigenCam(Explain):
    """Muhammad and Yeasin, 2020."""

    gradient: ClassVar[bool] = False

    center: bool = knob(False, doc="subtract each map's mean first")

    def weigh(self, seen: Seen) -> Tensor:
        return principal(seen.acts, self.center)[:, None].expand(-1, seen.count, -1, -1)
