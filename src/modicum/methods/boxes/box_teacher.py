"""Boxes on some images: a slow teacher's surest boxes teach a detector on images without boxes.

    L(x, y) + weight L_class(strong(u), { b in teacher(weak(u)) : score(b) > tau })

L: the detector's; x: images with boxes, alone at first; u: images without; teacher: a moving average of the detector.
With `sides` the same boxes teach sides, too.  The frame stands in nn/tutor.py; this is the plain case.
"""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.card import Card
from modicum.nn.tutor import Tutor

CARD = Card(
    title="Unbiased Teacher",
    role="learn",
    idea="Boxes of which a moving average of the detector is sure, on images without boxes, teach it on strong views.",
    needs=("image", "boxes:some"),
    makes=("net:boxes",),
    year=2021,
    cites=("arXiv:2102.09480",),
    cost=10.0,
    changed="The detector is ours, of one look: no region network.  The average begins with training, not after the "
    "first phase.  Views shift and zoom, so what the teacher's view does not show is left out.  Tags are "
    "used.  For short training the `small` preset believes more boxes, weighs them less, begins later, and calls "
    "nothing background that a box of doubtful score covers (`doubt`).  The average follows faster at first; `paper` "
    "keeps its rate to the end.",
)


@dataclass(frozen=True)
class BoxTeacher(Tutor):
    """Liu et al., 2021, over one dense detector."""
