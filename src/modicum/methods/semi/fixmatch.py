"""FixMatch: confident guesses on a weak view teach the student on a strong view.

    q = softmax(f(weak(u)))  without gradient,   L = CE(y, f(weak(x))) + lambda * mean_U w(q) CE(argmax q, f(strong(u)))

U counts all unlabelled images, believed or not; w is 1[max q >= tau].  The equations stand in nn/match.py; this is
the plain case.
"""

from __future__ import annotations

from dataclasses import dataclass

from modicum.core.card import Card
from modicum.nn.match import Match

CARD = Card(
    title="FixMatch",
    role="learn",
    idea="The student's own confident guess on a weakly augmented image is the label of the strongly augmented one.",
    needs=("image", "class:some"),
    makes=("net:class",),
    least={"class": 1, "step": 500},
    year=2020,
    cites=("arXiv:2001.07685",),
    suits=("few",),
    cost=6.3,
    off={"weight": 0.0},
    changed=(
        "The `paper` preset draws two operations of the paper's list an image, on whole batches: those that move "
        "pixels become one bilinear sampling, and recolouring follows it; outside the image is black, and cutout is "
        "the image's mean.  The `small` preset has an affine map with brightness, contrast, saturation and cutout.  "
        "The weak view is a forward of its own without gradient.  Guesses may be aligned to a class prior "
        "(ReMixMatch); the `paper` preset does not."
    ),
)


@dataclass(frozen=True)
class FixMatch(Match):
    """Sohn et al., 2020."""
