"""Own map: what a network that learned to say where each class is says.

    M_c = G(E)_c            G: the map generator, E: maps before the last stage (nn/stages.py)

Nothing is read out of a classifier's weights or gradients: the map was trained as one (BAS).  Values are in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from modicum.core.card import Card
from modicum.core.errors import ModelError
from modicum.core.method import Explain, Seen
from modicum.nn.edit import GENERATOR

CARD = Card(
    title="The network's own map (as learned by BAS)",
    role="explain",
    idea="A network that was trained to say where each class is need not be asked by way of its classifier.",
    needs=("image", ("net:class.maps", "net:tags.maps")),
    makes=("maps",),
    year=2022,
    cites=("arXiv:2112.00580",),
    cost=0.35,
    changed="One map is that of the class asked for; the paper takes the mean over the most probable classes.",
)


@dataclass(frozen=True)
class OwnMap(Explain):
    """Wu et al., 2022."""

    gradient: ClassVar[bool] = False
    layer: ClassVar[str] = GENERATOR

    def weigh(self, seen: Seen) -> Tensor:
        if seen.classes is None or bool((seen.classes < 0).any()):
            fix = "Name a class as target, or take another method."
            raise ModelError("a map is of a class, and the target is none", where="own-map", fix=fix)
        return seen.acts.gather(1, seen.classes[..., None, None].expand(-1, -1, *seen.acts.shape[2:]))
